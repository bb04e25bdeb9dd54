//! gRPC: parse, ask the application, answer.

mod instance;
mod node_action;
mod node_bmc;
mod node_console;
mod operation;

use crate::app::App;
use farrier_proto::scheduler::instance_service_server::InstanceServiceServer;
use farrier_proto::scheduler::node_action_service_server::NodeActionServiceServer;
use farrier_proto::scheduler::node_bmc_service_server::NodeBmcServiceServer;
use farrier_proto::scheduler::node_console_service_server::NodeConsoleServiceServer;
use farrier_proto::scheduler::operation_service_server::OperationServiceServer;
use std::sync::Arc;
use tonic::service::Routes;

pub(crate) fn routes(app: Arc<App>) -> Routes {
    Routes::new(InstanceServiceServer::from_arc(app.clone()))
        .add_service(OperationServiceServer::from_arc(app.clone()))
        .add_service(NodeActionServiceServer::from_arc(app.clone()))
        .add_service(NodeConsoleServiceServer::from_arc(app.clone()))
        .add_service(NodeBmcServiceServer::from_arc(app))
}
