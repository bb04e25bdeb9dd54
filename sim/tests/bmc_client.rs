//! Our BMC client against our simulated BMC: every capability, every failure, a bad network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "bmc_client/flood.rs"]
mod flood;
#[path = "bmc_client/lies.rs"]
mod lies;
#[path = "bmc_client/moves.rs"]
mod moves;
#[path = "bmc_client/quirks.rs"]
mod quirks;
#[path = "bmc_client/sel.rs"]
mod sel;
#[path = "bmc_client/sessions.rs"]
mod sessions;
mod support;

use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, Cipher, IpmiHub, Tuning};
use farrier_bmc::{
    Bmc, BmcError, BootMode, BootOverride, Capability, Deadline, Device, Led, PowerState, Secret,
    SensorHealth,
};
use farrier_sim::bmc::{BootDeviceSelector, ChassisIdentify, CipherSuite, Cut, Faults, PowerAction, Refusal};
use support::{Lab, USER, Weather, proxy, quick, soon};

const DEVICES: [Device; 4] = [Device::Network, Device::Disk, Device::Cdrom, Device::BiosSetup];

#[tokio::test]
async fn every_capability_works() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    for device in DEVICES {
        for persistent in [false, true] {
            for mode in [BootMode::Bios, BootMode::Uefi] {
                let wanted = BootOverride { device, persistent, mode };
                assert_eq!(bmc.set_boot_device(wanted, soon()).await, Ok(wanted));
                assert_eq!(bmc.boot_device(soon()).await, Ok(wanted));
            }
        }
    }
    let network = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
    bmc.set_boot_device(network, soon()).await.unwrap();
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    assert_eq!(bmc.boot_device(soon()).await.unwrap().device, Device::None, "used up by the boot");
    bmc.power_cycle(soon()).await.unwrap();
    bmc.power_reset(soon()).await.unwrap();
    bmc.power_soft(soon()).await.unwrap();
    bmc.power_on(soon()).await.unwrap();
    bmc.power_off(soon()).await.unwrap();
    use PowerAction::{Cycle, Off, On, Reset, Soft};
    assert_eq!(lab.chassis.actions(), [On, Cycle, Reset, Soft, On, Off]);
    assert_eq!(lab.chassis.boots()[0].device, BootDeviceSelector::PXE);
    let none = BootOverride { device: Device::None, persistent: false, mode: BootMode::Bios };
    bmc.set_boot_device(none, soon()).await.unwrap();
    bmc.identify(Led::On, soon()).await.unwrap();
    assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Indefinitely);
    let identity = bmc.identity(soon()).await.unwrap();
    assert_eq!((identity.guid, identity.protocol.as_str()), (Some(lab.config.guid), "IPMI 2.0"));
    lab.stop().await;
}

#[tokio::test]
async fn what_happens_once_happens_once_and_what_is_drawn_is_read() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    for capability in Capability::ALL {
        let lacks = [
            Capability::BootMode,
            Capability::BootOrder,
            Capability::Events,
            Capability::VirtualMedia,
            Capability::Bios,
            Capability::SecureBoot,
            Capability::Firmware,
            Capability::Profile,
            Capability::Vlans,
            Capability::Volumes,
        ];
        let driver = (!lacks.contains(capability)).then_some("ipmi");
        assert_eq!(bmc.driver_of(*capability), driver, "{capability:?}");
    }
    let off = bmc.diagnostic_interrupt(soon()).await.unwrap_err();
    assert!(matches!(off, BmcError::Refused { command: "Chassis Control", .. }), "{off}");
    assert_eq!(bmc.power_draw(soon()).await.unwrap().now, Some(12.0));
    bmc.power_on(soon()).await.unwrap();
    bmc.diagnostic_interrupt(soon()).await.unwrap();
    assert_eq!(lab.chassis.actions()[1..], [PowerAction::On, PowerAction::Interrupt]);
    let draw = bmc.power_draw(soon()).await.unwrap();
    assert_eq!((draw.now, draw.least, draw.most), (Some(180.0), Some(12.0), Some(180.0)));
    assert_eq!(draw.period, Some(Duration::from_secs(3600)));
    bmc.reset_bmc(soon()).await.unwrap();
    assert_eq!((lab.bmc.restarts(), lab.bmc.session_count()), (1, 0));
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::On), "the machine keeps running");
    // One that restarts without an answer has done it; one that goes on without an answer may have.
    let refusal = Refusal { netfn: 0x06, cmd: 0x02, completion_code: 0xC1 };
    lab.bmc.set_faults(Faults { refuse: vec![refusal], ..Faults::default() });
    let refused = bmc.reset_bmc(soon()).await.unwrap_err();
    assert!(refused.to_string().contains("refused Cold Reset"), "{refused}");
    assert_eq!(lab.bmc.restarts(), 1);
    lab.stop().await;
}

