//! What each path holds, as a pure function of the machine. Shapes by DSP0268 and DSP2046's examples.

use serde_json::{Value, json};

use super::bios::{self, Bios};
use super::boot_order::{self, BootOrder};
use super::config::RedfishConfig;
use super::lifecycle::Lifecycle;
use super::personality::{Personality, dress};
use super::secure_boot::SecureBoot;
use super::tasks::{self, Tasks};
use super::update::{self, Parts};
use super::{accounts, chassis, events, interfaces, log, storage};
use crate::bmc::{Accounts, BootDeviceSelector, BootFlags, PowerState};

pub(super) const ROOT: &str = "/redfish/v1";
pub(super) const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
/// Of the BMC itself.
pub(super) const RESTARTS: &[&str] = &["GracefulRestart", "ForceRestart"];
pub(super) const TIMES: &[&str] = &["Disabled", "Once", "Continuous"];
/// Boot flags and the targets that mean them.
pub(super) const TARGETS: &[(BootDeviceSelector, &str)] = &[
    (BootDeviceSelector::NONE, "None"),
    (BootDeviceSelector::PXE, "Pxe"),
    (BootDeviceSelector::DISK, "Hdd"),
    (BootDeviceSelector::CDROM, "Cd"),
    (BootDeviceSelector::BIOS_SETUP, "BiosSetup"),
];

/// The targets that a vendor has. Machines of HPE and Dell have no CD drive: theirs is the virtual one, which is booted from by
/// the vendor's way alone.
pub(super) fn targets(personality: Personality) -> Vec<&'static str> {
    let all = TARGETS.iter().map(|(_, target)| *target);
    all.filter(|target| personality == Personality::Plain || *target != "Cd").collect()
}

/// The machine at one moment.
pub(super) struct View<'a> {
    pub(super) config: &'a RedfishConfig,
    pub(super) power: PowerState,
    pub(super) flags: BootFlags,
    pub(super) led: bool,
    pub(super) secure_boot: &'a SecureBoot,
    pub(super) manager_network: &'a interfaces::ManagerNetwork,
    pub(super) boot_order: &'a BootOrder,
    pub(super) sessions: Vec<(u32, String)>,
    /// Of the BMC's own doings.
    pub(super) lifecycle: &'a Lifecycle,
    pub(super) accounts: &'a Accounts,
    /// What the virtual CD drive has in it.
    pub(super) media: Option<&'a str>,
    /// The machine boots from it the next time, and it was the drive that was told so.
    pub(super) media_boots: bool,
    pub(super) bios: &'a Bios,
    pub(super) tasks: &'a Tasks,
    pub(super) parts: &'a Parts,
    /// A list has no last page.
    pub(super) endless: bool,
    /// What stands behind the `?`.
    pub(super) query: &'a str,
    /// See [`super::RedfishFaults::hides_power`].
    pub(super) hides_power: bool,
    /// The power state in between, while it is in between.
    pub(super) moving: Option<&'static str>,
}

