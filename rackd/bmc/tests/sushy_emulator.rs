//! Our client against sushy-tools' emulator with its fake driver: another author's Redfish service. It has no
//! sessions, a service root without `Links`, and power that changes some seconds after it was asked to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use farrier_bmc::redfish::{PlainDial, RedfishAddress, RedfishHub, Trust};
use farrier_bmc::{
    BmcError, BootMode, BootOverride, Deadline, Device, Health, Led, Look, PowerState, Restarted, Secret,
    SecureBootState, SensorHealth,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

const USER: &str = "admin";
const PASSWORD: &str = "password";
const SYSTEM: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef094";

/// The emulator as it is, on a port of the kernel's choice.
const START: &str = r#"
import bcrypt, os, sys
folder = sys.argv[1]
with open(folder + "/users", "wb") as file:
    file.write(b"admin:" + bcrypt.hashpw(b"password", bcrypt.gensalt(4)) + b"\n")
with open(folder + "/emulator.conf", "w") as file:
    file.write("SUSHY_EMULATOR_FAKE_DRIVER = True\n")
    file.write("SUSHY_EMULATOR_AUTH_FILE = %r\n" % (folder + "/users"))
    file.write("SUSHY_EMULATOR_STATE_DIR = %r\n" % folder)
    system = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
    disks = [{"Id": "A", "Name": "Drive A", "CapacityBytes": 899527000000, "Protocol": "SAS"},
             {"Id": "B", "Name": "Drive B", "CapacityBytes": 480103981056, "Protocol": "NVMe"}]
    file.write("SUSHY_EMULATOR_STORAGE = %r\n" % {system: [{"Id": "1", "Name": "Local", "StorageControllers": [
        {"MemberId": "0", "Name": "Contoso", "SpeedGbps": 12}], "Drives": ["A", "B"]}]})
    file.write("SUSHY_EMULATOR_DRIVES = %r\n" % {(system, "1"): disks})
os.environ["SUSHY_EMULATOR_CONFIG"] = folder + "/emulator.conf"
from werkzeug.serving import make_server
from sushy_tools.emulator.main import app
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// A virtual environment with sushy-tools, made once per target directory.
async fn environment() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sushy-tools-2.2.0");
    if directory.join("bin/sushy-emulator").exists() {
        return directory.join("bin/python");
    }
    let status = Command::new("python3").args(["-m", "venv"]).arg(&directory).status().await;
    let made = status.is_ok_and(|status| status.success());
    assert!(made, "python3 -m venv failed: apt-get install python3-venv");
    let pip = Command::new(directory.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "sushy-tools==2.2.0"])
        .status()
        .await
        .unwrap();
    assert!(pip.success(), "pip install sushy-tools==2.2.0 failed: the package index must be reachable once");
    directory.join("bin/python")
}

struct Emulator {
    addr: SocketAddr,
    _folder: tempfile::TempDir,
    /// Ends the process when dropped.
    _child: Child,
}

impl Emulator {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(environment().await)
            .args(["-c", START])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(Duration::from_secs(120), lines.next_line()).await;
        let port: u16 = first.expect("a port in two minutes").unwrap().expect("a port").parse().unwrap();
        Self { addr: ([127, 0, 0, 1], port).into(), _folder: folder, _child: child }
    }

    fn address(&self) -> RedfishAddress {
        RedfishAddress::new(self.addr, USER, Secret::new(PASSWORD), Trust::Plain)
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(90))
}

/// A web server with one image, and where it is. It ends with the test.
async fn images() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/small.iso", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|length| length > 2) {
                line.clear();
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsmall";
            let _gone = stream.write_all(answer).await;
        }
    });
    url
}

