//! What comes to the server's socket.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::Request;
use crate::MacAddr;

/// All that has gathered at the socket while we were busy. A machine that says the same again, since nobody answered, is
/// answered once: under overload what is left out first is what was said twice.
#[derive(Default)]
pub(super) struct Batch {
    requests: Vec<Option<Request>>,
    again: Vec<Request>,
    last: HashMap<(MacAddr, Ipv4Addr, u32, u8), usize>,
}

impl Batch {
    pub(super) fn take(&mut self, request: Option<Request>) {
        let Some(request) = request else { return };
        // Behind two relays a machine is heard twice, and each relay waits for its answer.
        let key = (request.mac, request.giaddr, request.xid, u8::from(request.kind));
        let before = self.last.insert(key, self.requests.len());
        self.again.extend(before.and_then(|at| self.requests.get_mut(at)?.take()));
        self.requests.push(Some(request));
    }

    /// Packets that were left out, since their machines said the same again.
    pub(super) fn said_again(&self) -> &[Request] {
        &self.again
    }

    /// In the order in which they were said last.
    pub(super) fn requests(self) -> impl Iterator<Item = Request> {
        self.requests.into_iter().flatten()
    }
}

/// One packet.
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) from: SocketAddrV4,
    /// Packets that the kernel had no room for, since the socket was made.
    pub(super) lost: Option<u32>,
}

/// Has the kernel say with each packet how many it dropped before (socket(7), `SO_RXQ_OVFL`).
pub(super) fn count_lost(socket: &UdpSocket) -> io::Result<()> {
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    Ok(())
}

/// The next packet, if there is one.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket.try_io(Interest::READABLE, || {
        let mut told = nix::cmsg_space!(u32);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let packet = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut told), flags)?;
        let lost = packet.cmsgs()?.find_map(|told| match told {
            ControlMessageOwned::RxqOvfl(lost) => Some(lost),
            _ => None,
        });
        let from = packet.address.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Received { len: packet.bytes, from: from.into(), lost })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gathered_is_answered_once_and_in_its_order() {
        let request = |n: u8, xid, relay: u8| Request {
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            giaddr: Ipv4Addr::new(10, 0, 0, relay),
            ..super::super::tests::discover(xid)
        };
        let mut batch = Batch::default();
        for said in [request(1, 7, 0), request(2, 7, 0), request(1, 7, 0), request(1, 7, 1), request(1, 8, 0)]
        {
            batch.take(Some(said));
        }
        batch.take(None);
        let again: Vec<_> = batch.said_again().iter().map(|r| (r.mac.0[5], r.xid)).collect();
        assert_eq!(again, [(1, 7)]);
        let left: Vec<_> = batch.requests().map(|r| (r.mac.0[5], r.xid, r.giaddr.octets()[3])).collect();
        assert_eq!(left, [(2, 7, 0), (1, 7, 0), (1, 7, 1), (1, 8, 0)]);
    }

    #[tokio::test]
    async fn what_the_kernel_dropped_is_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        count_lost(&socket).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to, mut buffer) = (socket.local_addr().unwrap(), vec![0; 2048]);
        for _ in 0..500 {
            sender.send_to(&[0; 300], to).unwrap();
        }
        let mut drain = async || {
            socket.readable().await.unwrap();
            let received = std::iter::from_fn(|| receive(&socket, &mut buffer).ok());
            let received: Vec<_> = received.map(|packet| (packet.len, packet.lost)).collect();
            assert!(received.iter().all(|(len, _)| *len == 300));
            (received.len(), received.into_iter().filter_map(|(_, lost)| lost).next_back())
        };
        let (first, _) = drain().await;
        // The next that comes says what was lost before it.
        sender.send_to(&[0; 300], to).unwrap();
        let (last, lost) = drain().await;
        assert_eq!((last, lost), (1, Some(500 - u32::try_from(first).unwrap())));
    }
}
