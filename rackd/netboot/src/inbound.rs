//! Packets of a UDP socket, and how many the kernel dropped before them.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// One packet.
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) from: SocketAddr,
    /// Packets that the kernel had no room for, since the socket was made.
    pub(crate) lost: Option<u32>,
}

/// Has the kernel say with each packet how many it dropped before (socket(7), `SO_RXQ_OVFL`).
pub(crate) fn count_lost(socket: &UdpSocket) -> io::Result<()> {
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    Ok(())
}

/// The next packet, when there is one. Who reads many in a row gives others their turn.
pub(crate) async fn next(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket.async_io(Interest::READABLE, || read(socket, buffer)).await
}

/// The next packet, if there is one.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket.try_io(Interest::READABLE, || read(socket, buffer))
}

fn read(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut told = nix::cmsg_space!(u32);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let packet = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut told), flags)?;
    let lost = packet.cmsgs()?.find_map(|told| match told {
        ControlMessageOwned::RxqOvfl(lost) => Some(lost),
        _ => None,
    });
    let from = packet.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received { len: packet.bytes, from, lost })
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let four = || from.as_sockaddr_in().map(|from| SocketAddr::V4((*from).into()));
    four().or_else(|| from.as_sockaddr_in6().map(|from| SocketAddr::V6((*from).into())))
}

/// What the kernel dropped of a socket's packets, told once.
#[derive(Debug, Default)]
pub(crate) struct Lost(u32);

impl Lost {
    /// Packets since the last time.
    pub(crate) fn more(&mut self, received: &Received) -> u64 {
        // It wraps.
        received.lost.map_or(0, |lost| lost.wrapping_sub(std::mem::replace(&mut self.0, lost)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
