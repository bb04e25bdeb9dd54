//! Our Redfish client against our simulated service: every capability, every failure, hostile answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "redfish_client/auto.rs"]
mod auto;
#[path = "redfish_client/boot_mode.rs"]
mod boot_mode;
#[path = "redfish_client/boot_order.rs"]
mod boot_order;
#[path = "redfish_client/broken.rs"]
mod broken;
#[path = "redfish_client/capabilities.rs"]
mod capabilities;
#[path = "redfish_client/event_stream.rs"]
mod event_stream;
#[path = "redfish_client/moves.rs"]
mod moves;
#[path = "redfish_client/off_and_on.rs"]
mod off_and_on;
#[path = "redfish_client/password_change.rs"]
mod password_change;
#[path = "redfish_client/profiles.rs"]
mod profiles;
#[path = "redfish_client/restarts.rs"]
mod restarts;
#[path = "redfish_client/sessions.rs"]
mod sessions;
#[path = "redfish_client/vendors.rs"]
mod vendors;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use farrier_bmc::redfish::{PlainDial, RedfishAddress, RedfishHub, Trust, Tuning};
use farrier_bmc::{
    Bmc, BmcError, BootMode, BootOverride, Capability, Deadline, Device, Led, Media, PowerState, Restarted,
    Secret, SensorHealth,
};
use farrier_sim::bmc::redfish::{
    Conditions, Facts, FailsFirst, RedfishConfig, RedfishFaults, RedfishHandle, RedfishServer,
};
use farrier_sim::bmc::{Accounts, BootDeviceSelector, ChassisIdentify, MemoryChassis, PowerAction};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const USER: &str = "admin";
const PASSWORD: &str = "S3cret";
const DEVICES: [Device; 4] = [Device::Network, Device::Disk, Device::Cdrom, Device::BiosSetup];

/// Quick enough for a test; the time limits are generous, since no test that passes reaches them.
fn quick() -> Tuning {
    Tuning { busy_delay: Duration::from_millis(10), ..Tuning::default() }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

struct Lab {
    service: RedfishHandle,
    chassis: Arc<MemoryChassis>,
    accounts: Accounts,
    hub: RedfishHub,
}

impl Lab {
    async fn start(change: impl FnOnce(&mut RedfishConfig)) -> Self {
        Self::start_with(quick(), change).await
    }

    async fn start_with(tuning: Tuning, change: impl FnOnce(&mut RedfishConfig)) -> Self {
        let facts = Facts {
            manufacturer: "Farrier".into(),
            model: "M1".into(),
            serial_number: "S1".into(),
            uuid: [7; 16],
            cpus: 8,
            memory_bytes: 16 << 30,
            macs: vec!["02:00:00:00:00:01".into(), "02:00:00:00:00:02".into()],
        };
        let mut config = RedfishConfig::new(USER, Secret::new(PASSWORD), facts);
        change(&mut config);
        let chassis = Arc::new(MemoryChassis::new());
        let accounts = config.accounts.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = RedfishServer::start(listener, config, chassis.clone()).unwrap();
        Self { service, chassis, accounts, hub: RedfishHub::with(Arc::new(PlainDial), tuning) }
    }

    fn address(&self) -> RedfishAddress {
        RedfishAddress::new(self.service.address(), USER, Secret::new(PASSWORD), Trust::Plain)
    }

    fn client(&self) -> Bmc {
        self.hub.bmc(self.address())
    }

    fn faults(&self, change: impl FnOnce(&mut RedfishFaults)) {
        let mut faults = RedfishFaults::default();
        change(&mut faults);
        self.service.set_faults(faults);
    }

    /// The hub first: its actors delete their sessions.
    async fn stop(self) {
        self.hub.shutdown().await;
        self.service.shutdown().await;
    }
}

#[tokio::test]
async fn every_capability_works() {
    for quirky in [false, true] {
        let lab = Lab::start(|config| {
            config.needs_etag = quirky;
            config.action_info = quirky;
        })
        .await;
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
        assert_eq!(bmc.power_cycle(soon()).await, Ok(Restarted::ByBmc));
        assert_eq!(bmc.power_reset(soon()).await, Ok(Restarted::ByBmc));
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
        bmc.identify(Led::Off, soon()).await.unwrap();
        assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Off);
        let identity = bmc.identity(soon()).await.unwrap();
        assert_eq!((identity.guid, identity.protocol.as_str()), (Some([7; 16]), "Redfish 1.15.0"));
        let seen = bmc.inventory(soon()).await.unwrap();
        assert_eq!((seen.thread_count, seen.memory_bytes, seen.serial_number.as_str()), (8, 16 << 30, "S1"));
        let macs: Vec<_> = seen.nics.iter().map(|nic| nic.mac_address.as_str()).collect();
        assert_eq!(macs, ["02:00:00:00:00:01", "02:00:00:00:00:02"]);
        assert!(seen.firmware.contains(&("NIC".into(), "1.2".into())), "{:?}", seen.firmware);
        assert_eq!(seen.warnings, [""; 0]);
        lab.stop().await;
    }
}

