//! The inventory service: sites, racks, nodes, ports, flavors, their life cycle, their history, and how
//! racks join.
//!
//! Inventory knows; it never acts on a machine and never decides what should happen to one. Start with
//! [`run`], then `app/` (one noun a file) and [`rules::RULES`] (who may call what).

mod app;
mod grpc;
pub mod rules;

pub use app::explain::explain;

use anyhow::Context as _;
use app::App;
use farrier_identity::Credentials;
use farrier_identity::ca::Authority;
use farrier_identity::server::ClientAuth;
use farrier_inventory_store::Store;
use farrier_runtime::health::probe;
use farrier_runtime::key::KeySource;
use farrier_runtime::serve::Server;
use farrier_runtime::telemetry::chain;
use farrier_runtime::vault::Vault;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the service needs from outside.
#[derive(Debug)]
pub struct Config {
    /// Where it serves.
    pub listener: TcpListener,
    /// Who it is: `spiffe://farrier/service/inventory`.
    pub credentials: Credentials,
    /// `sqlite://PATH` or `postgres://…`
    pub database_url: String,
    /// Key that seals BMC passwords; made when missing. Replicas share it.
    pub secrets_key: KeySource,
    /// Directory of the embedded authority (`ca.pem`, `ca.key`), where racks may join with a token.
    pub ca_dir: Option<PathBuf>,
}

/// Serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = Store::open(&config.database_url).await.context("cannot open the database")?;
    let secret = store.a_secret().await.context("cannot read the database")?;
    let secret = match secret {
        Some((node, sealed)) => Some((app::bmc_context(&node), sealed)),
        None => {
            let (revision, sealed) = store.discovery_plan().await.context("cannot read the database")?;
            (revision > 0).then(|| (app::PLAN.to_owned(), sealed))
        }
    };
    let vault =
        Vault::open_beside(&config.secrets_key, secret).await.context("cannot open the secrets key")?;
    let authority = match &config.ca_dir {
        Some(dir) => Some(Authority::load(dir).context("cannot load the embedded authority")?),
        None => None,
    };
    let asked = store.clone();
    let app = App::new(store, vault, authority);
    let addr = config.listener.local_addr().context("the listener has no address")?;
    tracing::info!(identity = %config.credentials.identity(), "listening on {addr}");
    let server = Server {
        listener: config.listener,
        credentials: config.credentials,
        // A rack that joins has no certificate yet; every other rule refuses a caller without one.
        client_auth: ClientAuth::Optional,
        services: rules::SERVICES,
        rules: rules::RULES,
        routes: grpc::routes(app.clone()),
        probe: probe(move || ping(asked.clone())),
    };
    // Whichever ends, the other ends too: a telling that panicked is not found out a month later.
    let serving = async {
        let served = server.run(shutdown.clone()).await;
        shutdown.cancel();
        served
    };
    let telling = async {
        let told = tokio::spawn(app::unsettled::run(app, shutdown.clone())).await;
        shutdown.cancel();
        told
    };
    let (served, told) = tokio::join!(serving, telling);
    told.context("the telling of unsettled rotations ended badly")?;
    served.context("the inventory server ended")
}

async fn ping(store: Store) -> Result<(), String> {
    store.ping().await.map_err(|error| chain(&error))
}
