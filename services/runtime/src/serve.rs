//! Starting a gRPC server: mTLS listener, rules, health, reflection, graceful end.

use crate::authz::{Authorize, RuleTable, unruled};
use crate::health::{self, Probe};
use farrier_identity::server::{ClientAuth, Limits, accept};
use farrier_identity::{Credentials, Identity};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Streams open at once on one connection; more wait.
const STREAMS_PER_CONNECTION: u32 = 1024;
/// Calls under way may take this long to finish after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A server that is ready to run.
pub struct Server {
    pub listener: TcpListener,
    pub credentials: Credentials,
    pub client_auth: ClientAuth,
    /// Full names of the services in `routes`.
    pub services: &'static [&'static str],
    pub rules: RuleTable,
    pub routes: Routes,
    /// What `grpc.health.v1` says.
    pub probe: Probe,
}

/// Why a server did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the rule table is not whole: {}", .0.join("; "))]
    Rules(Vec<String>),
    #[error(
        "the certificate is for {seen}, which is another service than the one that serves {served}: give the directory \
         of this one's identity"
    )]
    OtherIdentity { seen: Identity, served: &'static str },
    #[error("the API descriptors cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

impl Server {
    /// Callers expect each service under its name; under another's certificate nobody would talk to it.
    fn check_identity(&self) -> Result<(), ServeError> {
        let seen = self.credentials.identity();
        let Identity::Service(name) = &seen else { return Ok(()) };
        let own = format!("farrier.{name}.");
        match self.services.iter().find(|served| !served.starts_with(&own)) {
            Some(served) => Err(ServeError::OtherIdentity { seen, served }),
            None => Ok(()),
        }
    }

    /// Serves until `shutdown`, then lets calls under way finish. Streams that never end by themselves
    /// must watch the token too.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let holes = unruled(self.services, self.rules);
        if !holes.is_empty() {
            return Err(ServeError::Rules(holes));
        }
        self.check_identity()?;
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let kept = health::keep(reporter, self.services, self.probe, health::EVERY, shutdown.clone());
        let health = tokio::spawn(kept);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(farrier_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let watch = tokio::spawn(self.credentials.clone().watch());
        let routes = self
            .routes
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let grace = {
            let shutdown = shutdown.clone();
            async move {
                shutdown.cancelled().await;
                tokio::time::sleep(GRACE).await;
            }
        };
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .layer(Authorize::new(self.rules))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                accept(self.listener, self.credentials, self.client_auth, Limits::default()),
                shutdown.cancelled_owned(),
            );
        // A peer that lost power answers no GOAWAY; its connection must not hold the process back.
        let ended = tokio::select! {
            ended = serving => ended,
            () = grace => Ok(()),
        };
        watch.abort();
        health.abort();
        Ok(ended?)
    }
}

/// Ends on SIGTERM or SIGINT.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}
