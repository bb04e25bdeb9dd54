//! When each client that a file is being sent to by HTTP took a part of it last: what tells a slow line from a machine that is gone.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{MacAddr, Netboot};

/// Files under way, by who takes them. As many as there are connections.
#[derive(Debug, Default)]
pub(crate) struct Sending(Mutex<HashMap<IpAddr, Vec<Part>>>);

/// When the last part of one file was taken.
type Part = Arc<Mutex<Instant>>;

/// A file that is being sent, until this is dropped.
#[derive(Debug)]
pub(crate) struct File {
    sending: Arc<Sending>,
    to: IpAddr,
    last: Part,
}

impl Sending {
    pub(crate) fn begin(self: &Arc<Self>, to: IpAddr, now: Instant) -> File {
        let last = Part::new(Mutex::new(now));
        lock(&self.0).entry(to).or_default().push(Arc::clone(&last));
        File { sending: Arc::clone(self), to, last }
    }

    /// Who takes files now, and when each took a part last.
    pub(crate) fn last(&self) -> Vec<(IpAddr, Instant)> {
        let all = lock(&self.0);
        all.iter()
            .filter_map(|(to, files)| Some((*to, files.iter().map(|last| *lock(last)).max()?)))
            .collect()
    }
}

impl File {
    pub(crate) fn took(&self, now: Instant) {
        *lock(&self.last) = now;
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let mut all = lock(&self.sending.0);
        if let Some(files) = all.get_mut(&self.to) {
            files.retain(|last| !Arc::ptr_eq(last, &self.last));
            if files.is_empty() {
                all.remove(&self.to);
            }
        }
    }
}

impl Netboot {
    /// When the machine of a port took a part of a file last, of those that are being sent to it now; `None`: none is. There is no
    /// event of it before a file is over, which takes an hour on a slow line.
    #[must_use]
    pub fn last_sent(&self, mac: MacAddr) -> Option<Instant> {
        let under_way = self.shared.tftp.last().into_iter().chain(self.shared.sending.last());
        under_way.filter(|(to, _)| self.shared.who(*to).0 == Some(mac)).map(|(_, at)| at).max()
    }

    /// Bytes of something else that was served to a machine, counted as sent in `phase`.
    pub fn count_sent(&self, phase: &'static str, bytes: u64) {
        self.shared.events.counters.sent(phase, bytes);
    }
}

/// A poisoned lock still guards whole entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_part_of_all_files_that_a_client_takes_counts_until_they_are_over() {
        let (sending, now) = (Arc::<Sending>::default(), Instant::now());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (kernel, initrd) = (sending.begin(one, now), sending.begin(one, now));
        let elsewhere = sending.begin(other, now);
        let later = now + Duration::from_secs(60);
        kernel.took(later);
        let mut last = sending.last();
        last.sort();
        assert_eq!(last, [(one, later), (other, now)]);
        drop((kernel, elsewhere));
        assert_eq!(sending.last(), [(one, now)]);
        drop(initrd);
        assert_eq!(sending.last(), []);
    }
}