#[tokio::test]
async fn what_happens_once_happens_once_and_leaves_a_record() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    assert_eq!(bmc.event_log(9, soon()).await.unwrap().events, []);
    let off = bmc.diagnostic_interrupt(soon()).await.unwrap_err();
    assert!(matches!(off, BmcError::Http { status: 409, .. }), "{off}");
    bmc.power_on(soon()).await.unwrap();
    bmc.diagnostic_interrupt(soon()).await.unwrap();
    assert_eq!(lab.chassis.actions()[1..], [PowerAction::On, PowerAction::Interrupt]);
    let log = bmc.event_log(9, soon()).await.unwrap();
    let told: Vec<_> = log.events.iter().map(|e| (e.message.as_str(), e.asserted)).collect();
    assert_eq!(told, [("Power off", Some(false)), ("Front panel NMI (critical)", Some(true))]);
    // More than one page.
    for _ in 0..20 {
        bmc.power_reset(soon()).await.unwrap();
    }
    let log = bmc.event_log(18, soon()).await.unwrap();
    assert_eq!((log.events.len(), log.total), (18, 22));
    let ids: Vec<_> = log.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!((ids[0], ids[17]), ("5", "22"), "oldest first");
    bmc.clear_event_log(soon()).await.unwrap();
    assert_eq!(bmc.event_log(9, soon()).await.unwrap().total, 0);
    bmc.reset_bmc(soon()).await.unwrap();
    assert_eq!((lab.service.restarts().await, lab.service.session_count().await), (1, 0));
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::On), "the machine keeps running");
    lab.stop().await;
}

#[tokio::test]
async fn a_password_is_changed_in_place() {
    for needs_etag in [false, true] {
        let lab = Lab::start(|config| config.needs_etag = needs_etag).await;
        let bmc = lab.client();
        let short = bmc.set_password(&Secret::new("short"), soon()).await.unwrap_err();
        assert!(matches!(short, BmcError::Http { status: 400, .. }) && !short.to_string().contains("short"));
        bmc.set_password(&Secret::new("another-One-4now"), soon()).await.unwrap();
        let fresh = RedfishHub::with(Arc::new(PlainDial), quick());
        let error = fresh.bmc(lab.address()).power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
        let new = RedfishAddress { password: Secret::new("another-One-4now"), ..lab.address() };
        assert_eq!(fresh.bmc(new).power_status(soon()).await, Ok(PowerState::Off));
        fresh.shutdown().await;
        lab.stop().await;
    }
}

/// Tags that are all weak, and three opinions of what `If-Match` says then.
#[tokio::test]
async fn a_condition_is_found_that_the_bmc_takes() {
    for conditions in [Conditions::Weak, Conditions::Opaque, Conditions::Strong] {
        let lab = Lab::start(|config| config.conditions = conditions).await;
        let bmc = lab.client();
        let wanted = BootOverride { device: Device::Network, persistent: true, mode: BootMode::Uefi };
        assert_eq!(bmc.set_boot_device(wanted, soon()).await, Ok(wanted), "{conditions:?}");
        lab.stop().await;
    }
}

