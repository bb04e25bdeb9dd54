//! Dell's profiles and its lifecycle log.

use farrier_bmc::{BmcTaskState, ProfileFormat, ProfileShutdown};
use farrier_sim::bmc::redfish::Personality;

use super::*;

async fn dell() -> Lab {
    Lab::start(|config| *config = config.clone().of(Personality::Idrac)).await
}

#[tokio::test]
async fn a_profile_is_exported_changed_and_imported_and_the_next_start_brings_it() {
    let lab = dell().await;
    let bmc = lab.client().recognised(soon()).await.unwrap();
    assert_eq!(bmc.driver_of(Capability::Profile), Some("idrac"));
    let json = bmc.export_profile(ProfileFormat::Json, "BIOS", soon()).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["SystemConfiguration"]["Components"][0]["FQDD"], "BIOS.Setup.1-1");
    let whole = bmc.export_profile(ProfileFormat::Xml, "", soon()).await.unwrap();
    let (old, new) = ("\"ProcVirtualization\">Disabled<", "\"ProcVirtualization\">Enabled<");
    assert!(whole.contains(old), "{whole}");
    let changed = whole.replace(old, new);
    let task = bmc.import_profile(changed.clone(), "BIOS", ProfileShutdown::None, soon()).await.unwrap();
    loop {
        match bmc.task(&task, soon()).await.unwrap().state {
            BmcTaskState::Done => break,
            BmcTaskState::Running => {}
            other => panic!("{other:?}"),
        }
    }
    let value = |settings: farrier_bmc::BiosSettings| {
        let one = settings.settings.into_iter().find(|setting| setting.name == "ProcVirtualization").unwrap();
        (one.value, one.pending)
    };
    assert_eq!(value(bmc.bios(soon()).await.unwrap()), ("Disabled".into(), Some("Enabled".into())));
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(value(bmc.bios(soon()).await.unwrap()), ("Enabled".into(), None));
    assert_eq!(bmc.export_profile(ProfileFormat::Xml, "", soon()).await.unwrap(), changed);
    let refused = bmc.export_profile(ProfileFormat::Xml, "RAID", soon()).await.unwrap_err();
    assert!(matches!(refused, BmcError::Http { status: 400, .. }), "{refused}");
    // What is no profile fails as a job, as an iDRAC has it.
    let task = bmc.import_profile("no profile".into(), "", ProfileShutdown::None, soon()).await.unwrap();
    loop {
        match bmc.task(&task, soon()).await.unwrap().state {
            BmcTaskState::Failed => break,
            BmcTaskState::Running => {}
            other => panic!("{other:?}"),
        }
    }
    lab.stop().await;
}

#[tokio::test]
async fn others_have_no_profile_and_say_so() {
    let lab = Lab::start(|_| ()).await;
    let absent = lab.client().export_profile(ProfileFormat::Xml, "", soon()).await.unwrap_err();
    assert_eq!(absent, BmcError::Unsupported { driver: "redfish", capability: Capability::Profile.as_str() });
    lab.stop().await;
}

#[tokio::test]
async fn a_log_is_chosen_by_its_name_and_read_no_further_than_asked() {
    let lab = dell().await;
    let bmc = lab.client();
    bmc.power_on(soon()).await.unwrap();
    let sel = bmc.event_log(9, soon()).await.unwrap();
    assert_eq!(
        (sel.log.as_str(), sel.logs.clone(), sel.total),
        ("SEL", vec!["SEL".into(), "Lclog".into()], 1)
    );
    let lifecycle = bmc.named_log("lclog", 9, soon()).await.unwrap();
    assert_eq!((lifecycle.log.as_str(), &lifecycle.logs), ("Lclog", &sel.logs));
    assert!(lifecycle.events[0].message.contains("logged in using admin"), "{lifecycle:?}");
    let unknown = bmc.named_log("Audit", 9, soon()).await.unwrap_err();
    assert!(matches!(&unknown, BmcError::NotListed { offered, .. } if *offered == sel.logs), "{unknown}");
    // Only the one that is named is cleared.
    bmc.clear_named_log("Lclog", soon()).await.unwrap();
    assert_eq!(bmc.named_log("Lclog", 9, soon()).await.unwrap().events, []);
    assert_eq!(bmc.event_log(9, soon()).await.unwrap().total, 1);
    lab.stop().await;
}
