//! The EventService and its stream of server-sent events (DSP0266 §12.5, DSP0268 EventService, Event): what happens to the
//! machine's power through this service.

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::broadcast;

use super::resources::View;
use crate::bmc::PowerState;

pub(super) const SERVICE: &str = "/redfish/v1/EventService";
pub(super) const STREAM: &str = "/redfish/v1/EventService/SSE";

/// Events that a listener may be behind; it loses the oldest.
const BEHIND: usize = 64;

/// Whoever listens is told by it.
#[derive(Debug)]
pub(super) struct Bell {
    told: broadcast::Sender<String>,
    last: u64,
}

impl Default for Bell {
    fn default() -> Self {
        Self { told: broadcast::channel(BEHIND).0, last: 0 }
    }
}

impl Bell {
    /// A system is on or off now.
    pub(super) fn power(&mut self, system: &str, state: PowerState) {
        let word = match state {
            PowerState::On => "ResourcePoweredOn",
            PowerState::Off => "ResourcePoweredOff",
        };
        self.last += 1;
        let message = json!({
            "@odata.type": "#Event.v1_7_0.Event", "Id": self.last.to_string(), "Name": "Event",
            "Events": [{
                "MemberId": "0", "EventId": self.last.to_string(), "EventType": "Other",
                "MessageId": format!("ResourceEvent.1.3.{word}"), "MessageArgs": [system],
                "Message": format!("The resource `{system}` has powered {}.", if state == PowerState::On { "on" } else { "off" }),
                "MessageSeverity": "OK", "OriginOfCondition": { "@odata.id": system },
            }],
        });
        // Nobody listens, perhaps.
        let _nobody = self.told.send(format!("id: {}\ndata: {message}\n\n", self.last));
    }

    /// Who listens now.
    pub(super) fn listeners(&self) -> usize {
        self.told.receiver_count()
    }

    /// An answer without end.
    pub(super) fn listen(&self) -> UnsyncBoxBody<Bytes, Infallible> {
        let events = futures::stream::unfold(self.told.subscribe(), |mut events| async {
            loop {
                match events.recv().await {
                    Ok(event) => return Some((Ok(Frame::data(Bytes::from(event))), events)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        // A comment first: a client sees that it is listened to.
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b": listening\n\n")))]);
        UnsyncBoxBody::new(StreamBody::new(first.chain(events)))
    }
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
