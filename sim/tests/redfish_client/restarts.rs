//! What a BMC says in the minutes in which it restarts.

use super::*;

/// What it shows meanwhile, each a final answer of a BMC that nobody knows.
const SHOWS: [fn(&mut RedfishFaults); 4] =
    [|f| f.absent = true, |f| f.garbage = true, |f| f.hides_power = true, |f| f.status = Some(404)];

#[tokio::test]
async fn one_that_worked_before_is_waited_for_and_one_that_never_did_is_not() {
    let tuning = Tuning { tries: 2, ..quick() };
    for shows in SHOWS {
        let lab = Lab::start_with(tuning, |_| {}).await;
        let bmc = lab.client();
        assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
        lab.faults(shows);
        // With its session, and without: it has forgotten it.
        for _ in 0..2 {
            let error = bmc.power_status(soon()).await.unwrap_err();
            assert!(error.is_transient() && !error.is_wrong_password(), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("expected") && text.contains("seen") && text.contains("restarting"),
                "{text}"
            );
            lab.service.forget_sessions().await;
        }
        // Another handle knows it too: the task that goes on is not the one that began.
        drop(bmc);
        let error = lab.client().power_status(soon()).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        let stranger = RedfishHub::with(Arc::new(PlainDial), tuning);
        let error = stranger.bmc(lab.address()).power_status(soon()).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        stranger.shutdown().await;
        lab.faults(|_| ());
        assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
        lab.stop().await;
    }
}

/// The command was sent, its answer lost, and it is sent again, while the machine is on its way.
#[tokio::test]
async fn a_machine_on_its_way_is_waited_for() {
    let lab = Lab::start(|config| config.power_takes = Duration::from_secs(2)).await;
    let bmc = lab.client();
    for wanted in [PowerState::On, PowerState::Off] {
        match wanted {
            PowerState::On => bmc.power_on(soon()).await.unwrap(),
            PowerState::Off => bmc.power_off(soon()).await.unwrap(),
        }
        assert_ne!(bmc.power_status(soon()).await, Ok(wanted), "not yet");
        let asked = lab.service.request_count();
        let refused = match wanted {
            PowerState::On => bmc.power_off(soon()).await,
            PowerState::Off => bmc.power_on(soon()).await,
        };
        assert!(
            matches!(&refused, Err(error @ BmcError::BetweenStates { .. }) if error.is_transient()),
            "{refused:?}"
        );
        assert_eq!(bmc.ensure_power(wanted, soon()).await, Ok(true));
        assert!(lab.service.request_count() > asked);
        assert_eq!(bmc.power_status(soon()).await, Ok(wanted));
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_boot_device_in_the_wrong_mode_is_not_the_one_that_was_asked_for() {
    let tuning = Tuning { tries: 2, ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let bmc = lab.client();
    lab.faults(|faults| faults.keeps_mode = true);
    let bios = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Bios };
    let error = bmc.set_boot_device(bios, soon()).await.unwrap_err();
    assert!(
        matches!(&error, BmcError::NotApplied { .. }) && error.to_string().contains("once, BIOS, seen"),
        "{error}"
    );
    let uefi = BootOverride { mode: BootMode::Uefi, ..bios };
    assert_eq!(bmc.set_boot_device(uefi, soon()).await, Ok(uefi));
    lab.stop().await;
}
