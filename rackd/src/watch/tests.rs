use super::rounds::SPREAD;
use super::*;
use farrier_proto::inventory::{Bmc, WatchedNode};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) fn node(name: &str, password: &str) -> WatchedNode {
    let bmc = Bmc { driver: "ipmi".into(), address: "192.0.2.1".into(), ..Bmc::default() };
    let (node, bmc_password) = (format!("nodes/{name}"), password.to_owned());
    WatchedNode {
        node,
        bmc: Some(bmc),
        bmc_password,
        bmc_next_password: String::new(),
        bmc_kg: String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_defect_costs_a_round_and_not_the_watch() {
    let (every, begin, rounds) = (Duration::from_secs(60), Instant::now(), AtomicUsize::new(0));
    let work = || async {
        assert!(rounds.fetch_add(1, Ordering::Relaxed) >= 2, "the defect");
    };
    again_after_a_defect(every, work).await;
    assert_eq!((rounds.load(Ordering::Relaxed), begin.elapsed()), (3, every * 2));
}

/// The default watch finds the session of its last look: a log-in each round would fill the BMC's log.
#[test]
fn sessions_outlive_the_pause_between_two_looks() {
    let every = Duration::from_secs(crate::config::WatchConfig::default().every_seconds.into());
    let longest = every.mul_f64(1.0 + SPREAD);
    assert!(farrier_bmc::ipmi::Tuning::default().idle_close > longest);
    assert!(farrier_bmc::redfish::Tuning::default().idle_close > longest);
    // IPMI 2.0 §6.12.15: 60 s, give or take 3.
    assert!(farrier_bmc::ipmi::Tuning::default().keep_alive < Duration::from_secs(50));
}
