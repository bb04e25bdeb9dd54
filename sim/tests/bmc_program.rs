//! `farrier-sim bmc`, the program, before foreign clients and our own: many BMCs of several vendors in one process, both
//! protocols of each about one machine, and a fault script that harms whom it names and nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "bmc_program/faults.rs"]
mod faults;
#[path = "bmc_program/freeipmi.rs"]
mod freeipmi;
mod judge;
#[path = "bmc_program/ours.rs"]
mod ours;
mod python;
#[path = "bmc_program/qemu.rs"]
mod qemu;
#[path = "bmc_program/schemas.rs"]
mod schemas;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use judge::{Output, PATIENCE, run, soon};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const USER: &str = "admin";
const PASSWORD: &str = "S3cret-of-20-bytes!!";

/// The program, and what it said of its BMCs.
struct Program {
    child: Child,
    dir: TempDir,
    bmcs: Vec<Row>,
}

/// One line of it.
struct Row {
    personality: String,
    ipmi: SocketAddr,
    redfish: SocketAddr,
    sha256: [u8; 32],
}

impl Program {
    /// On free ports, of addresses that are this process's.
    async fn start(count: usize, script: &str, arguments: &[&str]) -> Self {
        Self::start_at("0", count, script, arguments).await
    }

    async fn start_at(ipmi_port: &str, count: usize, script: &str, arguments: &[&str]) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        // Not the last ones: some hundreds of BMCs are counted on from it.
        let first = format!("127.{}.{low}.1", 1 + high % 250);
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_farrier-sim"))
            .args(["bmc", "--address", &first, "--count", &count.to_string()])
            .args(["--ipmi-port", ipmi_port, "--redfish-port", "0", "--user", USER])
            .arg("--password-file")
            .arg(write("password", &format!("{PASSWORD}\n")))
            .arg("--faults")
            .arg(write("faults.toml", script))
            .arg("--certificates")
            .arg(dir.path().join("certificates"))
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut bmcs = Vec::with_capacity(count);
        for number in 0..count {
            let line = soon(lines.next_line()).await.unwrap().expect("a line for each BMC");
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields[0], number.to_string());
            bmcs.push(Row {
                personality: fields[1].to_owned(),
                ipmi: fields[2].parse().unwrap(),
                redfish: fields[3].strip_prefix("https://").unwrap().parse().unwrap(),
                sha256: hex::decode(fields[4]).unwrap().try_into().unwrap(),
            });
        }
        Self { child, dir, bmcs }
    }

    fn certificate(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("certificates/{}.pem", self.bmcs[number].redfish.ip()))
    }

    async fn ipmitool(&self, number: usize, arguments: &str) -> Output {
        self.ipmitool_with(number, "-C 17 -R 3 -N 2", arguments).await
    }

    async fn ipmitool_with(&self, number: usize, options: &str, arguments: &str) -> Output {
        let address = self.bmcs[number].ipmi;
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-U", USER, "-P", PASSWORD]);
        command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        command.args(options.split_whitespace()).args(arguments.split_whitespace());
        run(command, "ipmitool").await
    }

    /// A program that says at its end that it is through.
    async fn python(&self, python: &Path, number: usize, program: &str) -> Output {
        let mut command = Command::new(python);
        command.args(["-c", program, &format!("https://{}", self.bmcs[number].redfish)]);
        command.arg(self.certificate(number)).arg(PASSWORD);
        let output = run(command, "python3").await;
        output.succeeds().says("all of it");
        output
    }

    fn curl(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--no-buffer", "--max-time", "120"]);
        command.arg("--cacert").arg(self.certificate(0)).args(["--user", &format!("{USER}:{PASSWORD}")]);
        command.arg(format!("https://{}{path}", self.bmcs[0].redfish));
        command
    }

    async fn get(&self, path: &str) -> serde_json::Value {
        let output = run(self.curl(path), "curl").await;
        serde_json::from_str(&output.succeeds().text).unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Output {
        let mut command = self.curl(path);
        command.args(["--json", body]);
        run(command, "curl").await
    }

    /// Once somebody listens to them.
    async fn events(&self) -> Events {
        let mut command = self.curl("/redfish/v1/EventService/SSE");
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut events = Events { _child: child, lines };
        events.tell(": listening").await;
        events
    }

    /// Asked to end, it ends well.
    async fn stop(mut self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(soon(self.child.wait()).await.unwrap().success());
    }
}