#[tokio::test]
async fn virtual_media_is_changed_and_read_back() {
    for needs in [false, true] {
        let lab = Lab::start(|config| config.media_needs_protocol = needs).await;
        let bmc = lab.client();
        assert_eq!(bmc.eject_media(soon()).await, Ok(Media::default()), "it was empty");
        // Twice the same, then another one.
        for url in ["http://192.0.2.1/a.iso", "http://192.0.2.1/a.iso", "https://192.0.2.1/b.iso"] {
            let wanted = Media { inserted: true, image: url.into() };
            assert_eq!(bmc.insert_media(url, soon()).await.as_ref(), Ok(&wanted));
            assert_eq!(bmc.media(soon()).await, Ok(wanted));
        }
        assert_eq!(bmc.eject_media(soon()).await, Ok(Media::default()));
        let error = bmc.insert_media("nowhere", soon()).await.unwrap_err();
        assert!(error.to_string().contains("Image is required"), "{error}");
        lab.stop().await;
    }
}

/// iLO 4 and older Supermicro boards redirect every path without a slash at its end, whatever is asked of it.
#[tokio::test]
async fn where_a_slash_is_wanted_all_that_is_asked_is_asked_again_with_one_and_done_once() {
    for status in [301, 307, 308] {
        for named in ["", "1"] {
            let lab = Lab::start(|_| {}).await;
            lab.faults(|faults| faults.wants_slash = Some(status));
            let bmc = lab.hub.bmc(RedfishAddress { system: named.into(), ..lab.address() });
            // A log-in, by POST; an event; and a PATCH.
            assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true), "{status}");
            assert_eq!(bmc.power_reset(soon()).await, Ok(Restarted::ByBmc));
            let wanted = BootOverride { device: Device::Network, persistent: true, mode: BootMode::Uefi };
            assert_eq!(bmc.set_boot_device(wanted, soon()).await, Ok(wanted));
            bmc.set_password(&Secret::new("An0ther-word"), soon()).await.unwrap();
            assert_eq!(lab.chassis.actions(), [PowerAction::On, PowerAction::Reset]);
            assert_eq!(lab.service.log_ins().await, 1);
            // The system is asked for where it is.
            let before = lab.service.request_count();
            bmc.power_status(soon()).await.unwrap();
            assert_eq!(lab.service.request_count() - before, 1);
            lab.stop().await;
        }
    }
    // With these a client may well send something else (RFC 9110 §15.4).
    for status in [302, 303] {
        let lab = Lab::start(|_| {}).await;
        lab.faults(|faults| faults.wants_slash = Some(status));
        let error = lab.client().power_on(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::BadAnswer { .. }), "{error}");
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_system_is_asked_to_shut_down_once_though_the_bmc_answers_that_it_failed() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    for (status, left) in [(500, 7), (502, 7), (504, 7), (503, 4)] {
        let words: &[&str] = &["POST", "ComputerSystem.Reset", "GracefulShutdown"];
        lab.faults(|faults| faults.fails_first = Some(FailsFirst { words, status, times: 8 }));
        let error = bmc.power_soft(soon()).await.unwrap_err();
        // Of 503 and 429 it is known that nothing was begun.
        assert_eq!(error.may_have_happened(), status != 503, "{error}");
        assert_eq!(lab.service.failures_left(), left, "{status}");
    }
    assert!(!lab.chassis.actions().contains(&PowerAction::Soft));
    lab.stop().await;
}

