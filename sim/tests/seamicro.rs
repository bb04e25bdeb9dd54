//! A SeaMicro chassis: the public client against our simulated one, and our driver against it, with failures and hostile
//! answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "seamicro/foreign.rs"]
mod foreign;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use farrier_bmc::redfish::{PlainDial, RedfishAddress, Trust, Tuning};
use farrier_bmc::seamicro::{SEAMICRO, SeaMicroHub};
use farrier_bmc::{
    Bmc, BmcError, BootMode, BootOverride, Capability, Deadline, Device, NicVlans, PowerState, Secret,
    StoragePool,
};
use farrier_sim::bmc::seamicro::{SeaMicroConfig, SeaMicroFaults, SeaMicroHandle, SeaMicroServer};
use farrier_sim::bmc::{BootDeviceSelector, Chassis, MemoryChassis, PowerAction};
use tokio::net::TcpListener;

const USER: &str = "admin";
/// It goes into a query.
const PASSWORD: &str = "S3cret &%+/?#=ü";
const POOL: &str = "0/ironic-p6-6";

/// Quick enough for a test; the time limits are generous, since no test that passes reaches them.
fn quick() -> Tuning {
    Tuning { busy_delay: Duration::from_millis(10), ..Tuning::default() }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

struct Lab {
    service: SeaMicroHandle,
    /// Server `0/0` and `1/0`.
    machines: [Arc<MemoryChassis>; 2],
    hub: SeaMicroHub,
}

impl Lab {
    async fn start() -> Self {
        Self::start_with(PASSWORD).await
    }

    async fn start_with(password: &str) -> Self {
        let machines = [Arc::new(MemoryChassis::new()), Arc::new(MemoryChassis::new())];
        let server = |n: usize| {
            let macs = (0..2).map(|nic| format!("02:00:00:00:0{n}:0{nic}")).collect();
            (format!("{n}/0"), Arc::clone(&machines[n]) as Arc<dyn Chassis>, macs)
        };
        let config = SeaMicroConfig {
            user: USER.into(),
            password: Secret::new(password),
            servers: vec![server(0), server(1)],
            pools: BTreeMap::from([(POOL.into(), 100)]),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = SeaMicroServer::start(listener, config).unwrap();
        Self { service, machines, hub: SeaMicroHub::with(Arc::new(PlainDial), quick()) }
    }

    fn address(&self, server: &str) -> RedfishAddress {
        let plain = RedfishAddress::new(self.service.address(), USER, Secret::new(PASSWORD), Trust::Plain);
        RedfishAddress { system: server.into(), ..plain }
    }

    fn client(&self, server: &str) -> Bmc {
        self.hub.bmc(self.address(server))
    }

    fn faults(&self, change: impl FnOnce(&mut SeaMicroFaults)) {
        let mut faults = SeaMicroFaults::default();
        change(&mut faults);
        self.service.set_faults(faults);
    }

    async fn stop(self) {
        self.hub.shutdown().await;
        self.service.shutdown().await;
    }
}

fn boots(device: Device, persistent: bool) -> BootOverride {
    BootOverride { device, persistent, mode: BootMode::Bios }
}

#[tokio::test]
async fn a_server_is_switched_and_told_from_one_another() {
    let lab = Lab::start().await;
    let (bmc, other) = (lab.client("0/0"), lab.client("1/0"));
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    assert_eq!(other.power_status(soon()).await, Ok(PowerState::Off));
    bmc.power_on(soon()).await.unwrap();
    bmc.power_cycle(soon()).await.unwrap();
    bmc.power_reset(soon()).await.unwrap();
    bmc.power_soft(soon()).await.unwrap();
    bmc.power_off(soon()).await.unwrap();
    use PowerAction::{Off, On, Reset, Soft};
    assert_eq!(lab.machines[0].actions(), [On, Off, On, Reset, Soft, Off]);
    assert_eq!(lab.machines[1].actions(), []);
    let off = bmc.power_reset(soon()).await.unwrap_err();
    assert!(matches!(off, BmcError::Http { status: 409, .. }), "{off}");
    let identity = bmc.identity(soon()).await.unwrap();
    assert_eq!((identity.manufacturer.as_str(), identity.product.as_str()), ("SeaMicro", "server 0/0"));
    let seen = bmc.inventory(soon()).await.unwrap();
    let nics: Vec<_> = seen.nics.iter().map(|n| (n.name.as_str(), n.mac_address.as_str())).collect();
    assert_eq!(nics, [("nic0", "02:00:00:00:00:00"), ("nic1", "02:00:00:00:00:01")]);
    assert_eq!(bmc.driver_of(Capability::Vlans), Some(SEAMICRO));
    let lacks = bmc.sensors(soon()).await.unwrap_err();
    assert!(lacks.to_string().contains("driver seamicro has no sensors"), "{lacks}");
    lab.stop().await;
}

#[tokio::test]
async fn the_network_is_booted_once_or_for_good_and_the_disk_after_that() {
    let lab = Lab::start().await;
    let bmc = lab.client("0/0");
    let machine = &lab.machines[0];
    let pxe = BootDeviceSelector::PXE;
    assert_eq!(bmc.boot_device(soon()).await, Ok(boots(Device::Disk, true)));
    let once = boots(Device::Network, false);
    assert_eq!(bmc.set_boot_device(once, soon()).await, Ok(once));
    assert_eq!(bmc.boot_device(soon()).await, Ok(once));
    // The handle and its actor may be gone in between.
    drop(bmc);
    let bmc = lab.client("0/0");
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(machine.boots().last().unwrap().device, pxe);
    assert_eq!(bmc.boot_device(soon()).await, Ok(boots(Device::Disk, true)), "used up by the boot");
    bmc.power_reset(soon()).await.unwrap();
    assert_eq!(machine.boots().last().unwrap().device, BootDeviceSelector::DISK);
    // On a machine that is on, "on" starts nothing and uses nothing up.
    bmc.set_boot_device(once, soon()).await.unwrap();
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(bmc.boot_device(soon()).await, Ok(once));
    bmc.power_cycle(soon()).await.unwrap();
    assert_eq!(machine.boots().last().unwrap().device, pxe);

    let always = boots(Device::Network, true);
    assert_eq!(bmc.set_boot_device(always, soon()).await, Ok(always));
    for _ in 0..2 {
        bmc.power_reset(soon()).await.unwrap();
        assert_eq!(machine.boots().last().unwrap().device, pxe);
    }
    // Nothing to give back: the network was first before.
    assert_eq!(bmc.set_boot_device(once, soon()).await, Ok(always));
    assert_eq!(bmc.set_boot_device(boots(Device::Disk, true), soon()).await, Ok(boots(Device::Disk, true)));
    bmc.power_reset(soon()).await.unwrap();
    assert_eq!(machine.boots().last().unwrap().device, BootDeviceSelector::DISK);
    let orders = lab.service.orders("0/0").await;
    assert_eq!(orders[..4], ["hd0", "pxe,hd0", "hd0", "pxe,hd0"], "{orders:?}");
    let cd = bmc.set_boot_device(boots(Device::Cdrom, false), soon()).await.unwrap_err();
    assert!(matches!(cd, BmcError::Unsupported { driver: SEAMICRO, .. }), "{cd}");
    lab.faults(|f| f.forgets = true);
    let forgotten = bmc.set_boot_device(once, soon()).await.unwrap_err();
    assert!(matches!(forgotten, BmcError::NotApplied { what: "the boot order", .. }), "{forgotten}");
    lab.stop().await;
}

#[tokio::test]
async fn nics_are_in_the_vlans_that_are_named_and_in_no_other() {
    let lab = Lab::start().await;
    let bmc = lab.client("1/0");
    let vlans = bmc.vlans().unwrap();
    let nic = |untagged: &[u16], tagged: &[u16]| NicVlans {
        nic: "nic1".into(),
        untagged: untagged.iter().copied().collect::<BTreeSet<_>>(),
        tagged: tagged.iter().copied().collect(),
    };
    for wanted in [nic(&[7], &[17, 18]), nic(&[9], &[18, 4094]), nic(&[9], &[18, 4094]), nic(&[], &[])] {
        assert_eq!(vlans.set_vlans(wanted.clone(), soon()).await, Ok(wanted.clone()));
        let all = vlans.vlans(soon()).await.unwrap();
        assert_eq!((all.len(), &all[1]), (2, &wanted));
        assert!(all[0].untagged.is_empty() && all[0].tagged.is_empty());
    }
    let requests = lab.service.request_count();
    vlans.set_vlans(nic(&[], &[]), soon()).await.unwrap();
    assert_eq!(lab.service.request_count(), requests + 1, "what is so is left alone");
    let none = vlans.set_vlans(NicVlans { nic: "nic9".into(), ..nic(&[7], &[]) }, soon()).await.unwrap_err();
    assert!(none.to_string().contains(r#"["nic0", "nic1"]"#), "{none}");
    let bad = vlans.set_vlans(nic(&[5000], &[]), soon()).await.unwrap_err();
    assert!(bad.to_string().contains("there is no such VLAN"), "{bad}");
    lab.faults(|f| f.forgets = true);
    let forgotten = vlans.set_vlans(nic(&[7], &[]), soon()).await.unwrap_err();
    assert!(forgotten.to_string().contains("expected untagged {7}"), "{forgotten}");
    lab.stop().await;
}

#[tokio::test]
async fn a_server_gets_a_volume_as_its_first_disk() {
    let lab = Lab::start().await;
    let bmc = lab.client("0/0");
    let volumes = bmc.volumes().unwrap();
    let pools = || async { volumes.storage_pools(soon()).await.unwrap() };
    assert_eq!(pools().await, [StoragePool { id: POOL.into(), free_gb: Some(100) }]);
    let id = volumes.create_volume(POOL, "root-1", 30, soon()).await.unwrap();
    assert_eq!(id, format!("{POOL}/root-1"));
    assert_eq!(volumes.create_volume(POOL, "root-1", 30, soon()).await.as_ref(), Ok(&id), "it is there");
    assert_eq!(pools().await[0].free_gb, Some(70));
    assert_eq!(volumes.root_volume(soon()).await, Ok(None));
    volumes.set_root_volume(Some(&id), soon()).await.unwrap();
    volumes.set_root_volume(Some(&id), soon()).await.unwrap();
    let other = volumes.create_volume(POOL, "root-2", 1, soon()).await.unwrap();
    volumes.set_root_volume(Some(&other), soon()).await.unwrap();
    assert_eq!(volumes.root_volume(soon()).await, Ok(Some(other)));
    volumes.set_root_volume(None, soon()).await.unwrap();
    assert_eq!(volumes.root_volume(soon()).await, Ok(None));
    let full = volumes.create_volume(POOL, "root-3", 1000, soon()).await.unwrap_err();
    assert!(full.to_string().contains("has not that much"), "{full}");
    let missing = volumes.set_root_volume(Some("0/ironic-p6-6/none"), soon()).await.unwrap_err();
    assert!(matches!(missing, BmcError::Http { status: 404, .. }), "{missing}");
    let requests = lab.service.request_count();
    for name in ["../x", "a b", "a?b", ""] {
        let bad = volumes.create_volume(POOL, name, 1, soon()).await.unwrap_err();
        assert!(matches!(bad, BmcError::NotOffered { .. }), "{name:?} {bad}");
    }
    assert_eq!(lab.service.request_count(), requests, "nothing was sent");
    lab.stop().await;
}

#[tokio::test]
async fn every_failure_says_what_was_expected_seen_and_what_to_do_and_no_password() {
    let lab = Lab::start().await;
    let fails = async |change: fn(&mut SeaMicroFaults), words: &[&str]| {
        lab.faults(change);
        // A breaker of its own each time.
        let hub = SeaMicroHub::with(Arc::new(PlainDial), quick());
        let bmc = hub.bmc(lab.address("0/0"));
        let error = bmc.power_status(Deadline::after(Duration::from_secs(5))).await.unwrap_err();
        let told = error.to_string();
        for words in words {
            assert!(told.contains(words), "expected {words:?} in {told}");
        }
        for secret in ["S3cret", "%26", "username"] {
            assert!(!told.contains(secret), "{told}");
        }
        hub.shutdown().await;
        error
    };
    fails(|f| f.status = Some(500), &["GET /v2.0/servers/0/0", "HTTP 500: told to fail", "try again"]).await;
    fails(|f| f.status = Some(403), &["HTTP 403", "the role"]).await;
    let wrong = fails(|f| f.status = Some(401), &["refuses user \"admin\"", "correct the node's BMC"]).await;
    assert!(wrong.is_wrong_password());
    for garbage in ["<html>", "", "[]", "{\"active\": 7}", "{", "nul"] {
        lab.faults(|f| f.garbage = Some(garbage));
        let error = lab.client("0/0").power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::BadAnswer { .. }), "{garbage:?} {error}");
    }
    fails(|f| f.garbage = Some("{\"active\": null}"), &["active as true or false", "seen none"]).await;
    let cut = fails(|f| f.truncated = true, &["gave no answer to GET /v2.0/servers/0/0"]).await;
    assert!(matches!(cut, BmcError::NoAnswer { .. }) && cut.is_transient(), "{cut}");
    fails(|f| f.silent_server = Some("0/0".into()), &["gave no answer"]).await;
    lab.faults(|_| ());
    let missing = lab.client("5/0").power_status(soon()).await.unwrap_err();
    assert!(missing.to_string().contains("expected server 5/0"), "{missing}");
    let other = RedfishAddress { password: Secret::new("wrong"), ..lab.address("0/0") };
    let wrong = lab.hub.bmc(other).power_status(soon()).await.unwrap_err();
    assert!(matches!(wrong, BmcError::WrongPassword { .. }), "{wrong}");
    // A flaky one is asked again.
    lab.faults(|f| (f.busy_every, f.drop_every) = (NonZeroU32::new(3), NonZeroU32::new(5)));
    let bmc = lab.client("1/0");
    for _ in 0..20 {
        bmc.power_status(soon()).await.unwrap();
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = closed.local_addr().unwrap();
    drop(closed);
    let nobody = RedfishAddress { addr, ..lab.address("0/0") };
    let error = lab.hub.bmc(nobody).power_status(soon()).await.unwrap_err();
    assert!(error.to_string().contains("expected SeaMicro's REST API there"), "{error}");
    lab.stop().await;
}

/// A chassis whose account is wrong at each of its nodes: one try, not as many as there are servers.
#[tokio::test]
async fn a_wrong_password_is_tried_once_for_all_servers_of_a_chassis() {
    let lab = Lab::start().await;
    let wrong = |n| RedfishAddress { password: Secret::new("wrong"), ..lab.address(&format!("{n}/0")) };
    let bmcs: Vec<_> = (0..64).map(|n| lab.hub.bmc(wrong(n))).collect();
    for _ in 0..2 {
        for seen in futures::future::join_all(bmcs.iter().map(|bmc| bmc.power_status(soon()))).await {
            assert!(seen.as_ref().is_err_and(BmcError::is_wrong_password), "{seen:?}");
        }
    }
    assert_eq!(lab.service.request_count(), 1);
    // With the right one all of them may be asked at a time.
    for seen in futures::future::join_all(
        (0..2).map(async |n| lab.client(&format!("{n}/0")).power_status(soon()).await),
    )
    .await
    {
        assert_eq!(seen, Ok(PowerState::Off));
    }
    lab.stop().await;
}

#[tokio::test]
async fn an_event_is_asked_for_once_and_a_hanging_server_holds_up_no_other() {
    let lab = Lab::start().await;
    let bmc = lab.client("0/0");
    bmc.power_on(soon()).await.unwrap();
    lab.faults(|f| f.mute = true);
    let error = bmc.power_reset(soon()).await.unwrap_err();
    let lost = matches!(error, BmcError::AnswerLost { power_now: Some(PowerState::On), .. });
    assert!(lost, "{error}");
    assert_eq!(lab.machines[0].actions(), [PowerAction::On, PowerAction::Reset]);
    // "off" is a state: it is asked for until the answer comes, or the tries end.
    let error = bmc.power_off(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NoAnswer { .. }), "{error}");
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    lab.faults(|f| f.silent_server = Some("0/0".into()));
    let (hanging, soon_done) =
        tokio::join!(bmc.power_status(Deadline::after(Duration::from_secs(3))), async {
            let begun = tokio::time::Instant::now();
            for _ in 0..10 {
                lab.client("1/0").power_status(soon()).await.unwrap();
            }
            begun.elapsed()
        });
    assert!(matches!(hanging, Err(BmcError::NoAnswer { .. })), "{hanging:?}");
    assert!(soon_done < Duration::from_secs(3), "{soon_done:?}");
    lab.stop().await;
}
