//! A long, bad cable: frames between two interfaces of this network namespace, each late by half a round trip, some lost.
//! The kernels that we test on have no netem.
//!
//! [`Direction`] is the cable without I/O; what is lost depends on the seed alone. The interfaces must not leave
//! checksums and segments to a network card that is not there: `ethtool -K IF tx off tso off gso off gro off` at both
//! of their far ends.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, recv, send,
    socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_util::sync::CancellationToken;

/// What the cable does to frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wan {
    /// There and back.
    pub round_trip: Duration,
    /// Frames lost of a thousand, in each direction.
    pub loss_per_mille: u32,
    /// Of what is lost.
    pub seed: u64,
}

impl Wan {
    /// Carries frames between two interfaces until `shutdown`. Blocking; it ends within a tenth of a second.
    ///
    /// # Errors
    /// An interface does not exist, or there is no right to raw sockets.
    pub fn carry(self, near: &str, far: &str, shutdown: &CancellationToken) -> io::Result<()> {
        let (near, far) = (packet_socket(near)?, packet_socket(far)?);
        std::thread::scope(|scope| {
            let there = scope.spawn(|| one_way(&near, &far, Direction::new(self, 0), shutdown));
            let back = one_way(&far, &near, Direction::new(self, 1), shutdown);
            shutdown.cancel();
            let there = there.join().map_err(|_| io::Error::other("the cable's other direction broke"))?;
            there.and(back)
        })
    }
}

fn one_way(
    from: &OwnedFd,
    to: &OwnedFd,
    mut cable: Direction,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    while !shutdown.is_cancelled() {
        let wait = cable.next_due().map_or(LOOK_UP, |due| due.saturating_duration_since(Instant::now()));
        let wait = Timespec::try_from(wait.min(LOOK_UP)).map_err(io::Error::other)?;
        let mut ready = [PollFd::new(from, PollFlags::IN)];
        poll(&mut ready, Some(&wait))?;
        loop {
            match recv(from.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => cable.take(buffer.get(..len).unwrap_or_default(), Instant::now()),
                Err(nix::Error::EAGAIN) => break,
                // The interface went down.
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(frame) = cable.arrived(Instant::now()) {
            // The far end has no room, or is down: frames are lost on cables.
            if let Err(error) = send(to.as_raw_fd(), &frame, MsgFlags::empty()) {
                tracing::debug!(%error, len = frame.len(), "frame lost");
            }
        }
    }
    Ok(())
}

/// Every frame that comes in at an interface, and a way out of it.
fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let all = getifaddrs()?;
    let link = |address: nix::ifaddrs::InterfaceAddress| -> Option<LinkAddr> {
        let address = (address.interface_name == interface).then_some(address.address?)?;
        (address.family() == Some(AddressFamily::Packet)).then(|| address.as_link_addr().copied())?
    };
    let address = all.into_iter().find_map(link).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("expected an interface {interface}, saw none"))
    })?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    bind(socket.as_raw_fd(), &address)?;
    // A window of a fast sender is more than the default.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket.as_fd(), 64 << 20);
    Ok(socket)
}

/// One direction.
#[derive(Debug)]
struct Direction {
    late: Duration,
    loss_per_mille: u32,
    random: u64,
    /// In the order of their arrival: all take as long.
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Direction {
    fn new(wan: Wan, number: u64) -> Self {
        // Any state but zero will do.
        let random = wan.seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self {
            late: wan.round_trip / 2,
            loss_per_mille: wan.loss_per_mille,
            random,
            under_way: VecDeque::new(),
        }
    }

    fn take(&mut self, frame: &[u8], now: Instant) {
        let lost = self.draw() % 1000 < u64::from(self.loss_per_mille);
        if !lost && self.under_way.len() < MOST {
            self.under_way.push_back((now + self.late, frame.to_vec()));
        }
    }

    fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.under_way.pop_front_if(|(due, _)| *due <= now).map(|(_, frame)| frame)
    }

    fn next_due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    /// xorshift64: the same for every run of a seed.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

/// Frames on the cable, at most: a gigabit a second over 300 ms is 25,000.
const MOST: usize = 65_536;
/// How long it does not look whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn wan(loss_per_mille: u32, seed: u64) -> Wan {
        Wan { round_trip: Duration::from_millis(300), loss_per_mille, seed }
    }

    #[test]
    fn frames_arrive_half_a_round_trip_later_in_their_order() {
        let (mut cable, now) = (Direction::new(wan(0, 1), 0), Instant::now());
        let half = Duration::from_millis(150);
        cable.take(b"one", now);
        cable.take(b"two", now + Duration::from_millis(1));
        assert_eq!(cable.next_due(), Some(now + half));
        assert_eq!(cable.arrived(now + half - Duration::from_nanos(1)), None);
        assert_eq!(cable.arrived(now + half), Some(b"one".to_vec()));
        assert_eq!(cable.arrived(now + half), None);
        assert_eq!(cable.arrived(now + half * 2), Some(b"two".to_vec()));
    }

    #[test]
    fn what_is_lost_is_the_seeds_and_about_as_many_as_said() {
        let lost = |seed, number| {
            let (mut cable, now) = (Direction::new(wan(10, seed), number), Instant::now());
            let kept: Vec<bool> = (0..20_000)
                .map(|_| {
                    cable.take(b"x", now);
                    cable.arrived(now + Duration::from_secs(1)).is_some()
                })
                .collect();
            kept
        };
        let first = lost(7, 0);
        assert_eq!(first, lost(7, 0));
        assert_ne!(first, lost(7, 1), "there and back lose other frames");
        let count = first.iter().filter(|kept| !**kept).count();
        assert!((120..280).contains(&count), "{count} of 20,000 for one in a hundred");
    }
}
