//! The mode that a machine's firmware starts in, on services of each shape.

use farrier_bmc::BootModeState;
use farrier_sim::bmc::redfish::Personality;

use super::*;

const BOTH: [BootMode; 2] = [BootMode::Uefi, BootMode::Bios];

#[tokio::test]
async fn a_boot_mode_is_changed_by_each_vendors_way_and_read_back() {
    for (personality, old_firmware, setting) in [
        (Personality::Plain, false, "Boot/BootSourceOverrideMode"),
        (Personality::Idrac, false, "BootMode"),
        // A job is queued by hand.
        (Personality::Idrac, true, "BootMode"),
        (Personality::Ilo, false, "BootMode"),
    ] {
        let lab = Lab::start(|config| {
            *config = config.clone().of(personality);
            (config.needs_etag, config.old_firmware) = (true, old_firmware);
        })
        .await;
        let bmc = lab.client();
        let state = |current, pending| BootModeState {
            current: Some(current),
            pending,
            settable: BOTH.to_vec(),
            setting: setting.to_owned(),
            task: String::new(),
        };
        assert_eq!(bmc.boot_mode(soon()).await, Ok(state(BootMode::Uefi, None)), "{personality:?}");
        assert_eq!(bmc.set_boot_mode(BootMode::Uefi, soon()).await, Ok(state(BootMode::Uefi, None)));
        let set = bmc.set_boot_mode(BootMode::Bios, soon()).await.unwrap();
        assert_eq!(set.task.is_empty(), personality != Personality::Idrac, "{}", set.task);
        let waits = personality != Personality::Plain;
        let waiting = match waits {
            true => state(BootMode::Uefi, Some(BootMode::Bios)),
            false => state(BootMode::Bios, None),
        };
        assert_eq!(BootModeState { task: String::new(), ..set.clone() }, waiting, "{personality:?}");
        assert_eq!(bmc.boot_mode(soon()).await, Ok(waiting), "{personality:?}");
        // Asked for again, the same waits, by the same job: the first answer names its task, the second finds it in the queue.
        let again = bmc.set_boot_mode(BootMode::Bios, soon()).await.unwrap();
        let job = |state: &BootModeState| state.task.rsplit('/').next().map(str::to_owned);
        assert_eq!((again.next(), job(&again)), (set.next(), job(&set)), "{personality:?}");
        bmc.power_on(soon()).await.unwrap();
        assert_eq!(bmc.boot_mode(soon()).await, Ok(state(BootMode::Bios, None)), "{personality:?}");
        // An override has a mode of its own, and leaves this one alone where it is a setting.
        let once = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
        assert_eq!(bmc.set_boot_device(once, soon()).await, Ok(once));
        bmc.power_reset(soon()).await.unwrap();
        assert_eq!(bmc.boot_mode(soon()).await, Ok(state(BootMode::Bios, None)), "{personality:?}");
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_boot_mode_that_is_refused_or_not_kept_is_told() {
    let tuning = Tuning { tries: 2, ..quick() };
    let lab = Lab::start_with(tuning, |config| config.refuses_mode = true).await;
    let refused = lab.client().set_boot_mode(BootMode::Bios, soon()).await.unwrap_err();
    assert!(matches!(refused, BmcError::Http { status: 400, .. }), "{refused}");
    lab.stop().await;
    let lab = Lab::start_with(tuning, |_| ()).await;
    lab.faults(|faults| faults.keeps_mode = true);
    let lost = lab.client().set_boot_mode(BootMode::Bios, soon()).await.unwrap_err();
    assert!(lost.to_string().contains("BIOS") && lost.to_string().contains("UEFI"), "{lost}");
    assert!(matches!(lost, BmcError::NotApplied { what: "the boot mode", .. }), "{lost}");
    lab.stop().await;
}
