//! What vendors do otherwise: drivers `ilo` and `idrac` against services of their shape; BIOS settings and firmware on all.

use farrier_bmc::{Auto, BiosSettings, BmcTask, BmcTaskState, FirmwareFile, ipmi};
use farrier_sim::bmc::redfish::Personality;

use super::*;

const ISO: &str = "http://192.0.2.1/a.iso";

async fn lab(personality: Personality, change: impl FnOnce(&mut RedfishConfig)) -> Lab {
    Lab::start(|config| {
        *config = config.clone().of(personality);
        change(config);
    })
    .await
}

fn driver(lab: &Lab, driver: &str) -> Bmc {
    lab.hub.bmc(RedfishAddress { driver: driver.to_owned(), ..lab.address() })
}

fn value<'a>(settings: &'a BiosSettings, name: &str) -> (&'a str, Option<&'a str>) {
    let setting = settings.settings.iter().find(|setting| setting.name == name).unwrap();
    (&setting.value, setting.pending.as_deref())
}

fn change(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

/// The last word of a job's path: it is a task's too.
fn id(task: &str) -> &str {
    task.rsplit('/').next().unwrap_or_default()
}

/// Until it ends: each look takes it a step on.
async fn ended(bmc: &Bmc, task: &str) -> BmcTask {
    for _ in 0..10 {
        let seen = bmc.task(task, soon()).await.unwrap();
        if matches!(seen.state, BmcTaskState::Done | BmcTaskState::Failed) {
            return seen;
        }
        assert_eq!(seen.state, BmcTaskState::Running, "{seen:?}");
    }
    panic!("{task} does not end");
}

#[tokio::test]
async fn auto_says_whose_bmc_it_is_and_a_node_cannot_name_another_vendor() {
    let ipmi_hub = ipmi::IpmiHub::bind().await.unwrap();
    for (personality, name, other) in [
        (Personality::Plain, "redfish", None),
        (Personality::Ilo, "ilo", Some("idrac")),
        (Personality::Idrac, "idrac", Some("ilo")),
    ] {
        let lab = lab(personality, |_| ()).await;
        let dead = ipmi::BmcAddress::new(([127, 0, 0, 1], 1).into(), USER, Secret::new(PASSWORD));
        let auto = Auto::default();
        let (bmc, _) = auto.open("n1", lab.client(), ipmi_hub.bmc(dead), soon()).await.unwrap();
        assert_eq!((bmc.driver(), auto.worked("n1")), (name, Some(name)));
        assert_eq!(bmc.driver_of(Capability::Firmware), Some(name));
        assert_eq!(bmc.driver_of(Capability::Console), None, "nobody answers IPMI there");
        assert_eq!(driver(&lab, name).power_status(soon()).await, Ok(PowerState::Off));
        if let Some(other) = other {
            let error = driver(&lab, other).power_status(soon()).await.unwrap_err();
            assert_eq!(
                error,
                BmcError::OtherVendor {
                    addr: lab.service.address(),
                    expected: other_static(other),
                    seen: other_static(name)
                }
            );
        }
        lab.stop().await;
    }
    ipmi_hub.shutdown().await;
}

/// Dell keeps what a user may do over IPMI apart from its role, and gives a new one none of it.
#[tokio::test]
async fn a_new_account_is_let_in_over_ipmi_by_whoever_makes_the_bmc() {
    for (personality, name) in [(Personality::Plain, "redfish"), (Personality::Idrac, "idrac")] {
        let lab = lab(personality, |_| ()).await;
        let bmc = driver(&lab, name);
        bmc.create_account("farrier-2", &Secret::new("hunter-2"), soon()).await.unwrap();
        assert!(lab.accounts.administers_over_ipmi("farrier-2"), "{name}");
        assert_eq!(bmc.has_account("farrier-2", soon()).await, Ok(true));
        lab.stop().await;
    }
}

fn other_static(name: &str) -> &'static str {
    farrier_bmc::redfish::DRIVERS.iter().find(|driver| **driver == name).unwrap()
}

