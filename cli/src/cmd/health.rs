//! `farrier health URL`: one question to a server, for probes. Works in an image without a shell.

use super::Session;
use crate::client::ask;
use crate::failure::Failure;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Any server of the installation, `https://host:port`.
    url: String,
    /// Full name of a service, for example `farrier.images.v1.ImageService`; the whole server when left out.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
}

/// Succeeds when the server says that it serves.
pub async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let link = session.services.any(&args.url)?;
    let mut client = HealthClient::new(link.channel.clone());
    let request = ask(HealthCheckRequest { service: args.service });
    let status = client.check(request).await.map_err(|status| link.failed(&status))?.into_inner().status();
    match status {
        ServingStatus::Serving => Ok(()),
        other => Err(Failure::refused(format!("{} answers {}", args.url, other.as_str_name()))),
    }
}
