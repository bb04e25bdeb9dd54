//! The conversation with rackd: Register once, then one Session stream after another, for ever.
//!
//! A stream that breaks stops nothing: commands run on in the executor, rackd sends what it still waits
//! for again, and the answer comes from the ledger. Only a rackd that says for minutes that it knows nothing of this boot ends
//! it: then a machine that nobody described starts again, and its firmware asks what to do; a node's is switched off.
use crate::Last;
use crate::commands::Context;
use crate::config::Config;
use crate::executor::{Entry, Executor};
use crate::limits::Backoff;
use farrier_identity::IdentityError;
use farrier_identity::agent::{Key, channel};
use farrier_proto::agent::agent_service_client::AgentServiceClient;
use farrier_proto::agent::session_request::{Failure, Hello, Report, result::Outcome};
use farrier_proto::agent::{
    FailureReason, RegisterRequest, SessionRequest, SessionResponse, session_request,
};
use farrier_proto::types::Hardware;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

/// Reports on their way into a stream; the ledger holds the rest.
const OUTBOX: usize = 16;
/// A message from rackd: a config drive's user data is the largest thing in one (bounded there by 64 MiB);
/// manifests take 32 bytes a chunk.
const MAX_MESSAGE_BYTES: usize = 72 << 20;
/// Streams in a row that fail to open before the certificate is asked for anew.
const FAILURES_BEFORE_REGISTER: u32 = 5;
/// Reason of a refusal (docs/errors.md): the task of this boot has ended, or a machine that was being discovered was forgotten.
const TOKEN_UNKNOWN: &str = "TOKEN_UNKNOWN";

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("rackd refused: {}: {}", .0.code(), .0.message())]
    Refused(tonic::Status),
    #[error("rackd did not answer for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("rackd closed the session")]
    Closed,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("reading the hardware: {0}")]
    Hardware(std::io::Error),
}

impl Broken {
    /// Whether rackd answered, and knows nothing of this boot.
    fn is_unknown(&self) -> bool {
        let Self::Refused(status) = self else { return false };
        status.get_details_error_info().is_some_and(|info| info.reason == TOKEN_UNKNOWN)
    }
}

/// One agent's side of the link.
pub(crate) struct Link {
    pub(crate) config: Config,
    pub(crate) context: Arc<Context>,
    pub(crate) executor: Executor,
    pub(crate) key: Key,
}

