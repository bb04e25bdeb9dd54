//! Event logs that are erased in their own ways (IPMI 2.0 §31.4, §31.9).

use farrier_sim::bmc::EventLog;

use super::*;

/// Get SEL Info and Clear SEL.
const STORAGE: u8 = 0x0A;
const CLEAR_SEL: u8 = 0x47;

async fn with_records(prepare: impl FnOnce(&EventLog)) -> (Lab, EventLog) {
    let log = EventLog::default();
    let theirs = log.clone();
    let lab = Lab::start(move |config| config.log = theirs).await;
    for number in 0..3 {
        lab.bmc.log_event([0, 0, 2, 0, 0, 0, 0x65, 0x20, 0, 4, 0x01, number, 0x01, 0x59, 0x5F, 0x5A]);
    }
    prepare(&log);
    (lab, log)
}

#[tokio::test]
async fn an_erase_that_takes_its_time_and_cancels_its_own_reservation_is_waited_for() {
    for commands in [1, 2, 3, 9] {
        let (lab, log) = with_records(|log| log.erase_slowly(commands)).await;
        lab.client().clear_event_log(soon()).await.unwrap();
        assert_eq!(log.count(), 0, "{commands}: it is told when it is done");
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_log_without_reservations_is_cleared_without_one() {
    for commands in [0, 3] {
        let (lab, log) = with_records(|log| {
            log.reserve_nothing();
            log.erase_slowly(commands);
        })
        .await;
        lab.client().clear_event_log(soon()).await.unwrap();
        assert_eq!(log.count(), 0, "{commands}");
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_log_whose_erase_is_refused_for_ever_is_no_cleared_log() {
    let (lab, log) = with_records(|_| ()).await;
    let refuse = vec![Refusal { netfn: STORAGE, cmd: CLEAR_SEL, completion_code: 0xC5 }];
    lab.bmc.set_faults(Faults { refuse, ..Faults::default() });
    let error = lab.client().clear_event_log(soon()).await.unwrap_err();
    assert!(error.to_string().contains("reservation canceled"), "{error}");
    assert_eq!(log.count(), 3);
    lab.stop().await;
}

/// A log of hundreds, on a BMC that takes its time for each.
#[tokio::test]
async fn the_newest_records_are_read_without_those_before_them() {
    let (lab, log) = with_records(|_| ()).await;
    for number in 0..200 {
        lab.bmc.log_event([0, 0, 2, 0, 0, 0, 0x65, 0x20, 0, 4, 0x01, number, 0x01, 0x59, 0x5F, 0x5A]);
    }
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    let before = lab.bmc.datagrams();
    let seen = bmc.event_log(5, soon()).await.unwrap();
    let ids: Vec<_> = seen.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!((ids, seen.total), (vec!["199", "200", "201", "202", "203"], 203), "{:?}", seen.warnings);
    let asked = lab.bmc.datagrams() - before;
    assert!(asked < 30, "{asked} datagrams for 5 of {} records", log.count());
    // All of it, as ever.
    let all = bmc.event_log(1000, soon()).await.unwrap();
    assert_eq!((all.events.len(), all.total), (203, 203));
    lab.stop().await;
}

#[tokio::test]
async fn what_of_a_log_there_was_time_for_is_told() {
    let (lab, _) = with_records(|_| ()).await;
    for number in 0..200 {
        lab.bmc.log_event([0, 0, 2, 0, 0, 0, 0x65, 0x20, 0, 4, 0x01, number, 0x01, 0x59, 0x5F, 0x5A]);
    }
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    lab.bmc.set_faults(Faults { delay: Duration::from_millis(100), ..Faults::default() });
    // Time for some twenty answers.
    let seen = bmc.event_log(1000, Deadline::after(Duration::from_secs(2))).await.unwrap();
    assert!(
        (1..203).contains(&seen.events.len()) && seen.total == 203,
        "{} of {}",
        seen.events.len(),
        seen.total
    );
    assert!(seen.warnings[0].contains("are not read"), "{:?}", seen.warnings);
    lab.stop().await;
}
