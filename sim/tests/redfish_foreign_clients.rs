//! Foreign programs against our simulated Redfish service: sushy (OpenStack's client) and curl judge our protocol,
//! over TLS with the service's own certificate as the only authority they are given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod python;
#[path = "redfish_foreign_clients/vendors.rs"]
mod vendors;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use farrier_identity::device::SelfSigned;
use farrier_sim::bmc::redfish::{Facts, Personality, RedfishConfig, RedfishHandle, RedfishServer};
use farrier_sim::bmc::{BootDeviceSelector, BootFlags, ChassisIdentify, MemoryChassis, PowerAction, Secret};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

const USER: &str = "admin";
const PASSWORD: &str = "S3cret";

/// What somebody who knows sushy and nothing of us does with a machine.
const SUSHY: &str = r#"
import sushy, sys
url, ca = sys.argv[1:3]
auth = sushy.auth.SessionAuth(username="admin", password="S3cret")
root = sushy.Sushy(url, auth=auth, verify=ca)
assert root.redfish_version == "1.15.0", root.redfish_version
[system] = root.get_system_collection().get_members()
assert system.manufacturer == "Farrier" and system.serial_number == "S1", system
assert system.power_state == sushy.PowerState.OFF
assert system.memory_summary.size_gib == 16, system.memory_summary
assert system.processors.summary.count == 8, system.processors.summary
assert list(system.ethernet_interfaces.summary) == ["02:00:00:00:00:01"], system.ethernet_interfaces.summary
assert sushy.BootSource.PXE in system.get_allowed_system_boot_source_values()
system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE,
                               mode=sushy.BootSourceOverrideMode.UEFI)
system.refresh(force=True)
assert system.boot.target == sushy.BootSource.PXE and system.boot.mode == sushy.BootSourceOverrideMode.UEFI
assert system.boot.enabled == sushy.BootSourceOverrideEnabled.ONCE
system.reset_system(sushy.ResetType.ON)
system.refresh(force=True)
assert system.power_state == sushy.PowerState.ON
assert system.boot.enabled == sushy.BootSourceOverrideEnabled.DISABLED, "used up by the boot"
system.reset_system(sushy.ResetType.FORCE_RESTART)
system.reset_system(sushy.ResetType.GRACEFUL_SHUTDOWN)
system.set_indicator_led(sushy.IndicatorLED.BLINKING)
try:
    system.reset_system(sushy.ResetType.SUSPEND)
    raise SystemExit("a suspension was taken")
except sushy.exceptions.InvalidParameterValueError:
    pass
system.reset_system(sushy.ResetType.ON)
system.reset_system(sushy.ResetType.NMI)
# As Ironic's set_boot_mode does.
assert system.boot.mode == sushy.BootSourceOverrideMode.UEFI
for mode in (sushy.BootSourceOverrideMode.LEGACY, sushy.BootSourceOverrideMode.UEFI):
    system.set_system_boot_options(mode=mode)
    system.refresh(force=True)
    assert system.boot.mode == mode and system.boot.enabled == sushy.BootSourceOverrideEnabled.DISABLED
[manager] = root.get_manager_collection().get_members()
assert manager.firmware_version and manager.manager_type == sushy.ManagerType.BMC
assert sushy.ResetType.FORCE_RESTART in manager.get_allowed_reset_manager_values()
[chassis] = root.get_chassis_collection().get_members()
assert chassis.model == "M1"
temperatures = {t.name: t.reading_celsius for t in chassis.thermal.temperatures}
assert temperatures == {"CPU Temp": 47, "Inlet Temp": 24}, temperatures
assert [(f.name, f.reading, f.reading_units.value) for f in chassis.thermal.fans] == [("FAN1", 5400, "RPM")]
assert [p.last_power_output_watts for p in chassis.power.power_supplies] == [180]
[drive] = manager.virtual_media.get_members()
assert sushy.VirtualMediaType.CD in drive.media_types and not drive.inserted
drive.insert_media("http://192.0.2.1/a.iso")
drive.refresh(force=True)
assert drive.inserted and drive.image == "http://192.0.2.1/a.iso", drive.image
drive.eject_media()
drive.refresh(force=True)
assert not drive.inserted
system.reset_system(sushy.ResetType.FORCE_OFF)
[storage] = system.storage.get_members()
assert storage.drives_sizes_bytes == [480103981056, 4000787030016], storage.drives_sizes_bytes
assert storage.drives[0].serial_number == "N1" and storage.drives[0].media_type == "SSD"
secure = system.secure_boot
assert secure.mode == sushy.SecureBootMode.USER
assert {d.database_id for d in secure.databases.get_members()} >= {sushy.SecureBootDatabaseId.PLATFORM_KEY}
secure.reset_keys(sushy.SecureBootResetKeysType.DELETE_ALL_KEYS)
secure.refresh(force=True)
assert secure.mode == sushy.SecureBootMode.SETUP, secure.mode
firmware = root.get_update_service().firmware_inventory.get_members()
assert sorted(f.identity for f in firmware) == ["BMC", "NIC"], firmware
assert len(root.get_session_service().sessions.get_members()) == 1
try:
    root.get_system("/redfish/v1/Systems/none")
    raise SystemExit("there is a system that is not there")
