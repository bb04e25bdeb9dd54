//! The serial console over IPMI: SOL in a session of its own, beside the actor's, so that commands do not wait for
//! characters nor characters for commands.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use farrier_ipmi::client::{ClientSession, Incoming};
use farrier_ipmi::command::payload::{ALREADY_ACTIVE, ALREADY_INACTIVE, DISABLED};
use farrier_ipmi::command::{ActivatePayload, Activated, DeactivatePayload, GetPayloadInstanceInfo};
use farrier_ipmi::completion::{CompletionCode, INVALID_COMMAND};
use farrier_ipmi::lan::LanMessage;
use farrier_ipmi::sol::{Endpoint, Policy, Role, status};
use ipmi_rs_core::app::GetDeviceId;
use ipmi_rs_core::connection::Message;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::BmcAddress;
use super::driver::IpmiBmc;
use super::hub::Shared;
use super::link::Link;
use super::wire::Wire;
use crate::actor::Call;
use crate::{BmcError, Capability, Console, ConsoleEvent, ConsoleInput, ConsoleLine, Deadline, Power as _};

/// Events and inputs under way.
const QUEUE: usize = 64;
/// Characters taken of one packet: a byte counts them.
const ROOM: usize = 255;
/// For giving the console back.
const CLOSE: Duration = Duration::from_secs(2);
/// Activate Payload in one call: after each there may be a Deactivate Payload.
const ACTIVATIONS: u32 = 3;

/// Opens consoles of one BMC.
pub(crate) struct Sol {
    /// Commands, in the session of the actor.
    pub(super) commands: Arc<IpmiBmc>,
    pub(super) address: Arc<BmcAddress>,
    pub(super) shared: Arc<Shared>,
    /// Absent if the host cannot send to that address family.
    pub(super) socket: Option<Arc<UdpSocket>>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

#[async_trait]
impl Console for Sol {
    async fn open_console(&self, take_over: bool, deadline: Deadline) -> Result<ConsoleLine, BmcError> {
        let addr = self.address.addr;
        let begin = Instant::now();
        let socket = self.socket.clone().ok_or(BmcError::NoSocket { addr })?;
        // Commands first: where the password was refused not long ago nothing is sent, and it is tried once for both.
        match self.commands.look(deadline).await {
            // It let us in, whatever it says of its chassis.
            Ok(_) | Err(BmcError::Refused { .. } | BmcError::Malformed { .. }) => {}
            Err(error) => return Err(error),
        }
        let (opened, outcome) = tokio::sync::oneshot::channel();
        let (address, shared, stop) = (self.address.clone(), self.shared.clone(), self.stop.clone());
        let commands = Arc::clone(&self.commands);
        // A task of its own, so that a caller who goes away leaves no session open at the BMC, and is told of no refusal in vain.
        self.tasks.spawn(async move {
            let (route, inbox) = shared.add_route(addr);
            let mut wire = Wire::new(socket, addr, inbox);
            wire.always_listen();
            let mut link = Link::new(address, Arc::clone(&shared), wire);
            // Of who waits until the BMC has all of it back.
            let given_back = CancellationToken::new();
            let _whatever_happens = given_back.clone().drop_guard();
            serve(&mut link, take_over, deadline, (opened, given_back), commands, &stop).await;
            link.close().await;
            shared.remove_route(addr, route);
        });
        match tokio::time::timeout_at(deadline.instant() + CLOSE, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(BmcError::ShuttingDown)),
            Err(_) => Err(BmcError::Late { addr, elapsed: begin.elapsed() }),
        }
    }
}

type Opened = tokio::sync::oneshot::Sender<Result<ConsoleLine, BmcError>>;

