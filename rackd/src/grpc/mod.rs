//! The two gRPC surfaces of rackd.

mod agent;
mod rack;

pub(crate) use agent::AgentApi;
pub(crate) use rack::RackApi;
