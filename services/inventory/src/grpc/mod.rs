//! The gRPC face: a request is taken apart, `app` answers, a response is put together. One service a file.

mod discovered;
mod dispatch;
mod event;
mod flavor;
mod join;
mod node;
mod port;
mod rack;
mod site;
mod snapshot;
mod watch;

use crate::app::{App, List};
use farrier_proto::inventory::discovered_service_server::DiscoveredServiceServer;
use farrier_proto::inventory::dispatch_service_server::DispatchServiceServer;
use farrier_proto::inventory::event_service_server::EventServiceServer;
use farrier_proto::inventory::flavor_service_server::FlavorServiceServer;
use farrier_proto::inventory::join_service_server::JoinServiceServer;
use farrier_proto::inventory::node_service_server::NodeServiceServer;
use farrier_proto::inventory::port_service_server::PortServiceServer;
use farrier_proto::inventory::rack_registry_service_server::RackRegistryServiceServer;
use farrier_proto::inventory::site_service_server::SiteServiceServer;
use farrier_proto::inventory::snapshot_service_server::SnapshotServiceServer;
use farrier_proto::inventory::watch_service_server::WatchServiceServer;
use farrier_runtime::authz::Caller;
use tonic::Request;
use tonic::service::Routes;

/// Every service of this server.
#[derive(Debug, Clone)]
struct Api {
    app: App,
}

/// The services, ready to be served.
pub(crate) fn routes(app: App) -> Routes {
    let api = Api { app };
    Routes::new(SiteServiceServer::new(api.clone()))
        .add_service(RackRegistryServiceServer::new(api.clone()))
        .add_service(NodeServiceServer::new(api.clone()))
        .add_service(PortServiceServer::new(api.clone()))
        .add_service(FlavorServiceServer::new(api.clone()))
        .add_service(EventServiceServer::new(api.clone()))
        .add_service(JoinServiceServer::new(api.clone()))
        .add_service(DispatchServiceServer::new(api.clone()))
        .add_service(DiscoveredServiceServer::new(api.clone()))
        .add_service(SnapshotServiceServer::new(api.clone()))
        .add_service(WatchServiceServer::new(api))
}

/// Who asks, and what.
fn split<T>(request: Request<T>) -> (Caller, T) {
    (Caller::of(&request), request.into_inner())
}

fn list(page_size: i32, page_token: String, filter: String) -> List {
    List { page_size, page_token, filter }
}
