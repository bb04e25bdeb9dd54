//! Which known ports ask in a network where nothing is reserved for them: they are plugged in there, or were moved.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::MacAddr;

/// Not a channel: whoever falls behind finds each port once, where it asked last. As large as the table, at most.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    ports: Mutex<BTreeMap<MacAddr, String>>,
    more: Notify,
}

impl Elsewhere {
    /// A port of the table asked in a network where it has no entry.
    pub(crate) fn note(&self, mac: MacAddr, network: &str) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(mac, network.to_owned());
        self.more.notify_one();
    }

    /// Those since the last call, at least one. Nothing is lost when the future is dropped.
    pub(crate) async fn asked(&self) -> BTreeMap<MacAddr, String> {
        loop {
            let asked = std::mem::take(&mut *self.ports.lock().unwrap_or_else(PoisonError::into_inner));
            if !asked.is_empty() {
                return asked;
            }
            self.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_port_is_told_once_with_the_network_where_it_asked_last() {
        let (elsewhere, mac) = (Elsewhere::default(), |n: u8| MacAddr([2, 0, 0, 0, 0, n]));
        for n in 0..200 {
            elsewhere.note(mac(n % 2), if n < 100 { "row-1" } else { "row-2" });
        }
        let row_2 = || "row-2".to_owned();
        assert_eq!(elsewhere.asked().await, BTreeMap::from([(mac(0), row_2()), (mac(1), row_2())]));
        let (asked, ()) = tokio::join!(elsewhere.asked(), async { elsewhere.note(mac(3), "row-2") });
        assert_eq!(asked, BTreeMap::from([(mac(3), row_2())]));
    }
}
