//! Serial over LAN: who has it, and the commands about it (IPMI 2.0 chapters 24 and 26).

mod bridge;
mod parameters;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use farrier_ipmi::command::Activated;
use farrier_ipmi::command::payload::{ALREADY_ACTIVE, ALREADY_INACTIVE, DISABLED, INSTANCE, SOL};
use farrier_ipmi::completion;
use farrier_ipmi::server::{Request, SolArrived};
use ipmi_rs_core::connection::NetFn;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::commands::Answer;
use super::serial::SerialPort;
use super::server::Shared;
use bridge::Bridge;
use parameters::Parameters;

const USER: u8 = 2;
const OPERATOR: u8 = 3;
const ADMINISTRATOR: u8 = 4;

/// Largest SOL payload in bytes, header included: what many BMCs say.
const PAYLOAD_SIZE: u16 = 0x0103;
/// Packets of a console waiting for the bridge.
const PACKETS: usize = 32;

/// SOL of one BMC.
pub(super) struct Sol {
    port: Option<Arc<dyn SerialPort>>,
    parameters: Parameters,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    active: Option<Active>,
}

/// How a command is carried out.
type Command = fn(&mut Sol, &Request, SocketAddr) -> Answer;

struct Active {
    session_id: u32,
    packets: mpsc::Sender<(Vec<u8>, SocketAddr)>,
    /// Ends the bridge.
    stop: CancellationToken,
    _guard: DropGuard,
}

impl Sol {
    pub(super) fn new(
        port: Option<Arc<dyn SerialPort>>,
        socket: Arc<UdpSocket>,
        udp_port: u16,
        shared: Arc<Shared>,
    ) -> Self {
        Self { port, parameters: Parameters::new(udp_port), socket, shared, active: None }
    }

    /// The BMC is elsewhere; the next console is there, too.
    pub(super) fn moved(&mut self, socket: Arc<UdpSocket>) {
        self.socket = socket;
    }

    /// A packet of a console goes to the bridge, if it is its.
    pub(super) fn packet(&self, arrived: SolArrived, peer: SocketAddr) {
        match &self.active {
            Some(active) if active.session_id == arrived.session_id => {
                // A bridge that is behind loses it, and the console sends it again.
                let _ = active.packets.try_send((arrived.packet, peer));
            }
            _ => tracing::debug!(%peer, "sol packet of a session without sol"),
        }
    }

    /// Whether SOL ended by itself: its session has.
    fn live(&mut self) -> Option<u32> {
        let id = self.active.as_ref().map(|active| active.session_id)?;
        if self.shared.protocol().has_session(Instant::now(), id) {
            return Some(id);
        }
        self.active = None;
        None
    }

    /// The answer to a command about SOL; `None`: it is about something else.
    pub(super) fn execute(&mut self, request: &Request, peer: SocketAddr) -> Option<Answer> {
        let message = &request.message;
        let (needed, command): (u8, Command) = match (NetFn::from(message.netfn), message.cmd) {
            (NetFn::App, 0x48) => (OPERATOR, Self::activate),
            (NetFn::App, 0x49) => (OPERATOR, |sol, request, _| sol.deactivate(request)),
            (NetFn::App, 0x4A) => (USER, |sol, request, _| sol.status(request)),
            (NetFn::App, 0x4B) => (USER, |sol, request, _| sol.instance(request)),
            (NetFn::App, 0x4D) => (OPERATOR, |_, _, _| (completion::OK, vec![0x02, 0, 0, 0])),
            (NetFn::App, 0x4E) => (USER, |_, _, _| channel_support()),
            (NetFn::App, 0x4F) => (USER, |_, request, _| version(request)),
            (NetFn::Transport, 0x21) => {
                (ADMINISTRATOR, |sol, request, _| sol.parameters.set(&request.message.data))
            }
            (NetFn::Transport, 0x22) => {
                (OPERATOR, |sol, request, _| sol.parameters.get(&request.message.data))
            }
            _ => return None,
        };
        if self.port.is_none() {
            return Some((completion::INVALID_COMMAND, Vec::new()));
        }
        if request.privilege < needed {
            return Some((completion::INSUFFICIENT_PRIVILEGE, Vec::new()));
        }
        Some(command(self, request, peer))
    }

    /// §24.1.
    fn activate(&mut self, request: &Request, peer: SocketAddr) -> Answer {
        let [SOL, INSTANCE, ..] = request.message.data.as_slice() else {
            return (completion::INVALID_FIELD, Vec::new());
        };
        let (Some(port), Some(session_id)) = (self.port.clone(), request.session_id) else {
            return (completion::NOT_IN_PRESENT_STATE, Vec::new());
        };
        if !self.parameters.enabled() {
            return (DISABLED, Vec::new());
        }
        // A console repeats a command whose answer was lost.
        let mine = match self.live() {
            Some(id) if id != session_id || self.shared.activates_once() => {
                return (ALREADY_ACTIVE, Vec::new());
            }
            live => live.is_some(),
        };
        if !mine {
            let (packets, inbox) = mpsc::channel(PACKETS);
            let stop = CancellationToken::new();
            let bridge =
                Bridge::new(port, Arc::clone(&self.socket), Arc::clone(&self.shared), session_id, peer);
            tokio::spawn(bridge.run(inbox, stop.clone()));
            self.shared.consoles.fetch_add(1, Ordering::Relaxed);
            self.active = Some(Active { session_id, packets, _guard: stop.clone().drop_guard(), stop });
        }
        let udp_port = self.parameters.udp_port();
        let told = Activated { inbound_size: PAYLOAD_SIZE, outbound_size: PAYLOAD_SIZE, port: udp_port };
        (completion::OK, told.to_bytes().to_vec())
    }

    /// §24.2: whoever may, may end another's too.
    fn deactivate(&mut self, request: &Request) -> Answer {
        let [SOL, INSTANCE, ..] = request.message.data.as_slice() else {
            return (completion::INVALID_FIELD, Vec::new());
        };
        match self.active.take() {
            Some(active) => {
                active.stop.cancel();
                (completion::OK, Vec::new())
            }
            None => (ALREADY_INACTIVE, Vec::new()),
        }
    }

    /// §24.4: one instance there is, and whether it is active.
    fn status(&mut self, request: &Request) -> Answer {
        let active = request.message.data == [SOL] && self.live().is_some();
        (completion::OK, vec![0x01, u8::from(active), 0])
    }

    /// §24.5.
    fn instance(&mut self, request: &Request) -> Answer {
        let [SOL, INSTANCE] = request.message.data.as_slice() else {
            return (completion::INVALID_FIELD, Vec::new());
        };
        let mut out = self.live().unwrap_or(0).to_le_bytes().to_vec();
        // Serial port 1 is the one.
        out.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        (completion::OK, out)
    }
}

/// §24.8: IPMI and SOL, and the messages of session set-up.
fn channel_support() -> Answer {
    (completion::OK, vec![0x03, 0, 0x3F, 0, 0, 0, 0, 0])
}

/// §24.9: 1.0.
fn version(request: &Request) -> Answer {
    match request.message.data.as_slice() {
        [_, 0 | SOL] => (completion::OK, vec![0x10]),
        _ => (completion::PARAMETER_NOT_SUPPORTED, Vec::new()),
    }
}