#[tokio::test]
async fn a_machine_boots_once_from_virtual_media_by_each_vendors_way() {
    for personality in [Personality::Plain, Personality::Ilo, Personality::Idrac] {
        let lab = lab(personality, |_| ()).await;
        let bmc = lab.client();
        assert_eq!(bmc.insert_media(ISO, soon()).await.unwrap().image, ISO);
        bmc.boot_media_once(BootMode::Uefi, soon()).await.unwrap();
        bmc.power_on(soon()).await.unwrap();
        bmc.power_reset(soon()).await.unwrap();
        let boots: Vec<_> = lab.chassis.boots().iter().map(|flags| flags.device).collect();
        assert_eq!(boots, [BootDeviceSelector::CDROM, BootDeviceSelector::NONE], "{personality:?}");
        // On these the plain way leads to no drive: it was the vendor's.
        let cd = BootOverride { device: Device::Cdrom, persistent: false, mode: BootMode::Uefi };
        let plain = bmc.set_boot_device(cd, soon()).await;
        match personality {
            Personality::Plain => assert_eq!(plain, Ok(cd)),
            _ => assert!(matches!(plain, Err(BmcError::NotOffered { .. })), "{personality:?} {plain:?}"),
        }
        lab.stop().await;
    }
}

/// An iDRAC takes minutes for the job, and begins no other before its end.
#[tokio::test]
async fn a_job_that_outlasts_a_call_is_tried_again_until_it_has_ended() {
    let lab = lab(Personality::Idrac, |_| ()).await;
    let bmc = lab.client().recognised(soon()).await.unwrap();
    // Looked at twice at most, where it takes three looks: its end is not seen.
    let hurried = bmc.boot_media_once(BootMode::Uefi, Deadline::after(Duration::from_millis(600))).await;
    let error = hurried.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let refused = bmc.export_profile(farrier_bmc::ProfileFormat::Json, "", soon()).await.unwrap_err();
    assert!(matches!(&refused, BmcError::AtWork { .. }), "{refused}");
    assert!(refused.is_transient() && refused.to_string().contains("already running"), "{refused}");
    let mut tries = 0;
    while let Err(error) = bmc.boot_media_once(BootMode::Uefi, soon()).await {
        assert!(matches!(error, BmcError::AtWork { .. }), "{error}");
        tries += 1;
        assert!(tries < 5, "{error}");
    }
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(lab.chassis.boots().first().map(|flags| flags.device), Some(BootDeviceSelector::CDROM));
    lab.stop().await;
}

#[tokio::test]
async fn a_licence_that_is_missing_is_told_and_nothing_else_is_tried() {
    let lab = lab(Personality::Ilo, |config| config.licensed = false).await;
    let bmc = driver(&lab, "ilo");
    let before = bmc.media(soon()).await.unwrap();
    let asked = lab.service.request_count();
    let error = bmc.insert_media(ISO, soon()).await.unwrap_err();
    assert!(matches!(&error, BmcError::Licence { licence: "iLO Advanced", .. }), "{error}");
    assert!(error.to_string().contains("requires a license key"), "{error}");
    assert!(!error.is_transient() && lab.service.request_count() <= asked + 16);
    assert_eq!(bmc.media(soon()).await.unwrap(), before);
    lab.stop().await;
}

