//! What a BMC is asked for once is asked for once, also where rackd is killed around it and its BMC is in trouble when it is back.

use farrier_sim::bmc::redfish::{FailsFirst, RedfishFaults, RedfishHandle};
use farrier_sim::bmc::{MemoryChassis, PowerAction};
use farrier_sim::lab::Service;

use crate::pretend_site::Site;

/// Where rackd dies, what it does there, how often that is to have happened in the end, and what the operation comes to: done, or
/// what it says.
const POINTS: &[(&str, Asked, u64, Option<&str>)] = &[
    ("power_reset:told", Asked::Reset, 0, Some("which may have happened")),
    ("power_reset:sent", Asked::Reset, 1, None),
    // Not sent yet, and who comes back cannot know: the system has its time, and is asked.
    ("soft_off:told", Asked::Shutdown, 1, None),
    ("soft_off:asked", Asked::Shutdown, 1, None),
    ("update_firmware:told", Asked::Update, 0, Some("which may have begun")),
    ("update_firmware:begun", Asked::Update, 1, None),
];

#[derive(Debug, Clone, Copy)]
enum Asked {
    Reset,
    Shutdown,
    Update,
}

impl Asked {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Reset => &["node", "power", "reset", "n0", "--yes"],
            Self::Shutdown => &["node", "power", "soft-off", "n0", "--yes"],
            Self::Update => {
                &["node", "firmware", "update", "n0", "--url", "http://192.0.2.1/NIC-1.3.bin", "--yes"]
            }
        }
    }

    async fn count(self, service: &RedfishHandle, chassis: &MemoryChassis) -> u64 {
        let wanted = match self {
            Self::Reset => PowerAction::Reset,
            Self::Shutdown => PowerAction::Soft,
            Self::Update => return service.tasks_begun().await,
        };
        let actions = chassis.actions();
        u64::try_from(actions.iter().filter(|action| **action == wanted).count()).unwrap()
    }
}

/// Of requests: as many as one call to a BMC makes of one that does no harm, so that one call fails; and as many as make three fail.
const FAILS: [u32; 2] = [4, 12];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_in_trouble_when_a_killed_rackd_is_back_is_asked_for_nothing_twice() {
    let mut site = Site::enrolled(0).await;
    site.set_timeouts(&[("soft_off_seconds", 3)]).await;
    let (service, chassis) = site.create_redfish("n0", "redfish", |config| config, &[]).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    for times in FAILS {
        for (point, asked, wanted, failure) in POINTS {
            site.installation.farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
            let before = asked.count(&service, &chassis).await;
            site.installation.restart_with(Service::Rackd, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
            let words = [asked.words(), &["-o", "json"]].concat();
            let begun = site.installation.farrier(&words).unwrap();
            let begun: serde_json::Value = serde_json::from_str(&begun).unwrap();
            site.installation.wait_ended(Service::Rackd).await.unwrap();
            let words: &[&str] = &["GET", "/redfish/v1/Systems"];
            let fails_first = Some(FailsFirst { words, status: 500, times });
            service.set_faults(RedfishFaults { fails_first, ..RedfishFaults::default() });
            site.installation.restart(Service::Rackd).await.unwrap();
            let operation = begun["name"].as_str().unwrap().trim_start_matches("operations/").to_owned();
            let ended = site.installation.farrier(&["operation", "watch", &operation]);
            match failure {
                Some(words) => {
                    let error = format!("{:#}", ended.unwrap_err());
                    assert!(error.contains(words), "{point}, {times}: {error}");
                }
                None => drop(ended.unwrap_or_else(|error| panic!("{point}, {times}: {error:#}"))),
            }
            let done = asked.count(&service, &chassis).await - before;
            assert_eq!(done, *wanted, "{point}, {times}");
            service.set_faults(RedfishFaults::default());
        }
    }
    service.shutdown().await;
    site.shutdown().await;
}
