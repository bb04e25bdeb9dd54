//! What comes to the server's socket.

use std::collections::HashMap;
use std::net::Ipv4Addr;

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
}
