//! What a BMC does not do and does not say.

use super::*;

#[tokio::test]
async fn a_mode_that_is_not_kept_is_told_and_once_that_became_for_ever_is_refused() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    let once = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
    lab.bmc.set_faults(Faults { forgets_efi: true, ..Faults::default() });
    let seen = bmc.set_boot_device(once, soon()).await;
    assert_eq!(seen, Ok(BootOverride { mode: BootMode::Bios, ..once }));
    lab.bmc.set_faults(Faults { boots_for_ever: true, ..Faults::default() });
    let error = bmc.set_boot_device(once, soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NotApplied { .. }), "{error}");
    let always = BootOverride { persistent: true, ..once };
    assert_eq!(bmc.set_boot_device(always, soon()).await, Ok(always));
    lab.stop().await;
}

const COLD_RESET: (u8, u8) = (0x06, 0x02);

#[tokio::test]
async fn a_restart_whose_answer_is_lost_is_told_from_a_network_that_failed() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    lab.bmc.set_faults(Faults { unanswered: vec![COLD_RESET], ..Faults::default() });
    assert_eq!(bmc.reset_bmc(soon()).await, Ok(()));
    assert_eq!(lab.bmc.restarts(), 1);
    // It does not arrive, and nothing else does for a while.
    bmc.power_status(soon()).await.unwrap();
    lab.bmc.set_faults(Faults { lost: vec![COLD_RESET], ..Faults::default() });
    let before = lab.bmc.datagrams();
    let fails = async {
        for (after, faults) in [
            (2, Faults { silent: true, ..Faults::default() }),
            (4, Faults { lost: vec![COLD_RESET], ..Faults::default() }),
        ] {
            while lab.bmc.datagrams() < before + after {
                tokio::task::yield_now().await;
            }
            lab.bmc.set_faults(faults);
        }
    };
    let both = async { tokio::join!(bmc.reset_bmc(soon()), fails) };
    let (outcome, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(matches!(outcome, Err(BmcError::AnswerLost { command: "Cold Reset", .. })), "{outcome:?}");
    assert_eq!(lab.bmc.restarts(), 1);
    lab.bmc.set_faults(Faults::default());
    lab.stop().await;
}

/// Datagrams for a look at all sensors.
async fn cost_of_sensors(lab: &Lab, bmc: &Bmc) -> u64 {
    let before = lab.bmc.datagrams();
    assert_eq!(bmc.sensors(soon()).await.unwrap().sensors.len(), 9);
    lab.bmc.datagrams() - before
}

#[tokio::test]
async fn sensor_records_are_read_once_until_they_change() {
    let lab = Lab::start(|config| config.largest_sdr_part = 22).await;
    let bmc = lab.client();
    let cost = async || cost_of_sensors(&lab, &bmc).await;
    let (first, second) = (cost().await, cost().await);
    assert!(second * 3 < first, "{first}, then {second}");
    lab.bmc.set_faults(Faults { records_changed: 7, ..Faults::default() });
    let changed = cost().await;
    assert!(changed > second * 2, "{second}, changed {changed}");
    lab.stop().await;
}

/// Ten minutes of nobody asking, which is none here: they are no longer kept.
#[tokio::test]
async fn sensor_records_that_nobody_needs_are_forgotten() {
    let lab = Lab::start_with(Tuning { keep_records: Duration::ZERO, ..quick() }, |_| {}).await;
    let bmc = lab.client();
    let cost = async || cost_of_sensors(&lab, &bmc).await;
    let (first, second) = (cost().await, cost().await);
    // But for the session, which is there.
    assert!(second * 2 > first, "{first}, then {second}");
    lab.stop().await;
}