#[tokio::test]
async fn a_password_is_changed_in_place() {
    let lab = Lab::start(|_| {}).await;
    for new in ["sixteen-bytes-ok", "twenty-bytes-for-you"] {
        let mut address = lab.address();
        address.password = lab.bmc.accounts().password(USER).unwrap();
        let bmc = lab.hub.bmc(address.clone());
        bmc.set_password(&Secret::new(new), soon()).await.unwrap();
        assert!(lab.bmc.accounts().knows(USER, new.as_bytes()));
        // Of the session that is open the BMC asks no password again.
        bmc.power_status(soon()).await.unwrap();
        drop(bmc);
        let fresh = IpmiHub::bind_with(quick()).await.unwrap();
        let error = fresh.bmc(address.clone()).power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
        address.password = Secret::new(new);
        assert_eq!(fresh.bmc(address).power_status(soon()).await, Ok(PowerState::Off));
        fresh.shutdown().await;
    }
    let mut address = lab.address();
    address.password = lab.bmc.accounts().password(USER).unwrap();
    let long = lab.hub.bmc(address).set_password(&Secret::new("x".repeat(21)), soon()).await.unwrap_err();
    assert!(matches!(long, BmcError::Unsupported { driver: "ipmi", .. }), "{long}");
    lab.stop().await;
}

/// Who hears that a password was perhaps changed tries it, and each try may count against the account.
#[tokio::test]
async fn a_password_is_surely_not_changed_where_the_user_could_not_be_found() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    let (app, get_user_name, set_user_password) = (0x06, 0x46, 0x47);
    let set = async || {
        let deadline = Deadline::after(Duration::from_secs(5));
        bmc.set_password(&Secret::new("another"), deadline).await
    };
    lab.bmc.set_faults(Faults { unanswered: vec![(app, get_user_name)], ..Faults::default() });
    let unseen = set().await.unwrap_err();
    assert!(unseen.was_not_begun() && unseen.is_transient(), "{unseen}");
    assert!(unseen.to_string().contains("nothing was changed"), "{unseen}");
    lab.bmc.set_faults(Faults::default());
    // Ours is the second of ten: the others are not asked for.
    bmc.power_status(soon()).await.unwrap();
    let before = lab.bmc.datagrams();
    assert_eq!(bmc.has_account(USER, soon()).await, Ok(true));
    assert!(lab.bmc.datagrams() - before <= 8, "{}", lab.bmc.datagrams() - before);
    // One whose answer to the change itself is lost may have done it.
    lab.bmc.set_faults(Faults { unanswered: vec![(app, set_user_password)], ..Faults::default() });
    let perhaps = set().await.unwrap_err();
    assert!(!perhaps.was_not_begun(), "{perhaps}");
    assert!(lab.bmc.accounts().knows(USER, b"another"));
    lab.stop().await;
}

/// Sixteen who ask for the same at a time cost the BMC about as much as one.
async fn is_one_read(lab: &Lab, bmc: &Bmc, read: impl AsyncFn(&Bmc)) {
    let before = lab.bmc.datagrams();
    read(bmc).await;
    let one = lab.bmc.datagrams() - before;
    futures::future::join_all((0..16).map(|_| read(bmc))).await;
    let all = lab.bmc.datagrams() - before - one;
    assert!(all <= 2 * one, "{one} datagrams for one, {all} for sixteen");
}