/// The resource at a path without a slash at its end.
pub(super) fn get(view: &View<'_>, path: &str) -> Option<Value> {
    let below = |collection: &str| path.strip_prefix(collection)?.strip_prefix('/');
    if let Some(rest) = below("/redfish/v1/Systems") {
        let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
        view.config.systems.iter().find(|system| *system == id)?;
        return of_system(view, id, rest);
    }
    if let Some(id) = below(SESSIONS) {
        let id: u32 = id.parse().ok()?;
        return view.sessions.iter().find(|(one, _)| *one == id).map(|(id, user)| session(*id, user));
    }
    if let Some(rest) = below("/redfish/v1/Chassis/1").or((path == "/redfish/v1/Chassis/1").then_some("")) {
        return chassis::get(view, path, rest);
    }
    if path.starts_with(accounts::SERVICE) {
        return accounts::get(view, path);
    }
    if path == accounts::ATTRIBUTES && view.config.personality == Personality::Idrac {
        return Some(accounts::attributes(view.accounts));
    }
    if path.starts_with(update::SERVICE) {
        return update::get(view, path);
    }
    if path.starts_with(events::SERVICE) {
        return events::get(view, path);
    }
    if let Some(task) = tasks::get(view, path) {
        return Some(task);
    }
    let manager = view.config.personality.manager_path();
    if let Some(rest) = path.strip_prefix(&manager) {
        return of_manager(view, path, rest);
    }
    let list = |names: &[&str]| names.iter().map(|n| format!("{path}/{n}")).collect::<Vec<_>>();
    Some(match path {
        "/redfish" => json!({ "v1": "/redfish/v1/" }),
        ROOT => root(view.config),
        "/redfish/v1/Systems" => {
            let ids: Vec<_> = view.config.systems.iter().map(String::as_str).collect();
            collection(path, "ComputerSystemCollection", &list(&ids))
        }
        "/redfish/v1/Chassis" => collection(path, "ChassisCollection", &list(&["1"])),
        "/redfish/v1/Managers" => collection(path, "ManagerCollection", &[manager]),
        "/redfish/v1/SessionService" if view.config.sessions => json!({
            "@odata.id": path, "@odata.type": "#SessionService.v1_1_8.SessionService", "Id": "SessionService",
            "Name": "Session Service", "ServiceEnabled": true,
            "SessionTimeout": view.config.idle_timeout.as_secs(), "Sessions": link(SESSIONS),
        }),
        SESSIONS if view.config.sessions => {
            let ids: Vec<_> = view.sessions.iter().map(|(id, _)| format!("{SESSIONS}/{id}")).collect();
            collection(path, "SessionCollection", &ids)
        }
        _ => return None,
    })
}

pub(super) fn session(id: u32, user: &str) -> Value {
    json!({
        "@odata.id": format!("{SESSIONS}/{id}"), "@odata.type": "#Session.v1_3_0.Session",
        "Id": id.to_string(), "Name": "User Session", "UserName": user,
    })
}

/// A refusal (DSP0266 §8.6), with a message id of the Base registry.
pub(super) fn refusal(id: &str, message: &str) -> Value {
    let id = format!("Base.1.8.{id}");
    json!({ "error": {
        "code": id, "message": message,
        "@Message.ExtendedInfo": [{ "MessageId": id, "Message": message, "Severity": "Warning" }],
    }})
}

fn root(config: &RedfishConfig) -> Value {
    let mut root = json!({
        "Tasks": link("/redfish/v1/TaskService"),
        "@odata.id": "/redfish/v1/", "@odata.type": "#ServiceRoot.v1_9_0.ServiceRoot", "Id": "RootService",
        "Name": "Root Service", "RedfishVersion": "1.15.0", "UUID": uuid(config.facts.uuid),
        "Systems": link("/redfish/v1/Systems"), "Chassis": link("/redfish/v1/Chassis"),
        "Managers": link("/redfish/v1/Managers"), "AccountService": link(accounts::SERVICE), "UpdateService": link("/redfish/v1/UpdateService"),
        "Links": {},
    });
    if config.sessions
        && let Some(root) = root.as_object_mut()
    {
        root.insert("SessionService".to_owned(), link("/redfish/v1/SessionService"));
        root.insert("Links".to_owned(), json!({ "Sessions": link(SESSIONS) }));
    }
    if config.events
        && let Some(root) = root.as_object_mut()
    {
        root.insert("EventService".to_owned(), link(events::SERVICE));
    }
    dress(&mut root, config.personality.root());
    root
}

