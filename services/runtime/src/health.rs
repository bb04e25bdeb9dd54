//! `grpc.health.v1` says whether a server can do its work, not only that its port answers: it asks the store now and then.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Asks what a server cannot serve without; an error says what does not answer.
pub type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A probe that calls `ask`.
pub fn probe<A, F, E>(ask: A) -> Probe
where
    A: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    Arc::new(move || {
        let asked = ask();
        Box::pin(async move { asked.await.map_err(|error| error.to_string()) })
    })
}

/// Keeps the status of `services`, and of the server as a whole, until `shutdown`; then nothing serves any more, so that
/// a load balancer sends its calls elsewhere while the last ones end.
pub(crate) async fn keep(
    reporter: HealthReporter,
    services: &'static [&'static str],
    probe: Probe,
    every: Duration,
    shutdown: CancellationToken,
) {
    let mut trouble: Option<String> = None;
    set(&reporter, services, ServingStatus::Serving).await;
    let mut turn = tokio::time::interval(every);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = turn.tick() => {}
        }
        let found = match tokio::time::timeout(PATIENCE, probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        if found.is_some() == trouble.is_some() {
            continue;
        }
        match &found {
            Some(why) => {
                tracing::error!(%why, "the store does not answer: health is NOT_SERVING until it does");
                set(&reporter, services, ServingStatus::NotServing).await;
            }
            None => {
                tracing::info!("the store answers again: health is SERVING");
                set(&reporter, services, ServingStatus::Serving).await;
            }
        }
        trouble = found;
    }
    set(&reporter, services, ServingStatus::NotServing).await;
}

async fn set(reporter: &HealthReporter, services: &'static [&'static str], status: ServingStatus) {
    for service in services.iter().chain([&WHOLE]) {
        reporter.set_service_status(*service, status).await;
    }
}

/// The server as a whole (gRPC health checking protocol: the empty name).
const WHOLE: &str = "";
/// A store that takes longer is as good as away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Status;
    use tonic_health::pb::health_client::HealthClient;

    #[tokio::test]
    async fn health_is_what_the_store_says_and_ends_with_the_server() {
        let (reporter, service) = tonic_health::server::health_reporter();
        let mut client = HealthClient::new(service);
        let well = Arc::new(AtomicBool::new(true));
        let asked = well.clone();
        let probe = probe(move || {
            let well = asked.load(Ordering::SeqCst);
            async move { if well { Ok(()) } else { Err("the disk is gone") } }
        });
        let shutdown = CancellationToken::new();
        let services: &'static [&'static str] = &["farrier.x.v1.X"];
        let kept = tokio::spawn(keep(reporter, services, probe, Duration::from_millis(5), shutdown.clone()));
        for name in ["", "farrier.x.v1.X"] {
            let mut becomes = async |wanted: Status| {
                let request = || HealthCheckRequest { service: name.to_owned() };
                let mut stream = client.watch(request()).await.unwrap().into_inner();
                let seen = async { while stream.message().await.unwrap().unwrap().status() != wanted {} };
                tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
            };
            becomes(Status::Serving).await;
            well.store(false, Ordering::SeqCst);
            becomes(Status::NotServing).await;
            well.store(true, Ordering::SeqCst);
            becomes(Status::Serving).await;
        }
        shutdown.cancel();
        kept.await.unwrap();
        let request = HealthCheckRequest { service: String::new() };
        assert_eq!(client.check(request).await.unwrap().into_inner().status(), Status::NotServing);
    }
}