except sushy.exceptions.ResourceNotFoundError:
    pass
try:
    wrong = sushy.auth.SessionAuth(username="admin", password="wrong")
    sushy.Sushy(url, auth=wrong, verify=ca).get_system_collection()
    raise SystemExit("a wrong password is right")
except sushy.exceptions.AccessError:
    pass
auth.close()
basic = sushy.auth.BasicAuth(username="admin", password="S3cret")
assert sushy.Sushy(url, auth=basic, verify=ca).get_system("/redfish/v1/Systems/1").power_state == sushy.PowerState.OFF
print("all of it")
"#;

/// What DMTF's own command line tools do (redfish-utilities), by their library.
const TACKLEBOX: &str = r#"
import redfish, redfish_utilities as utilities, sys
url, ca = sys.argv[1:3]
client = redfish.redfish_client(base_url=url, username="admin", password="S3cret", cafile=ca)
client.login(auth="session")
utilities.system_reset(client, None, "On")
utilities.system_reset(client, None, "Nmi")
for _ in range(20):
    utilities.system_reset(client, None, "ForceRestart")
system_logs = dict(container_type=utilities.log_container.SYSTEM)
entries = utilities.get_log_entries(client, **system_logs)
assert len(entries) == 22, entries
assert entries[-2]["Message"] == "Front panel NMI" and entries[-2]["EntryCode"] == "Assert", entries[-2]
utilities.print_log_entries(entries, True)
utilities.clear_log_entries(client, **system_logs)
assert utilities.get_log_entries(client, **system_logs) == []
[chassis] = utilities.get_sensors(client)
readings = {r["Name"]: (r["Reading"], r["Units"], r["Health"]) for r in chassis["Readings"]}
assert readings["CPU Temp"] == (47, "Cel", "OK"), readings
assert readings["FAN1"] == (5400, "RPM", "OK"), readings
assert abs(readings["12V"][0] - 12.033) < 0.001, readings
assert [(u["UserName"], u["RoleId"]) for u in utilities.get_users(client)] == [("admin", "Administrator")]
utilities.add_user(client, "bob", "Bobs-password1", "Operator")
assert len(utilities.get_users(client)) == 2
utilities.modify_user(client, "bob", new_password="Bobs-password2")
bob = redfish.redfish_client(base_url=url, username="bob", password="Bobs-password2", cafile=ca)
bob.login(auth="session")
bob.logout()
utilities.delete_user(client, "bob")
assert len(utilities.get_users(client)) == 1
import os, tempfile
image = os.path.join(tempfile.mkdtemp(), "NIC-1.3.bin")
with open(image, "wb") as file:
    file.write(bytes(range(256)) * 1000)
pushed = utilities.multipart_push_update(client, image, targets=["/redfish/v1/UpdateService/FirmwareInventory/NIC"])
monitor = pushed.monitor(client)
while monitor.is_processing:
    monitor = pushed.monitor(client)
versions = {f["Id"]: f["Version"] for f in utilities.get_firmware_inventory(client)}
assert versions["NIC"] == "1.3", versions
utilities.manager_reset(client, None, "GracefulRestart")
print("all of it")
"#;

