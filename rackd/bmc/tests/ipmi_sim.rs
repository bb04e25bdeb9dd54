//! Our client against OpenIPMI's `ipmi_sim`: another author's BMC, which refuses suite 17.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, Cipher, IpmiHub, Tuning};
use farrier_bmc::{
    BmcError, BootMode, BootOverride, CipherSuite, ConsoleEvent, ConsoleInput, Deadline, Device, Health, Led,
    Look, NetworkSettings, NewAddress, PowerState, Secret, StaticAddress,
};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

const USER: &str = "ipmiusr";
const PASSWORD: &str = "test";

struct IpmiSim {
    addr: SocketAddr,
    directory: TempDir,
    /// Ends the process when dropped.
    _child: Child,
}

impl IpmiSim {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// With further lines of its LAN configuration.
    async fn start_with(lines: &str) -> Self {
        Self::start_emulating(lines, "").await
    }

    /// And of what it emulates.
    async fn start_emulating(lines: &str, emulated: &str) -> Self {
        Self::start_on("", lines, emulated).await
    }

    /// And of its one LAN itself.
    async fn start_on(lan: &str, lines: &str, emulated: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        // ipmi_sim takes no port 0: borrow a free one from the kernel.
        let addr = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let chassis = path("chassis");
        let state = path("power");
        let boot = path("boot");
        std::fs::write(&state, "0").unwrap();
        std::fs::write(&boot, "default").unwrap();
        // `chassis ADDRESS get|set POWER-OR-BOOT [VALUE]`, several names in one get.
        let script = format!(
            "#!/bin/sh\nshift\nop=$1\nshift\nwhile [ $# -gt 0 ]; do\n  case $op:$1 in\n  \
             get:power) echo \"power:$(cat {s})\"; shift;;\n  \
             set:power) printf %s \"$2\" > {s}; shift 2;;\n  \
             get:boot) echo \"boot:$(cat {b})\"; shift;;\n  \
             set:boot) printf %s \"$2\" > {b}; shift 2;;\n  \
             set:identify) echo $2 $3 >> {i}; exit 0;;\n  \
             set:*) shift 2;;\n  *) exit 1;;\n  esac\ndone\n",
            s = state.display(),
            b = boot.display(),
            i = path("identify").display()
        );
        std::fs::write(&chassis, script).unwrap();
        std::fs::set_permissions(&chassis, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "name \"farrier\"\nset_working_mc 0x20\nstartlan 1\n addr {} {}\n priv_limit admin\n \
             allowed_auths_admin none md2 md5 straight\n guid a123456789abcdefa123456789abcdef\n{lan}endlan\n{lines}\
             chassis_control \"{} 0x20\"\nuser 1 true \"\" \"none\" user 10 none md2 md5 straight\n\
             user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
            addr.ip(),
            addr.port(),
            chassis.display()
        );
        std::fs::write(path("lan.conf"), config).unwrap();
        let emulation = format!(
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
             sel_enable 0x20 1000 0x0a\n{emulated}mc_enable 0x20\n"
        );
        std::fs::write(path("emu"), emulation).unwrap();
        let child = Command::new("ipmi_sim")
            .args(["-n", "-c"])
            .arg(path("lan.conf"))
            .arg("-f")
            .arg(path("emu"))
            .arg("-s")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("ipmi_sim is not installed: apt-get install openipmi")
            }
            Err(error) => panic!("ipmi_sim: {error}"),
        };
        Self { addr, directory, _child: child }
    }

    fn address(&self) -> BmcAddress {
        BmcAddress::new(self.addr, USER, Secret::new(PASSWORD))
    }

    fn power(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("power")).unwrap()
    }
}

fn quick() -> Tuning {
    Tuning { first_timeout: Duration::from_millis(200), tries: 12, ..Tuning::default() }
}

/// Generous: the machine may be loaded.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), what).await.expect("it happens")
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