/// Many BMCs answer long before the drive tells of it.
#[tokio::test]
async fn a_drive_that_tells_late_is_waited_for_as_long_as_there_is_time() {
    let lab = Lab::start(|config| config.media_takes = Duration::from_secs(2)).await;
    let bmc = lab.client();
    for url in ["http://192.0.2.1/a.iso", "http://192.0.2.1/b.iso"] {
        assert_eq!(bmc.insert_media(url, soon()).await.map(|media| media.image).as_deref(), Ok(url));
    }
    assert_eq!(bmc.eject_media(soon()).await, Ok(Media::default()));
    // Who has less time may come again.
    let hurried = bmc.insert_media("http://192.0.2.1/a.iso", Deadline::after(Duration::from_secs(1))).await;
    let hurried = hurried.unwrap_err();
    assert!(hurried.is_transient() && hurried.to_string().contains("putting virtual media in"), "{hurried}");
    let again = bmc.insert_media("http://192.0.2.1/a.iso", soon()).await;
    assert_eq!(again.map(|media| media.image).as_deref(), Ok("http://192.0.2.1/a.iso"));
    lab.stop().await;
}

#[tokio::test]
async fn an_image_that_is_in_the_drive_stays_there_however_long_its_url_is() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    let mut costs = Vec::new();
    for signature in [10, 600] {
        let url = format!("https://192.0.2.1/a.iso?signature={}", "5a".repeat(signature / 2));
        bmc.insert_media(&url, soon()).await.unwrap();
        let before = lab.service.request_count();
        assert!(bmc.insert_media(&url, soon()).await.unwrap().inserted);
        costs.push(lab.service.request_count() - before);
    }
    assert_eq!(costs[0], costs[1], "requests of an insertion that has nothing to do");
    lab.stop().await;
}

#[tokio::test]
async fn sensors_and_draw_are_read_in_both_models() {
    let mut told = Vec::new();
    for new in [false, true] {
        let lab = Lab::start(|config| config.sensor_collection = new).await;
        let bmc = lab.client();
        bmc.power_on(soon()).await.unwrap();
        let read = bmc.sensors(soon()).await.unwrap();
        let mut sensors: Vec<_> =
            read.sensors.into_iter().map(|s| (s.name, s.value, s.unit, s.health)).collect();
        assert!(sensors.contains(&("CPU Temp".into(), Some(47.0), "°C", SensorHealth::Ok)), "{sensors:?}");
        assert!(sensors.contains(&("FAN1".into(), Some(5400.0), "rpm", SensorHealth::Ok)), "{sensors:?}");
        let draw = bmc.power_draw(soon()).await.unwrap();
        assert_eq!((draw.now, draw.average), (Some(180.0), (!new).then_some(96.0)));
        bmc.power_off(soon()).await.unwrap();
        let off = bmc.sensors(soon()).await.unwrap().sensors;
        let cpu = off.iter().find(|sensor| sensor.name == "CPU Temp").unwrap();
        assert_eq!((cpu.value, cpu.health), (None, SensorHealth::Unknown), "it does not measure");
        assert_eq!(cpu.states, ["UnavailableOffline"]);
        // The power of the whole machine is a sensor in the first model only.
        sensors.retain(|(name, ..)| name != "System Power Control");
        sensors.sort_by(|a, b| a.0.cmp(&b.0));
        told.push(sensors);
        lab.stop().await;
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn one_session_serves_all_calls_and_is_deleted_at_the_end() {
    let lab = Lab::start(|_| {}).await;
    let (one, two) = (lab.client(), lab.client());
    let calls = (0..50).map(|n| if n % 2 == 0 { one.power_status(soon()) } else { two.power_status(soon()) });
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(lab.service.session_count().await, 1);
    // They ask the same, and none of them before the first has had its turn.
    assert!(lab.service.request_count() < 30, "{}", lab.service.request_count());
    // A BMC that restarted knows the session no more.
    lab.service.forget_sessions().await;
    assert_eq!(one.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(lab.service.session_count().await, 1);
    lab.hub.shutdown().await;
    assert_eq!(lab.service.session_count().await, 0);
    assert_eq!(one.power_status(soon()).await, Err(BmcError::ShuttingDown));
    lab.stop().await;
}

#[tokio::test]
async fn reads_of_the_same_that_wait_for_their_turn_are_one() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.firmware(soon()).await.unwrap();
    let before = lab.service.request_count();
    let listed = bmc.firmware(soon()).await.unwrap();
    let one = lab.service.request_count() - before;
    for seen in futures::future::join_all((0..16).map(|_| bmc.firmware(soon()))).await {
        assert_eq!(seen.as_ref(), Ok(&listed));
    }
    let all = lab.service.request_count() - before - one;
    assert!(all <= 2 * one, "{one} requests for one, {all} for sixteen");
    lab.stop().await;
}

#[tokio::test]
async fn a_service_without_sessions_is_asked_with_the_password_each_time() {
    let lab = Lab::start(|config| config.sessions = false).await;
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    let wrong = RedfishAddress { password: Secret::new("wrong"), ..lab.address() };
    let error = lab.hub.bmc(wrong).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    lab.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_tried_for_ever() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.hub.bmc(RedfishAddress { password: Secret::new("wrong"), ..lab.address() });
    let error = bmc.power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    assert!(!error.is_transient() && !error.to_string().contains("wrong"), "{error}");
    let before = lab.service.request_count();
    let error = bmc.power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::CircuitOpen { failures: 1, .. }), "{error}");
    assert_eq!(lab.service.request_count(), before, "a further try might lock the account");
    // Others' credentials have a breaker of their own.
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    lab.stop().await;
}

