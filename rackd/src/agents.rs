//! Ramdisk agents: one slot a task, in which the agent of that task's boot sits.

use farrier_proto::agent::{SessionRequest, SessionResponse, session_request, session_response};
use farrier_proto::types::Hardware;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tonic::Status;

type Outgoing = mpsc::Sender<Result<SessionResponse, Status>>;

/// Outcomes remembered: a task has a handful of commands.
const REMEMBERED: usize = 64;

/// An agent that is connected.
#[derive(Clone)]
pub(crate) struct Session {
    serial: u64,
    pub(crate) boot_id: String,
    pub(crate) hardware: Hardware,
    outgoing: Outgoing,
}

/// What a command came to.
pub(crate) type Outcome = Result<session_request::Done, session_request::Failure>;

/// Where the agent of one task sits.
pub(crate) struct AgentSlot {
    session: watch::Sender<Option<Session>>,
    progress: watch::Sender<Option<session_request::Progress>>,
    outcomes: Mutex<HashMap<String, Outcome>>,
    /// Counts outcomes; waiters look again when it moves.
    arrived: watch::Sender<u64>,
    serials: AtomicU64,
    /// Where it called from last.
    peer: Mutex<Option<IpAddr>>,
    /// Last refusal of a token, for whoever wonders why no agent comes.
    refused: watch::Sender<Option<String>>,
}

impl Default for AgentSlot {
    fn default() -> Self {
        Self {
            session: watch::channel(None).0,
            progress: watch::channel(None).0,
            outcomes: Mutex::default(),
            arrived: watch::channel(0).0,
            serials: AtomicU64::new(0),
            peer: Mutex::default(),
            refused: watch::channel(None).0,
        }
    }
}

impl AgentSlot {
    /// An agent said hello. A newer stream replaces an older one: the older is a dead connection.
    pub(crate) fn attach(&self, hello: session_request::Hello, peer: IpAddr, outgoing: Outgoing) -> u64 {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
        let hardware = hello.hardware.unwrap_or_default();
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
        self.session.send_replace(Some(Session { serial, boot_id: hello.boot_id, hardware, outgoing }));
        serial
    }

    /// Where the agent called from last.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its stream ended.
    pub(crate) fn detach(&self, serial: u64) {
        self.session.send_if_modified(|s| {
            let same = s.as_ref().is_some_and(|s| s.serial == serial);
            if same {
                *s = None;
            }
            same
        });
    }

    /// Ends the agent's stream: it leaves at once after its last order.
    pub(crate) fn hang_up(&self) {
        self.session.send_replace(None);
    }

    /// Something it reported.
    pub(crate) fn report(&self, request: SessionRequest) {
        match request.report {
            Some(session_request::Report::Progress(p)) => {
                self.progress.send_replace(Some(p));
            }
            Some(session_request::Report::Result(r)) => {
                let outcome = match r.outcome {
                    Some(session_request::result::Outcome::Done(done)) => Ok(done),
                    Some(session_request::result::Outcome::Failure(failure)) => Err(failure),
                    None => Err(session_request::Failure {
                        reason: 0,
                        message: "the agent sent a result without an outcome".to_owned(),
                    }),
                };
                let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                if outcomes.len() < REMEMBERED {
                    outcomes.insert(r.command_id, outcome);
                }
                drop(outcomes);
                self.arrived.send_modify(|n| *n += 1);
            }
            // A second hello on one stream says nothing new.
            Some(session_request::Report::Hello(_)) | None => {}
        }
    }

    pub(crate) fn refuse(&self, why: String) {
        self.refused.send_replace(Some(why));
    }

    pub(crate) fn refusals(&self) -> watch::Receiver<Option<String>> {
        self.refused.subscribe()
    }

    /// Waits for an agent. Cancel-safe.
    pub(crate) async fn connected(&self) -> Option<Session> {
        self.session.subscribe().wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Sends a command and waits for its outcome, sending it again whenever the agent reconnects: the agent
    /// answers a finished command from memory. `on_progress` runs for each report, `on_connection` with
    /// whether an agent is there. Cancel-safe: the same id can be asked for again.
    pub(crate) async fn command(
        &self,
        id: &str,
        command: session_response::Command,
        on_progress: impl Fn(&session_request::Progress),
        on_connection: impl Fn(bool),
    ) -> Outcome {
        let mut sessions = self.session.subscribe();
        let mut arrived = self.arrived.subscribe();
        let mut progress = self.progress.subscribe();
        let mut told = 0;
        loop {
            arrived.borrow_and_update();
            if let Some(outcome) =
                self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
            {
                return outcome;
            }
            let session = sessions.borrow_and_update().clone();
            on_connection(session.is_some());
            if let Some(session) = session.filter(|s| s.serial != told) {
                let message = SessionResponse { command_id: id.to_owned(), command: Some(command.clone()) };
                if session.outgoing.send(Ok(message)).await.is_ok() {
                    told = session.serial;
                }
            }
            // The slot outlives its task's steps, so none of these senders is ever dropped.
            tokio::select! {
                _ = sessions.changed() => {}
                _ = arrived.changed() => {}
                _ = progress.changed() => {
                    if let Some(p) = progress.borrow_and_update().as_ref().filter(|p| p.command_id == id) {
                        on_progress(p);
                    }
                }
            }
        }
    }
}
