//! Whose service it pretends to be. Shapes by HPE's iLO 5 Redfish reference (HpeiLOServiceExt, HpeComputerSystemExt,
//! HpeiLOVirtualMedia, HpeiLOUpdateServiceExt) and Dell's iDRAC 9 Redfish guide (DellManager, OemManager, DellJob); `bmc_program::schemas` of the tests holds
//! them against the published ones.

use serde_json::{Map, Value, json};

use super::resources::link;

/// Reset types of HPE's iLO 4, by its reference of ComputerSystem.Reset: nobody asks the system but the button. Fujitsu's iRMC
/// S4 has no GracefulShutdown either.
pub const ILO_4_RESETS: &[&str] = &["On", "ForceOff", "ForceRestart", "Nmi", "PushPowerButton"];

/// A vendor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Personality {
    /// Nobody's in particular: the standard, and no more.
    #[default]
    Plain,
    /// HPE's iLO 5.
    Ilo,
    /// Dell's iDRAC 9.
    Idrac,
}

impl Personality {
    /// The BMC's id.
    pub(super) fn manager(self) -> &'static str {
        match self {
            Self::Plain | Self::Ilo => "1",
            Self::Idrac => "iDRAC.Embedded.1",
        }
    }

    /// The system's id, where it is the only one.
    pub(super) fn system(self) -> &'static str {
        match self {
            Self::Plain | Self::Ilo => "1",
            Self::Idrac => "System.Embedded.1",
        }
    }

    /// What its BIOS calls the two modes that it can start in: UEFI's first.
    pub(super) fn modes(self) -> [&'static str; 2] {
        match self {
            Self::Plain | Self::Idrac => ["Uefi", "Bios"],
            Self::Ilo => ["Uefi", "LegacyBios"],
        }
    }

    /// Reset types that a system offers. HPE's by its reference of ComputerSystem.Reset for iLO 5, Dell's by the iDRAC 9 guide's.
    pub(super) fn resets(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["On", "ForceOff", "GracefulShutdown", "ForceRestart", "PowerCycle", "Nmi"],
            Self::Ilo => &[
                "On",
                "ForceOff",
                "GracefulShutdown",
                "ForceRestart",
                "Nmi",
                "PushPowerButton",
                "GracefulRestart",
            ],
            Self::Idrac => &[
                "On",
                "ForceOff",
                "ForceRestart",
                "GracefulRestart",
                "GracefulShutdown",
                "PushPowerButton",
                "Nmi",
                "PowerCycle",
            ],
        }
    }

    /// Virtual drives that are no CD drive, and the one that is.
    pub(super) fn drives(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Plain => (&[], "Cd"),
            Self::Ilo => (&["1"], "2"),
            Self::Idrac => (&["RemovableDisk"], "CD"),
        }
    }

    /// Where all managers' things are.
    pub(super) fn manager_path(self) -> String {
        format!("/redfish/v1/Managers/{}", self.manager())
    }

    /// What the vendor adds to the service root.
    pub(super) fn root(self) -> Value {
        match self {
            Self::Plain => json!({}),
            Self::Ilo => json!({
                "Vendor": "HPE", "Product": "ProLiant DL360 Gen10",
                // Its links end like this, and HPE's clients put ids behind them.
                "Systems": link("/redfish/v1/Systems/"), "Managers": link("/redfish/v1/Managers/"),
                "Chassis": link("/redfish/v1/Chassis/"),
                "Oem": { "Hpe": {
                    "@odata.type": "#HpeiLOServiceExt.v2_3_0.HpeiLOServiceExt",
                    "Manager": [{ "ManagerType": "iLO 5", "ManagerFirmwareVersion": "2.78" }],
                }},
            }),
            Self::Idrac => json!({
                "Vendor": "Dell", "Product": "Integrated Dell Remote Access Controller",
                "Oem": { "Dell": { "@odata.type": "#DellServiceRoot.v1_0_0.DellServiceRoot", "IsBranded": 0 } },
            }),
        }
    }

    /// What the vendor adds to a system.
    pub(super) fn of_system(self, path: &str) -> Value {
        match self {
            Self::Plain => json!({}),
            Self::Ilo => json!({ "Oem": { "Hpe": {
                "@odata.type": "#HpeComputerSystemExt.v2_10_1.HpeComputerSystemExt", "PostState": "FinishedPost",
                "Bios": { "Current": { "VersionString": "U32 v2.68 (07/14/2022)" }, "UefiClass": 2 },
                "Actions": { "#HpeComputerSystemExt.PowerButton": {
                    "target": format!("{path}/Actions/Oem/Hpe/HpeComputerSystemExt.PowerButton"),
                    "PushType@Redfish.AllowableValues": ["Press", "PressAndHold"],
                }},
            }}}),
            Self::Idrac => json!({ "Oem": { "Dell": {
                "@odata.type": "#DellOem.v1_3_0.DellOemResources",
                "DellSystem": {
                    "@odata.type": "#DellSystem.v1_3_0.DellSystem", "BIOSReleaseDate": "07/14/2022",
                },
            }}}),
        }
    }

    /// What the vendor adds to the manager.
    pub(super) fn of_manager(self) -> Value {
        let path = self.manager_path();
        match self {
            Self::Plain => json!({}),
            Self::Ilo => json!({ "Oem": { "Hpe": {
                "@odata.type": "#HpeiLO.v2_8_0.HpeiLO",
                "Firmware": { "Current": { "VersionString": "iLO 5 v2.78" } },
            }}}),
            Self::Idrac => json!({
                "Actions": { "Oem": {
                    "#OemManager.ImportSystemConfiguration": {
                        "target": format!("{path}/Actions/Oem/OemManager.ImportSystemConfiguration"),
                        "ShutdownType@Redfish.AllowableValues": SHUTDOWNS,
                    },
                    "#OemManager.ExportSystemConfiguration": {
                        "target": format!("{path}/Actions/Oem/OemManager.ExportSystemConfiguration"),
                        "ExportFormat@Redfish.AllowableValues": ["XML", "JSON"],
                        "ExportUse@Redfish.AllowableValues": ["Default", "Clone", "Replace"],
                        "IncludeInExport@Redfish.AllowableValues": ["Default"],
                        "ShareParameters": { "Target@Redfish.AllowableValues": ["ALL", "IDRAC", "BIOS"] },
                    },
                }},
                "LogServices": link(&format!("{path}/LogServices")),
                "Links": { "Oem": { "Dell": {
                    "@odata.type": "#DellOem.v1_3_0.DellOemLinks", "Jobs": link(&format!("{path}/Jobs")),
                }}},
            }),
        }
    }

    /// What the vendor adds to a virtual drive.
    pub(super) fn of_drive(self, path: &str, boots_once: bool) -> Value {
        match self {
            Self::Plain | Self::Idrac => json!({}),
            Self::Ilo => json!({ "Oem": { "Hpe": {
                "@odata.type": "#HpeiLOVirtualMedia.v2_2_0.HpeiLOVirtualMedia", "BootOnNextServerReset": boots_once,
                "Actions": {
                    "#HpeiLOVirtualMedia.InsertVirtualMedia": {
                        "target": format!("{path}/Actions/Oem/Hpe/HpeiLOVirtualMedia.InsertVirtualMedia"),
                    },
                    "#HpeiLOVirtualMedia.EjectVirtualMedia": {
                        "target": format!("{path}/Actions/Oem/Hpe/HpeiLOVirtualMedia.EjectVirtualMedia"),
                    },
                },
            }}}),
        }
    }
}

const SHUTDOWNS: &[&str] = &["Graceful", "Forced", "NoReboot"];

/// Puts what a vendor adds or has otherwise into a resource, object into object.
pub(super) fn dress(resource: &mut Value, addition: Value) {
    match (resource, addition) {
        (Value::Object(resource), Value::Object(addition)) => merge(resource, addition),
        (resource, addition) => *resource = addition,
    }
}

fn merge(resource: &mut Map<String, Value>, addition: Map<String, Value>) {
    for (name, value) in addition {
        match resource.get_mut(&name) {
            Some(there) => dress(there, value),
            None => {
                resource.insert(name, value);
            }
        }
    }
}