#[tokio::test]
async fn bios_settings_wait_for_the_next_start_and_dells_for_their_job() {
    for (personality, old_firmware) in [
        (Personality::Plain, false),
        (Personality::Ilo, false),
        (Personality::Idrac, false),
        (Personality::Idrac, true),
    ] {
        let lab =
            lab(personality, |config| (config.old_firmware, config.needs_etag) = (old_firmware, true)).await;
        let bmc = lab.client();
        let before = bmc.bios(soon()).await.unwrap();
        assert_eq!(value(&before, "ProcVirtualization"), ("Disabled", None));
        let mut changes = change("ProcVirtualization", "Enabled");
        changes.extend(change("NumLock", "false"));
        changes.extend(change("MemTestPasses", "7"));
        let mut set = bmc.set_bios(changes.clone(), soon()).await.unwrap();
        assert_eq!(value(&set, "ProcVirtualization"), ("Disabled", Some("Enabled")));
        assert_eq!(value(&set, "MemTestPasses"), ("4", Some("7")));
        assert_eq!(set.task.is_empty(), personality != Personality::Idrac, "{}", set.task);
        // Again changes nothing, and queues no second job: it is the one that waits.
        let again = bmc.set_bios(changes.clone(), soon()).await.unwrap().task;
        assert_eq!(id(&again), id(&set.task));
        if !set.task.is_empty() {
            // The start fails, and the job with it; what was asked for still waits, and gets another job.
            lab.faults(|f| f.fails_bios_jobs = true);
            bmc.power_on(soon()).await.unwrap();
            bmc.power_off(soon()).await.unwrap();
            lab.faults(|_| ());
            assert_eq!(bmc.task(&set.task, soon()).await.unwrap().state, BmcTaskState::Failed);
            let still = bmc.bios(soon()).await.unwrap();
            assert_eq!(value(&still, "ProcVirtualization"), ("Disabled", Some("Enabled")));
            let another = bmc.set_bios(changes.clone(), soon()).await.unwrap();
            assert_ne!(id(&another.task), id(&set.task));
            assert_eq!(id(&bmc.set_bios(changes, soon()).await.unwrap().task), id(&another.task));
            set.task = another.task;
        }
        if !set.task.is_empty() {
            assert_eq!(bmc.task(&set.task, soon()).await.unwrap().state, BmcTaskState::Waiting);
        }
        bmc.power_on(soon()).await.unwrap();
        if !set.task.is_empty() {
            assert_eq!(bmc.task(&set.task, soon()).await.unwrap().state, BmcTaskState::Done);
        }
        let after = bmc.bios(soon()).await.unwrap();
        assert_eq!(value(&after, "ProcVirtualization"), ("Enabled", None));
        assert_eq!((value(&after, "NumLock").0, value(&after, "MemTestPasses").0), ("false", "7"));
        let unknown = bmc.set_bios(change("Virtualization", "Enabled"), soon()).await.unwrap_err();
        assert!(unknown.to_string().contains("perhaps ProcVirtualization"), "{unknown}");
        // Values may be passwords in the wrong place: none is repeated.
        let typed = bmc.set_bios(change("NumLock", "hunter2"), soon()).await.unwrap_err();
        assert!(matches!(typed, BmcError::BadSetting { .. }), "{typed}");
        let refused = bmc.set_bios(change("BootMode", "hunter2"), soon()).await.unwrap_err();
        assert!(matches!(refused, BmcError::Http { status: 400, .. }), "{refused}");
        for error in [typed, refused] {
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_list_of_firmware_is_read_to_its_end_where_it_has_one() {
    let lab = lab(Personality::Plain, |config| config.more_parts = 100).await;
    let bmc = lab.client();
    let parts = bmc.firmware(soon()).await.unwrap();
    assert_eq!((parts.len(), parts[101].id.as_str()), (102, "PART99"));
    lab.faults(|f| f.endless = true);
    let asked = lab.service.request_count();
    assert_eq!(bmc.firmware(soon()).await.unwrap().len(), 32);
    assert!(lab.service.request_count() < asked + 64, "so many pages and no more");
    lab.stop().await;
}

#[tokio::test]
async fn firmware_is_pushed_as_it_is_and_only_so_much_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nic");
    // More than some pieces, and no whole number of them; what stands behind is the catalogue's.
    let firmware: Vec<u8> = (0..200_001_u32).map(|n| (n * 7 % 251) as u8).collect();
    std::fs::write(&path, [&firmware[..], &[0; 511]].concat()).unwrap();
    for personality in [Personality::Plain, Personality::Ilo, Personality::Idrac] {
        let lab = lab(personality, |_| ()).await;
        let bmc = lab.client();
        let file = |name: &str, size| FirmwareFile { path: path.clone(), size, name: name.to_owned() };
        let task = bmc.push_firmware(file("NIC-1.4.bin", 200_001), vec!["NIC".into()], soon()).await.unwrap();
        assert_eq!(ended(&bmc, &task).await.state, BmcTaskState::Done, "{personality:?}");
        let pushed = lab.service.pushed().await;
        assert_eq!((pushed.len(), pushed[0].name.as_str()), (1, "NIC-1.4.bin"));
        assert!(pushed[0].bytes == firmware, "byte by byte");
        let parts = bmc.firmware(soon()).await.unwrap();
        assert_eq!(parts.iter().find(|part| part.id == "NIC").unwrap().version, "1.4");
        let short = bmc.push_firmware(file("NIC-1.5.bin", 1 << 20), Vec::new(), soon()).await.unwrap_err();
        assert!(matches!(short, BmcError::UnreadFile { .. }) && short.was_not_begun(), "{short}");
        let part = bmc.push_firmware(file("NIC-1.5.bin", 10), vec!["GPU".into()], soon()).await;
        assert!(matches!(part, Err(BmcError::NotOffered { .. })), "{part:?}");
        assert_eq!(lab.service.pushed().await.len(), 1);
        lab.stop().await;
    }
}

#[tokio::test]
async fn firmware_is_updated_by_a_task_or_by_what_hpes_service_says() {
    for personality in [Personality::Plain, Personality::Ilo, Personality::Idrac] {
        let lab = lab(personality, |_| ()).await;
        let bmc = lab.client();
        let version = |parts: &[farrier_bmc::FirmwarePart]| {
            let part = parts.iter().find(|part| part.id == "NIC").unwrap();
            (part.version.clone(), part.updateable)
        };
        assert_eq!(version(&bmc.firmware(soon()).await.unwrap()), ("1.2".into(), Some(true)));
        let task =
            bmc.update_firmware("http://192.0.2.1/NIC-1.3.bin", vec!["NIC".into()], soon()).await.unwrap();
        let done = ended(&bmc, &task).await;
        assert_eq!((done.state, done.percent), (BmcTaskState::Done, Some(100)), "{personality:?} {done:?}");
        assert_eq!(version(&bmc.firmware(soon()).await.unwrap()), ("1.3".into(), Some(true)));
        let wrong = bmc.update_firmware("http://192.0.2.1/other.bin", Vec::new(), soon()).await.unwrap();
        assert_eq!(ended(&bmc, &wrong).await.state, BmcTaskState::Failed, "{personality:?}");
        let unknown = bmc.update_firmware("http://192.0.2.1/NIC-1.bin", vec!["GPU".into()], soon()).await;
        assert!(matches!(unknown, Err(BmcError::NotOffered { .. })), "{unknown:?}");
        let protocol = bmc.update_firmware("ftp://192.0.2.1/NIC-1.bin", Vec::new(), soon()).await;
        assert!(matches!(protocol, Err(BmcError::NotOffered { .. })), "{protocol:?}");
        for bad in ["", "//elsewhere/redfish/v1/x"] {
            assert!(matches!(bmc.task(bad, soon()).await, Err(BmcError::BadAnswer { .. })), "{bad}");
        }
        // A monitor may be anywhere on the BMC.
        let elsewhere = bmc.task("/tasks/1", soon()).await;
        assert!(matches!(elsewhere, Err(BmcError::Http { status: 404, .. })), "{elsewhere:?}");
        lab.stop().await;
    }
}
