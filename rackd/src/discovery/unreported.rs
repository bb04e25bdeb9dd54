//! Discovered machines that inventory was not told of yet, on disk: the centre may be away for longer than this rackd runs.
//!
//! A file for each, of the report as it is to be sent. What is newer takes its place, so that what is told when the link is back
//! is each machine as it was last.

use super::files::Files;
use farrier_netboot::MacAddr;
use farrier_proto::inventory::ReportMachineRequest;
use prost::Message as _;
use std::io;
use std::path::Path;
use tonic::Status;

const KIND: &str = "report";

#[derive(Debug, Clone)]
pub(super) struct Unreported(Files);

impl Unreported {
    pub(super) fn new(data: &Path) -> Self {
        Self(Files::new(data, KIND))
    }

    /// On disk when it is over, or never was. Blocking.
    pub(super) fn keep(&self, mac: MacAddr, report: &ReportMachineRequest) -> io::Result<()> {
        self.0.write(mac, &report.encode_to_vec())
    }

    /// Inventory has it, or never will. Blocking.
    pub(super) fn forget(&self, mac: MacAddr) {
        if let Err(error) = self.0.remove(mac) {
            tracing::warn!(%mac, %error, "a discovered machine that was told is told again");
        }
    }

    /// In the order of their addresses. Blocking.
    pub(super) fn ports(&self) -> io::Result<Vec<MacAddr>> {
        self.0.ports()
    }

    /// What is to be told of one. One that cannot be read is forgotten: it may boot again. Blocking.
    pub(super) fn report(&self, mac: MacAddr) -> Option<ReportMachineRequest> {
        let bytes = self.0.read(mac);
        let read =
            bytes.and_then(|bytes| ReportMachineRequest::decode(bytes.as_slice()).map_err(io::Error::other));
        read.inspect_err(|error| {
            tracing::warn!(%mac, %error, "what was found out of a discovered machine is lost");
            self.forget(mac);
        })
        .ok()
    }
}

/// Who is told.
pub(super) trait Hears {
    fn hears(&self, report: ReportMachineRequest) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Tells of those that nobody else is at, until one cannot be told now.
pub(super) async fn tell(unreported: &Unreported, is_ours: impl Fn(MacAddr) -> bool, who: &impl Hears) {
    let all = blocking(unreported, Unreported::ports).await;
    let ports = match all {
        Some(Ok(ports)) => ports.into_iter().filter(|mac| is_ours(*mac)).collect::<Vec<_>>(),
        Some(Err(error)) => {
            tracing::warn!(%error, "which discovered machines are not told yet cannot be read");
            return;
        }
        None => return,
    };
    for mac in ports {
        let Some(Some(report)) = blocking(unreported, move |kept| kept.report(mac)).await else { continue };
        match who.hears(report).await {
            Ok(()) => {}
            Err(status) if super::says_nothing_of_it(&status) => return,
            // One that inventory stumbles over holds up no other.
            Err(status) if super::may_pass(&status) => {
                tracing::debug!(%mac, %status, "a discovered machine is not told yet");
                continue;
            }
            Err(status) => tracing::error!(%mac, %status, "a discovered machine is not written down"),
        }
        blocking(unreported, move |kept| kept.forget(mac)).await;
    }
}

/// `None`: a bug, told where it happened.
pub(super) async fn blocking<T: Send + 'static>(
    unreported: &Unreported,
    work: impl FnOnce(&Unreported) -> T + Send + 'static,
) -> Option<T> {
    let unreported = unreported.clone();
    tokio::task::spawn_blocking(move || work(&unreported)).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tonic::Code;

    #[derive(Default)]
    struct Centre {
        told: Mutex<Vec<String>>,
        refuses: Option<Code>,
    }

    impl Hears for Centre {
        async fn hears(&self, report: ReportMachineRequest) -> Result<(), Status> {
            let mut told = self.told.lock().unwrap();
            // The second cannot be told at first, nor what comes after it.
            let away = report.ip_address == "10.0.0.2" && told.len() < 2;
            told.push(if away { "away".to_owned() } else { report.ip_address });
            match (self.refuses, away) {
                (Some(code), _) => Err(Status::new(code, "no")),
                (_, true) => Err(Status::unavailable("away")),
                (_, false) => Ok(()),
            }
        }
    }

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    fn report(n: u8, ip: &str) -> ReportMachineRequest {
        ReportMachineRequest {
            boot_mac_address: mac(n).to_string(),
            ip_address: ip.to_owned(),
            ..ReportMachineRequest::default()
        }
    }

    #[tokio::test]
    async fn what_was_not_told_is_told_after_a_restart_as_it_was_last_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Unreported::new(dir.path());
        for (n, ip) in [(1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.3"), (1, "10.0.0.9")] {
            kept.keep(mac(n), &report(n, ip)).unwrap();
        }
        drop(kept);
        let kept = Unreported::new(dir.path());
        let centre = Centre::default();
        tell(&kept, |_| true, &centre).await;
        assert_eq!(*centre.told.lock().unwrap(), ["10.0.0.9", "away"]);
        assert_eq!(kept.ports().unwrap(), [mac(2), mac(3)]);
        // Somebody is at the third.
        tell(&kept, |port| port != mac(3), &centre).await;
        assert_eq!(centre.told.lock().unwrap()[2..], ["10.0.0.2"]);
        assert_eq!(kept.ports().unwrap(), [mac(3)]);
        tell(&kept, |_| true, &Centre { refuses: Some(Code::InvalidArgument), ..Centre::default() }).await;
        assert_eq!(kept.ports().unwrap(), [], "refused, it would be refused again");
    }

    #[tokio::test]
    async fn what_the_centre_stumbles_over_or_has_no_room_for_is_kept_and_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Unreported::new(dir.path());
        for n in [1, 3] {
            kept.keep(mac(n), &report(n, "10.0.0.9")).unwrap();
        }
        // A database that fails, a table that is full, a certificate that is being replaced.
        for (code, asked) in [(Code::Internal, 2), (Code::ResourceExhausted, 1), (Code::Unauthenticated, 1)] {
            let centre = Centre { refuses: Some(code), ..Centre::default() };
            tell(&kept, |_| true, &centre).await;
            assert_eq!(centre.told.lock().unwrap().len(), asked, "{code:?}");
            assert_eq!(kept.ports().unwrap(), [mac(1), mac(3)], "{code:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_forgotten_and_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Unreported::new(dir.path());
        kept.0.write(mac(1), b"damaged").unwrap();
        assert_eq!((kept.report(mac(1)), kept.ports().unwrap()), (None, Vec::new()));
        kept.keep(mac(1), &report(1, "10.0.0.1")).unwrap();
        assert_eq!(kept.report(mac(1)), Some(report(1, "10.0.0.1")));
    }
}
