//! What can be seen of a pretend node from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::bmc::PretendSerial;

/// Something that happened to a pretend node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The BMC gave it power.
    PowerOn,
    /// The BMC took its power away.
    PowerCut,
    /// It switched itself off: the agent was told to, or the button was pressed.
    SwitchedOff,
    /// It started itself again: rackd knew nothing of its ramdisk.
    Restarted,
    /// The BMC sent it a diagnostic interrupt.
    Interrupted,
    /// It fetched a boot script, a kernel and an initrd.
    NetworkBoot,
    /// It read a CD in its virtual drive as far as a kernel and an initrd.
    MediaBoot,
    /// The agent runs.
    AgentStarted,
    /// It started the system on its disk.
    DiskBoot,
    /// It found something to start on the iSCSI disk that a boot script named.
    SanBoot,
    /// Its system read of that disk what its options say: SHA-256 over all of it, in hexadecimal.
    SanRead { sha256: String },
    /// Its iSCSI disk went away under the running system.
    DiskLost,
    /// It came back.
    DiskBack,
    /// It is there and refuses the machine.
    DiskRefused,
    /// That system runs under this host name.
    SystemUp { hostname: String },
    /// The system called home, and was answered 200.
    PhonedHome { instance: String },
    /// Neither network nor disk; it sits there with power on.
    NothingToBoot,
    /// A mishap of [`Mishaps`](super::Mishaps) struck, by its name; it sits there with power on.
    Struck(&'static str),
}

/// Sums over a node's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub network_boots: usize,
    pub media_boots: usize,
    pub agent_runs: usize,
    pub disk_boots: usize,
    pub san_boots: usize,
    pub phone_homes: usize,
    /// On to off and off to on.
    pub power_transitions: usize,
    /// Written to its disk by agents, config drives included, holes not.
    pub bytes_written: u64,
}

/// The node's diary.
#[derive(Debug, Default)]
pub(super) struct Diary {
    events: watch::Sender<Vec<Event>>,
    /// Whoever is at the console reads along, as of a machine that boots.
    pub(super) console: Arc<PretendSerial>,
    bytes_written: AtomicU64,
}

impl Diary {
    pub(super) fn note(&self, event: Event) {
        match &event {
            Event::SystemUp { hostname } => self.console.say(&format!("{hostname} login: ")),
            event => self.console.say(&format!("pretend: {event:?}\r\n")),
        }
        self.events.send_modify(|events| events.push(event));
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    pub(super) async fn wait_for(&self, mut seen: impl FnMut(&[Event]) -> bool) {
        // The sender is ours, so it cannot close.
        let _ = self.events.subscribe().wait_for(|events| seen(events)).await;
    }

    pub(super) fn counters(&self) -> Counters {
        let mut counters =
            Counters { bytes_written: self.bytes_written.load(Ordering::Relaxed), ..Counters::default() };
        for event in self.events.borrow().iter() {
            match event {
                Event::PowerOn | Event::PowerCut | Event::SwitchedOff => counters.power_transitions += 1,
                Event::NetworkBoot => counters.network_boots += 1,
                Event::MediaBoot => counters.media_boots += 1,
                Event::AgentStarted => counters.agent_runs += 1,
                Event::DiskBoot => counters.disk_boots += 1,
                Event::SanBoot => counters.san_boots += 1,
                Event::PhonedHome { .. } => counters.phone_homes += 1,
                Event::Restarted
                | Event::Interrupted
                | Event::DiskLost
                | Event::DiskBack
                | Event::DiskRefused
                | Event::SanRead { .. }
                | Event::SystemUp { .. }
                | Event::NothingToBoot
                | Event::Struck(_) => {}
            }
        }
        counters
    }
}
