//! The images service: the catalogue of operating system images, and their bytes.
//!
//! An upload is a file in some format; what is kept is the raw disk, cut into chunks with a digest each and
//! named by the digest of them all, so that racks fetch, verify and share it by content. It must never run
//! another program on an image, nor look into one before its digest is verified. Start with
//! [`grpc::image`], what callers may ask, and [`import`], how a file becomes a disk.

mod app;
mod disks;
mod grpc;
mod import;
mod rules;

pub use disks::manifest_digest;
pub use rules::{RULES, SERVICES};

use anyhow::Context as _;
use app::Images;
use farrier_identity::Credentials;
use farrier_identity::server::ClientAuth;
use farrier_images_store::Store;
use farrier_proto::images::image_service_server::ImageServiceServer;
use farrier_runtime::health::probe;
use farrier_runtime::serve::Server;
use farrier_runtime::telemetry::chain;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// What the service needs to run. The caller owns the port.
#[derive(Debug)]
pub struct Config {
    pub listener: TcpListener,
    pub credentials: Credentials,
    /// `sqlite://PATH` or `postgres://…`
    pub database_url: String,
    /// Holds the disks, and uploads under way. One process at a time.
    pub data_dir: PathBuf,
    /// Largest file taken, and largest disk that may come out of it.
    pub max_image_bytes: u64,
}

/// Calls under way at shutdown get this long; a rack's download resumes where it was.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = Store::open(&config.database_url).await.context("cannot open the database")?;
    let asked = store.clone();
    let images = Images::start(store, config.data_dir, config.max_image_bytes).await?;
    let service = grpc::image::Service::new(images, shutdown.clone());
    let server = Server {
        listener: config.listener,
        credentials: config.credentials,
        client_auth: ClientAuth::Required,
        services: SERVICES,
        rules: RULES,
        routes: Routes::new(ImageServiceServer::new(service)),
        probe: probe(move || ping(asked.clone())),
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = server.run(shutdown.clone()) => ended.context("the server failed"),
        () = overdue => {
            tracing::warn!("calls are still under way: ending without them");
            Ok(())
        }
    }
}

async fn ping(store: Store) -> Result<(), String> {
    store.ping().await.map_err(|error| chain(&error))
}