/// What somebody who knows server-sent events and nothing of Redfish's or ours hears.
const LISTENER: &str = r#"
import json, requests, sseclient, sys
url, ca = sys.argv[1:3]
auth = ("admin", "S3cret")
service = requests.get(url + "/redfish/v1/EventService", auth=auth, verify=ca).json()
stream = requests.get(url + service["ServerSentEventUri"], auth=auth, verify=ca, stream=True,
                      headers={"Accept": "text/event-stream"})
assert stream.headers["Content-Type"] == "text/event-stream", stream.headers
events = sseclient.SSEClient(stream).events()
reset = url + "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
for kind, word in (("On", "ResourcePoweredOn"), ("ForceOff", "ResourcePoweredOff")):
    requests.post(reset, json={"ResetType": kind}, auth=auth, verify=ca).raise_for_status()
    event = next(events)
    [told] = json.loads(event.data)["Events"]
    assert told["MessageId"].endswith(word) and event.id, event
assert requests.get(url + service["ServerSentEventUri"], verify=ca).status_code == 401
print("all of it")
"#;

struct Lab {
    service: RedfishHandle,
    chassis: Arc<MemoryChassis>,
    dir: TempDir,
}

impl Lab {
    async fn start(change: impl FnOnce(&mut RedfishConfig)) -> Self {
        let facts = Facts {
            manufacturer: "Farrier".into(),
            model: "M1".into(),
            serial_number: "S1".into(),
            uuid: [7; 16],
            cpus: 8,
            memory_bytes: 16 << 30,
            macs: vec!["02:00:00:00:00:01".into()],
        };
        let mut config = RedfishConfig::new(USER, Secret::new(PASSWORD), facts);
        let tls = SelfSigned::generate(&["127.0.0.1".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), tls.cert_pem()).unwrap();
        config.tls = Some(tls);
        change(&mut config);
        let chassis = Arc::new(MemoryChassis::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = RedfishServer::start(listener, config, chassis.clone()).unwrap();
        Self { service, chassis, dir }
    }

    /// Runs a program that says at its end that it is through.
    async fn python(&self, python: &Path, program: &str) {
        let mut command = Command::new(python);
        command.args(["-c", program, &self.url("")]).arg(self.ca()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(180), command.output()).await;
        let output = output.expect("it is done in three minutes").unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("all of it"), "{out}\n{err}");
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.service.address())
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Status code, headers and body.
    async fn curl(&self, path: &str, arguments: &[&str]) -> (String, String) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60", "--cacert"])
            .arg(self.ca())
            .args(arguments)
            .arg(self.url(path))
            .kill_on_drop(true)
            .output()
            .await
            .expect("curl is not installed: apt-get install curl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let status = text.split(' ').nth(1).unwrap_or_default().chars().take(3).collect();
        (status, text)
    }
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let line =
        text.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).1.trim()
}

#[tokio::test]
async fn sushy_and_dmtfs_tools_drive_everything() {
    let python = python::with_redfish_clients().await;
    let lab = Lab::start(|_| ()).await;
    lab.python(&python, SUSHY).await;
    let flags = BootFlags { valid: true, persistent: false, efi: true, device: BootDeviceSelector::PXE };
    assert_eq!(lab.chassis.boots(), [flags, BootFlags::NONE, BootFlags::NONE]);
    use PowerAction::{Interrupt, Off, On, Reset, Soft};
    assert_eq!(lab.chassis.actions(), [On, Reset, Soft, On, Interrupt, Off]);
    assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Indefinitely);
    assert_eq!(lab.service.session_count().await, 0, "sushy deletes its session");
    lab.service.shutdown().await;
    // Vendors' own clients, on services of their vendor's shape.
    for (personality, program) in [(Personality::Idrac, vendors::IDRAC), (Personality::Ilo, vendors::ILO)] {
        let lab = Lab::start(|config| *config = config.clone().of(personality)).await;
        lab.python(&python, program).await;
        assert_eq!(lab.chassis.boots()[0].device, BootDeviceSelector::CDROM, "{personality:?}");
        lab.service.shutdown().await;
    }
    let lab = Lab::start(|_| ()).await;
    lab.python(&python, LISTENER).await;
    lab.service.shutdown().await;
    // Both models of sensors.
    for new in [false, true] {
        let lab = Lab::start(|config| config.sensor_collection = new).await;
        lab.python(&python, TACKLEBOX).await;
        assert_eq!(lab.chassis.actions()[..2], [On, Interrupt]);
        assert_eq!(lab.service.restarts().await, 1);
        let pushed = lab.service.pushed().await;
        assert_eq!((pushed[0].name.as_str(), pushed[0].bytes.len()), ("NIC-1.3.bin", 256_000));
        lab.service.shutdown().await;
    }
}

