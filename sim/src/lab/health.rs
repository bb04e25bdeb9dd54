//! Waiting until a server says that it serves: `grpc.health.v1`, as a load balancer would ask.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::process::Process;

/// Waits until `url` answers as `identity` and serves. Fails as soon as its process ends.
pub(super) async fn wait(
    process: &mut Process,
    url: &str,
    identity: Identity,
    credentials: &Credentials,
) -> Result<()> {
    let channel = channel(url, credentials, Expect::Exactly(identity))?;
    let mut client = HealthClient::new(channel);
    let deadline = Instant::now() + DEADLINE;
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        process.ensure_running()?;
        let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
        request.set_timeout(CALL);
        let last = match client.check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => return Ok(()),
            Ok(answer) => format!("it says {:?}", answer.get_ref().status()),
            Err(status) => status.message().to_owned(),
        };
        if Instant::now() > deadline {
            bail!("{url}: expected it to serve within {DEADLINE:?}; {last}");
        }
    }
}

/// A debug build that makes its database on a busy machine needs a second or two.
const DEADLINE: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(30);