#[tokio::test]
async fn a_complaint_about_the_password_does_not_tell_it() {
    let lab = Lab::start(|_| {}).await;
    lab.faults(|faults| faults.quotes_password = true);
    let error = lab.client().power_status(soon()).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("This is no good") && !text.contains("S3"), "{text}");
    // The same of a password that is to be the next.
    lab.faults(|_| ());
    let error = lab.client().set_password(&Secret::new("12345"), soon()).await.unwrap_err();
    assert!(!error.to_string().contains("12345"), "{error}");
    lab.stop().await;
}

#[tokio::test]
async fn sessions_that_are_all_taken_are_told_from_a_wrong_password() {
    let lab = Lab::start(|config| config.max_sessions = 0).await;
    let error = lab.client().power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NoSessionSlot { .. }) && error.is_transient(), "{error}");
    lab.stop().await;
}

#[tokio::test]
async fn the_system_is_the_only_one_or_the_one_that_is_named() {
    let lab = Lab::start(|config| config.systems = vec!["a".into(), "b".into()]).await;
    let ask = async |system: &str| {
        let address = RedfishAddress { system: system.into(), ..lab.address() };
        lab.hub.bmc(address).power_status(soon()).await
    };
    for good in ["a", "b", "/redfish/v1/Systems/b"] {
        assert_eq!(ask(good).await, Ok(PowerState::Off), "{good}");
    }
    for bad in ["", "c", "/redfish/v1/Systems/c", "a b"] {
        let error = ask(bad).await.unwrap_err();
        assert!(matches!(error, BmcError::NoSystem { .. }), "{bad}: {error}");
    }
    assert!(ask("").await.unwrap_err().to_string().contains("/redfish/v1/Systems/a"));
    lab.stop().await;
}

#[tokio::test]
async fn a_busy_service_and_breaking_connections_cost_nothing_but_time() {
    let lab = Lab::start(|_| {}).await;
    lab.faults(|faults| {
        faults.busy_every = NonZeroU32::new(3);
        faults.drop_every = NonZeroU32::new(5);
        faults.delay = Duration::from_millis(2);
    });
    let bmc = lab.client();
    for n in 0..20 {
        let wanted = BootOverride { device: DEVICES[n % 4], persistent: n % 2 == 0, mode: BootMode::Uefi };
        assert_eq!(bmc.set_boot_device(wanted, soon()).await, Ok(wanted));
        let state = if n % 2 == 0 { PowerState::On } else { PowerState::Off };
        assert_eq!(bmc.ensure_power(state, soon()).await, Ok(true));
    }
    lab.faults(|_| ());
    lab.stop().await;
}