impl Link {
    /// Serves until the machine is to be switched off, or started again. Cancel-safe: dropping it closes the stream.
    pub(crate) async fn run(&self) -> Last {
        let limits = &self.context.limits;
        let mut backoff = Backoff::new(limits.reconnect_min, limits.reconnect_max);
        let mut certificate: Option<Vec<u8>> = None;
        let mut failures = 0;
        // When rackd first said that it knows nothing of this boot. One that is away says neither.
        let mut unknown_since: Option<Instant> = None;
        loop {
            let opened = Instant::now();
            let ended = match &certificate {
                None => self.register().await.map(|der| {
                    certificate = Some(der);
                    failures = 0;
                    unknown_since = None;
                }),
                Some(der) => match self.session(der).await {
                    Ok(last) => return last,
                    Err(error) => {
                        let unknown = matches!(&error, Broken::Refused(s)
                            if matches!(s.code(), Code::Unauthenticated | Code::PermissionDenied));
                        failures += 1;
                        if unknown || failures >= FAILURES_BEFORE_REGISTER {
                            certificate = None;
                        }
                        Err(error)
                    }
                },
            };
            match ended {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    if error.is_unknown() {
                        let since = *unknown_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= limits.unknown_patience {
                            // What a task of a node has left on its disks, it must not start.
                            let last = if self.config.is_discovery { Last::Restart } else { Last::PowerOff };
                            tracing::warn!(url = %self.config.url, %error, ?last, "nobody waits for this ramdisk");
                            return last;
                        }
                    }
                    // A session that held for a while was a good one.
                    if opened.elapsed() > limits.reconnect_max {
                        backoff.reset();
                        failures = 0;
                    }
                    let pause = backoff.pause();
                    tracing::warn!(
                        url = %self.config.url,
                        %error,
                        retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "no session with rackd"
                    );
                    sleep(pause).await;
                }
            }
        }
    }

    async fn hardware(&self) -> Result<Hardware, Broken> {
        let machine = self.context.machine.clone();
        tokio::task::spawn_blocking(move || machine.hardware())
            .await
            .map_err(std::io::Error::other)
            .and_then(|result| result)
            .map_err(Broken::Hardware)
    }

    /// The token buys the certificate; the same key may ask again.
    async fn register(&self) -> Result<Vec<u8>, Broken> {
        let request = RegisterRequest {
            token: self.config.token.reveal().to_owned(),
            csr_der: self.key.csr_der().to_vec(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hardware: Some(self.hardware().await?),
        };
        let channel = channel(&self.config.url, &self.config.ca, None)?;
        let mut client = AgentServiceClient::new(channel);
        let wait = self.context.limits.call_timeout;
        let response = timeout(wait, client.register(request))
            .await
            .map_err(|_| Broken::Silent(wait))?
            .map_err(Broken::Refused)?
            .into_inner();
        tracing::info!(node = %response.node, "registered with rackd");
        Ok(response.certificate_der)
    }

    /// One stream. `Ok` means: now.
    async fn session(&self, certificate: &[u8]) -> Result<Last, Broken> {
        let hello = Hello { boot_id: self.context.machine.boot_id(), hardware: Some(self.hardware().await?) };
        let channel = channel(&self.config.url, &self.config.ca, Some((&self.key, certificate)))?;
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (outbox, reports) = mpsc::channel(OUTBOX);
        send(&outbox, Report::Hello(hello)).await?;
        let wait = self.context.limits.call_timeout;
        let commands = timeout(wait, client.session(ReceiverStream::new(reports)))
            .await
            .map_err(|_| Broken::Silent(wait))?
            .map_err(Broken::Refused)?
            .into_inner();
        tracing::info!("session with rackd is open");
        self.converse(commands, outbox).await
    }

    async fn converse(
        &self,
        mut commands: Streaming<SessionResponse>,
        outbox: mpsc::Sender<SessionRequest>,
    ) -> Result<Last, Broken> {
        let mut ledger = self.executor.ledger();
        ledger.mark_changed();
        // Commands of this stream that are not answered yet, each with what was last told.
        let mut asked: BTreeMap<String, Option<session_request::Progress>> = BTreeMap::new();
        loop {
            tokio::select! {
                message = commands.next() => {
                    let message = message.ok_or(Broken::Closed)?.map_err(Broken::Refused)?;
                    let id = message.command_id;
                    match message.command {
                        Some(command) => {
                            self.executor.submit(id.clone(), command).await;
                            asked.insert(id, None);
                            ledger.mark_changed();
                        }
                        // A command of a newer rackd: protobuf drops the field it does not know.
                        None => send(&outbox, unknown(id)).await?,
                    }
                }
                changed = ledger.changed() => {
                    changed.map_err(|_| Broken::Closed)?;
                    // Our last word is the answer to PowerOff or Restart, on whichever stream rackd asks for it.
                    let (news, last_word) = {
                        let ledger = ledger.borrow_and_update();
                        let news: Vec<Entry> =
                            asked.keys().filter_map(|id| ledger.entry(id).cloned()).collect();
                        (news, ledger.last.as_ref().filter(|(id, _)| asked.contains_key(id)).map(|(_, last)| *last))
                    };
                    for entry in news {
                        match entry {
                            Entry::Waiting => {}
                            Entry::Running(progress) => {
                                let told = asked.get_mut(&progress.command_id);
                                if let Some(told) = told.filter(|told| told.as_ref() != Some(&progress)) {
                                    *told = Some(progress.clone());
                                    send(&outbox, Report::Progress(progress)).await?;
                                }
                            }
                            Entry::Finished(result) => {
                                asked.remove(&result.command_id);
                                send(&outbox, Report::Result(*result)).await?;
                            }
                        }
                    }
                    if let Some(last) = last_word {
                        self.say_goodbye(commands, outbox).await;
                        return Ok(last);
                    }
                }
            }
        }
    }

    /// Ends our half of the stream and waits until rackd ends its half, which it does after it has read
    /// our last word.
    async fn say_goodbye(
        &self,
        mut commands: Streaming<SessionResponse>,
        outbox: mpsc::Sender<SessionRequest>,
    ) {
        drop(outbox);
        let drained = async { while let Some(Ok(_)) = commands.next().await {} };
        let _ = timeout(self.context.limits.power_off_grace, drained).await;
    }
}

async fn send(outbox: &mpsc::Sender<SessionRequest>, report: Report) -> Result<(), Broken> {
    outbox.send(SessionRequest { report: Some(report) }).await.map_err(|_| Broken::Closed)
}

fn unknown(command_id: String) -> Report {
    Report::Result(session_request::Result {
        command_id,
        outcome: Some(Outcome::Failure(Failure {
            reason: FailureReason::Unsupported.into(),
            message: format!(
                "expected a command that farrier-agent {} knows, seen another; next: update the rack's ramdisk",
                env!("CARGO_PKG_VERSION")
            ),
        })),
    })
}

#[cfg(test)]
mod tests;
