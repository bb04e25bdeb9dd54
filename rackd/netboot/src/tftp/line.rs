//! What a transfer's datagrams go through, as many in one call as go out together.

use std::{
    io::{self, IoSlice},
    iter,
    net::SocketAddr,
    sync::Arc,
};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sendmsg, sendmsg_addr};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};

use crate::unicast::{Unicast, Way};

/// A datagram in two parts, header and block, which nobody copies side by side.
pub(super) type Datagram<'a> = [IoSlice<'a>; 2];

/// One of a single part.
pub(super) fn whole(bytes: &[u8]) -> Datagram<'_> {
    [IoSlice::new(bytes), IoSlice::new(&[])]
}

/// Blocks of a file that follow each other, each with its header. Behind the last byte of a file there is an empty one.
pub(super) fn blocks<'a>(headers: &'a [[u8; 4]], bytes: &'a [u8], block_bytes: usize) -> Vec<Datagram<'a>> {
    let blocks = bytes.chunks(block_bytes.max(1)).chain(iter::once(&[][..]));
    headers.iter().zip(blocks).map(|(header, block)| [IoSlice::new(header), IoSlice::new(block)]).collect()
}

pub(super) enum Line {
    /// A socket of its own (RFC 1350 §4: the port is the transfer's id).
    Own(UdpSocket),
    /// The server's, which hands over what comes for it: firewalls and address translators that know nothing of TFTP
    /// let pass only what comes back from the port that was asked.
    Shared(Arc<UdpSocket>),
    /// From the server's port too, to an address that nobody is known to have: what waits there for ARP takes no room from those
    /// who are.
    Silent(Arc<Unicast>, Arc<UdpSocket>),
}

impl Line {
    /// Sends at once, and says how many of them left: the first ones. An error is of the first of those that did not.
    pub(super) fn send_now(&self, datagrams: &[Datagram<'_>], to: SocketAddr) -> io::Result<usize> {
        match (self, to) {
            (Self::Own(socket), _) => socket.try_io(Interest::WRITABLE, || send(socket, datagrams, None)),
            (Self::Shared(socket), _) => {
                socket.try_io(Interest::WRITABLE, || send(socket, datagrams, Some(&to.into())))
            }
            (Self::Silent(silent, _), SocketAddr::V4(to)) => {
                let Some([header, block]) = datagrams.first() else { return Ok(0) };
                match silent.send(Way::Silent, &[&**header, &**block].concat(), to) {
                    // Nobody waits for room on the way to nobody: it is lost.
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                    _ => Ok(1),
                }
            }
            (Self::Silent(..), SocketAddr::V6(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Until there may be room. Cancel-safe.
    pub(super) async fn has_room(&self) -> io::Result<()> {
        match self {
            Self::Own(socket) => socket.writable().await,
            Self::Shared(socket) | Self::Silent(_, socket) => socket.writable().await,
        }
    }

    /// Cancel-safe.
    pub(super) async fn recv(
        &self,
        inbox: &mut mpsc::Receiver<Box<[u8]>>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        buffer.clear();
        match self {
            Self::Own(socket) => drop(socket.recv_buf(buffer).await?),
            Self::Shared(_) | Self::Silent(..) => {
                let datagram =
                    inbox.recv().await.ok_or_else(|| io::Error::other("another transfer has its port"))?;
                buffer.extend_from_slice(&datagram);
            }
        }
        Ok(())
    }

    /// The client is there.
    pub(super) fn heard(&mut self) {
        if let Self::Silent(_, socket) = self {
            *self = Self::Shared(Arc::clone(socket));
        }
    }
}

fn send(socket: &UdpSocket, datagrams: &[Datagram<'_>], to: Option<&SocketAddrAny>) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT;
    // Lock step: one at a time.
    if let [datagram] = datagrams {
        let mut nothing = SendAncillaryBuffer::default();
        match to {
            None => sendmsg(socket, datagram, &mut nothing, flags)?,
            Some(to) => sendmsg_addr(socket, to, datagram, &mut nothing, flags)?,
        };
        return Ok(1);
    }
    let mut nothing: Vec<_> = datagrams.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let messages = datagrams.iter().zip(&mut nothing).map(|(datagram, nothing)| match to {
        None => MMsgHdr::new(datagram, nothing),
        Some(to) => MMsgHdr::new_with_addr(to, datagram, nothing),
    });
    Ok(sendmmsg(socket, &mut messages.collect::<Vec<_>>(), flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_where_they_end_and_the_last_one_may_be_empty() {
        let headers = [[0, 3, 0, 1], [0, 3, 0, 2], [0, 3, 0, 3]];
        let lens = |headers: &[[u8; 4]], bytes: &[u8]| {
            let blocks = blocks(headers, bytes, 512);
            blocks.iter().map(|[header, block]| (header[3], block.len())).collect::<Vec<_>>()
        };
        assert_eq!(lens(&headers, &[7; 1500]), [(1, 512), (2, 512), (3, 476)]);
        assert_eq!(lens(&headers, &[7; 1024]), [(1, 512), (2, 512), (3, 0)]);
        assert_eq!(lens(&headers[..1], &[]), [(1, 0)]);
        assert_eq!(lens(&headers[..2], &[7; 1024]), [(1, 512), (2, 512)]);
    }

    #[tokio::test]
    async fn many_leave_in_one_call_each_as_one_datagram_connected_or_not() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = receiver.local_addr().unwrap();
        let own = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        own.connect(to).await.unwrap();
        let shared = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let headers = [[0, 3, 0, 1], [0, 3, 0, 2]];
        for line in [Line::Own(own), Line::Shared(shared)] {
            line.has_room().await.unwrap();
            assert_eq!(line.send_now(&blocks(&headers, b"first", 4), to).unwrap(), 2);
            assert_eq!(line.send_now(&[whole(b"oack")], to).unwrap(), 1);
            for expected in [&b"\0\x03\0\x01firs"[..], b"\0\x03\0\x02t", b"oack"] {
                let mut buffer = [0; 64];
                let len = receiver.recv(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..len], expected);
            }
        }
    }
}
