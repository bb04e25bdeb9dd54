//! Between a console's session and the serial port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farrier_ipmi::sol::{Endpoint, Policy, Role, operation, status};
use rand::RngCore;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::PAYLOAD_SIZE;
use crate::bmc::serial::{Line, SerialPort};
use crate::bmc::server::Shared;

/// How often a machine that is off is tried.
const CONNECT_EVERY: Duration = Duration::from_millis(50);
/// How often an idle bridge looks whether its session is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Characters taken of a packet, if the machine takes any.
const ROOM: usize = 255;

pub(super) struct Bridge {
    port: Arc<dyn SerialPort>,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    session_id: u32,
    peer: SocketAddr,
    line: Option<Line>,
    end: Endpoint,
    /// Of the machine, not yet pushed.
    said: Vec<u8>,
}

impl Bridge {
    pub(super) fn new(
        port: Arc<dyn SerialPort>,
        socket: Arc<UdpSocket>,
        shared: Arc<Shared>,
        session_id: u32,
        peer: SocketAddr,
    ) -> Self {
        let policy = Policy {
            retry: Duration::from_millis(500),
            tries: 8,
            pause: Duration::from_millis(100),
            max_chars: 255,
            max_pending: 4096,
        };
        let end = Endpoint::new(Role::Bmc, policy.with_payload_size(PAYLOAD_SIZE));
        Self { port, socket, shared, session_id, peer, line: None, end, said: Vec::new() }
    }

    /// Until SOL is deactivated or the session ends.
    pub(super) async fn run(
        mut self,
        mut packets: mpsc::Receiver<(Vec<u8>, SocketAddr)>,
        stop: CancellationToken,
    ) {
        // Before the first packet: the console would be told of a machine that is off.
        self.line = self.port.connect().await.ok();
        let mut connect = tokio::time::interval(CONNECT_EVERY);
        let mut look = tokio::time::interval(LOOK_EVERY);
        connect.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.forward();
            if !self.transmit().await {
                return;
            }
            let due = self.end.poll_timeout().map(tokio::time::Instant::from_std);
            tokio::select! {
                // First: the console is to be told, and whoever stops drops the packets' sender too.
                biased;
                () = stop.cancelled() => {
                    self.end.tell(status::DEACTIVATED);
                    self.transmit().await;
                    return;
                }
                packet = packets.recv() => match packet {
                    Some((packet, peer)) => self.take(&packet, peer).await,
                    None => return,
                },
                said = said(&mut self.line), if self.said.is_empty() => match said {
                    Some(said) => self.said = said,
                    None => self.line = None,
                },
                _ = connect.tick(), if self.line.is_none() => self.line = self.port.connect().await.ok(),
                _ = look.tick() => {
                    if !self.shared.protocol().has_session(Instant::now(), self.session_id) {
                        return;
                    }
                }
                () = at(due), if due.is_some() => {}
            }
        }
    }

    /// A packet of the console.
    async fn take(&mut self, packet: &[u8], peer: SocketAddr) {
        self.peer = peer;
        let permit = match &self.line {
            Some(line) => line.to_machine.clone().try_reserve_owned().ok(),
            None => None,
        };
        let room = if permit.is_some() { ROOM } else { 0 };
        let heard = match self.end.handle(Instant::now(), packet, room) {
            Ok(heard) => heard,
            Err(error) => return tracing::debug!(%peer, %error, "sol packet"),
        };
        if self.line.is_none() {
            self.end.tell(status::UNAVAILABLE);
        }
        if let Some(permit) = permit.filter(|_| !heard.chars.is_empty()) {
            permit.send(heard.chars);
        }
        if heard.bits & operation::BREAK != 0 {
            self.port.send_break().await;
        }
    }

    /// What the machine said goes to the console's end, as there is room.
    fn forward(&mut self) {
        let taken = self.end.push(&self.said);
        self.said.drain(..taken);
    }

    /// `false`: the session is gone.
    async fn transmit(&mut self) -> bool {
        while let Some(packet) = self.end.poll_transmit(Instant::now()) {
            let mut entropy = |bytes: &mut [u8]| rand::rng().fill_bytes(bytes);
            let sealed = self.shared.protocol().seal_sol(self.session_id, &packet, &mut entropy);
            let Some(datagram) = sealed else { return false };
            self.shared.send(&self.socket, datagram, self.peer).await;
        }
        true
    }
}

async fn said(line: &mut Option<Line>) -> Option<Vec<u8>> {
    match line {
        Some(line) => line.from_machine.recv().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
