//! What happened on the way to booted machines, counted: each event by phase and kind, also those that a flood keeps out
//! of the log; bytes and seconds of what was fetched. In the text format of Prometheus (exposition format 0.0.4).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::EventKind;

#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By phase and event.
    events: BTreeMap<(&'static str, &'static str), u64>,
    /// By phase.
    bytes: BTreeMap<&'static str, u64>,
    tftp: Duration,
    /// By protocol, and why.
    unsent: BTreeMap<(&'static str, &'static str), u64>,
    /// By who left them out.
    shed: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub(crate) fn count(&self, kind: &EventKind) {
        let (phase, event) = words(kind);
        let mut counts = self.lock();
        *counts.events.entry((phase, event)).or_default() += 1;
        let bytes = match kind {
            EventKind::TftpDone { bytes, elapsed } => {
                counts.tftp += *elapsed;
                *bytes
            }
            EventKind::TftpFailed { bytes }
            | EventKind::HttpFirmware { bytes, .. }
            | EventKind::HttpArtifact { bytes, .. } => *bytes,
            _ => return,
        };
        *counts.bytes.entry(phase).or_default() += bytes;
    }

    /// Bytes of what is served beside boot files.
    pub(crate) fn sent(&self, phase: &'static str, bytes: u64) {
        *self.lock().bytes.entry(phase).or_default() += bytes;
    }

    /// An answer that did not leave: nobody waits until there is room.
    pub(crate) fn unsent(&self, protocol: &'static str, error: &io::Error) {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock => "no_room",
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => "no_room",
            _ => "error",
        };
        *self.lock().unsent.entry((protocol, why)).or_default() += 1;
    }

    /// What was left out under load.
    pub(crate) fn shed(&self, by: Shed, packets: u64) {
        if packets > 0 {
            *self.lock().shed.entry(by.word()).or_default() += packets;
        }
    }

    /// With the malformed packets by protocol, what is kept in memory, and how many leases run.
    pub(crate) fn render(
        &self,
        malformed: &BTreeMap<&'static str, u64>,
        remembered: &BTreeMap<&'static str, usize>,
        leases: usize,
    ) -> String {
        let counts = self.lock();
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, String)>| {
            let _ =
                writeln!(out, "# HELP farrier_netboot_{name} {help}\n# TYPE farrier_netboot_{name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "farrier_netboot_{name}{labels} {value}");
            }
        };
        let events = counts.events.iter();
        let events = events
            .map(|((phase, event), n)| (format!("{{phase=\"{phase}\",event=\"{event}\"}}"), n.to_string()));
        family(
            "events_total",
            "counter",
            "Steps of machines that boot, and what kept them.",
            events.collect(),
        );
        let bytes = counts.bytes.iter().map(|(phase, n)| (format!("{{phase=\"{phase}\"}}"), n.to_string()));
        family(
            "sent_bytes_total",
            "counter",
            "Bytes of boot files, kernels, initrds and images.",
            bytes.collect(),
        );
        let seconds = format!("{:.3}", counts.tftp.as_secs_f64());
        family(
            "tftp_seconds_total",
            "counter",
            "Time of whole TFTP transfers.",
            vec![(String::new(), seconds)],
        );
        let packets =
            malformed.iter().map(|(protocol, n)| (format!("{{protocol=\"{protocol}\"}}"), n.to_string()));
        family("malformed_packets_total", "counter", "Packets that nobody can read.", packets.collect());
        let unsent = counts.unsent.iter().map(|((protocol, why), n)| {
            (format!("{{protocol=\"{protocol}\",why=\"{why}\"}}"), n.to_string())
        });
        family("unsent_answers_total", "counter", "Answers that did not leave.", unsent.collect());
        let shed = counts.shed.iter().map(|(by, n)| (format!("{{by=\"{by}\"}}"), n.to_string()));
        family(
            "shed_packets_total",
            "counter",
            "Packets, and connections of HTTP, that were left out under load.",
            shed.collect(),
        );
        let remembered = remembered.iter().map(|(what, n)| (format!("{{what=\"{what}\"}}"), n.to_string()));
        family(
            "remembered",
            "gauge",
            "What is kept in memory of what came from the wire.",
            remembered.collect(),
        );
        family("leases", "gauge", "Leases that run.", vec![(String::new(), leases.to_string())]);
        out
    }

    /// A poisoned lock still guards whole counts.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who left a packet out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shed {
    /// The kernel, of DHCP: its buffer was full.
    Kernel,
    /// The same of TFTP.
    KernelTftp,
    /// We, of DHCP: its machine said the same again before it was answered.
    SaidAgain,
    /// We, of DHCPv6: its machine asked from more addresses than it can have.
    ManySources,
    /// We: all transfers of TFTP are taken, or the address has its share of them.
    TftpFull,
    /// We: the address has its share of the connections of HTTP.
    HttpFull,
}

