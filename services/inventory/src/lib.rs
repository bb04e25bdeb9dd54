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
use farrier_runtime::serve::Server;
use farrier_runtime::telemetry::chain;
use farrier_runtime::vault::Vault;
use std::path::{Path, PathBuf};
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
    pub secrets_key: PathBuf,
    /// Directory of the embedded authority (`ca.pem`, `ca.key`), where racks may join with a token.
    pub ca_dir: Option<PathBuf>,
}

/// Serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = Store::open(&config.database_url).await.context("cannot open the database")?;
    let vault = open_vault(&store, &config.secrets_key).await?;
    let authority = match &config.ca_dir {
        Some(dir) => Some(Authority::load(dir).context("cannot load the embedded authority")?),
        None => None,
    };
    let asked = store.clone();
    let routes = grpc::routes(App::new(store, vault, authority));
    let addr = config.listener.local_addr().context("the listener has no address")?;
    tracing::info!(identity = %config.credentials.identity(), "listening on {addr}");
    let server = Server {
        listener: config.listener,
        credentials: config.credentials,
        // A rack that joins has no certificate yet; every other rule refuses a caller without one.
        client_auth: ClientAuth::Optional,
        services: rules::SERVICES,
        rules: rules::RULES,
        routes,
        probe: probe(move || ping(asked.clone())),
    };
    server.run(shutdown).await.context("the inventory server ended")
}

/// The key of the BMC passwords. One that does not fit what is stored is told now, not when a node is worked on; and
/// none is made where another is missing.
async fn open_vault(store: &Store, path: &Path) -> anyhow::Result<Vault> {
    let secret = store.a_secret().await.context("cannot read the database")?;
    let restore = format!(
        "bring back the file that was {} when the passwords were stored; without it every node's BMC password has to \
         be given again",
        path.display()
    );
    if secret.is_some() && !path.exists() {
        anyhow::bail!(
            "expected the key of the stored BMC passwords at {}, saw no file; {restore}",
            path.display()
        );
    }
    let vault = Vault::open_or_create(path).context("cannot open the secrets key")?;
    if let Some((node, sealed)) = secret
        && vault.open(&app::bmc_context(&node), &sealed).is_err()
    {
        anyhow::bail!("expected the key that sealed the BMC password of {node}, saw another one; {restore}");
    }
    Ok(vault)
}

async fn ping(store: Store) -> Result<(), String> {
    store.ping().await.map_err(|error| chain(&error))
}
