//! What the service does, one noun a file. Authorisation by object is here; `grpc` has checked the method.

mod bmc;
mod cabled;
mod check;
mod comes_and_goes;
mod discovered;
mod discovered_bmc;
mod discovered_room;
mod discovery_plan;
mod dispatch;
mod error;
mod event;
pub(crate) mod explain;
mod fence;
mod flavor;
mod hold;
mod join;
mod move_bmc;
mod node;
mod noun;
mod observe;
mod pattern;
mod port;
mod power_policy;
mod proposal;
mod rack;
mod resource;
mod rotation;
mod same_machine;
mod shared_account;
mod site;
mod snapshot;
mod state;
mod transition;
pub(crate) mod unsettled;
mod watch;
mod who_answers;
mod whose;

pub(crate) use discovery_plan::PLAN;
pub(crate) use node::bmc_context;
pub(crate) use resource::List;

use farrier_identity::ca::Authority;
use farrier_inventory_store::Store;
use farrier_runtime::vault::Vault;
use std::sync::Arc;

/// The service behind its gRPC face. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct App {
    store: Store,
    vault: Arc<Vault>,
    authority: Option<Arc<Authority>>,
}

impl App {
    pub(crate) fn new(store: Store, vault: Vault, authority: Option<Authority>) -> Self {
        Self { store, vault: Arc::new(vault), authority: authority.map(Arc::new) }
    }
}
