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
use super::link::{Ask, Link, SessionUse};
use super::persist::Asked;
use super::sse::{Sse, notices};
use crate::actor::Call;
use crate::{BmcError, BmcNotice, Capability, Deadline, EventStream, Events};

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
    /// The stream is of the session of the calls: it uses it for as long as it lasts.
    _session: SessionUse,
}

impl Link {
    async fn listener(&mut self, call: &mut Call) -> Result<Listener, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: Capability::Events.as_str() };
        let Some(service) = self.root(call).await?.events.clone() else { return Err(absent) };
        let service = self.get(call, &service).await?;
        let place = service.text("ServerSentEventUri").and_then(|uri| self.address.same_origin(&uri));
        let disabled = service.at("ServiceEnabled").and_then(serde_json::Value::as_bool) == Some(false);
        let Some(path) = place.filter(|_| !disabled) else { return Err(absent) };
        let ask = Ask::get(&path);
        let mut request = self.build(&ask)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        Ok(Listener {
            http: self.http.another(),
            request,
            ask,
            connect: self.tuning.connect_timeout,
            _session: self.use_session(),
        })
    }
}

impl Listener {
    /// Tells until the stream ends, or nobody listens.
    async fn listen(self, told: &mpsc::Sender<Result<BmcNotice, BmcError>>) -> Result<(), BmcError> {
        let Self { http, request, ask, connect, _session } = self;
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
        let (mut sse, mut pace) = (Sse::default(), Pace::default());
        while let Some(frame) = stream.response.frame().await {
            let frame = frame
                .map_err(|error| Failed::Broken(error.to_string()).told(http.address(), &call, &asked))?;
            let Ok(bytes) = frame.into_data() else { continue };
            // The BMC waits meanwhile: whatever it sends, this takes little of a processor.
            pace.took(PIECE + bytes.len()).await;
            let Ok(whole) = sse.take(&bytes) else {
                return Err(BmcError::bad_answer(
                    addr,
                    asked.name,
                    "an event of bounded size",
                    "one without end",
                ));
            };
            for notice in whole.iter().flat_map(|data| notices(data)) {
                pace.took(EVENT).await;
                if told.send(Ok(notice)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Err(Failed::Broken("the end of the stream".to_owned()).told(http.address(), &call, &asked))
    }
}

/// How fast a stream is read.
#[derive(Default)]
struct Pace {
    /// When what was taken is worked off.
    free: Option<Instant>,
}

impl Pace {
    /// So many bytes have come. Waits where they are more than a stream's.
    async fn took(&mut self, bytes: usize) {
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / RATE);
        let free = self.free.map_or(now, |free| free.max(now)) + cost;
        self.free = Some(free);
        if free > now + AT_ONCE {
            tokio::time::sleep_until(free - AT_ONCE).await;
        }
    }
}

/// Bytes a second. Events have some hundreds, and come by the dozen at a machine's start.
const RATE: f64 = 128.0 * 1024.0;
/// So much of it may come at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What a piece of the stream and an event cost beside their bytes.
const PIECE: usize = 64;
const EVENT: usize = 2048;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::Secret;
    use crate::redfish::{Dial, DialError, RedfishAddress, RedfishHub, Stream, Trust, Tuning, scripted};

    /// A BMC that sends the same without end as fast as it is taken.
    #[derive(Clone)]
    struct Flood {
        piece: &'static str,
        /// Pieces that it got rid of.
        sent: Arc<AtomicU64>,
    }

    /// Where a reader without a bound is ended.
    const MOST: u64 = 1_000_000;

    #[async_trait]
    impl Dial for Flood {
        async fn dial(&self, _: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(self.clone().serve(theirs));
            Ok(Box::new(ours))
        }
    }

    impl Flood {
        async fn serve(self, mut stream: DuplexStream) -> std::io::Result<()> {
            let mut request = [0; 4096];
            loop {
                let length = stream.read(&mut request).await?;
                let text = String::from_utf8_lossy(&request[..length]);
                let body = match text.split(' ').nth(1) {
                    Some("/redfish/v1/") => {
                        r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/s"}, "EventService": {"@odata.id": "/e"}}"#
                    }
                    Some("/e") => r#"{"ServerSentEventUri": "/sse"}"#,
                    Some("/sse") => break,
                    _ => return Ok(()),
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(head.as_bytes()).await?;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await?;
            while self.sent.load(Ordering::Relaxed) < MOST {
                stream.write_all(self.piece.as_bytes()).await?;
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_a_pause_is_read_at_a_bounded_pace() {
        let event = "data: {\"Events\": [{}]}\n\n";
        for (piece, is_event) in [(": a comment\n", false), ("data: {}\n\n", false), (event, true)] {
            let flood = Flood { piece, sent: Arc::default() };
            let hub = RedfishHub::with(Arc::new(flood.clone()), Tuning::default());
            let addr = ([192, 0, 2, 1], 80).into();
            let bmc = hub.bmc(RedfishAddress::new(addr, "u", Secret::new("x"), Trust::Plain));
            let mut events = bmc.events(Deadline::after(Duration::from_secs(60))).await.unwrap();
            let mut told = 0;
            let listened = async {
                loop {
                    events.next().await.unwrap();
                    told += 1;
                }
            };
            let seconds = 10;
            let over = tokio::time::timeout(Duration::from_secs(seconds), listened).await;
            assert!(over.is_err(), "the stream goes on");
            let bytes = flood.sent.load(Ordering::Relaxed) * piece.len() as u64;
            let most = (seconds + AT_ONCE.as_secs()) * RATE as u64;
            // What waits on its way: in hyper, and in the pipe.
            assert!((1024..most + 128 * 1024).contains(&bytes), "{piece:?}: {bytes}");
            assert_eq!(told > 0, is_event, "{piece:?}");
            assert!(told <= most as usize / EVENT, "{told}");
            hub.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_stays_while_its_stream_lasts() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let hub = scripted::hub(move |request| {
            log.lock().unwrap().push(request.to_owned());
            let body = match request {
                "GET /redfish/v1/" => {
                    r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "EventService": {"@odata.id": "/E"},
                        "Links": {"Sessions": {"@odata.id": "/X"}}}"#
                }
                "POST /X" => return Some((201, "{}".to_owned())),
                "GET /E" => r#"{"ServerSentEventUri": "/E/SSE"}"#,
                "GET /E/SSE" => return None,
                _ => "{}",
            };
            Some((200, body.to_owned()))
        });
        let has = |request: &str| asked.lock().unwrap().iter().any(|asked| asked == request);
        let bmc = hub.bmc(scripted::address());
        let events = bmc.events(Deadline::after(Duration::from_secs(60))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(has("GET /E/SSE") && !has("DELETE /X/1"), "{asked:?}");
        drop(events);
        tokio::time::sleep(Tuning::default().idle_close * 2).await;
        assert!(has("DELETE /X/1"), "{asked:?}");
        hub.shutdown().await;
    }
}