/// Server-sent events, as curl has them.
struct Events {
    _child: Child,
    lines: BufReader<ChildStdout>,
}

impl Events {
    async fn tell(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let length = soon(self.lines.read_line(&mut line)).await.unwrap();
            assert!(length > 0, "expected {words:?}, the stream has ended");
        }
    }
}

/// A program at a terminal of its own: `script` gives it one.
struct Terminal {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    seen: String,
}

impl Terminal {
    fn start(line: &str) -> Self {
        let mut child = Command::new("script")
            .args(["-q", "-f", "-e", "-c", line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script is not installed: apt-get install bsdutils");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, stdout, seen: String::new() }
    }

    async fn types(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }

    async fn shows(&mut self, words: &str) {
        let mut buffer = [0; 512];
        while !self.seen.contains(words) {
            let length = soon(self.stdout.read(&mut buffer)).await.unwrap();
            assert!(length > 0, "expected {words:?}, ended after {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    async fn ends(mut self) {
        drop(self.stdin);
        let mut rest = Vec::new();
        // A terminal that is gone is an end, too.
        let _ = soon(self.stdout.read_to_end(&mut rest)).await;
        soon(self.child.wait()).await.unwrap();
    }
}

const PERSONALITIES: &str = "plain,ilo,idrac,supermicro,openbmc";

/// What ipmitool is asked, of every vendor's, and what it must say of a machine that is on.
const IPMITOOL: &[(&str, &[&str])] = &[
    ("power on", &["Up/On"]),
    ("power status", &["Chassis Power is on"]),
    ("chassis status", &["System Power         : on"]),
    ("sdr elist", &["CPU Temp         | 30h | ok  |  7.1 | 47 degrees C", "5400 RPM", "Presence detected"]),
    ("sdr info", &["Record Count                        : 8"]),
    ("sensor get 12V", &["Upper Critical        : 13.230"]),
    ("fru", &["Builtin FRU Device (ID 0)", "Board Product         : SIM-1", "Product Name"]),
    ("sel list", &["Power Unit #0x01 | Power off/down", "| Deasserted"]),
    ("sel info", &["Entries          : 1", "'Delete' 'Reserve'"]),
    ("sel delete 1", &["Deleted entry 1"]),
    ("sel list", &["SEL has no entries"]),
    ("user list 1", &["2   admin", "ADMINISTRATOR"]),
    ("user set name 3 carol", &[]),
    ("user set password 3 Carols-password1 16", &["Set User Password command successful"]),
    ("user priv 3 3 1", &["Set Privilege Level command successful"]),
    ("user enable 3", &[]),
    ("user list 1", &["3   carol", "OPERATOR"]),
    ("lan print 1", &["IP Address Source       : Static Address", "Subnet Mask             : 255.0.0.0"]),
    ("lan print 1", &["RMCP+ Cipher Suites     : 17,3", "802.1q VLAN ID          : Disabled"]),
    ("lan set 1 defgw ipaddr 10.0.0.1", &["Setting LAN Default Gateway IP to 10.0.0.1"]),
    ("lan set 1 vlan id 42", &[]),
    ("lan print 1", &["Default Gateway IP      : 10.0.0.1", "802.1q VLAN ID          : 42"]),
    ("channel info 1", &["802.3 LAN", "multi-session", "Active Session Count  : 1"]),
    ("sol info 1", &["Enabled                         : true", "Payload Channel                 : 1"]),
    ("mc selftest", &["Selftest: passed"]),
    ("mc watchdog get", &["Stopped"]),
    ("dcmi discover", &["Power management available", "512 SEL entries"]),
    ("dcmi power reading", &["Instantaneous power reading:                   180 Watts"]),
    ("dcmi sensors", &["Inlet Temp       | 24 degrees C"]),
    ("dcmi get_mc_id_string", &["bmc-0000000"]),
    ("chassis identify force", &["indefinite"]),
    ("chassis bootdev pxe options=efiboot", &["Set Boot Device to pxe"]),
    ("chassis bootparam get 5", &["BIOS EFI boot", "Force PXE"]),
    ("power off", &["Down/Off"]),
];

#[tokio::test]
async fn ipmitool_drives_every_personality() {
    let program = Program::start(5, "", &["--personality", PERSONALITIES]).await;
    let all = program.bmcs.iter().enumerate().map(async |(number, bmc)| {
        for (asked, said) in IPMITOOL {
            let output = program.ipmitool(number, asked).await;
            for words in *said {
                assert!(
                    output.text.contains(words),
                    "{}: {asked}: {words:?}\n{}",
                    bmc.personality,
                    output.text
                );
            }
            assert!(output.ok, "{}: {asked}\n{}", bmc.personality, output.text);
        }
    });
    futures::future::join_all(all).await;
    program.ipmitool(2, "mc info").await.says("Dell Inc.");
    program.ipmitool(1, "fru print 0").await.says("ProLiant DL360 Gen10");
    // An operator of its own, with the other suite.
    let carol = "-C 3 -U carol -P Carols-password1 -L OPERATOR";
    program.ipmitool_with(3, carol, "power status").await.succeeds().says("Chassis Power is off");
    program.ipmitool_with(3, carol, "user set name 4 dave").await.fails();
    program.stop().await;
}

#[tokio::test]
async fn who_a_machine_is_and_where_its_bmc_is_is_the_same_over_both_protocols() {
    let program = Program::start(2, "", &[]).await;
    for number in 0..2 {
        let serial = format!("Product Serial        : SIM0000{number}");
        program.ipmitool(number, "fru print 0").await.says(&serial);
    }
    assert_eq!(program.get("/redfish/v1/Systems/1").await["SerialNumber"], "SIM00000");
    let managers = program.get("/redfish/v1/Managers").await;
    let linked = |value: &serde_json::Value| value["@odata.id"].as_str().unwrap().to_owned();
    let manager = program.get(&linked(&managers["Members"][0])).await;
    let interfaces = program.get(&linked(&manager["EthernetInterfaces"])).await;
    let interface = program.get(&linked(&interfaces["Members"][0])).await;
    let (mac, address) = (&interface["MACAddress"], &interface["IPv4Addresses"][0]["Address"]);
    let told = program.ipmitool(0, "lan print 1").await;
    told.says(&format!("IP Address              : {}", address.as_str().unwrap()));
    told.says(&format!("MAC Address             : {}", mac.as_str().unwrap()));
    assert_eq!(address.as_str(), Some(&*program.bmcs[0].redfish.ip().to_string()));
    // The machine's own are others.
    let nics = program.get("/redfish/v1/Systems/1/EthernetInterfaces").await;
    assert_ne!(&program.get(&linked(&nics["Members"][0])).await["MACAddress"], mac);
    // Our client reads both.
    let hubs = ours::Hubs::start().await;
    let [ipmi, redfish] = [hubs.ipmi(&program, 0), hubs.redfish(&program, 0)];
    let read = async |bmc: farrier_bmc::Bmc| {
        let mut seen = bmc.network(ours::later()).await.unwrap().interfaces;
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    };
    let (one, other) = (read(ipmi).await, read(redfish).await);
    assert_eq!((one.mac, one.address), (other.mac, other.address));
    assert!(one.mac.is_some() && one.address.is_some(), "{one:?}");
    hubs.stop().await;
    program.stop().await;
}

/// A countdown of two seconds that resets the machine (IPMI 2.0 section 27.6), with a use for operating systems.
const WATCHDOG: &str = "raw 0x06 0x24 0x04 0x01 0x00 0x10 0x14 0x00";

#[tokio::test]
async fn ipmitool_has_the_console_and_the_watchdog_bites() {
    let program = Program::start(2, "", &[]).await;
    let address = program.bmcs[0].ipmi;
    let (host, port) = (address.ip(), address.port());
    let mut terminal = Terminal::start(&format!(
        "ipmitool -I lanplus -C 17 -H {host} -p {port} -U {USER} -P '{PASSWORD}' sol activate"
    ));
    terminal.shows("SOL Session operational").await;
    program.ipmitool(0, "power on").await.succeeds();
    terminal.shows("pretend login:").await;
    terminal.types("root\r").await;
    terminal.shows("root").await;
    program.ipmitool(0, "sol activate").await.fails().says("SOL payload already active");
    program.ipmitool(0, "mc watchdog reset").await.fails();
    program.ipmitool(0, WATCHDOG).await.succeeds();
    program
        .ipmitool(0, "mc watchdog get")
        .await
        .says("SMS/OS")
        .says("Hard Reset")
        .says("Stopped")
        .says("2.0 sec");
    program.ipmitool(0, "mc watchdog reset").await.succeeds();
    // The machine starts again, by itself.
    terminal.seen.clear();
    terminal.shows("pretend login:").await;
    program.ipmitool(0, "mc watchdog get").await.says("Stopped").says("SMS/OS");
    program.ipmitool(0, "sel list").await.says("Power cycle");
    // One that is switched off in time does nothing.
    program.ipmitool(0, "sel clear").await.succeeds();
    program.ipmitool(0, "raw 0x06 0x24 0x04 0x01 0x00 0x10 0x58 0x02").await.succeeds();
    program.ipmitool(0, "mc watchdog reset").await.succeeds();
    program.ipmitool(0, "mc watchdog get").await.says("Started");
    program.ipmitool(0, "mc watchdog off").await.succeeds();
    program.ipmitool(0, "mc watchdog get").await.says("Stopped");
    terminal.types("\r~.").await;
    terminal.shows("terminated ipmitool").await;
    terminal.ends().await;
    program.stop().await;
}

/// What is done over one protocol is seen over the other.
const SUSHY: &str = r#"
import sushy, sys, subprocess
url, ca, password = sys.argv[1:4]
auth = sushy.auth.SessionAuth(username="admin", password=password)
root = sushy.Sushy(url, auth=auth, verify=ca)
[system] = root.get_system_collection().get_members()
assert system.power_state == sushy.PowerState.ON, "switched on by ipmitool"
assert system.boot.target == sushy.BootSource.HDD, system.boot
assert system.indicator_led == sushy.IndicatorLED.LIT, system.indicator_led
system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.CONTINUOUS,
                               mode=sushy.BootSourceOverrideMode.UEFI)
system.reset_system(sushy.ResetType.FORCE_RESTART)
system.reset_system(sushy.ResetType.FORCE_OFF)
assert system.manufacturer and system.serial_number.startswith("SIM"), system.serial_number
auth.close()
print("all of it")
"#;

#[tokio::test]
async fn sushy_and_ipmitool_see_one_machine() {
    let python = python::with_redfish_clients().await;
    let program = Program::start(5, "", &["--personality", PERSONALITIES]).await;
    let all = program.bmcs.iter().enumerate().map(async |(number, _)| {
        program.ipmitool(number, "power on").await.succeeds();
        program.ipmitool(number, "chassis bootdev disk options=persistent").await.succeeds();
        program.ipmitool(number, "chassis identify force").await.succeeds();
        program.python(&python, number, SUSHY).await;
        program.ipmitool(number, "power status").await.says("Chassis Power is off");
        program.ipmitool(number, "chassis bootparam get 5").await.says("Force PXE").says("all future boots");
        // What it says behind an event depends on the vendor.
        let log = program.ipmitool(number, "sel list").await;
        log.says("Power cycle").says("Power off/down").says("| Asserted").says("| Deasserted");
    });
    futures::future::join_all(all).await;
    program.stop().await;
}

/// A button is pressed over one protocol, and the other tells: events of Redfish, and the event log of IPMI. Faults that the
/// service gets over hide nothing of it.
#[tokio::test]
async fn one_machine_has_two_faces_that_tell_the_same() {
    let faults =
        "[[fault]]\nover = [\"redfish\"]\nwhat = { delay = \"10ms\" }\n[[fault]]\nwhat = { lag = \"1ms\" }\n";
    let program = Program::start(1, faults, &[]).await;
    let mut events = program.events().await;
    program.ipmitool(0, "power on").await.succeeds();
    events.tell("ResourcePoweredOn").await;
    program
        .post("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", "{\"ResetType\":\"ForceOff\"}")
        .await
        .succeeds();
    events.tell("ResourcePoweredOff").await;
    let log = program.ipmitool(0, "sel list").await;
    log.says("Power off/down | Deasserted").says("Power off/down | Asserted");
    // A button that changes nothing is no event.
    program.ipmitool(0, "power off").await.succeeds();
    program.ipmitool(0, "sel info").await.says("Entries          : 2");
    // The watchdog switches on nothing, but resets; a machine that is on is on.
    program.ipmitool(0, "power on").await.succeeds();
    events.tell("ResourcePoweredOn").await;
    program.ipmitool(0, "raw 0x06 0x24 0x04 0x02 0x00 0x10 0x01 0x00").await.succeeds();
    program.ipmitool(0, "mc watchdog reset").await.succeeds();
    events.tell("ResourcePoweredOff").await;
    let entries = program.get("/redfish/v1/Systems/1/LogServices/SEL/Entries").await;
    assert_eq!(entries["Members"][0]["Message"], "Power off", "{entries}");
    program.stop().await;
}
