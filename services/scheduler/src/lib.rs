//! The scheduler: instances, operations, and the only place that acts on machines.
//!
//! A request is stored as an operation and answered at once; the engine drives it from there: place,
//! reserve, tell the rack, follow, close. It must never know how a rack does its work. Start with [`run`],
//! then `engine/mod.rs`: one operation's way from phase to phase.

mod app;
mod clients;
mod engine;
mod grpc;
pub mod rules;

use anyhow::Context as _;
use farrier_identity::Credentials;
use farrier_identity::server::ClientAuth;
use farrier_runtime::health::probe;
use farrier_runtime::key::KeySource;
use farrier_runtime::serve::Server;
use farrier_runtime::telemetry::chain;
use farrier_runtime::vault::Vault;
use farrier_scheduler_store::Store;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the service needs from outside.
#[derive(Debug)]
pub struct Config {
    /// Where it serves.
    pub listener: TcpListener,
    /// Who it is: `spiffe://farrier/service/scheduler`.
    pub credentials: Credentials,
    /// `sqlite://PATH` or `postgres://…`
    pub database_url: String,
    /// Key that seals user data; made when missing. Replicas share it.
    pub secrets_key: KeySource,
    /// Inventory, `https://host:port`.
    pub inventory: String,
    /// Images, `https://host:port`.
    pub images: String,
}

/// Serves until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = Store::open(&config.database_url).await.context("cannot open the database")?;
    let secret = store.a_secret().await.context("cannot read the database")?;
    let secret = secret.map(|(operation, sealed)| (engine::secret_context(&operation), sealed));
    let vault =
        Vault::open_beside(&config.secrets_key, secret).await.context("cannot open the secrets key")?;
    let vault = Arc::new(vault);
    let clients = clients::Clients::new(&config.credentials, &config.inventory, &config.images)?;
    let addr = config.listener.local_addr().context("the listener has no address")?;
    let engine =
        Arc::new(engine::Engine::new(store.clone(), clients.clone(), vault.clone(), shutdown.clone()));
    let running = tokio::spawn(engine::run(engine.clone()));
    let asked = store.clone();
    let app = Arc::new(app::App { store, clients, vault, engine });
    let keeping = tokio::spawn(app::keep_power::run(app.clone()));
    tracing::info!(identity = %config.credentials.identity(), "listening on {addr}");
    let server = Server {
        listener: config.listener,
        credentials: config.credentials,
        client_auth: ClientAuth::Required,
        services: rules::SERVICES,
        rules: rules::RULES,
        routes: grpc::routes(app),
        probe: probe(move || ping(asked.clone())),
    };
    let served = server.run(shutdown.clone()).await.context("the scheduler server ended");
    shutdown.cancel();
    running.await.context("the engine ended badly")?;
    keeping.await.context("the keeping of power ended badly")?;
    served
}

async fn ping(store: Store) -> Result<(), String> {
    store.ping().await.map_err(|error| chain(&error))
}