#[tokio::test]
async fn power_boot_device_and_identity() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let bmc = hub.bmc(sim.address());
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
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    assert_eq!(sim.power(), "1");
    assert_eq!(bmc.ensure_power(PowerState::Off, soon()).await, Ok(true));
    assert_eq!(sim.power(), "0");
    let identity = bmc.identity(soon()).await.unwrap();
    let names = (identity.manufacturer.as_str(), identity.product.as_str());
    assert_eq!(names, ("4753", "3842"), "1291h and f02h");
    let network = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Bios };
    bmc.set_boot_device(network, soon()).await.unwrap();
    let boot = std::fs::read_to_string(sim.directory.path().join("boot")).unwrap();
    assert_eq!(boot, "pxe");
    for led in [Led::Seconds(7), Led::On, Led::Off] {
        bmc.identify(led, soon()).await.unwrap();
    }
    // Seconds, and whether for ever.
    let identified = std::fs::read_to_string(sim.directory.path().join("identify")).unwrap();
    assert_eq!(identified, "7 0\n0 1\n0 0\n");
    // OpenIPMI has neither, and says so.
    for (error, words) in [
        (bmc.reset_bmc(soon()).await.map(drop), "refused Cold Reset: completion code C1h (invalid command)"),
        (bmc.power_draw(soon()).await.map(drop), "refused Get Power Reading (DCMI)"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    hub.shutdown().await;
}

#[tokio::test]
async fn suite_17_is_refused_and_3_is_used() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    assert_eq!(hub.bmc(sim.address()).power_status(soon()).await, Ok(PowerState::Off));
    let pinned = BmcAddress { cipher: Cipher::Fixed(CipherSuite::Suite17), ..sim.address() };
    let error = hub.bmc(pinned).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::UnsupportedCipher { .. }), "{error}");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_key_of_the_bmc_is_needed_beside_the_password() {
    let sim = IpmiSim::start_on(" bmc_key \"key-of-the-bmc\"\n", "", "").await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let with = |kg: Option<&str>| hub.bmc(BmcAddress { kg: kg.map(Secret::new), ..sim.address() });
    assert_eq!(with(Some("key-of-the-bmc")).power_status(soon()).await, Ok(PowerState::Off));
    let without = with(None).power_status(soon()).await;
    assert_eq!(without, Err(BmcError::WrongKg { addr: sim.addr, had_kg: false }));
    let other = with(Some("another-key")).power_status(soon()).await;
    assert_eq!(other, Err(BmcError::WrongKg { addr: sim.addr, had_kg: true }));
    hub.shutdown().await;
}

#[tokio::test]
async fn wrong_password_is_named() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let wrong = BmcAddress { password: Secret::new("wrong"), ..sim.address() };
    let error = hub.bmc(wrong).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    hub.shutdown().await;
}

/// The machine's end of a terminal whose other end `ipmi_sim` takes for a serial port.
struct Serial {
    path: String,
    machine: std::fs::File,
    typed: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Serial {
    fn open() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let machine = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&machine).unwrap();
        unlockpt(&machine).unwrap();
        let path = ptsname(&machine, Vec::new()).unwrap().into_string().unwrap();
        let mut attributes = rustix::termios::tcgetattr(&machine).unwrap();
        attributes.make_raw();
        rustix::termios::tcsetattr(&machine, rustix::termios::OptionalActions::Now, &attributes).unwrap();
        let machine = std::fs::File::from(machine);
        let (seen, typed) = mpsc::unbounded_channel();
        let mut reader = machine.try_clone().unwrap();
        // Ends with the test's process: a read of a terminal cannot be called back.
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            loop {
                match reader.read(&mut buffer) {
                    Ok(length @ 1..) if seen.send(buffer[..length].to_vec()).is_ok() => {}
                    // Nobody has the other end open yet, or any more.
                    Err(error) if error.raw_os_error() == Some(5) => std::thread::yield_now(),
                    _ => return,
                }
            }
        });
        Self { path, machine, typed }
    }

    async fn hears(&mut self, expected: &[u8]) {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            heard.extend(within(self.typed.recv()).await.expect("the terminal is open"));
        }
        assert_eq!(heard, expected);
    }
}

