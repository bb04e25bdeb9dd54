//! QMP, QEMU's control protocol: JSON objects, one a line, over a Unix socket.
//!
//! One task reads the socket and hands each answer to who asked; events go to whoever listens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, oneshot};

/// Why QEMU did not do what it was asked.
#[derive(Debug, Error)]
pub enum QmpError {
    #[error("the connection to QEMU is gone")]
    Closed,
    #[error("QEMU did not answer {command} within {ANSWER_DEADLINE:?}")]
    Timeout { command: String },
    #[error("QEMU refused {command}: {reason}")]
    Refused { command: String, reason: String },
}

/// An event QEMU sent on its own: `SHUTDOWN`, `RESET`, `POWERDOWN` and so on.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

/// A connection to one QEMU, past its greeting; drop it to close the connection.
#[derive(Debug)]
pub struct Qmp {
    write: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Arc<Mutex<Waiting>>,
    next_id: AtomicU64,
    /// The reader's: listeners hear of its end.
    events: broadcast::WeakSender<Event>,
    reader: tokio::task::JoinHandle<()>,
}

impl Qmp {
    /// Takes over a connected socket: reads the greeting and enters command mode.
    pub async fn start(stream: UnixStream) -> Result<Self, QmpError> {
        let (read, write) = stream.into_split();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (events, _) = broadcast::channel(64);
        let weak = events.downgrade();
        let reader = tokio::spawn(read_answers(read, Arc::clone(&waiting), events));
        let write = tokio::sync::Mutex::new(write);
        let qmp = Self { write, waiting, next_id: AtomicU64::new(1), events: weak, reader };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command and gives its `return` value.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().add(id, sender)?;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let asked = async {
            self.write.lock().await.write_all(line.as_bytes()).await.map_err(|_| QmpError::Closed)?;
            answer.await.map_err(|_| QmpError::Closed)
        };
        let answer = match tokio::time::timeout(ANSWER_DEADLINE, asked).await {
            Ok(answer) => answer?,
            Err(_) => {
                self.waiting().by_id.remove(&id);
                return Err(QmpError::Timeout { command: command.to_owned() });
            }
        };
        if let Some(value) = answer.get("return") {
            return Ok(value.clone());
        }
        let reason = answer.get("error").and_then(|error| error.get("desc")?.as_str());
        let reason = reason.unwrap_or("no reason");
        Err(QmpError::Refused { command: command.to_owned(), reason: reason.to_owned() })
    }

    /// Events from now on, until the connection ends.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        match self.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Who waits for which answer. Once `closed`, nobody may wait any more.
#[derive(Debug, Default)]
struct Waiting {
    by_id: HashMap<u64, oneshot::Sender<Map<String, Value>>>,
    closed: bool,
}

impl Waiting {
    fn add(&mut self, id: u64, who: oneshot::Sender<Map<String, Value>>) -> Result<(), QmpError> {
        if self.closed {
            return Err(QmpError::Closed);
        }
        self.by_id.insert(id, who);
        Ok(())
    }
}

async fn read_answers(read: OwnedReadHalf, waiting: Arc<Mutex<Waiting>>, events: broadcast::Sender<Event>) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(Value::Object(message)) = serde_json::from_str(&line) else {
            tracing::warn!(line, "not QMP");
            continue;
        };
        if let Some(id) = message.get("id").and_then(Value::as_u64) {
            let who = waiting.lock().unwrap_or_else(PoisonError::into_inner).by_id.remove(&id);
            if let Some(who) = who {
                // Whoever asked may have given up; that is no concern of ours.
                let _ = who.send(message);
            }
        } else if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or(Value::Null);
            // An error means that nobody listens.
            let _ = events.send(Event { name: name.to_owned(), data });
        }
    }
    // QEMU is gone: dropping the senders tells everybody who waits.
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.closed = true;
    waiting.by_id.clear();
}

/// QEMU answers in milliseconds; on an overloaded machine under emulation it has taken seconds.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
