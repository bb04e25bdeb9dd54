//! The EventService and its stream of server-sent events (DSP0266 §12.5, DSP0268 EventService, Event): what happens to the
//! machine's power, whoever did it and over whichever protocol.

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::faults::RedfishFaults;
use super::resources::View;
use crate::bmc::PowerState;
use crate::bmc::bell::{Bell, Change};

pub(super) const SERVICE: &str = "/redfish/v1/EventService";
pub(super) const STREAM: &str = "/redfish/v1/EventService/SSE";

/// As long as somebody listens.
struct Listening {
    changes: broadcast::Receiver<Change>,
    /// Path of the system whose power it is.
    system: String,
    faults: watch::Receiver<RedfishFaults>,
    /// The service starts again: its connections are gone.
    restart: CancellationToken,
}

impl Listening {
    /// `None`: it has ended.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.restart.run_until_cancelled(self.changes.recv()).await? {
                // Who is dead for a while loses what happens meanwhile.
                Ok(_) if self.faults.borrow().silent => {}
                Ok(change) => return Some(told(change, &self.system)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// An answer without end.
pub(super) fn listen(
    bell: &Bell,
    system: String,
    faults: watch::Receiver<RedfishFaults>,
    restart: CancellationToken,
) -> UnsyncBoxBody<Bytes, Infallible> {
    let listening = Listening { changes: bell.listen(), system, faults, restart };
    let events = futures::stream::unfold(listening, |mut listening| async {
        let event = listening.next().await?;
        Some((Ok(Frame::data(event)), listening))
    });
    // A comment first: a client sees that it is listened to.
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b": listening\n\n")))]);
    UnsyncBoxBody::new(StreamBody::new(first.chain(events)))
}

/// A system is on or off now.
fn told(change: Change, system: &str) -> Bytes {
    let (id, words) = match change.power {
        PowerState::On => ("ResourcePoweredOn", "on"),
        PowerState::Off => ("ResourcePoweredOff", "off"),
    };
    let number = change.number;
    let message = json!({
        "@odata.type": "#Event.v1_7_0.Event", "Id": number.to_string(), "Name": "Event",
        "Events": [{
            "MemberId": "0", "EventId": number.to_string(), "EventType": "Other",
            "MessageId": format!("ResourceEvent.1.3.{id}"), "MessageArgs": [system],
            "Message": format!("The resource `{system}` has powered {words}."),
            "MessageSeverity": "OK", "OriginOfCondition": { "@odata.id": system },
        }],
    });
    Bytes::from(format!("id: {number}\ndata: {message}\n\n"))
}

/// The service.
pub(super) fn get(view: &View<'_>, path: &str) -> Option<Value> {
    (path == SERVICE && view.config.events).then(|| {
        json!({
            "@odata.id": path, "@odata.type": "#EventService.v1_7_0.EventService", "Id": "EventService",
            "Name": "Event Service", "ServiceEnabled": true, "ServerSentEventUri": STREAM,
            "DeliveryRetryAttempts": 3, "DeliveryRetryIntervalSeconds": 30,
            "Status": { "State": "Enabled", "Health": "OK" },
        })
    })
}
