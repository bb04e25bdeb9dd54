//! Disks, boot order and the keys of Secure Boot, on services of each shape.

use farrier_bmc::{BootOption, KeyReset, Order, SecureBootKeys};
use farrier_sim::bmc::redfish::Personality;

use super::*;

fn ids(order: &Order) -> Vec<&str> {
    order.options.iter().map(|option| option.id.as_str()).collect()
}

#[tokio::test]
async fn disks_are_read_in_both_models_and_an_empty_bay_is_none() {
    for simple in [false, true] {
        let lab = Lab::start(|config| config.simple_storage = simple).await;
        let seen = lab.client().inventory(soon()).await.unwrap();
        let shown: Vec<_> = seen
            .disks
            .iter()
            .map(|disk| (disk.name.as_str(), disk.model.as_str(), disk.size_bytes))
            .collect();
        assert_eq!(
            shown,
            [("Bay 1", "Pretend NVMe", 480_103_981_056), ("Bay 2", "Pretend Disk", 4_000_787_030_016)]
        );
        let serials: Vec<_> = seen.disks.iter().map(|disk| (&*disk.serial_number, &*disk.media)).collect();
        let told = if simple { [("", ""), ("", "")] } else { [("N1", "SSD"), ("H1", "HDD")] };
        assert_eq!(serials, told, "what a BMC does not say is not made up");
        assert_eq!(seen.warnings, Vec::<String>::new());
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_boot_order_is_changed_by_each_vendors_way_and_read_back() {
    const NAMES: [&str; 3] = ["HD.Slot.1.1", "NIC.LOM.1.1.IPv4", "CD.Virtual.2.1"];
    for (personality, old_firmware, [disk, network, cd]) in [
        (Personality::Plain, false, ["Boot0000", "Boot0001", "Boot0002"]),
        (Personality::Idrac, false, ["Boot0000", "Boot0001", "Boot0002"]),
        // Its boot sources.
        (Personality::Idrac, true, NAMES),
        (Personality::Ilo, false, NAMES),
    ] {
        let lab = Lab::start(|config| {
            *config = config.clone().of(personality);
            (config.needs_etag, config.old_firmware) = (true, old_firmware);
        })
        .await;
        let bmc = lab.client();
        let before = bmc.boot_order(soon()).await.unwrap();
        assert_eq!((ids(&before), before.pending), (vec![disk, network, cd], false));
        let known = |option: &BootOption| option.name.contains("PXE") && option.device_path.contains("MAC(");
        assert!(old_firmware || known(&before.options[1]), "{before:?}");
        let set = bmc.set_boot_order(vec![cd.into(), network.into()], soon()).await.unwrap();
        assert_eq!(ids(&set), [cd, network, disk], "{personality:?}");
        assert_eq!(set.pending, personality != Personality::Plain, "{personality:?}");
        assert_eq!(set.task.is_empty(), personality != Personality::Idrac, "{}", set.task);
        bmc.power_on(soon()).await.unwrap();
        let after = bmc.boot_order(soon()).await.unwrap();
        assert_eq!((ids(&after), after.pending), (vec![cd, network, disk], false), "{personality:?}");
        // As it is already: nothing is written and nothing waits.
        let again = bmc.set_boot_order(vec![cd.into()], soon()).await.unwrap();
        assert_eq!((ids(&again), again.pending, again.task.as_str()), (vec![cd, network, disk], false, ""));
        let unknown = bmc.set_boot_order(vec!["Boot00FF".into()], soon()).await.unwrap_err();
        let BmcError::NotListed { offered, .. } = &unknown else { panic!("{unknown}") };
        assert!(offered.iter().any(|id| id == cd), "{unknown}");
        lab.stop().await;
    }
}

#[tokio::test]
async fn keys_are_counted_deleted_and_brought_back() {
    let lab = Lab::start(|_| ()).await;
    let bmc = lab.client();
    let count = |keys: &SecureBootKeys, id: &str| {
        let database = keys.databases.iter().find(|database| database.id == id).unwrap();
        (database.certificates, database.signatures)
    };
    let delivered = bmc.secure_boot_keys(soon()).await.unwrap();
    assert_eq!((delivered.databases.len(), delivered.mode.as_str()), (8, "UserMode"));
    assert_eq!(
        (count(&delivered, "KEK"), count(&delivered, "dbx")),
        ((Some(2), Some(0)), (Some(0), Some(77)))
    );
    let none = bmc.reset_secure_boot_keys(KeyReset::DeleteAll, soon()).await.unwrap();
    assert_eq!((none.mode.as_str(), count(&none, "db")), ("SetupMode", (Some(0), Some(0))));
    assert_eq!(count(&none, "dbDefault"), (Some(3), Some(0)));
    let no_key = bmc.set_secure_boot(true, soon()).await.unwrap_err();
    assert!(matches!(no_key, BmcError::Http { status: 409, .. }), "{no_key}");
    assert_eq!(bmc.reset_secure_boot_keys(KeyReset::Default, soon()).await.unwrap(), delivered);
    assert!(bmc.set_secure_boot(true, soon()).await.unwrap().enabled);
    lab.stop().await;
}
