//! What of a machine a BMC keeps over Redfish, its own network, and its stream of events: the first byte says which, the rest is
//! its answers.

use super::redfish_client::{soon, talk, told};
use farrier_bmc::{
    BootMode, KeyReset, NetworkSettings, NewAddress, ProfileFormat, ProfileShutdown, Secret, StaticAddress,
};

/// Events of one input that are waited for.
const EVENTS: usize = 64;

pub fn run(data: &[u8]) {
    let Some((what, answers)) = data.split_first() else { return };
    talk(answers, async |handle| match what.wrapping_sub(b'0') % 14 {
        0 => {
            let Ok(mut events) = handle.events(soon()).await.map_err(told) else { return };
            for _ in 0..EVENTS {
                match tokio::time::timeout(soon().remaining(), events.next()).await {
                    Ok(Ok(notice)) => {
                        assert!(
                            notice.message_id.chars().count() <= 200 && notice.message.chars().count() <= 200
                        );
                        let _ = notice.may_be_of_the_machine();
                    }
                    Ok(Err(error)) => return told(error),
                    Err(_) => return,
                }
            }
        }
        1 => drop(handle.boot_order(soon()).await.map_err(told)),
        2 => {
            let first = vec!["b".to_owned()];
            if let Ok(set) = handle.set_boot_order(first.clone(), soon()).await.map_err(told) {
                assert!(
                    set.options.iter().map(|option| &option.id).take(1).eq(&first),
                    "set, and not read back"
                );
            }
        }
        3 => {
            let _ = handle.secure_boot_keys(soon()).await.map_err(told);
            let _ = handle.reset_secure_boot_keys(KeyReset::Default, soon()).await.map_err(told);
        }
        4 => {
            let Ok(handle) = handle.recognised(soon()).await.map_err(told) else { return };
            let _ = handle.export_profile(ProfileFormat::Xml, "", soon()).await.map_err(told);
            let profile = "<A><B>calvin99</B></A>".to_owned();
            let _ = handle.import_profile(profile, "", ProfileShutdown::None, soon()).await.map_err(told);
        }
        6 => {
            let _ = handle.network(soon()).await.map_err(told);
            let _ = handle.power_draw(soon()).await.map_err(told);
        }
        7 => {
            let _ = handle.secure_boot(soon()).await.map_err(told);
            if let Ok(set) = handle.set_secure_boot(true, soon()).await.map_err(told) {
                assert!(set.enabled, "set, and not read back");
            }
        }
        8 => drop(handle.eject_media(soon()).await.map_err(told)),
        9 => {
            let _ = handle.diagnostic_interrupt(soon()).await.map_err(told);
            let _ = handle.reset_bmc(soon()).await.map_err(told);
        }
        10 => {
            let password = Secret::new("hunter3");
            let _ = handle.has_account("v", soon()).await.map_err(told);
            let _ = handle.create_account("v", &password, soon()).await.map_err(told);
            let _ = handle.delete_account("v", soon()).await.map_err(told);
        }
        11 => drop(handle.open_console(false, soon()).await.map_err(told)),
        12 => {
            let _ = handle.boot_mode(soon()).await.map_err(told);
            if let Ok(set) = handle.set_boot_mode(BootMode::Bios, soon()).await.map_err(told) {
                assert_eq!(set.next(), Some(BootMode::Bios), "set, and not read back");
            }
        }
        13 => {
            let address = StaticAddress::parse("192.0.2.7", "255.255.255.0", "192.0.2.1").unwrap();
            let wanted = NetworkSettings {
                address: Some(NewAddress::Static(address)),
                vlan: Some(Some(7)),
                ..NetworkSettings::default()
            };
            let _ = handle.set_network(&wanted, soon()).await.map_err(told);
            if let Ok(settled) = handle.settle_network(&wanted, soon()).await.map_err(told) {
                assert_eq!((settled.address, settled.vlan), (Some(address.address()), Some(7)));
            }
        }
        _ => {
            let log = handle.named_log("L", 4, soon()).await.map_err(told);
            assert!(log.map_or(0, |log| log.events.len()) <= 4);
            let _ = handle.clear_named_log("L", soon()).await.map_err(told);
        }
    });
}
