//! What vendors do otherwise, as data: recognised by what the service root says, or named by the node.

use std::time::Duration;

use super::document::Document;
use crate::BootMode;

/// The driver of a BMC that is nobody's in particular.
pub(super) const DRIVER: &str = "redfish";

/// How one vendor's BMCs differ.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Vendor {
    /// The driver's name.
    pub(super) driver: &'static str,
    /// What the root's `Vendor` says (DSP0268 ServiceRoot, since Redfish 1.5).
    names: &'static [&'static str],
    /// Keys of the root's `Oem`, also of BMCs that are older than `Vendor`.
    oem: &'static [&'static str],
    /// How a machine is made to boot from virtual media once.
    pub(super) media_boot: MediaBoot,
    /// Whether settings wait until a job for them is queued.
    pub(super) queues_jobs: bool,
    /// Settings of the BIOS that say in which mode the firmware starts, by what it is called in some generation; where a BIOS has
    /// none of them, the mode beside the boot override says it.
    pub(super) boot_mode: &'static [ModeSetting],
    /// Keys of the BIOS's `Oem` below which a link leads to the boot order; none: the standard's.
    pub(super) boot_settings: &'static [&'static str],
    /// Keys of the system's `Links/Oem` below which a link leads to a list of boot sources, where it has no boot order of the
    /// standard's: firmware before that was there.
    pub(super) boot_sources: &'static [&'static str],
    /// Whether all settings come and go as one profile.
    pub(super) profiles: bool,
    /// What leads from a login over SSH to the console, where the system does not say; empty: a login does. HPE's iLO scripting
    /// guide, "Virtual Serial Port"; Dell's RACADM guide, "console com2".
    pub(super) console_entry: &'static str,
    /// Where below the manager attributes `Users.N.…` say what an account may do over IPMI, by generation: its role says nothing of it.
    pub(super) user_attributes: &'static [&'static str],
    /// Whether the update service itself tells how far an update is, instead of a task.
    pub(super) update_state: bool,
}

/// See [`Vendor::boot_mode`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModeSetting {
    pub(super) name: &'static str,
    uefi: &'static str,
    bios: &'static str,
}

impl ModeSetting {
    /// `None`: neither, such as one of both.
    pub(super) fn mode(&self, word: &str) -> Option<BootMode> {
        // Firmware of one vendor has been seen with `Legacy` and `LEGACY`.
        let all = [(self.uefi, BootMode::Uefi), (self.bios, BootMode::Bios)];
        all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, mode)| mode)
    }

    pub(super) fn word(&self, mode: BootMode) -> &'static str {
        match mode {
            BootMode::Uefi => self.uefi,
            BootMode::Bios => self.bios,
        }
    }
}

/// See [`Vendor::media_boot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaBoot {
    /// The boot override does it.
    Override,
    /// A property of the drive, `BootOnNextServerReset` below one of these keys of its `Oem`.
    Drive(&'static [&'static str]),
    /// The override knows real drives only: a configuration profile is imported.
    Profile,
}

const PLAIN: Vendor = Vendor {
    driver: DRIVER,
    names: &[],
    oem: &[],
    media_boot: MediaBoot::Override,
    queues_jobs: false,
    boot_mode: PLAIN_MODES,
    boot_settings: &[],
    boot_sources: &[],
    profiles: false,
    console_entry: "",
    user_attributes: &[],
    update_state: false,
};

/// Of vendors that have no driver of their own, by names that nobody else has: Supermicro's BIOS by the names of its
/// generations (also `DUAL`, both), Lenovo's XClarity Controller (its Redfish examples, set_bios_bootmode_uefi).
const PLAIN_MODES: &[ModeSetting] = &[
    ModeSetting { name: "BootModeSelect", uefi: "UEFI", bios: "LEGACY" },
    ModeSetting { name: "Bootmodeselect", uefi: "UEFI", bios: "LEGACY" },
    ModeSetting { name: "BootModes_SystemBootMode", uefi: "UEFIMode", bios: "LegacyMode" },
];