/// One test, so that the environment is made by one.
#[tokio::test]
async fn sushy_tools_emulator_is_driven() {
    let emulator = Emulator::start().await;
    let hub = RedfishHub::new(Arc::new(PlainDial));
    let bmc = hub.bmc(emulator.address());
    assert_eq!(bmc.driver(), "redfish");
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    let look = bmc.look(soon()).await.unwrap();
    let well = Look {
        power: PowerState::Off,
        health: Health::Ok,
        problem: String::new(),
        settling: false,
        who: look.who,
    };
    assert_eq!(look, well);
    let off = SecureBootState { enabled: false, current: Some(false), mode: "DeployedMode".to_owned() };
    assert_eq!(bmc.secure_boot(soon()).await, Ok(off.clone()));
    let on = SecureBootState { enabled: true, current: Some(true), ..off };
    assert_eq!(bmc.set_secure_boot(true, soon()).await, Ok(on.clone()));
    assert_eq!(bmc.secure_boot(soon()).await, Ok(on));
    let identity = bmc.identity(soon()).await.unwrap();
    assert_eq!(identity.protocol, "Redfish 1.5.0");
    assert_eq!(identity.guid.unwrap()[..4], [0x27, 0x94, 0x6b, 0x59]);

    for wanted in [
        BootOverride { device: Device::Network, persistent: true, mode: BootMode::Uefi },
        BootOverride { device: Device::Disk, persistent: true, mode: BootMode::Bios },
    ] {
        assert_eq!(bmc.set_boot_device(wanted, soon()).await, Ok(wanted));
        assert_eq!(bmc.boot_device(soon()).await, Ok(wanted));
    }

    // The mode alone, beside no override's device.
    assert_eq!(bmc.boot_mode(soon()).await.unwrap().current, Some(BootMode::Bios));
    for mode in [BootMode::Uefi, BootMode::Bios] {
        let set = bmc.set_boot_mode(mode, soon()).await.unwrap();
        assert_eq!((set.current, set.pending, set.task.as_str()), (Some(mode), None, ""));
        assert_eq!(bmc.boot_mode(soon()).await, Ok(set));
    }

    let inventory = bmc.inventory(soon()).await.unwrap();
    assert_eq!(inventory.nics[0].mac_address, "00:5c:52:31:3a:9c");
    let disks: Vec<_> =
        inventory.disks.iter().map(|disk| (&*disk.name, disk.size_bytes, &*disk.protocol)).collect();
    assert_eq!(disks, [("Drive A", 899_527_000_000, "SAS"), ("Drive B", 480_103_981_056, "NVMe")]);
    assert_eq!((&*inventory.disks[0].serial_number, &*inventory.disks[0].media), ("1234570", "HDD"));
    assert!(!inventory.warnings.is_empty(), "the fake machine says little, and that is no end");

    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    // It offers no PowerCycle, and a ForceRestart.
    assert_eq!(bmc.power_cycle(soon()).await, Ok(Restarted::OffAndOn));
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::On));
    assert_eq!(bmc.power_reset(soon()).await, Ok(Restarted::ByBmc));
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    assert_eq!(bmc.ensure_power(PowerState::Off, soon()).await, Ok(true));
    let sensors = bmc.sensors(soon()).await.unwrap();
    let shown: Vec<_> =
        sensors.sensors.iter().map(|s| (s.name.as_str(), s.value, s.unit, s.health)).collect();
    assert!(shown.contains(&("Chassis Intake Temp", Some(25.0), "°C", SensorHealth::Ok)), "{shown:?}");
    assert!(shown.contains(&("BaseBoard System Fan", Some(2100.0), "rpm", SensorHealth::Ok)), "{shown:?}");
    // The emulator keeps no log, no power meter and no boot order.
    for error in [
        bmc.event_log(9, soon()).await.map(drop),
        bmc.power_draw(soon()).await.map(drop),
        bmc.boot_order(soon()).await.map(drop),
    ] {
        assert!(matches!(error, Err(BmcError::Unsupported { driver: "redfish", .. })), "{error:?}");
    }
    // The emulator fetches the image.
    let iso = images().await;
    let media = bmc.insert_media(&iso, soon()).await.unwrap();
    assert_eq!((media.inserted, media.image.as_str()), (true, iso.as_str()));
    assert!(!bmc.eject_media(soon()).await.unwrap().inserted);
    bmc.identify(Led::On, soon()).await.unwrap();
    bmc.identify(Led::Off, soon()).await.unwrap();

    let error = |change: fn(&mut RedfishAddress)| {
        let mut address = emulator.address();
        change(&mut address);
        let bmc = hub.bmc(address);
        async move { bmc.power_status(soon()).await.unwrap_err() }
    };
    let wrong = error(|address| address.password = Secret::new("wrong")).await;
    assert!(matches!(wrong, BmcError::WrongPassword { .. }), "{wrong}");
    let lost = error(|address| address.system = "none".to_owned()).await;
    assert!(matches!(&lost, BmcError::NoSystem { seen, .. } if seen.contains(SYSTEM)), "{lost}");
    let mut named = emulator.address();
    named.system = format!("/redfish/v1/Systems/{SYSTEM}");
    assert_eq!(hub.bmc(named).power_status(soon()).await, Ok(PowerState::Off));
    hub.shutdown().await;
}
