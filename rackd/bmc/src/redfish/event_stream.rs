//! The EventService's stream (DSP0266 §12.5 server-sent events; DSP0268 EventService `ServerSentEventUri`), on a connection beside
//! the actor's: nothing waits for it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::driver::{DRIVER, RedfishBmc};
use super::http::{Failed, Http};
use super::link::{Ask, Link};
use super::persist::Asked;
use super::sse::{Sse, notices};
use crate::actor::Call;
use crate::{BmcError, BmcNotice, Deadline, EventStream, Events};

/// Events that nobody has taken yet; the BMC waits then.
const WAITING: usize = 16;

#[async_trait]
impl Events for RedfishBmc {
    async fn events(&self, deadline: Deadline) -> Result<EventStream, BmcError> {
        let listener = self.call(deadline, |link, call| Box::pin(link.listener(call))).await?;
        let (told, notices) = mpsc::channel(WAITING);
        let reader = tokio::spawn(async move {
            let Err(ended) = listener.listen(&told).await else { return };
            // Nobody listens any more, perhaps.
            let _gone = told.send(Err(ended)).await;
        });
        Ok(EventStream::new(notices, reader))
    }
}

/// All that listening needs of a link.
struct Listener {
    http: Http,
    request: Request<Full<Bytes>>,
    ask: Ask,
    connect: Duration,
}

impl Link {
    async fn listener(&mut self, call: &mut Call) -> Result<Listener, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: "stream of events on this BMC" };
        let Some(service) = self.root(call).await?.events.clone() else { return Err(absent) };
        let service = self.get(call, &service).await?;
        let place = service.text("ServerSentEventUri").and_then(|uri| self.same_origin(&uri));
        let disabled = service.at("ServiceEnabled").and_then(serde_json::Value::as_bool) == Some(false);
        let Some(path) = place.filter(|_| !disabled) else { return Err(absent) };
        let ask = Ask::get(&path);
        let mut request = self.build(&ask)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        Ok(Listener { http: self.http.another(), request, ask, connect: self.tuning.connect_timeout })
    }
}

impl Listener {
    /// Tells until the stream ends, or nobody listens.
    async fn listen(self, told: &mpsc::Sender<Result<BmcNotice, BmcError>>) -> Result<(), BmcError> {
        let Self { http, request, ask, connect } = self;
        let call = Call::new(Deadline::after(connect));
        let asked = Asked {
            service: "Redfish",
            name: format!("{} {}", ask.method, ask.path.as_str()),
            event: None,
            max_body: 0,
        };
        let failed = |failed: Failed| failed.told(http.address(), &call, &asked);
        let mut stream = http.stream(request, Instant::now() + connect).await.map_err(failed)?;
        let addr = http.address().addr;
        let response = stream.response.status();
        if response != StatusCode::OK {
            let (request, status, detail) = (asked.name, response.as_u16(), String::new());
            return Err(BmcError::Http { addr, request, status, detail });
        }
        let kind = stream.response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_none_or(|kind| !kind.starts_with("text/event-stream")) {
            let seen = kind.unwrap_or("no content type").to_owned();
            return Err(BmcError::bad_answer(addr, asked.name, "text/event-stream", &seen));
        }
        let mut sse = Sse::default();
        while let Some(frame) = stream.response.frame().await {
            let frame = frame
                .map_err(|error| Failed::Broken(error.to_string()).told(http.address(), &call, &asked))?;
            let Ok(bytes) = frame.into_data() else { continue };
            let Ok(whole) = sse.take(&bytes) else {
                return Err(BmcError::bad_answer(
                    addr,
                    asked.name,
                    "an event of bounded size",
                    "one without end",
                ));
            };
            for notice in whole.iter().flat_map(|data| notices(data)) {
                if told.send(Ok(notice)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Err(Failed::Broken("the end of the stream".to_owned()).told(http.address(), &call, &asked))
    }
}