#[tokio::test]
async fn curl_listens_to_events() {
    let lab = Lab::start(|_| ()).await;
    let mut listening = Command::new("curl")
        .args(["--silent", "--show-error", "--no-buffer", "-u", "admin:S3cret", "--cacert"])
        .arg(lab.ca())
        .arg(lab.url("/redfish/v1/EventService/SSE"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("curl is not installed: apt-get install curl");
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(": listening"));
    let json = ["-H", "Content-Type: application/json", "-u", "admin:S3cret"];
    let on = [&json[..], &["-d", r#"{"ResetType": "On"}"#]].concat();
    assert_eq!(lab.curl("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", &on).await.0, "204");
    let mut told = Vec::new();
    while told.len() < 4 {
        told.push(lines.next_line().await.unwrap().unwrap());
    }
    assert_eq!((told[0].as_str(), told[1].as_str(), told[3].as_str()), ("", "id: 1", ""), "{told:?}");
    let event: serde_json::Value = serde_json::from_str(told[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["Events"][0]["MessageId"], "ResourceEvent.1.3.ResourcePoweredOn", "{event}");
    lab.service.shutdown().await;
}

#[tokio::test]
async fn curl_opens_a_session_changes_with_an_etag_and_is_refused_without_a_right() {
    let lab = Lab::start(|_| ()).await;
    let (status, text) = lab.curl("/redfish/v1/", &[]).await;
    assert_eq!(status, "200", "{text}");
    assert_eq!(lab.curl("/redfish/v1/Systems", &[]).await.0, "401");
    let json = ["-H", "Content-Type: application/json"];
    let login = [json[0], json[1], "-d", r#"{"UserName": "admin", "Password": "S3cret"}"#];
    let (status, text) = lab.curl("/redfish/v1/SessionService/Sessions", &login).await;
    assert_eq!(status, "201", "{text}");
    let token = format!("X-Auth-Token: {}", header(&text, "x-auth-token"));
    let session = header(&text, "location").to_owned();
    let (status, text) = lab.curl("/redfish/v1/Systems/1", &["-H", &token]).await;
    assert_eq!(status, "200");
    let etag = format!("If-Match: {}", header(&text, "etag"));
    let boot = r#"{"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Continuous"}}"#;
    let patch = ["-X", "PATCH", "-H", &token, json[0], json[1], "-H", &etag, "-d", boot];
    assert_eq!(lab.curl("/redfish/v1/Systems/1", &patch).await.0, "204");
    // It has changed since: the same condition fails, and nothing is done.
    let (status, text) = lab.curl("/redfish/v1/Systems/1", &patch).await;
    assert_eq!(status, "412", "{text}");
    assert!(text.contains("PreconditionFailed"), "{text}");
    let reset = ["-H", &token, json[0], json[1], "-d", r#"{"ResetType": "Nonsense"}"#];
    let (status, text) = lab.curl("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", &reset).await;
    assert_eq!((status.as_str(), text.contains("PropertyValueNotInList")), ("400", true), "{text}");
    assert_eq!(lab.curl("/redfish/v1/Systems/2", &["-u", "admin:S3cret"]).await.0, "404");
    assert_eq!(lab.curl("/redfish/v1/Systems/1", &["-u", "admin:wrong"]).await.0, "401");
    assert_eq!(lab.curl(&session, &["-X", "DELETE", "-H", &token]).await.0, "204");
    assert_eq!(lab.curl("/redfish/v1/Systems/1", &["-H", &token]).await.0, "401");
    assert_eq!(lab.chassis.actions(), []);
    lab.service.shutdown().await;
}