/// The whole life of one line.
async fn serve(
    link: &mut Link,
    take_over: bool,
    deadline: Deadline,
    (mut opened, given_back): (Opened, CancellationToken),
    commands: Arc<IpmiBmc>,
    stop: &CancellationToken,
) {
    let mut call = Call::new(deadline);
    let log_in = Arc::clone(&call.log_in);
    let gone = async {
        opened.closed().await;
        // Half a log-in would leave a slot taken that nobody can give back.
        drop(log_in.lock().await);
    };
    let activated = tokio::select! {
        () = stop.cancelled() => return,
        () = gone => return,
        activated = activate(link, take_over, &mut call) => activated,
    };
    let activated = match activated {
        Ok(activated) => activated,
        Err(error) => {
            // The actor's session may be older than the password, and lets nobody find that out.
            if matches!(error, BmcError::WrongPassword { .. } | BmcError::WrongKg { .. }) {
                commands.was_refused(error.clone()).await;
            }
            let _gone = opened.send(Err(error));
            return;
        }
    };
    // A line may be open for days: it keeps nobody's actor alive.
    drop(commands);
    let Some(session) = link.take_open_session() else { return };
    let ((events_in, events), (input, inputs)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
    let mut line = Line::new(session, link, &activated);
    let ended = if opened.send(Ok(ConsoleLine { events, input, given_back })).is_ok() {
        tokio::select! {
            () = stop.cancelled() => Some(BmcError::ShuttingDown),
            ended = line.run(link, &events_in, inputs) => ended,
        }
    } else {
        None
    };
    let gives_back = match &ended {
        // Nobody would answer.
        Some(BmcError::Unreachable { .. }) => None,
        // The console is another's, and the session still ours.
        Some(BmcError::ConsoleTaken { .. }) => Some(false),
        _ => Some(true),
    };
    if let Some(error) = ended {
        let _gone = events_in.try_send(ConsoleEvent::Ended(error));
    }
    drop(events_in);
    if let Some(deactivate) = gives_back {
        link.put_session(line.session);
        if deactivate {
            let _gone = link.command(&mut Call::new(Deadline::after(CLOSE)), DeactivatePayload).await;
        }
    }
}

async fn activate(link: &mut Link, take_over: bool, call: &mut Call) -> Result<Activated, BmcError> {
    let addr = link.address.addr;
    for nth in 1..=ACTIVATIONS {
        match link.command(call, ActivatePayload).await {
            Err(BmcError::Refused { code: CompletionCode(ALREADY_ACTIVE), .. }) => {
                let takes = take_over && nth == 1;
                if nth == ACTIVATIONS || !(takes || is_ours(link, call).await?) {
                    return Err(BmcError::ConsoleTaken { addr });
                }
                match link.command(call, DeactivatePayload).await {
                    // It ended by itself meanwhile.
                    Ok(()) | Err(BmcError::Refused { code: CompletionCode(ALREADY_INACTIVE), .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(BmcError::Refused { code: CompletionCode(INVALID_COMMAND), .. }) => {
                return Err(BmcError::Unsupported {
                    driver: "ipmi",
                    capability: Capability::Console.as_str(),
                });
            }
            Err(BmcError::Refused { code: CompletionCode(DISABLED), .. }) => {
                return Err(BmcError::NotOffered {
                    addr,
                    wanted: "its serial console over LAN, which is switched off",
                    expected: vec!["SOL enabled, as by `ipmitool sol set enabled true`"],
                    offered: Vec::new(),
                });
            }
            other => return other,
        }
    }
    Err(BmcError::ConsoleTaken { addr })
}

/// Whether this session has the console: the first answer to Activate Payload was lost, and a BMC that does not know the second
/// for a repetition refuses it. Then the sizes that it told are lost, too.
async fn is_ours(link: &mut Link, call: &mut Call) -> Result<bool, BmcError> {
    match link.command(call, GetPayloadInstanceInfo).await {
        Ok(id) => Ok(link.session_id() == Some(id)),
        // The command is optional.
        Err(BmcError::Refused { .. } | BmcError::Malformed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A line in use.
struct Line {
    session: ClientSession,
    end: Endpoint,
    /// Of the caller, not yet pushed.
    typed: Vec<u8>,
    /// When the BMC was last heard, by a packet with a right MAC.
    heard: Instant,
    asked: Option<Asked>,
    /// Told once until it is over.
    unavailable: bool,
}

/// A question that only asks whether the session still lives.
struct Asked {
    request: LanMessage,
    sent: u32,
    due: Instant,
}

impl Line {
    fn new(session: ClientSession, link: &Link, activated: &Activated) -> Self {
        let tuning = link.tuning();
        let policy = Policy {
            retry: tuning.first_timeout,
            tries: tuning.tries,
            pause: tuning.busy_delay,
            max_chars: ROOM,
            max_pending: 4096,
        };
        let end = Endpoint::new(Role::Console, policy.with_payload_size(activated.inbound_size));
        let end = end.greeting(rand::random());
        Self { session, end, typed: Vec::new(), heard: Instant::now(), asked: None, unavailable: false }
    }

    /// Until the caller drops the line (`None`) or it ends.
    async fn run(
        &mut self,
        link: &mut Link,
        events: &mpsc::Sender<ConsoleEvent>,
        mut inputs: mpsc::Receiver<ConsoleInput>,
    ) -> Option<BmcError> {
        let keep_alive = link.tuning().keep_alive;
        let (mut waiting_break, mut behind_break) = (false, None);
        loop {
            self.push_typed();
            if waiting_break && self.typed.is_empty() && self.end.push_break() {
                waiting_break = false;
                self.typed.extend(behind_break.take());
                self.push_typed();
            }
            self.transmit(link).await;
            if self.end.is_lost() {
                return Some(lost(link, "an acknowledgement of characters"));
            }
            let quiet = self.heard + keep_alive;
            let due = self.end.poll_timeout().map(Instant::from_std);
            let due = [due, self.asked.as_ref().map(|asked| asked.due)].into_iter().flatten().min();
            let due = due.unwrap_or(quiet);
            tokio::select! {
                input = inputs.recv(), if self.typed.is_empty() && !waiting_break => match input {
                    Some(ConsoleInput::Chars(chars)) => self.typed = chars,
                    Some(ConsoleInput::Break) => waiting_break = true,
                    Some(ConsoleInput::MagicSysRq(key)) => (waiting_break, behind_break) = (true, Some(key)),
                    None => return None,
                },
                () = events.closed() => return None,
                datagram = link.wire.receive() => match datagram {
                    Some(datagram) => {
                        if let Some(ended) = self.take(&datagram, events, link) {
                            return Some(ended);
                        }
                    }
                    None => return Some(BmcError::ShuttingDown),
                },
                () = tokio::time::sleep_until(due) => {
                    if !self.keep_alive(link, quiet).await {
                        return Some(lost(link, "an answer to Get Device ID"));
                    }
                }
            }
        }
    }

    fn push_typed(&mut self) {
        let taken = self.end.push(&self.typed);
        self.typed.drain(..taken);
    }

    /// One datagram of the BMC, or of anybody.
    fn take(
        &mut self,
        datagram: &[u8],
        events: &mpsc::Sender<ConsoleEvent>,
        link: &Link,
    ) -> Option<BmcError> {
        let packet = match self.session.open_any(datagram) {
            Ok(Incoming::Sol(packet)) => packet,
            Ok(Incoming::Message(message)) => {
                self.heard = Instant::now();
                self.asked.take_if(|asked| message.answers(&asked.request));
                return None;
            }
            // Of the actor's session, or forged.
            Err(_) => return None,
        };
        self.heard = Instant::now();
        // Without room nothing is taken, and the BMC keeps the characters a while.
        let permit = events.try_reserve().ok();
        let room = if permit.is_some() { ROOM } else { 0 };
        let heard = match self.end.handle(std::time::Instant::now(), &packet, room) {
            Ok(heard) => heard,
            Err(error) => {
                tracing::debug!(bmc.addr = %link.address.addr, %error, "sol packet");
                return None;
            }
        };
        if let Some(permit) = permit.filter(|_| !heard.chars.is_empty()) {
            permit.send(ConsoleEvent::Output(heard.chars));
        }
        let unavailable = heard.bits & status::UNAVAILABLE != 0;
        let told = [
            (heard.bits & status::OVERRUN != 0, ConsoleEvent::Overrun),
            (heard.bits & status::BREAK != 0, ConsoleEvent::Break),
            (unavailable && !self.unavailable, ConsoleEvent::Unavailable),
        ];
        self.unavailable = unavailable;
        for (_, event) in told.into_iter().filter(|(is, _)| *is) {
            // Hints: who is behind with reading misses them.
            let _ = events.try_send(event);
        }
        (heard.bits & status::DEACTIVATED != 0).then_some(BmcError::ConsoleTaken { addr: link.address.addr })
    }

    async fn transmit(&mut self, link: &Link) {
        while let Some(packet) = self.end.poll_transmit(std::time::Instant::now()) {
            let datagram = self.session.seal_sol(&packet, &rand::random());
            link.wire.send(&datagram).await;
        }
    }

    /// A session nobody uses ends after 60 s (§6.12.15), and one that ended answers with silence. `false`: it did.
    async fn keep_alive(&mut self, link: &Link, quiet: Instant) -> bool {
        let now = Instant::now();
        if self.asked.is_none() && now >= quiet {
            let request = self.session.request(&Message::from(GetDeviceId));
            self.asked = Some(Asked { request, sent: 0, due: now });
        }
        let Some(asked) = &mut self.asked else { return true };
        if now < asked.due {
            return true;
        }
        if asked.sent >= link.tuning().tries {
            return false;
        }
        asked.due = now + link.tuning().timeout(asked.sent);
        asked.sent += 1;
        let datagram = self.session.seal(&asked.request, &rand::random());
        link.wire.send(&datagram).await;
        true
    }
}

fn lost(link: &Link, waiting_for: &'static str) -> BmcError {
    BmcError::Unreachable {
        addr: link.address.addr,
        tried: link.tuning().tries,
        elapsed: Duration::ZERO,
        waiting_for,
    }
}
