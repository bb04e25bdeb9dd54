//! A BMC of a test, which answers each request as the test has it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Dial, DialError, RedfishAddress, RedfishHub, Stream, Trust, Tuning};
use crate::Secret;

/// Status and body; `None`: it hangs.
type Answers = dyn Fn(&str) -> Option<(u16, String)> + Send + Sync;

struct Scripted(Arc<Answers>, Duration);

/// Of a BMC with one collection of systems.
pub(super) const ROOT: &str = r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}}"#;

/// `answers` gets the method and the path of each request.
pub(super) fn hub(answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> RedfishHub {
    slow_hub(Duration::ZERO, answers)
}

/// The same of one that takes its time for each answer.
pub(super) fn slow_hub(
    after: Duration,
    answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static,
) -> RedfishHub {
    RedfishHub::with(dial(after, answers), Tuning::default())
}

/// As [`slow_hub`], for a hub of another kind.
pub(super) fn dial(
    after: Duration,
    answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static,
) -> Arc<dyn Dial> {
    Arc::new(Scripted(Arc::new(answers), after))
}

pub(super) fn address() -> RedfishAddress {
    RedfishAddress::new(([192, 0, 2, 1], 80).into(), "u", Secret::new("hunter2"), Trust::Plain)
}

#[async_trait]
impl Dial for Scripted {
    async fn dial(&self, _: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(serve(Arc::clone(&self.0), self.1, theirs));
        Ok(Box::new(ours))
    }
}

async fn serve(answers: Arc<Answers>, after: Duration, mut stream: DuplexStream) -> std::io::Result<()> {
    let mut heard = Vec::new();
    loop {
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&heard);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                break (head.to_owned(), body.len());
            }
            if stream.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
        };
        let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
        let rest = head.lines().find_map(length).unwrap_or(0_usize).saturating_sub(body);
        stream.read_exact(&mut vec![0; rest]).await?;
        heard.clear();
        let request: Vec<_> = head.split(' ').take(2).collect();
        let Some((status, body)) = answers(&request.join(" ")) else { return std::future::pending().await };
        tokio::time::sleep(after).await;
        // What is made is a session, and what is accepted a task.
        let made = match status {
            201 => "X-Auth-Token: t\r\nLocation: /X/1\r\n",
            202 => "Location: /T/1\r\n",
            _ => "",
        };
        let answer = format!("HTTP/1.1 {status} X\r\n{made}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}