#[tokio::test]
async fn a_cycle_whose_answer_is_lost_is_not_sent_again() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    // Nothing is answered any more: the state, which is read first, is not to be had.
    lab.faults(|faults| faults.mute = true);
    let error = bmc.power_cycle(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NoAnswer { .. }), "reading the state fails first: {error}");
    lab.faults(|_| ());
    assert_eq!(lab.chassis.actions(), [PowerAction::On]);
    let count = lab.service.request_count();
    // Of a cycle's two requests the second is the action.
    lab.faults(|faults| faults.drop_every = NonZeroU32::new(count + 2));
    let error = bmc.power_cycle(soon()).await.unwrap_err();
    let lost = BmcError::AnswerLost {
        addr: lab.service.address(),
        command: "power cycle",
        power_now: Some(PowerState::On),
    };
    assert_eq!(error, lost);
    assert_eq!(lab.chassis.actions(), [PowerAction::On]);
    lab.faults(|_| ());
    lab.stop().await;
}

#[tokio::test]
async fn a_service_that_lies_is_found_out() {
    let lab = Lab::start(|config| config.refuses_mode = true).await;
    let bmc = lab.client();
    let wanted = BootOverride { device: Device::Network, persistent: true, mode: BootMode::Bios };
    // The mode is not to be had; the device is, and what is read back says both.
    let seen = bmc.set_boot_device(wanted, soon()).await.unwrap();
    assert_eq!(seen, BootOverride { mode: BootMode::Uefi, ..wanted });
    lab.faults(|faults| (faults.forgets_boot, faults.forgets_power) = (true, true));
    let disk = BootOverride { device: Device::Disk, ..wanted };
    let error = bmc.set_boot_device(disk, soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NotApplied { .. }), "{error}");
    // Long enough for one reading on a loaded machine; all of it passes.
    let short = Deadline::after(Duration::from_secs(4));
    assert_eq!(bmc.ensure_power(PowerState::On, short).await, Ok(false));
    lab.stop().await;
}

#[tokio::test]
async fn every_failure_says_what_was_expected_seen_and_what_to_do() {
    let tuning = Tuning { tries: 2, breaker_failures: 100, ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let bmc = lab.client();
    let hasty = RedfishHub::with(
        Arc::new(PlainDial),
        Tuning { request_timeout: Duration::from_millis(300), ..tuning },
    );
    let impatient = hasty.bmc(lab.address());
    let fails_for = async |bmc: &Bmc, change: &dyn Fn(&mut RedfishFaults), words: &[&str]| {
        lab.faults(change);
        let error = bmc.power_status(soon()).await.unwrap_err();
        let text = error.to_string();
        for word in words.iter().chain(&["expected", "seen", ";"]) {
            assert!(text.contains(word), "expected {word:?}, saw: {text}");
        }
        error
    };
    let fails =
        async |change: &dyn Fn(&mut RedfishFaults), words: &[&str]| fails_for(&bmc, change, words).await;
    fails(&|f| f.garbage = true, &["no Redfish service", "<html>", "use driver ipmi"]).await;
    assert!(!fails(&|f| f.status = Some(404), &["HTTP 404"]).await.is_transient());
    assert!(!fails(&|f| f.status = Some(403), &["HTTP 403", "role"]).await.is_transient());
    assert!(fails(&|f| f.status = Some(500), &["HTTP 500", "told to fail", "later"]).await.is_transient());
    let elsewhere = |f: &mut RedfishFaults| f.redirect = Some("http://192.0.2.1/redfish/v1/".into());
    fails(&elsewhere, &["an answer of its own", "192.0.2.1"]).await;
    fails(&|f| f.redirect = Some("/redfish/v1/".into()), &["redirects without end"]).await;
    assert!(fails_for(&impatient, &|f| f.silent = true, &["gave no answer"]).await.is_transient());
    hasty.shutdown().await;
    lab.faults(|_| ());
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    lab.service.shutdown().await;
    let error = bmc.power_status(soon()).await.unwrap_err();
    assert!(error.to_string().contains("takes no connection: expected Redfish there"), "{error}");
    lab.hub.shutdown().await;
}

#[tokio::test]
async fn a_service_in_trouble_is_left_alone_and_found_again() {
    let tuning = Tuning {
        tries: 1,
        breaker_failures: 2,
        breaker_pause: Duration::from_millis(500),
        breaker_max_pause: Duration::from_millis(500),
        ..quick()
    };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let dead = lab.hub.bmc(RedfishAddress { addr, ..lab.address() });
    let is_left_alone = async || matches!(dead.power_status(soon()).await, Err(BmcError::CircuitOpen { .. }));
    let opens_and_closes = async {
        while !is_left_alone().await {}
        while is_left_alone().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), opens_and_closes)
        .await
        .expect("left alone, and tried again");
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    lab.stop().await;
}

