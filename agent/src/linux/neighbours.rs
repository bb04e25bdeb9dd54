//! What is at the other ends of the cables, as it says of itself by LLDP: one packet socket, one thread that only reads.
use farrier_lldp::Neighbour as Heard;
use farrier_proto::types::Neighbour;
use nix::sys::socket::{LinkAddr, recvfrom};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A frame of Ethernet without jumbo ones, which LLDP forbids (IEEE 802.1AB §7.3).
const FRAME_BYTES: usize = 1536;

/// Listens from the moment it is made until the program ends, on all interfaces, those of later included.
#[derive(Debug, Clone)]
pub struct Neighbours {
    since: Instant,
    heard: Arc<Mutex<BTreeMap<u32, Neighbour>>>,
}

impl Neighbours {
    /// Opens the socket, which wants `CAP_NET_RAW`. An interface hears its neighbours once it takes all multicast frames.
    pub fn listen() -> io::Result<Self> {
        let socket =
            socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(eth::LLDP))?;
        let this = Self { since: Instant::now(), heard: Arc::default() };
        let of_thread = this.clone();
        std::thread::Builder::new().name("lldp".to_owned()).spawn(move || of_thread.read(&socket))?;
        Ok(this)
    }

    /// When it began to listen.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What was heard last at the interface with this number.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<Neighbour> {
        self.lock().get(&index).cloned()
    }

    fn read(&self, socket: &OwnedFd) {
        let mut frame = [0; FRAME_BYTES];
        loop {
            match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
                Ok((len, Some(from))) => {
                    let frame = frame.get(..len).unwrap_or_default();
                    if let (Ok(index), Ok(heard)) = (u32::try_from(from.ifindex()), Heard::parse(frame)) {
                        self.take(index, heard);
                    }
                }
                Ok((_, None)) => {}
                // An interface that went down says so once (packet(7)); the others are still there.
                Err(nix::errno::Errno::ENETDOWN | nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "LLDP is not heard any more");
                    return;
                }
            }
        }
    }

    fn take(&self, index: u32, heard: Heard) {
        let mut all = self.lock();
        match heard.ttl {
            // It says good-bye (IEEE 802.1AB §9.1.2.2).
            0 => drop(all.remove(&index)),
            _ => drop(all.insert(index, report(heard))),
        }
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Neighbour>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(heard: Heard) -> Neighbour {
    Neighbour {
        chassis_id: heard.chassis_id,
        port_id: heard.port_id,
        port_description: heard.port_description,
        system_name: heard.system_name,
        system_description: heard.system_description,
        management_addresses: heard.management_addresses.iter().map(ToString::to_string).collect(),
        vlan: heard.vlan.map_or(0, i32::from),
    }
}