impl Shed {
    fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KernelTftp => "kernel_tftp",
            Self::SaidAgain => "said_again",
            Self::ManySources => "many_sources",
            Self::TftpFull => "tftp_full",
            Self::HttpFull => "http_full",
        }
    }
}

/// Phase and event: few words, and none of them a machine's.
fn words(kind: &EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::Discover => ("dhcp", "discover"),
        EventKind::Offer => ("dhcp", "offer"),
        EventKind::Request => ("dhcp", "request"),
        EventKind::Ack => ("dhcp", "ack"),
        EventKind::Nak => ("dhcp", "nak"),
        EventKind::Ignored { .. } => ("dhcp", "ignored"),
        EventKind::Inform => ("dhcp", "inform"),
        EventKind::Decline => ("dhcp", "decline"),
        EventKind::Release => ("dhcp", "release"),
        EventKind::Dhcp6(message) => ("dhcp6", message),
        EventKind::OtherServer => ("dhcp", "other_server"),
        EventKind::ForeignServer { .. } => ("dhcp", "foreign_server"),
        EventKind::RogueRouter { .. } => ("dhcp6", "rogue_router"),
        EventKind::AddressInUse => ("dhcp", "address_in_use"),
        EventKind::LeaseNotWritten => ("dhcp", "lease_not_written"),
        EventKind::AnswerNotSent => ("dhcp", "answer_not_sent"),
        EventKind::UnknownMac { .. } => ("dhcp", "unknown_mac"),
        EventKind::Guest { .. } => ("dhcp", "guest"),
        EventKind::PoolExhausted { .. } => ("dhcp", "pool_exhausted"),
        EventKind::WrongNetwork => ("dhcp", "wrong_network"),
        EventKind::BootsOnManagement { .. } => ("dhcp", "boots_on_management"),
        EventKind::UnknownRelay { .. } => ("dhcp", "unknown_relay"),
        EventKind::UnknownArchitecture { .. } => ("dhcp", "unknown_architecture"),
        EventKind::TftpStart => ("tftp", "start"),
        EventKind::TftpAgain => ("tftp", "again"),
        EventKind::TftpDone { .. } => ("tftp", "done"),
        EventKind::TftpFailed { .. } => ("tftp", "failed"),
        EventKind::TftpRefused => ("tftp", "refused"),
        EventKind::TftpFull => ("tftp", "full"),
        EventKind::TftpScript => ("script", "tftp"),
        EventKind::HttpScript => ("script", "http"),
        EventKind::HttpScriptRefused => ("script", "refused"),
        EventKind::HttpAsked { .. } => ("http", "asked"),
        EventKind::HttpFull => ("http", "full"),
        EventKind::HttpFailed { .. } => ("http", "failed"),
        EventKind::TlsFailed => ("tls", "failed"),
        EventKind::IscsiLogin => ("iscsi", "login"),
        EventKind::IscsiLogout => ("iscsi", "logout"),
        EventKind::IscsiRefused => ("iscsi", "refused"),
        EventKind::AgentRegistered => ("agent", "registered"),
        EventKind::AgentRefused => ("agent", "refused"),
        EventKind::HttpFirmware { .. } => ("http", "firmware"),
        EventKind::HttpArtifact { .. } => ("http", "artifact"),
        EventKind::Malformed { protocol } => (protocol, "malformed"),
        EventKind::Flood => ("log", "flood"),
        EventKind::SegmentUp => ("segment", "up"),
        EventKind::SegmentDown => ("segment", "down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_in_prometheus_words() {
        let counters = Counters::default();
        let elapsed = Duration::from_millis(1500);
        for kind in [
            EventKind::Offer,
            EventKind::Offer,
            EventKind::Dhcp6("SOLICIT"),
            EventKind::TftpDone { bytes: 10, elapsed },
            EventKind::TftpFailed { bytes: 5 },
            EventKind::HttpArtifact { name: "a\"b".into(), bytes: 7 },
        ] {
            counters.count(&kind);
        }
        counters.sent("image", 9);
        counters.unsent("dhcp", &io::ErrorKind::WouldBlock.into());
        counters.shed(Shed::SaidAgain, 4);
        counters.shed(Shed::Kernel, 0);
        assert_eq!(
            counters.render(&[("tftp", 3)].into(), &[("reservations", 5)].into(), 2),
            "# HELP farrier_netboot_events_total Steps of machines that boot, and what kept them.\n\
             # TYPE farrier_netboot_events_total counter\n\
             farrier_netboot_events_total{phase=\"dhcp\",event=\"offer\"} 2\n\
             farrier_netboot_events_total{phase=\"dhcp6\",event=\"SOLICIT\"} 1\n\
             farrier_netboot_events_total{phase=\"http\",event=\"artifact\"} 1\n\
             farrier_netboot_events_total{phase=\"tftp\",event=\"done\"} 1\n\
             farrier_netboot_events_total{phase=\"tftp\",event=\"failed\"} 1\n\
             # HELP farrier_netboot_sent_bytes_total Bytes of boot files, kernels, initrds and images.\n\
             # TYPE farrier_netboot_sent_bytes_total counter\n\
             farrier_netboot_sent_bytes_total{phase=\"http\"} 7\n\
             farrier_netboot_sent_bytes_total{phase=\"image\"} 9\n\
             farrier_netboot_sent_bytes_total{phase=\"tftp\"} 15\n\
             # HELP farrier_netboot_tftp_seconds_total Time of whole TFTP transfers.\n\
             # TYPE farrier_netboot_tftp_seconds_total counter\n\
             farrier_netboot_tftp_seconds_total 1.500\n\
             # HELP farrier_netboot_malformed_packets_total Packets that nobody can read.\n\
             # TYPE farrier_netboot_malformed_packets_total counter\n\
             farrier_netboot_malformed_packets_total{protocol=\"tftp\"} 3\n\
             # HELP farrier_netboot_unsent_answers_total Answers that did not leave.\n\
             # TYPE farrier_netboot_unsent_answers_total counter\n\
             farrier_netboot_unsent_answers_total{protocol=\"dhcp\",why=\"no_room\"} 1\n\
             # HELP farrier_netboot_shed_packets_total Packets, and connections of HTTP, that were left out under load.\n\
             # TYPE farrier_netboot_shed_packets_total counter\n\
             farrier_netboot_shed_packets_total{by=\"said_again\"} 4\n\
             # HELP farrier_netboot_remembered What is kept in memory of what came from the wire.\n\
             # TYPE farrier_netboot_remembered gauge\n\
             farrier_netboot_remembered{what=\"reservations\"} 5\n\
             # HELP farrier_netboot_leases Leases that run.\n\
             # TYPE farrier_netboot_leases gauge\n\
             farrier_netboot_leases 2\n"
        );
    }
}