/// The BMC, or something below it.
fn of_manager(view: &View<'_>, path: &str, rest: &str) -> Option<Value> {
    let personality = view.config.personality;
    let (others, cd) = personality.drives();
    let drives = format!("{}/VirtualMedia", personality.manager_path());
    let interfaces = format!("{}/EthernetInterfaces", personality.manager_path());
    Some(match rest.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        [] => {
            let mut manager = json!({
                "@odata.id": path, "@odata.type": "#Manager.v1_11_0.Manager", "Id": personality.manager(), "Name": "BMC",
                "ManagerType": "BMC", "Model": "Farrier Simulator", "FirmwareVersion": env!("CARGO_PKG_VERSION"),
                "Status": { "State": "Enabled", "Health": "OK" },
                "VirtualMedia": link(&drives),
                "EthernetInterfaces": link(&interfaces),
                "Actions": { "#Manager.Reset": {
                    "target": format!("{path}/Actions/Manager.Reset"), "ResetType@Redfish.AllowableValues": RESTARTS,
                }},
            });
            dress(&mut manager, personality.of_manager());
            manager
        }
        ["LogServices", rest @ ..] if personality == Personality::Idrac => {
            let all = format!("{}/LogServices", personality.manager_path());
            return log::get(view, path, &all, rest, log::Kind::Lifecycle);
        }
        ["EthernetInterfaces", rest @ ..] => return interfaces::of_manager(view, &interfaces, rest),
        ["VirtualMedia"] => {
            let members: Vec<_> = others.iter().chain([&cd]).map(|id| format!("{drives}/{id}")).collect();
            collection(path, "VirtualMediaCollection", &members)
        }
        ["VirtualMedia", id] if *id == cd => drive(view, path, id, &["CD", "DVD"], view.media),
        ["VirtualMedia", id] if others.contains(id) => drive(view, path, id, &["Floppy", "USBStick"], None),
        _ => return None,
    })
}

fn drive(view: &View<'_>, path: &str, id: &str, types: &[&str], media: Option<&str>) -> Value {
    let mut drive = json!({
        "@odata.id": path, "@odata.type": "#VirtualMedia.v1_4_0.VirtualMedia", "Id": id, "Name": "Virtual drive",
        "MediaTypes": types, "Image": media, "Inserted": media.is_some(),
        "ConnectedVia": if media.is_some() { "URI" } else { "NotConnected" }, "WriteProtected": true,
        "Actions": {
            "#VirtualMedia.InsertMedia": { "target": format!("{path}/Actions/VirtualMedia.InsertMedia") },
            "#VirtualMedia.EjectMedia": { "target": format!("{path}/Actions/VirtualMedia.EjectMedia") },
        },
    });
    dress(&mut drive, view.config.personality.of_drive(path, view.media_boots));
    drive
}

fn of_system(view: &View<'_>, id: &str, rest: &str) -> Option<Value> {
    let system = format!("/redfish/v1/Systems/{id}");
    let facts = &view.config.facts;
    let path = format!("{system}/{rest}");
    Some(match rest.split('/').collect::<Vec<_>>().as_slice() {
        [""] => whole_system(view, id, &system),
        ["EthernetInterfaces", rest @ ..] => {
            return interfaces::of_system(view, &format!("{system}/EthernetInterfaces"), rest);
        }
        ["Processors"] => collection(&path, "ProcessorCollection", &[format!("{path}/CPU1")]),
        ["Processors", "CPU1"] => json!({
            "@odata.id": path, "@odata.type": "#Processor.v1_11_0.Processor", "Id": "CPU1", "Name": "CPU 1",
            "ProcessorType": "CPU", "ProcessorArchitecture": "x86", "InstructionSet": "x86-64",
            "Model": "Pretend CPU", "TotalCores": facts.cpus, "TotalThreads": facts.cpus,
        }),
        ["ResetActionInfo"] => json!({
            "@odata.id": path, "@odata.type": "#ActionInfo.v1_1_2.ActionInfo", "Id": "ResetActionInfo",
            "Name": "Reset Action Info",
            "Parameters": [{ "Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": view.config.resets() }],
        }),
        ["SecureBoot", rest @ ..] => return view.secure_boot.get(&path, rest),
        ["BootSources", rest @ ..] if view.config.old_firmware => {
            return boot_order::sources(view, &path, rest);
        }
        ["BootOptions", rest @ ..] if view.config.personality != Personality::Ilo => {
            return boot_order::options(&path, rest);
        }
        ["Storage", rest @ ..] if !view.config.simple_storage => return storage::get(&path, rest),
        ["SimpleStorage", rest @ ..] if view.config.simple_storage => return storage::simple(&path, rest),
        ["Bios", rest @ ..] => return bios::get(view, &path, rest),
        ["LogServices", rest @ ..] => {
            return log::get(view, &path, &format!("{system}/LogServices"), rest, log::Kind::Sel);
        }
        _ => return None,
    })
}