/// Says the same to everybody, again and again, until it is dropped.
async fn hostile(answer: Vec<u8>, endless: bool) -> (RedfishAddress, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            while let Ok(1..) = stream.read(&mut request).await {
                if stream.write_all(&answer).await.is_err() {
                    break;
                }
                while endless && stream.write_all(&[b'a'; 8192]).await.is_ok() {}
            }
        }
    });
    (RedfishAddress::new(addr, USER, Secret::new(PASSWORD), Trust::Plain), task)
}

#[tokio::test]
async fn hostile_answers_are_errors_and_cost_a_bounded_amount() {
    let head = |extra: &str| format!("HTTP/1.1 200 OK\r\n{extra}").into_bytes();
    let sized = |body: &str| head(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let everything_wrong = r##"{"@odata.type": "#ServiceRoot.x", "RedfishVersion": 7, "Links": [1],
        "Systems": {"@odata.id": "http://192.0.2.1/"}, "SessionService": 4, "PowerState": {"a": 1}, "Boot": 7,
        "Members": {"x": 1}, "Actions": []}"##;
    let loops = r##"{"@odata.type": "#ServiceRoot.x", "Systems": {"@odata.id": "/redfish/v1/"},
        "Members": [{"@odata.id": "/redfish/v1/"}], "Boot": {}, "EthernetInterfaces": {"@odata.id": "/redfish/v1/"},
        "Links": {"ManagedBy": [{"@odata.id": "//evil"}], "Chassis": [{"@odata.id": "/redfish/v1/"}]},
        "Actions": {"#ComputerSystem.Reset": {"target": "gopher://x", "@Redfish.ActionInfo": 4}}}"##;
    let cases: [(&str, Vec<u8>, bool); 11] = [
        ("a body without end", head("Transfer-Encoding: chunked\r\n\r\nffffffff\r\n"), true),
        ("a body that is long and says so", head("Content-Length: 99999999999\r\n\r\n"), true),
        ("a body until the end", head("Connection: close\r\n\r\n"), true),
        ("headers without end", head("X: "), true),
        ("many headers", head(&"A: b\r\n".repeat(5000)), false),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(100), false),
        ("a hundred times continue", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100), false),
        ("deep JSON", sized(&deep), false),
        ("wrong types", sized(everything_wrong), false),
        ("links in circles", sized(loops), false),
        ("nothing", sized(""), false),
    ];
    let tuning =
        Tuning { request_timeout: Duration::from_millis(1500), tries: 2, breaker_failures: 1000, ..quick() };
    let hub = RedfishHub::with(Arc::new(PlainDial), tuning);
    for (name, answer, endless) in cases {
        let (address, task) = hostile(answer, endless).await;
        let bmc = hub.bmc(address);
        let disk = BootOverride { device: Device::Disk, persistent: true, mode: BootMode::Uefi };
        assert!(bmc.power_status(soon()).await.is_err(), "{name}");
        assert!(bmc.set_boot_device(disk, soon()).await.is_err(), "{name}");
        // These need nothing, so they may succeed with nothing.
        drop(bmc.inventory(soon()).await);
        drop(bmc.identify(Led::On, soon()).await);
        drop(bmc.power_reset(soon()).await);
        task.abort();
    }
    hub.shutdown().await;
}
