//! Foreign programs against our simulated BMC: ipmitool and FreeIPMI judge our protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod judge;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farrier_sim::bmc::{
    BmcConfig, BmcHandle, BmcServer, BootDeviceSelector, BootFlags, ChassisIdentify, CipherSuite, EventLog,
    MemoryChassis, PowerAction, Secret,
};
use judge::{Output, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::process::Command;

const USER: &str = "admin";
const PASSWORD: &str = "S3cret-of-20-bytes!!";

struct Lab {
    bmc: BmcHandle,
    chassis: Arc<MemoryChassis>,
}

impl Lab {
    async fn start(change: impl FnOnce(&mut BmcConfig)) -> Self {
        let mut config = BmcConfig::new(USER, Secret::new(PASSWORD));
        change(&mut config);
        let chassis = Arc::new(MemoryChassis::new());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bmc = BmcServer::start(socket, config, chassis.clone()).unwrap();
        Self { bmc, chassis }
    }

    async fn ipmitool(&self, suite: u8, arguments: &str) -> Output {
        self.ipmitool_as(suite, PASSWORD, arguments).await
    }

    async fn ipmitool_as(&self, suite: u8, password: &str, arguments: &str) -> Output {
        let address = self.bmc.address();
        let mut words: Vec<String> =
            ["-I", "lanplus", "-U", USER, "-R", "3", "-N", "2"].map(Into::into).to_vec();
        words.extend(["-H".into(), address.ip().to_string(), "-p".into(), address.port().to_string()]);
        words.extend(["-C".into(), suite.to_string(), "-P".into(), password.into()]);
        words.extend(arguments.split_whitespace().map(Into::into));
        says("ipmitool", "ipmitool", &words).await
    }
}

async fn says(program: &str, package: &str, arguments: &[String]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, package).await
}

async fn ipmitool_drives_everything(suite: u8) {
    let lab = Lab::start(|config| config.suites = vec![CipherSuite::from_id(suite).unwrap()]).await;
    lab.ipmitool(suite, "power status").await.succeeds().says("Chassis Power is off");
    lab.ipmitool(suite, "chassis bootdev pxe options=efiboot,persistent").await.succeeds();
    let flags = BootFlags { valid: true, persistent: true, efi: true, device: BootDeviceSelector::PXE };
    lab.ipmitool(suite, "chassis bootparam get 5")
        .await
        .succeeds()
        .says("Boot Flag Valid")
        .says("Options apply to all future boots")
        .says("BIOS EFI boot")
        .says("Force PXE");
    lab.ipmitool(suite, "power on").await.succeeds().says("Up/On");
    lab.ipmitool(suite, "power status").await.succeeds().says("Chassis Power is on");
    lab.ipmitool(suite, "power cycle").await.succeeds().says("Cycle");
    lab.ipmitool(suite, "power reset").await.succeeds().says("Reset");
    lab.ipmitool(suite, "power soft").await.succeeds().says("Soft");
    lab.ipmitool(suite, "power status").await.succeeds().says("Chassis Power is off");
    lab.ipmitool(suite, "power off").await.succeeds().says("Down/Off");
    lab.ipmitool(suite, "mc info").await.succeeds().says("IPMI Version              : 2.0");
    lab.ipmitool(suite, "mc guid").await.succeeds();
    lab.ipmitool(suite, "chassis identify 30").await.succeeds();
    assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Seconds(30));
    lab.ipmitool(suite, "chassis identify force").await.succeeds();
    assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Indefinitely);
    lab.ipmitool(suite, "channel getciphers ipmi").await.succeeds().says("aes_cbc_128");
    lab.ipmitool(suite, "session info active").await; // not offered; must not upset the session
    assert_eq!(lab.chassis.boots(), [flags; 3], "on, cycle and reset each boot");
    use PowerAction::{Cycle, Off, On, Reset, Soft};
    assert_eq!(lab.chassis.actions(), [On, Cycle, Reset, Soft, Off]);
    assert_eq!(lab.bmc.session_count(), 0, "ipmitool closes its sessions");
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn ipmitool_drives_everything_with_suite_3() {
    ipmitool_drives_everything(3).await;
}

#[tokio::test]
async fn ipmitool_drives_everything_with_suite_17() {
    ipmitool_drives_everything(17).await;
}

