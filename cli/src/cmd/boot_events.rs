//! What a rack's boot servers see, as it happens.

use super::Session;
use crate::call;
use crate::client::Link;
use crate::failure::Failure;
use crate::output::{Format, MacBootEvent, Resource as _, emit};
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::{GetBootTraceRequest, WatchBootEventsRequest};
use tonic::Request;

/// Whose packets are asked for, and of which rack.
pub(super) struct SeenOf<'a> {
    pub(super) rack: &'a str,
    /// In words.
    pub(super) who: &'a str,
    pub(super) macs: Vec<String>,
}

/// Prints what a rack saw of some ports, oldest first; with `follow`, from now on what it sees.
pub(super) async fn trace(
    session: &Session,
    rack: &Link,
    seen_of: SeenOf<'_>,
    follow: bool,
) -> Result<(), Failure> {
    let SeenOf { rack: rack_name, who, macs } = seen_of;
    if follow {
        let request = WatchBootEventsRequest { mac_addresses: macs, ..WatchBootEventsRequest::default() };
        return watch(session, rack, request).await;
    }
    let mut events = Vec::new();
    let looked_for = macs.join(", ");
    for mac_address in macs {
        let request = GetBootTraceRequest { mac_address: mac_address.clone() };
        let trace = call!(rack, RackServiceClient, get_boot_trace, request)?;
        events.extend(
            trace.events.into_iter().map(|event| MacBootEvent { mac_address: mac_address.clone(), event }),
        );
    }
    events.sort_by_key(|e| e.event.time.as_ref().map(|t| (t.seconds, t.nanos)));
    if events.is_empty() {
        session.say(&format!(
            "{rack_name} has seen nothing of {looked_for} since it started: is {who} powered on, its port plugged in, \
             and is that its MAC address?"
        ));
    }
    session.printer.list(&events)
}

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