/// HPE's iLO 4 (`Hp`), 5 and 6 (`Hpe`): its Redfish reference, HpeiLOVirtualMedia, HpeServerBootSettings and HpeiLOUpdateServiceExt. Dell's iDRAC
/// 8, 9 and 10: its Redfish API guide, OemManager, DellJob, DellBootSources, DellAttributes.
const VENDORS: &[Vendor] = &[
    Vendor {
        driver: "ilo",
        names: &["HPE", "HP", "Hewlett Packard Enterprise"],
        oem: &["Hpe", "Hp"],
        media_boot: MediaBoot::Drive(&["Hpe", "Hp"]),
        queues_jobs: false,
        boot_mode: &[ModeSetting { name: "BootMode", uefi: "Uefi", bios: "LegacyBios" }],
        boot_settings: &["Hpe", "Hp"],
        boot_sources: &[],
        profiles: false,
        console_entry: "vsp",
        user_attributes: &[],
        update_state: true,
    },
    Vendor {
        driver: "idrac",
        names: &["Dell", "Dell Inc."],
        oem: &["Dell"],
        media_boot: MediaBoot::Profile,
        queues_jobs: true,
        boot_mode: &[ModeSetting { name: "BootMode", uefi: "Uefi", bios: "Bios" }],
        boot_settings: &[],
        boot_sources: &["Dell", "DELL"],
        profiles: true,
        console_entry: "console com2",
        user_attributes: &["Oem/Dell/DellAttributes/iDRAC.Embedded.1", "Attributes"],
        update_state: false,
    },
];

/// What products do otherwise whose service root says nothing of them: by the `Model` of their manager (DSP0268 Manager).
struct Product {
    model: &'static str,
    /// Its machines take so long from a soft power off until they are off.
    soft_off: Duration,
}

/// - OpenBMC: bmcweb names every manager so; its timer gives the host five minutes, as over IPMI (see `ipmi::Quirks::OPENBMC`)
const PRODUCTS: &[Product] = &[Product { model: "OpenBmc", soft_off: Duration::from_secs(300) }];

/// How long machines behind this manager are known to take; zero: no longer than others.
pub(super) fn soft_off(manager: &Document) -> Duration {
    let model = manager.text("Model").unwrap_or_default();
    let is_it = |product: &&Product| product.model.eq_ignore_ascii_case(&model);
    PRODUCTS.iter().find(is_it).map_or(Duration::ZERO, |product| product.soft_off)
}

/// Message ids that say that a licence is missing, and what would help: HPE's iLO registry, Supermicro's (in its Base registry or `SMC`;
/// its BMC user's guide has what either key opens), and Dell's (`IDRAC.2.8.LIC501`, as its own Ansible modules look for).
pub(super) const LICENCES: &[(&str, &str)] = &[
    ("LicenseKeyRequired", "iLO Advanced"),
    ("OemLicenseNotPassed", "SFT-OOB-LIC or SFT-DCMS-SINGLE"),
    ("LIC501", "iDRAC Enterprise"),
];

/// Message ids that say that a job of the same kind runs, so that no other is begun (Dell's message registry).
pub(super) const AT_WORK: &[&str] = &["RAC0679"];

/// Whose BMC it is, by its service root; `None`: it does not say, or nobody's we know of.
pub(super) fn recognise(root: &Document) -> Option<&'static Vendor> {
    let name = root.text("Vendor").unwrap_or_default();
    let named = VENDORS.iter().find(|v| v.names.iter().any(|known| known.eq_ignore_ascii_case(&name)));
    named
        .or_else(|| VENDORS.iter().find(|v| v.oem.iter().any(|key| root.at(&format!("Oem/{key}")).is_some())))
}

/// What a driver's name stands for.
pub(super) fn of_driver(driver: &str) -> &'static Vendor {
    VENDORS.iter().find(|vendor| vendor.driver == driver).unwrap_or(&PLAIN)
}

/// The names of all drivers that are this one and a vendor's data.
pub const DRIVERS: &[&str] = &[DRIVER, "ilo", "idrac"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_takes_long_is_known_by_its_manager() {
        let takes = |manager: &str| soft_off(&Document::parse(manager.as_bytes(), None).unwrap()).as_secs();
        assert_eq!(takes(r#"{"Model": "OpenBmc"}"#), 300);
        assert_eq!(takes(r#"{"Model": "iDRAC"}"#) + takes(r#"{"Model": 7}"#) + takes("{}"), 0);
    }

    #[test]
    fn a_vendor_is_recognised_by_name_or_by_its_extensions() {
        let driver = |root: &str| {
            recognise(&Document::parse(root.as_bytes(), None).unwrap()).map(|vendor| vendor.driver)
        };
        assert_eq!(driver(r#"{"Vendor": "HPE"}"#), Some("ilo"));
        assert_eq!(driver(r#"{"Oem": {"Hp": {}}}"#), Some("ilo"), "iLO 4 has no Vendor");
        assert_eq!(driver(r#"{"Vendor": "Dell", "Oem": {"Hpe": {}}}"#), Some("idrac"));
        assert_eq!(driver(r#"{"Vendor": "Supermicro", "Oem": 7}"#), None);
        assert_eq!(driver("{}"), None);
        for name in DRIVERS {
            assert_eq!(of_driver(name).driver, *name);
        }
    }
}