#[tokio::test]
async fn ipmitool_is_refused_with_a_wrong_password_or_a_suite_we_never_speak() {
    let lab = Lab::start(|_| {}).await;
    for suite in [3, 17] {
        let output = lab.ipmitool_as(suite, "wrong", "power status").await;
        assert!(!output.ok);
        output.says("Unable to establish IPMI v2 / RMCP+ session");
    }
    for suite in [0, 1, 2] {
        let output = lab.ipmitool(suite, "power status").await;
        assert!(!output.ok, "suite {suite} must be refused");
    }
    lab.bmc.shutdown().await;
}

/// Without `-C`, ipmitool asks for the suites before the session and takes the best.
#[tokio::test]
async fn ipmitool_finds_the_suite_itself() {
    for suites in [vec![CipherSuite::Suite17, CipherSuite::Suite3], vec![CipherSuite::Suite3]] {
        let lab = Lab::start(|config| config.suites = suites).await;
        let address = lab.bmc.address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let words =
            ["-I", "lanplus", "-H", &host, "-p", &port, "-U", USER, "-P", PASSWORD, "power", "status"];
        let output = says("ipmitool", "ipmitool", &words.map(str::to_owned)).await;
        output.succeeds().says("Chassis Power is off");
        assert!(!output.text.contains("Unable"), "{}", output.text);
        lab.bmc.shutdown().await;
    }
}

#[tokio::test]
async fn ipmitool_opens_a_two_key_session() {
    let lab = Lab::start(|config| config.kg = Some(Secret::new("bmc-key"))).await;
    lab.ipmitool(17, "-k bmc-key power status").await.succeeds().says("off");
    let output = lab.ipmitool(17, "-k other-key power status").await;
    assert!(!output.ok);
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn a_one_time_boot_device_is_gone_after_the_boot_and_operators_cannot_do_more() {
    let lab = Lab::start(|config| config.max_privilege = 3).await;
    lab.ipmitool(17, "-L OPERATOR chassis bootdev disk").await.succeeds();
    lab.ipmitool(17, "-L OPERATOR power on").await.succeeds();
    assert_eq!(lab.chassis.boots()[0].device, BootDeviceSelector::DISK);
    lab.ipmitool(17, "-L OPERATOR chassis bootparam get 5").await.succeeds().says("Boot Flag Invalid");
    let output = lab.ipmitool(17, "-L ADMINISTRATOR power off").await;
    assert!(!output.ok, "an operator's account opens no administrator session");
    let output = lab.ipmitool(17, "-L USER power off").await;
    assert!(!output.ok);
    output.says("Insufficient privilege level");
    lab.bmc.shutdown().await;
}

fn freeipmi(address: SocketAddr, suite: u8, password: &str, arguments: &str) -> Vec<String> {
    let mut words = vec!["-h".to_owned(), format!("{address}")];
    words.extend(["-u", USER, "-p", password, "-l", "ADMIN", "-D", "LAN_2_0"].map(Into::into));
    words.extend(["-I".into(), suite.to_string()]);
    words.extend(arguments.split_whitespace().map(Into::into));
    words
}

#[tokio::test]
async fn freeipmi_drives_power_and_chassis() {
    for suite in [3, 17] {
        let lab = Lab::start(|_| {}).await;
        let address = lab.bmc.address();
        let power = async |arguments: &str| {
            says("ipmipower", "freeipmi-tools", &freeipmi(address, suite, PASSWORD, arguments)).await
        };
        power("--stat").await.says("off");
        power("--on").await.says("ok");
        power("--stat").await.says(": on");
        power("--cycle").await.says("ok");
        power("--off").await.says("ok");
        power("--stat").await.says("off");
        let wrong = says("ipmipower", "freeipmi-tools", &freeipmi(address, suite, "wrong", "--stat")).await;
        wrong.says("password invalid");
        let chassis = async |arguments: &str| {
            says("ipmi-chassis", "freeipmi-tools", &freeipmi(address, suite, PASSWORD, arguments)).await
        };
        chassis("--get-status").await.succeeds().says("System Power");
        chassis("--chassis-identify=9").await.succeeds();
        assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Seconds(9));
        lab.bmc.shutdown().await;
    }
}

/// ipmitool at a terminal of its own: `script` gives it one.
struct Terminal {
    child: tokio::process::Child,
    stdin: tokio::process::ChildStdin,
    stdout: tokio::process::ChildStdout,
    seen: String,
}