#[tokio::test]
async fn reads_of_the_same_that_wait_for_their_turn_are_one() {
    let patient = Duration::from_secs(5);
    let tuning = Tuning { first_timeout: patient, max_timeout: patient, ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    is_one_read(&lab, &bmc, async |bmc| {
        bmc.identity(soon()).await.unwrap();
    })
    .await;
    is_one_read(&lab, &bmc, async |bmc| {
        bmc.boot_device(soon()).await.unwrap();
    })
    .await;
    is_one_read(&lab, &bmc, async |bmc| {
        bmc.network(soon()).await.unwrap();
    })
    .await;
    is_one_read(&lab, &bmc, async |bmc| {
        bmc.power_draw(soon()).await.unwrap();
    })
    .await;
    lab.stop().await;
}

#[tokio::test]
async fn one_session_serves_all_calls_and_is_closed_at_the_end() {
    let lab = Lab::start(|_| {}).await;
    let (one, two) = (lab.client(), lab.client());
    let calls = (0..50).map(|n| if n % 2 == 0 { one.power_status(soon()) } else { two.power_status(soon()) });
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(lab.bmc.session_count(), 1);
    // They ask the same, and none of them before the first has had its turn.
    assert!(lab.bmc.datagrams() < 30, "{}", lab.bmc.datagrams());
    lab.hub.shutdown().await;
    assert_eq!(lab.bmc.session_count(), 0);
    assert_eq!(one.power_status(soon()).await, Err(BmcError::ShuttingDown));
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn dropping_the_handles_closes_the_session() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    drop(bmc);
    while lab.bmc.session_count() > 0 {
        tokio::task::yield_now().await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn an_idle_session_is_closed() {
    let tuning = Tuning { idle_close: Duration::from_millis(50), ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    while lab.bmc.session_count() > 0 {
        tokio::task::yield_now().await;
    }
    bmc.power_status(soon()).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn suite_17_falls_back_to_3_and_a_pinned_suite_does_not() {
    let lab = Lab::start(|config| config.suites = vec![CipherSuite::Suite3]).await;
    lab.client().power_status(soon()).await.unwrap();
    let pinned = BmcAddress { cipher: Cipher::fixed(17).unwrap(), ..lab.address() };
    let error = lab.hub.bmc(pinned).power_status(soon()).await.unwrap_err();
    assert!(matches!(&error, BmcError::UnsupportedCipher { tried, .. } if *tried == [CipherSuite::Suite17]));
    assert_eq!(Cipher::fixed(0), None);
    lab.stop().await;
}

#[tokio::test]
async fn wrong_credentials_are_named_and_do_not_hammer_the_bmc() {
    let lab = Lab::start(|config| config.kg = Some(Secret::new("kg"))).await;
    let without_kg = lab.client().power_status(soon()).await;
    assert_eq!(without_kg, Err(BmcError::WrongKg { addr: lab.bmc.address(), had_kg: false }));
    let right = BmcAddress { kg: Some(Secret::new("kg")), ..lab.address() };
    let ours = lab.hub.bmc(right.clone());
    ours.power_status(soon()).await.unwrap();
    let wrong = lab.hub.bmc(BmcAddress { password: Secret::new("wrong"), ..right.clone() });
    let error = wrong.power_status(soon()).await.unwrap_err();
    assert_eq!(error, BmcError::WrongPassword { addr: lab.bmc.address(), user: "admin".into() });
    assert!(!format!("{error} {error:?} {right:?}").contains("S3cret"));
    // Behind what tells the BMC that its proof was not taken, which nobody waits for.
    ours.power_status(soon()).await.unwrap();
    let before = lab.bmc.datagrams();
    let error = wrong.power_status(soon()).await.unwrap_err();
    assert!(matches!(&error, BmcError::CircuitOpen { reason, .. } if !reason.is_transient()), "{error}");
    assert_eq!(lab.bmc.datagrams(), before, "nothing was sent");
    let long = lab.hub.bmc(BmcAddress { password: Secret::new("x".repeat(21)), ..right });
    assert!(matches!(long.power_status(soon()).await, Err(BmcError::BadCredentials { .. })));
    lab.stop().await;
}

#[tokio::test]
async fn a_dead_bmc_is_unreachable_then_left_alone_then_found_again() {
    let tuning = Tuning {
        tries: 3,
        first_timeout: Duration::from_millis(10),
        breaker_pause: Duration::from_secs(2),
        ..quick()
    };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    lab.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    for _ in 0..3 {
        let error = bmc.power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::Unreachable { tried: 3.., .. }), "{error}");
    }
    let BmcError::CircuitOpen { next_try_in, failures: 3, .. } = bmc.power_status(soon()).await.unwrap_err()
    else {
        panic!("breaker is closed")
    };
    lab.bmc.set_faults(Faults::default());
    assert!(next_try_in > Duration::ZERO);
    // Nobody is asked before the pause is over, and the first who is asked answers.
    let status = loop {
        match bmc.power_status(soon()).await {
            Err(BmcError::CircuitOpen { next_try_in, .. }) => tokio::time::sleep(next_try_in).await,
            status => break status,
        }
    };
    assert_eq!(status, Ok(PowerState::Off));
    lab.stop().await;
}

#[tokio::test]
async fn rubbish_is_named_and_is_not_taken_for_silence() {
    let lab = Lab::start(|_| {}).await;
    // Before there is a session, and in one.
    for open in [false, true] {
        let hub = IpmiHub::bind_with(Tuning { tries: 3, tries_in_old_session: 3, ..quick() }).await.unwrap();
        let bmc = hub.bmc(lab.address());
        if open {
            bmc.power_status(soon()).await.unwrap();
        }
        lab.bmc.set_faults(Faults { garbled: true, ..Faults::default() });
        let error = bmc.power_status(soon()).await.unwrap_err();
        let BmcError::Garbled { count, .. } = &error else { panic!("{error}") };
        assert!(*count >= 3 && error.is_transient(), "{error}");
        let text = error.to_string();
        assert!(text.contains("expected an answer to Get Channel Authentication") || open, "{text}");
        let why =
            if open { "not both encrypted and authenticated" } else { "RMCP header: version expected 06h" };
        assert!(text.contains(why), "{text}");
        assert!(text.contains("seen 0xf9") || open, "what came: {text}");
        lab.bmc.set_faults(Faults::default());
        hub.shutdown().await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_bmc_that_only_sends_rubbish_is_given_up_soon_and_its_session_is_kept() {
    let lab = Lab::start(|_| {}).await;
    let tuning = Tuning { tries: 1000, tries_in_old_session: 1000, garbled_tries: 3, ..quick() };
    let hub = IpmiHub::bind_with(tuning).await.unwrap();
    let bmc = hub.bmc(lab.address());
    let rubbish = || Faults { garbled: true, ..Faults::default() };
    let count = async || match bmc.power_status(soon()).await {
        Err(BmcError::Garbled { count, .. }) => count,
        other => panic!("{other:?}"),
    };
    // Nobody waits for the deadline, before there is a session and in one.
    lab.bmc.set_faults(rubbish());
    assert_eq!(count().await, 3);
    lab.bmc.set_faults(Faults::default());
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    lab.bmc.set_faults(rubbish());
    assert_eq!(count().await, 3);
    assert_eq!(lab.bmc.session_count(), 1);
    lab.bmc.set_faults(Faults::default());
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(lab.bmc.session_count(), 1, "the same session: nobody has opened another");
    hub.shutdown().await;
    lab.stop().await;
}

#[tokio::test]
async fn an_answer_that_ends_too_early_is_shown_with_its_bytes() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    for (cmd, keep, seen) in [(0x01, 0, "no data"), (0x01, 1, "1 bytes: 01"), (0x09, 1, "1 bytes: ")] {
        lab.bmc.set_faults(Faults { cut: vec![Cut { netfn: 0, cmd, keep }], ..Faults::default() });
        let error = match cmd {
            0x01 => bmc.power_status(soon()).await.map(drop),
            _ => bmc.boot_device(soon()).await.map(drop),
        };
        let error = error.unwrap_err();
        assert!(matches!(error, BmcError::Malformed { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("expected at least") && text.contains(&format!("seen {seen}")), "{text}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_deadline_is_kept() {
    // Without a deadline it would ask for ever.
    let lab = Lab::start_with(Tuning { tries: u32::MAX, ..quick() }, |_| {}).await;
    lab.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    let bmc = lab.client();
    let deadline = Deadline::after(Duration::from_millis(150));
    let (first, second) = tokio::join!(bmc.power_status(deadline), bmc.power_status(deadline));
    assert!(matches!(first, Err(BmcError::Unreachable { .. })));
    assert!(second.is_err());
    lab.stop().await;
}

#[tokio::test]
async fn a_session_the_bmc_forgot_is_opened_again() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    for _ in 0..3 {
        bmc.power_on(soon()).await.unwrap();
        lab.bmc.forget_sessions();
        // Not idempotent, yet safe: the state is read first, which finds the session lost.
        bmc.power_cycle(soon()).await.unwrap();
        lab.bmc.forget_sessions();
    }
    let cycles = lab.chassis.actions().iter().filter(|action| **action == PowerAction::Cycle).count();
    assert_eq!(cycles, 3);
    // Another BMC may have the address: who answers is asked anew.
    let who = async || bmc.look(soon()).await.unwrap().who;
    let first = who().await;
    assert_eq!(who().await, first);
    lab.bmc.forget_sessions();
    assert_ne!(who().await, first);
    lab.stop().await;
}

#[tokio::test]
async fn a_cycle_whose_answer_is_lost_is_sent_once_and_says_so() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    // Mute once the cycle has arrived: the state can be read again afterwards.
    let lossy = async {
        lab.bmc.set_faults(Faults { delay: Duration::from_millis(600), ..Faults::default() });
        bmc.power_cycle(soon()).await
    };
    let error = lossy.await.unwrap_err();
    let BmcError::AnswerLost { power_now, .. } = &error else { panic!("{error}") };
    assert_eq!(*power_now, Some(PowerState::On));
    let cycles = lab.chassis.actions().iter().filter(|action| **action == PowerAction::Cycle).count();
    assert_eq!(cycles, 1);
    lab.stop().await;
}

/// Many systems take a second press of the button for another wish.
#[tokio::test]
async fn a_system_is_asked_to_shut_down_once_whatever_comes_of_the_answer() {
    const CHASSIS_CONTROL: (u8, u8) = (0x00, 0x02);
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    lab.bmc.set_faults(Faults { unanswered: vec![CHASSIS_CONTROL], ..Faults::default() });
    let error = bmc.power_soft(soon()).await.unwrap_err();
    let BmcError::AnswerLost { command, power_now, .. } = &error else { panic!("{error}") };
    assert_eq!((*command, *power_now), ("Chassis Control (soft shutdown)", Some(PowerState::Off)));
    assert!(error.may_have_happened());
    let asked = lab.chassis.actions().iter().filter(|action| **action == PowerAction::Soft).count();
    assert_eq!(asked, 1);
    // "Timeout while processing command": it was begun.
    let (netfn, cmd) = CHASSIS_CONTROL;
    let late = Refusal { netfn, cmd, completion_code: 0xC3 };
    lab.bmc.set_faults(Faults { refuse: vec![late], ..Faults::default() });
    bmc.power_status(soon()).await.unwrap();
    let before = lab.bmc.datagrams();
    let error = bmc.power_soft(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::Refused { .. }) && error.may_have_happened(), "{error}");
    // The power, read, and the one command, each with its answer.
    assert!(lab.bmc.datagrams() - before <= 4, "{}", lab.bmc.datagrams() - before);
    lab.stop().await;
}

#[tokio::test]
async fn refusals_name_command_code_and_meaning_and_busy_is_waited_out() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    let refuse = |cmd, completion_code| Faults {
        refuse: vec![Refusal { netfn: 0, cmd, completion_code }],
        ..Faults::default()
    };
    lab.bmc.set_faults(refuse(0x02, 0xD4));
    let error = bmc.power_on(soon()).await.unwrap_err();
    assert!(error.to_string().contains("refused Chassis Control"), "{error}");
    assert!(error.to_string().contains("D4h (insufficient privilege level)"), "{error}");
    lab.bmc.set_faults(refuse(0x01, 0xC0));
    let calm = async {
        let before = lab.bmc.datagrams();
        while lab.bmc.datagrams() < before + 3 {
            tokio::task::yield_now().await;
        }
        lab.bmc.set_faults(Faults::default());
    };
    let (status, ()) = tokio::join!(bmc.power_status(soon()), calm);
    assert_eq!(status, Ok(PowerState::Off));
    lab.stop().await;
}

#[tokio::test]
async fn boot_flags_work_on_bmcs_without_parameters_3_and_4_and_on_supermicro() {
    let lab = Lab::start(|config| {
        config.boot_parameters_3_and_4 = false;
        config.manufacturer_id = 10_876;
    })
    .await;
    let bmc = lab.client();
    let disk = BootOverride { device: Device::Disk, persistent: true, mode: BootMode::Uefi };
    bmc.set_boot_device(disk, soon()).await.unwrap();
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(lab.chassis.boots()[0].device, BootDeviceSelector::REMOTE_DISK);
    lab.stop().await;
}

#[tokio::test]
async fn flags_outlive_the_bmcs_time_out_because_we_ask_for_it() {
    let lab = Lab::start(|config| config.boot_flags_timeout = Duration::ZERO).await;
    let bmc = lab.client();
    let network = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
    bmc.set_boot_device(network, soon()).await.unwrap();
    assert_eq!(bmc.boot_device(soon()).await, Ok(network));
    lab.stop().await;
}

#[tokio::test]
async fn full_session_tables_are_waited_for_and_named() {
    let lab = Lab::start(|config| config.max_sessions = 1).await;
    let first = lab.client();
    first.power_status(soon()).await.unwrap();
    // Other credentials object, same account: a second actor, which needs a second session.
    let other = BmcAddress { cipher: Cipher::fixed(3).unwrap(), ..lab.address() };
    let second = lab.hub.bmc(other);
    let error = second.power_status(Deadline::after(Duration::from_secs(2))).await.unwrap_err();
    assert!(matches!(error, BmcError::NoSessionSlot { .. }), "{error}");
    let (status, ()) = tokio::join!(second.power_status(soon()), async { drop(first) });
    assert_eq!(status, Ok(PowerState::Off));
    lab.stop().await;
}

/// Each answer is checked against what was done, so an answer taken for another's would show.
async fn no_wrong_answers(weather: Weather, seed: u64, rounds: u32) {
    let lab = Lab::start(|_| {}).await;
    let (address, proxy) = proxy(lab.bmc.address(), weather, seed).await;
    let bmc = lab.hub.bmc(BmcAddress { addr: address, ..lab.address() });
    for round in 0..rounds {
        let power = if round % 2 == 0 { PowerState::On } else { PowerState::Off };
        match power {
            PowerState::On => bmc.power_on(soon()).await.unwrap(),
            PowerState::Off => bmc.power_off(soon()).await.unwrap(),
        }
        assert_eq!(bmc.power_status(soon()).await, Ok(power), "round {round}");
        let wanted = BootOverride {
            device: DEVICES[round as usize % DEVICES.len()],
            persistent: true,
            mode: if round % 3 == 0 { BootMode::Bios } else { BootMode::Uefi },
        };
        bmc.set_boot_device(wanted, soon()).await.unwrap();
        assert_eq!(bmc.boot_device(soon()).await, Ok(wanted), "round {round}");
        if round % 10 == 9 {
            lab.bmc.forget_sessions();
        }
        // A copy of this round's requests that comes after the next round's would undo them, which is not about answers:
        // IPMI has nothing against it.
        tokio::time::sleep(weather.late_by).await;
    }
    drop(proxy);
    lab.stop().await;
}

#[tokio::test]
async fn no_wrong_answers_at_five_percent_loss_with_reordering() {
    let weather =
        Weather { loss: 0.05, late: 0.05, late_by: Duration::from_millis(90), copied: 0.02, garbage: 0 };
    no_wrong_answers(weather, 7, 40).await;
}

#[tokio::test]
async fn no_wrong_answers_in_a_storm_of_mangled_copies_both_ways() {
    no_wrong_answers(Weather { garbage: 6, ..Weather::FINE }, 11, 20).await;
}

#[tokio::test]
async fn a_hundred_bmcs_share_one_socket() {
    let hub = farrier_bmc::ipmi::IpmiHub::bind_with(quick()).await.unwrap();
    let mut labs = Vec::new();
    for _ in 0..100 {
        labs.push(Lab::start_with(quick(), |_| {}).await);
    }
    let guids = labs.iter().map(|lab| {
        let bmc = hub.bmc(lab.address());
        async move { bmc.identity(soon()).await.unwrap().guid }
    });
    for (lab, guid) in labs.iter().zip(futures::future::join_all(guids).await) {
        assert_eq!(guid, Some(lab.config.guid));
    }
    hub.shutdown().await;
    for lab in labs {
        assert_eq!(lab.bmc.session_count(), 0);
        lab.stop().await;
    }
}

#[tokio::test]
async fn sensors_are_read_from_bmcs_that_return_records_whole_and_from_those_that_do_not() {
    for largest_sdr_part in [255, 22] {
        let lab = Lab::start(|config| config.largest_sdr_part = largest_sdr_part).await;
        let bmc = lab.client();
        let value = |read: &farrier_bmc::Sensors, name: &str| {
            read.sensors.iter().find(|sensor| sensor.name == name).unwrap().clone()
        };
        let off = bmc.sensors(soon()).await.unwrap();
        assert_eq!((off.sensors.len(), off.warnings.len()), (9, 0), "{off:?}");
        let cpu = value(&off, "CPU Temp");
        assert_eq!(
            (cpu.value, cpu.health),
            (None, SensorHealth::Unknown),
            "it does not measure while power is off"
        );
        assert_eq!(value(&off, "Inlet Temp").value, Some(22.0));
        assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
        let on = bmc.sensors(soon()).await.unwrap();
        let cpu = value(&on, "CPU Temp");
        assert_eq!((cpu.value, cpu.unit, cpu.health), (Some(47.0), "°C", SensorHealth::Ok));
        assert!((value(&on, "12V").value.unwrap() - 12.033).abs() < 1e-6);
        assert_eq!(value(&on, "FAN1").unit, "rpm");
        let supply = value(&on, "PS1 Status");
        assert_eq!((supply.value, supply.states.len()), (None, 1), "{supply:?}");
        assert!(supply.states[0].to_lowercase().contains("presence"), "{supply:?}");
        // Three that share one record.
        for dimm in ["DIMM1", "DIMM2", "DIMM3"] {
            assert_eq!(value(&on, dimm).states.len(), 1, "{dimm}");
        }
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_bmc_is_not_asked_faster_than_it_is_said_to_bear() {
    const INTERVAL: Duration = Duration::from_millis(40);
    let lab = Lab::start(|_| {}).await;
    let hub = IpmiHub::bind_with(Tuning { min_interval: INTERVAL, ..quick() }).await.unwrap();
    let bmc = hub.bmc(lab.address());
    bmc.power_status(soon()).await.unwrap();
    let begin = std::time::Instant::now();
    for _ in 0..5 {
        bmc.power_status(soon()).await.unwrap();
    }
    // No upper limit: a busy machine may take any time.
    assert!(begin.elapsed() >= INTERVAL * 5, "{:?}", begin.elapsed());
    hub.shutdown().await;
    lab.stop().await;
}

#[tokio::test]
async fn a_bmc_that_takes_longer_for_an_answer_than_a_handshake_waits_is_read() {
    // The first question is asked often enough; a step of the handshake would be given up after a third of a second.
    let tuning =
        Tuning { tries: 30, tries_in_old_session: 3, max_timeout: Duration::from_millis(150), ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    lab.bmc.set_faults(Faults { delay: Duration::from_secs(1), ..Faults::default() });
    let bmc = lab.client();
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    // Most of the datagrams were for the first question, which is where the pace was learnt.
    let first = lab.bmc.datagrams();
    bmc.power_on(soon()).await.unwrap();
    assert!(lab.bmc.datagrams() - first < first, "{first}, then {}", lab.bmc.datagrams());
    lab.stop().await;
}
