//! What a rack's boot servers see, as it happens.

use super::Session;
use crate::client::Link;
use crate::failure::Failure;
use crate::output::{Format, MacBootEvent, Resource as _, emit};
use farrier_proto::rack::WatchBootEventsRequest;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use tonic::Request;

/// Prints each event as it comes, a line each, below a header; JSON too. Ends when the rack has no more to say.
pub(super) async fn watch(
    session: &Session,
    link: &Link,
    request: WatchBootEventsRequest,
) -> Result<(), Failure> {
    let mut client = RackServiceClient::new(link.channel.clone());
    // No deadline: it is over when somebody interrupts it.
    let answer = client.watch_boot_events(Request::new(request)).await;
    let mut stream = answer.map_err(|status| link.failed(&status))?.into_inner();
    if matches!(session.printer.format, Format::Table | Format::Wide) {
        emit(&MacBootEvent::header())?;
    }
    while let Some(event) = stream.message().await.map_err(|status| link.failed(&status))? {
        let event = MacBootEvent { mac_address: event.mac_address.clone(), event };
        let line = match session.printer.format {
            Format::Json => format!("{}\n", event.value()),
            Format::Yaml => format!("---\n{}", session.printer.render_one(&event)?),
            Format::Table | Format::Wide => event.line(),
        };
        emit(&line)?;
    }
    Ok(())
}
