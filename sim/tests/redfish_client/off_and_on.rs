//! A power cycle and a hard reset of BMCs that offer neither: off, read back, and on.

use super::*;

/// What many offer, and no more.
const FEW: &[&str] = &["On", "ForceOff", "GracefulShutdown"];

#[tokio::test]
async fn what_has_no_command_is_made_of_off_and_on_each_read_back() {
    use PowerAction::{Off, On};
    for action_info in [false, true] {
        let lab = Lab::start(|config| (config.resets, config.action_info) = (Some(FEW), action_info)).await;
        let bmc = lab.client();
        bmc.power_on(soon()).await.unwrap();
        assert_eq!(bmc.power_cycle(soon()).await, Ok(Restarted::OffAndOn));
        assert_eq!(bmc.power_reset(soon()).await, Ok(Restarted::OffAndOn));
        assert_eq!(lab.chassis.actions(), [On, Off, On, Off, On]);
        // One that is off is switched on.
        bmc.power_off(soon()).await.unwrap();
        assert_eq!(bmc.power_cycle(soon()).await, Ok(Restarted::OffAndOn));
        assert_eq!(lab.chassis.actions()[5..], [Off, On]);
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_reset_that_the_bmc_has_is_no_cycle_of_it_and_the_cycle_is_made() {
    let lab = Lab::start(|config| config.resets = Some(&["On", "ForceOff", "ForceRestart"])).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(bmc.power_reset(soon()).await, Ok(Restarted::ByBmc));
    assert_eq!(bmc.power_cycle(soon()).await, Ok(Restarted::OffAndOn));
    use PowerAction::{Off, On, Reset};
    assert_eq!(lab.chassis.actions(), [On, Reset, Off, On]);
    lab.stop().await;
}

#[tokio::test]
async fn one_that_goes_off_and_not_on_is_said_to_be_off_and_what_to_do() {
    let lab = Lab::start(|config| config.resets = Some(&["ForceOff"])).await;
    farrier_sim::bmc::Chassis::set_power(&*lab.chassis, PowerAction::On).await.unwrap();
    let error = lab.client().power_cycle(soon()).await.unwrap_err();
    let off = Some(PowerState::Off);
    assert!(
        matches!(&error, BmcError::HalfRestarted { wanted: "power cycle", now, .. } if *now == off),
        "{error}"
    );
    let text = error.to_string();
    for words in
        ["offers no power cycle", "does not offer power on", "is off now", "`farrier node power on NODE`"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!error.is_transient(), "another try is somebody's to decide");
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    lab.stop().await;
}

#[tokio::test]
async fn one_that_cannot_be_switched_off_is_left_alone_and_one_that_says_so_and_stays_on_may_be_either() {
    let lab = Lab::start(|config| config.resets = Some(&["On", "Nmi"])).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    let error = bmc.power_cycle(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NotOffered { wanted: "power cycle", .. }), "{error}");
    assert_eq!(lab.chassis.actions(), [PowerAction::On]);
    lab.stop().await;

    let lab = Lab::start(|config| config.resets = Some(FEW)).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    lab.faults(|faults| faults.forgets_power = true);
    let error = bmc.power_reset(Deadline::after(Duration::from_secs(1))).await.unwrap_err();
    assert!(matches!(error, BmcError::HalfRestarted { wanted: "hard reset", now: None, .. }), "{error}");
    assert!(error.to_string().contains("may be on or off now"), "{error}");
    lab.stop().await;
}
