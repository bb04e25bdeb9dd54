use super::list::Watched;
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

fn many(count: usize) -> Vec<Watched> {
    list::renew(Vec::new(), (0..count).map(|index| node(&format!("n{index}"), "x")).collect())
}

#[test]
fn what_is_kept_of_a_bmc_stays_while_its_words_do() {
    let mut first = list::renew(Vec::new(), vec![node("a", "x"), node("b", "x"), node("c", "x")]);
    let refused = Some(Instant::now());
    first.iter_mut().for_each(|watched| watched.not_before = refused);
    let then = list::renew(first, vec![node("a", "x"), node("b", "new"), node("d", "x")]);
    let kept: Vec<_> = then.iter().map(|w| (w.node.as_str(), w.not_before.is_some())).collect();
    assert_eq!(kept, [("nodes/a", true), ("nodes/b", false), ("nodes/d", false)]);
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

#[tokio::test(start_paused = true)]
async fn a_round_looks_once_at_each_spread_over_part_of_it() {
    let (every, begin) = (Duration::from_secs(60), Instant::now());
    let first_half = AtomicUsize::new(0);
    let looked = round(many(1000), every, |node| {
        let first_half = &first_half;
        async move {
            if begin.elapsed() < every.mul_f64(SPREAD / 2.0) {
                first_half.fetch_add(1, Ordering::Relaxed);
            }
            node
        }
    })
    .await;
    assert_eq!(looked.len(), 1000);
    assert!(begin.elapsed() <= every);
    // Of a thousand fair coins: 400 to 600 with all but one in ten thousand million chances.
    let first_half = first_half.into_inner();
    assert!((400..=600).contains(&first_half), "{first_half}");
}

#[tokio::test(start_paused = true)]
async fn those_that_hang_take_a_bounded_number_of_looks_and_all_come_to_their_turn() {
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let looked = round(many(3 * AT_ONCE), Duration::from_secs(1), |node| {
        let (now, most) = (&now, &most);
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(15)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            node
        }
    })
    .await;
    assert_eq!(looked.len(), 3 * AT_ONCE);
    assert!(most.into_inner() <= AT_ONCE);
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