#[tokio::test]
async fn the_console_goes_both_ways_and_is_given_back() {
    let mut serial = Serial::open();
    let sim = IpmiSim::start_with(&format!("sol \"{}\" 115200\n", serial.path)).await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let bmc = hub.bmc(sim.address());
    for round in ["first", "second"] {
        // The one before is given back in its own time.
        let mut line = within(async {
            loop {
                match bmc.open_console(false, soon()).await {
                    Ok(line) => return line,
                    Err(BmcError::ConsoleTaken { .. }) if round == "second" => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        line.input.send(ConsoleInput::Chars(b"root\r".to_vec())).await.unwrap();
        serial.hears(b"root\r").await;
        // More than one packet, and more than one acknowledgement.
        let said: String = (0..100).map(|n| format!("{round} line {n}\r\n")).collect();
        serial.machine.write_all(said.as_bytes()).unwrap();
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            match within(line.events.recv()).await {
                Some(ConsoleEvent::Output(chars)) => heard.extend(chars),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(String::from_utf8(heard).unwrap(), said);
        // Commands have a session of their own, and a second console is not to be had.
        assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
        let second = bmc.open_console(false, soon()).await.map(drop);
        assert_eq!(second, Err(BmcError::ConsoleTaken { addr: sim.addr }));
        drop(line);
    }
    hub.shutdown().await;
}

/// It has about 62 session slots: a client that leaked them would be refused before the end.
#[tokio::test]
async fn sessions_are_given_back() {
    let sim = IpmiSim::start().await;
    for _ in 0..100 {
        let hub = IpmiHub::bind_with(quick()).await.unwrap();
        let pinned = BmcAddress { cipher: Cipher::Fixed(CipherSuite::Suite3), ..sim.address() };
        hub.bmc(pinned).power_status(soon()).await.unwrap();
        hub.shutdown().await;
    }
}

/// `ipmitool` judges: the new password opens another author's BMC, the old one does not.
#[tokio::test]
async fn a_password_is_changed_in_place() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    hub.bmc(sim.address()).set_password(&Secret::new("another-One-4now"), soon()).await.unwrap();
    for (password, good) in [("another-One-4now", true), (PASSWORD, false)] {
        let status = Command::new("ipmitool")
            .args([
                "-I",
                "lanplus",
                "-C",
                "3",
                "-R",
                "2",
                "-U",
                USER,
                "-P",
                password,
                "-H",
                "127.0.0.1",
                "-p",
            ])
            .arg(sim.addr.port().to_string())
            .args(["power", "status"])
            .output()
            .await
            .expect("ipmitool is installed: apt-get install ipmitool");
        assert_eq!(status.status.success(), good, "{}", String::from_utf8_lossy(&status.stderr));
    }
    hub.shutdown().await;
}

/// `ipmitool` puts records into another author's BMC, we read and clear them.
#[tokio::test]
async fn the_event_log_is_read_and_cleared() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let bmc = hub.bmc(sim.address());
    assert_eq!(bmc.event_log(10, soon()).await.unwrap().events, []);
    // More than one call's worth. Format: revision, sensor type and number, event type, data (ipmitool(1), sel add).
    let records = sim.directory.path().join("records");
    std::fs::write(&records, "0x04 0x09 0x01 0x6f 0x00 0xff 0xff # power off\n".repeat(40)).unwrap();
    let added = Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", "3", "-U", USER, "-P", PASSWORD, "-H", "127.0.0.1", "-p"])
        .arg(sim.addr.port().to_string())
        .args(["sel", "add"])
        .arg(&records)
        .output()
        .await
        .expect("ipmitool is installed: apt-get install ipmitool");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let log = bmc.event_log(25, soon()).await.unwrap();
    assert_eq!((log.events.len(), log.total, log.overflow), (25, 40, false));
    let newest = log.events.last().unwrap();
    assert!(newest.sensor.starts_with("Power Unit"), "{newest:?}");
    assert_eq!(newest.asserted, Some(true));
    bmc.clear_event_log(soon()).await.unwrap();
    assert_eq!(bmc.event_log(10, soon()).await.unwrap().total, 0);
    hub.shutdown().await;
}

/// Records and a reading as ipmi_sim keeps them: an inlet temperature of 36 degrees.
#[tokio::test]
async fn sensors_are_read() {
    let mut record = vec![0x00, 0x00, 0x51, 0x01, 0x31, 0x20, 0x00, 0x31, 0x07, 0x01, 0x7F, 0x68, 0x01, 0x01];
    record.extend([0, 0, 0, 0, 0, 0, 0x80, 0x01, 0, 0, 0x01, 0, 0, 0, 0, 0]);
    record.extend([0; 17]);
    record.push(0xC5);
    record.extend(b"Inlet");
    record[4] = u8::try_from(record.len() - 5).unwrap();
    let bytes: String = record.iter().map(|byte| format!(" {byte:#04x}")).collect();
    let emulated = format!(
        "sensor_add 0x20 0 0x31 0x01 0x01\nsensor_set_value 0x20 0 0x31 0x24 0\n\
         sensor_set_event_support 0x20 0 0x31 enable scanning per-state 000000000000000 000000000000000 \
         000000000000000 000000000000000\nmain_sdr_add 0x20{bytes}\n"
    );
    let sim = IpmiSim::start_emulating("", &emulated).await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let read = hub.bmc(sim.address()).sensors(soon()).await.unwrap();
    let [inlet] = read.sensors.as_slice() else { panic!("{read:?}") };
    assert_eq!((inlet.name.as_str(), inlet.value, inlet.unit), ("Inlet", Some(36.0), "°C"), "{read:?}");
    hub.shutdown().await;
}

/// A board's FRU information as ipmi_sim has it, and none.
#[tokio::test]
async fn what_the_board_is_is_read() {
    let bytes = include_bytes!("../../../fuzz/seeds/ipmi_fru/whole");
    let text: String = bytes.iter().map(|byte| format!(" {byte:#04x}")).collect();
    let emulated = format!("mc_add_fru_data 0x20 0 {} data{text}\n", bytes.len());
    let sim = IpmiSim::start_emulating("", &emulated).await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let read = hub.bmc(sim.address()).inventory(soon()).await.unwrap();
    assert!(
        !read.manufacturer.is_empty() && !read.model.is_empty() && !read.serial_number.is_empty(),
        "{read:?}"
    );
    assert_eq!(read.warnings, Vec::<String>::new());
    let bare = IpmiSim::start().await;
    let read = hub.bmc(bare.address()).inventory(soon()).await.unwrap();
    assert_eq!((read.model.as_str(), read.warnings.len(), read.firmware.len()), ("", 1, 1), "{read:?}");
    hub.shutdown().await;
}

/// It keeps what it is told and stays where it is; its Set In Progress is another author's, and refuses a second beginning.
#[tokio::test]
async fn its_lan_settings_are_changed_and_read_back() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let bmc = hub.bmc(sim.address());
    let raw = async |words: &str| {
        let (host, port) = (sim.addr.ip().to_string(), sim.addr.port().to_string());
        let done = Command::new("ipmitool")
            .args(["-I", "lanplus", "-C", "3", "-H", &host, "-p", &port, "-U", USER, "-P", PASSWORD, "raw"])
            .args(words.split(' '))
            .output()
            .await
            .expect("ipmitool is installed: apt-get install ipmitool");
        assert!(done.status.success(), "{words}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    bmc.power_status(soon()).await.unwrap();
    // Somebody has begun a change, and not ended it.
    raw("0x0c 0x01 1 0 1").await;
    let address = StaticAddress::parse("192.0.2.7", "255.255.255.0", "192.0.2.1").unwrap();
    let wanted = NetworkSettings {
        address: Some(NewAddress::Static(address)),
        vlan: Some(Some(0x123)),
        ..NetworkSettings::default()
    };
    bmc.set_network(&wanted, soon()).await.unwrap();
    let seen = bmc.settle_network(&wanted, soon()).await.unwrap();
    assert_eq!((seen.address, seen.vlan), (Some(address.address()), Some(0x123)), "{seen}");
    // As ipmitool sees it: nobody changes anything any more, static, address, mask, gateway, VLAN 123h in force.
    for (parameter, value) in [
        (0, "11 00"),
        (4, "11 01"),
        (3, "11 c0 00 02 07"),
        (6, "11 ff ff ff 00"),
        (12, "11 c0 00 02 01"),
        (20, "11 23 81"),
    ] {
        assert_eq!(raw(&format!("0x0c 0x02 1 {parameter} 0 0")).await, value, "{parameter}");
    }
    let dhcp =
        NetworkSettings { address: Some(NewAddress::Dhcp), vlan: Some(None), ..NetworkSettings::default() };
    let unlike = bmc.settle_network(&dhcp, soon()).await.unwrap_err();
    assert!(matches!(unlike, BmcError::NotApplied { .. }), "{unlike}");
    bmc.set_network(&dhcp, soon()).await.unwrap();
    bmc.settle_network(&dhcp, soon()).await.unwrap();
    hub.shutdown().await;
}