impl Terminal {
    fn start(address: SocketAddr, suite: u8, arguments: &str) -> Self {
        let (host, port) = (address.ip(), address.port());
        let line = format!(
            "ipmitool -I lanplus -C {suite} -H {host} -p {port} -U {USER} -P '{PASSWORD}' {arguments}"
        );
        let mut child = Command::new("script")
            .args(["-q", "-f", "-e", "-c", &line, "/dev/null"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
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
            let read = tokio::time::timeout(PATIENCE, self.stdout.read(&mut buffer)).await;
            let length = read.unwrap_or_else(|_| panic!("expected {words:?}, seen {:?}", self.seen)).unwrap();
            assert!(length > 0, "expected {words:?}, ended after {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    async fn ends(mut self) -> bool {
        drop(self.stdin);
        let mut rest = Vec::new();
        let wait = async {
            let _ = self.stdout.read_to_end(&mut rest).await;
            self.child.wait().await.unwrap().success()
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("ipmitool ends")
    }
}

/// Generous: the machine may be loaded.
const PATIENCE: Duration = Duration::from_secs(120);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens")
}

async fn ipmitool_has_the_console(suite: u8) {
    let lab = Lab::start(|_| {}).await;
    lab.ipmitool(suite, "sol info").await.succeeds().says("Enabled                         : true");
    lab.ipmitool(suite, "sol payload status 1").await.succeeds();
    let serial = lab.chassis.serial_port();
    let mut terminal = Terminal::start(lab.bmc.address(), suite, "sol activate");
    soon(serial.wait_connected()).await;
    terminal.shows("SOL Session operational").await;
    // More than fits into a packet, in order.
    let text: String = (0..200).map(|n| format!("line {n}\r\n")).collect();
    serial.say(&text);
    terminal.shows("line 199").await;
    assert!(terminal.seen.contains("line 98\r\nline 99\r\nline 100"), "{}", terminal.seen);
    terminal.types("root\r").await;
    soon(serial.wait_for(|heard| heard.typed == b"root\r")).await;
    terminal.types("~B").await;
    soon(serial.wait_for(|heard| heard.breaks == [5])).await;
    // Another one is told that it is taken.
    let other = lab.ipmitool(suite, "sol activate").await;
    assert!(!other.ok);
    // Somebody ends it from outside: ipmitool does not look at the bit that says so, and notices when it types.
    lab.ipmitool(suite, "sol deactivate").await.succeeds();
    terminal.types("x").await;
    terminal.shows("closed by BMC").await;
    terminal.ends().await;
    assert_eq!(serial.heard().typed, b"root\r");

    let mut terminal = Terminal::start(lab.bmc.address(), suite, "sol activate");
    terminal.shows("SOL Session operational").await;
    terminal.types("\r~.").await;
    terminal.shows("terminated ipmitool").await;
    assert!(terminal.ends().await);
    let inactive = lab.ipmitool(suite, "sol deactivate").await;
    inactive.says("already de-activated");
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn ipmitool_has_the_console_with_suite_3() {
    ipmitool_has_the_console(3).await;
}

#[tokio::test]
async fn ipmitool_has_the_console_with_suite_17() {
    ipmitool_has_the_console(17).await;
}

#[tokio::test]
async fn ipmitool_reads_and_clears_the_event_log() {
    let lab = Lab::start(|_| ()).await;
    lab.ipmitool(17, "sel info").await.succeeds().says("Entries          : 0");
    for action in ["on", "reset", "off"] {
        lab.ipmitool(17, &format!("chassis power {action}")).await.succeeds();
    }
    // Upper critical of a temperature (Tables 42-2 and 42-3).
    lab.bmc.log_event([0, 0, 2, 0, 0, 0, 0x65, 0x20, 0, 4, 0x01, 0x30, 0x01, 0x59, 0x5F, 0x5A]);
    lab.ipmitool(17, "sel info").await.succeeds().says("Entries          : 4");
    let list = lab.ipmitool(3, "sel list").await;
    list.succeeds()
        .says("Power off/down | Deasserted")
        .says("Power cycle | Asserted")
        .says("Power off/down | Asserted");
    list.says("Temperature #0x30 | Upper Critical going high | Asserted");
    lab.ipmitool(17, "sel get 0x4").await.succeeds().says("Upper Critical going high");
    lab.ipmitool(17, "sel clear").await.succeeds();
    lab.ipmitool(17, "sel list").await.succeeds().says("SEL has no entries");
}

/// As real ones do it: the erase goes on behind its answer, and cancels the reservation. Of a log without reservations ipmitool
/// says that it cannot reserve it, and gives up.
#[tokio::test]
async fn ipmitool_clears_a_log_whose_erase_takes_its_time() {
    let log = EventLog::default();
    let theirs = log.clone();
    let lab = Lab::start(move |config| config.log = theirs).await;
    lab.bmc.log_event([0, 0, 2, 0, 0, 0, 0x65, 0x20, 0, 4, 0x01, 0x30, 0x01, 0x59, 0x5F, 0x5A]);
    log.erase_slowly(2);
    lab.ipmitool(17, "sel clear").await.succeeds();
    // While it is erased it is not to be looked at (Table 31-2): each look is a command, and brings the end nearer.
    lab.ipmitool(17, "sel info").await.fails().says("Unknown (0x81)");
    lab.ipmitool(17, "sel info").await.succeeds().says("Entries          : 0");
    lab.ipmitool(17, "sel list").await.succeeds().says("SEL has no entries");
}

#[tokio::test]
async fn ipmitool_interrupts_restarts_and_reads_the_power_draw() {
    let lab = Lab::start(|_| {}).await;
    lab.ipmitool(17, "dcmi power reading")
        .await
        .succeeds()
        .says("Instantaneous power reading:                    12 Watts")
        .says("Power reading state is:                   activated");
    lab.ipmitool(17, "power on").await.succeeds();
    lab.ipmitool(17, "power diag").await.succeeds().says("Diag");
    assert_eq!(lab.chassis.actions(), [PowerAction::On, PowerAction::Interrupt]);
    lab.ipmitool(17, "sel list").await.succeeds().says("NMI/Diag Interrupt");
    let arguments = freeipmi(lab.bmc.address(), 17, PASSWORD, "--get-system-power-statistics");
    says("ipmi-dcmi", "freeipmi-tools", &arguments)
        .await
        .succeeds()
        .says("Current Power                        : 180 Watts")
        .says("Power Measurement                    : Active");
    lab.ipmitool(17, "mc reset cold").await.succeeds().says("Sent cold reset command to MC");
    // It waits for no answer to this.
    let restarted = async {
        while lab.bmc.restarts() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), restarted).await.expect("it restarts");
    assert_eq!(lab.bmc.restarts(), 1);
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn ipmitool_lists_users_and_changes_their_passwords() {
    let lab = Lab::start(|_| {}).await;
    lab.ipmitool(17, "user list 1").await.succeeds().says("2   admin").says("ADMINISTRATOR");
    lab.ipmitool(17, "user summary 1").await.succeeds().says("Maximum IDs	    : 10");
    lab.ipmitool(17, "user set name 3 bob").await.succeeds();
    lab.ipmitool(17, "user set password 3 Twenty-bytes-of-bob! 20").await.succeeds();
    lab.ipmitool(17, "user test 3 20 Twenty-bytes-of-bob!").await.succeeds().says("Success");
    let wrong = lab.ipmitool(17, "user test 3 16 Twenty-bytes").await;
    assert!(!wrong.ok, "{}", wrong.text);
    lab.ipmitool(17, "user enable 3").await.succeeds();
    lab.ipmitool(17, "user list 1").await.succeeds().says("3   bob");
    assert!(lab.bmc.accounts().knows("bob", b"Twenty-bytes-of-bob!"));
    lab.ipmitool(17, "user set password 2 another-one-now").await.succeeds();
    assert!(!lab.ipmitool(17, "power status").await.ok, "the old password is no more");
    lab.ipmitool_as(17, "another-one-now", "power status").await.succeeds().says("Chassis Power is off");
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn ipmitool_reads_the_sensors() {
    let lab = Lab::start(|_| ()).await;
    let off = lab.ipmitool(17, "sdr elist").await;
    off.succeeds()
        .says("CPU Temp         | 30h | ns")
        .says("Inlet Temp       | 31h | ok  |  7.1 | 22 degrees C");
    lab.ipmitool(17, "chassis power on").await.succeeds();
    let on = lab.ipmitool(3, "sdr elist").await;
    on.succeeds().says("47 degrees C").says("12.03 Volts").says("5400 RPM").says("180 Watts");
    on.says("PS1 Status       | 40h | ok  | 10.1 | Presence detected");
    on.says("DIMM");
    lab.ipmitool(17, "sensor get 12V").await.succeeds().says("Upper Critical        : 13.230");
}

#[tokio::test]
async fn ipmitool_reads_what_the_board_is() {
    let lab = Lab::start(|config| config.guid = [0xAB; 16]).await;
    let fru = lab.ipmitool(17, "fru print 0").await;
    fru.succeeds()
        .says("Board Mfg Date        : Thu Jan  1 00:00:00 2026")
        .says("Board Serial          : ABABABABABAB");
    fru.says("Product Name          : Simulated Server").says("Product Serial        : ABABABABABAB");
}