fn whole_system(view: &View<'_>, id: &str, path: &str) -> Value {
    let facts = &view.config.facts;
    let targets = targets(view.config.personality);
    let flags = super::changes::override_of(view.flags, view.bios);
    let target = TARGETS.iter().find(|(device, _)| *device == flags.device).map_or("None", |(_, t)| *t);
    let enabled = match (flags.valid, flags.persistent) {
        (false, _) => "Disabled",
        (true, false) => "Once",
        (true, true) => "Continuous",
    };
    let mut reset = json!({ "target": format!("{path}/Actions/ComputerSystem.Reset") });
    if let Some(reset) = reset.as_object_mut() {
        if view.config.action_info {
            reset.insert("@Redfish.ActionInfo".to_owned(), json!(format!("{path}/ResetActionInfo")));
        } else {
            reset.insert("ResetType@Redfish.AllowableValues".to_owned(), json!(view.config.resets()));
        }
    }
    let mut system = json!({
        "@odata.id": path, "@odata.type": "#ComputerSystem.v1_13_0.ComputerSystem", "Id": id, "Name": "System",
        "SystemType": "Physical", "Manufacturer": facts.manufacturer, "Model": facts.model,
        "SerialNumber": facts.serial_number, "UUID": uuid(facts.uuid), "BiosVersion": "1.0",
        "PowerState": (!view.hides_power).then(|| view.moving.unwrap_or(power(view.power))), "LocationIndicatorActive": view.led,
        "IndicatorLED": if view.led { "Lit" } else { "Off" },
        "Status": { "State": "Enabled", "Health": "OK" },
        "ProcessorSummary": { "Count": 1, "LogicalProcessorCount": facts.cpus, "Model": "Pretend CPU" },
        "MemorySummary": { "TotalSystemMemoryGiB": facts.memory_bytes >> 30 },
        "Boot": {
            "BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target,
            "BootSourceOverrideMode": if flags.efi { "UEFI" } else { "Legacy" },
            "BootSourceOverrideTarget@Redfish.AllowableValues": targets,
            "BootSourceOverrideEnabled@Redfish.AllowableValues": TIMES,
        },
        "EthernetInterfaces": link(&format!("{path}/EthernetInterfaces")),
        "Processors": link(&format!("{path}/Processors")),
        "LogServices": link(&format!("{path}/LogServices")),
        "Links": { "Chassis": [link("/redfish/v1/Chassis/1")], "ManagedBy": [link(&view.config.personality.manager_path())] },
        "Bios": link(&format!("{path}/Bios")),
        "SecureBoot": link(&format!("{path}/SecureBoot")),
        "Actions": { "#ComputerSystem.Reset": reset },
    });
    if let Some(port) = view.config.ssh_console {
        dress(&mut system, json!({ "SerialConsole": { "SSH": { "ServiceEnabled": true, "Port": port } } }));
    }
    dress(&mut system, view.boot_order.of_system(view.config, path));
    dress(&mut system, storage::of_system(view, path));
    dress(&mut system, view.config.personality.of_system(path));
    system
}

pub(super) fn collection(path: &str, kind: &str, members: &[String]) -> Value {
    json!({
        "@odata.id": path, "@odata.type": format!("#{kind}.{kind}"), "Name": kind,
        "Members": members.iter().map(|member| link(member)).collect::<Vec<_>>(),
        "Members@odata.count": members.len(),
    })
}

pub(super) fn link(path: &str) -> Value {
    json!({ "@odata.id": path })
}

pub(super) fn power(state: PowerState) -> &'static str {
    match state {
        PowerState::On => "On",
        PowerState::Off => "Off",
    }
}

fn uuid(bytes: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(bytes).to_string()
}
