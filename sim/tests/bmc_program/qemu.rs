//! In front of a QEMU that an operator has made: one that the program starts, and one that runs already. The guests are boot
//! sectors that talk on the serial port, read from it, and switch the machine off when a `q` is typed.

use std::sync::Arc;

use tokio::net::{TcpListener, UnixStream};

use super::*;

const QEMU: &str = "qemu-system-x86_64";
/// Firmware without a screen: it and its guest use the serial port instead.
const BOARD: &str =
    "-accel tcg -machine q35,graphics=off -nodefaults -no-user-config -display none -m 64 -smp 2";
const DEVICES: &str = "-device virtio-blk-pci,drive=disk,bootindex=1 -device ide-cd,bus=ide.1 \
    -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,mac=52:54:00:b1:00:01";
const UUID: &str = "fa221e20-0000-4000-8000-0000000000b1";

/// 16-bit code for 0000:7C00. Prints what stands behind it (int 10h, function 0Eh), then echoes keys (int 16h) until a `q`,
/// at which it writes "sleep, S5" into the PM1a control register of QEMU's chipsets at 604h.
const CODE: [u8; 48] = [
    0x31, 0xC0, 0x8E, 0xD8, 0xBE, 0x30, 0x7C, // ds = 0, si = text
    0xAC, 0x84, 0xC0, 0x74, 0x09, // to the keys at its end
    0xB4, 0x0E, 0xBB, 0x07, 0x00, 0xCD, 0x10, 0xEB, 0xF2, // print
    0xB4, 0x00, 0xCD, 0x16, 0x3C, 0x71, 0x74, 0x09, // a key; q?
    0xB4, 0x0E, 0xBB, 0x07, 0x00, 0xCD, 0x10, 0xEB, 0xEF, // echo
    0xBA, 0x04, 0x06, 0xB8, 0x00, 0x20, 0xEF, // off
    0xF4, 0xEB, 0xFD, // never
];

fn boot_sector(text: &str) -> Vec<u8> {
    let mut sector = [&CODE[..], text.as_bytes(), b"\0"].concat();
    sector.resize(510, 0);
    sector.extend([0x55, 0xAA]);
    sector
}

/// What a machine is made of.
struct Parts {
    dir: TempDir,
}

impl Parts {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = boot_sector("GUEST-ON-DISK\r\n");
        disk.resize(1 << 20, 0);
        std::fs::write(dir.path().join("disk.raw"), disk).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// With a disk, an empty CD drive and a network card that nobody answers.
    fn command(&self) -> Vec<String> {
        let disk = format!("if=none,id=disk,format=raw,file={}", self.path("disk.raw"));
        let line = format!("{QEMU} {BOARD} -uuid {UUID} -name anvil -drive {disk} {DEVICES}");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// A CD whose boot record is such a sector (El Torito, no emulation).
    async fn cd(&self) -> Vec<u8> {
        std::fs::create_dir(self.path("cd")).unwrap();
        let mut sector = boot_sector("GUEST-ON-CD\r\n");
        sector.resize(2048, 0);
        std::fs::write(self.path("cd/boot.bin"), sector).unwrap();
        let mut command = Command::new("xorriso");
        command.args([
            "-as",
            "mkisofs",
            "-quiet",
            "-o",
            &self.path("cd.iso"),
            "-b",
            "boot.bin",
            "-no-emul-boot",
        ]);
        command.args(["-boot-load-size", "4", &self.path("cd")]);
        run(command, "xorriso").await.succeeds();
        std::fs::read(self.path("cd.iso")).unwrap()
    }
}

/// Serves one file, whatever is asked for, and parts of it.
async fn web(file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/cd.iso", listener.local_addr().unwrap());
    let file = Arc::new(file);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
                let last = file.len() - 1;
                let (from, to) = range.map_or((0, last), |(from, to)| {
                    (from.parse().unwrap(), to.trim().parse().unwrap_or(last).min(last))
                });
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Range: bytes {from}-{to}/{}\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    file.len(),
                    to + 1 - from
                );
                stream.write_all(answer.as_bytes()).await?;
                if !head.starts_with("head") {
                    stream.write_all(&file[from..=to]).await?;
                }
                stream.shutdown().await
            });
        }
    });
    url
}

impl Program {
    fn console(&self) -> Terminal {
        let address = self.bmcs[0].ipmi;
        let (host, port) = (address.ip(), address.port());
        Terminal::start(&format!(
            "ipmitool -I lanplus -C 17 -H {host} -p {port} -U {USER} -P '{PASSWORD}' sol activate"
        ))
    }

    async fn is(&self, power: &str) {
        self.ipmitool(0, "power status").await.succeeds().says(&format!("Chassis Power is {power}"));
    }

    /// Until it has become so by itself.
    async fn becomes(&self, power: &str) {
        let words = format!("Chassis Power is {power}");
        soon(async { while !self.ipmitool(0, "power status").await.text.contains(&words) {} }).await;
    }
}

const MEDIA: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd/Actions/VirtualMedia";

#[tokio::test]
async fn a_qemu_that_it_starts_has_power_boot_order_console_and_cd() {
    let parts = Parts::new();
    let url = web(parts.cd().await).await;
    let command = parts.command();
    let words: Vec<&str> = ["--"].into_iter().chain(command.iter().map(String::as_str)).collect();
    let program = Program::start(1, "", &words).await;
    program.is("off").await;
    let system = program.get("/redfish/v1/Systems/1").await;
    assert_eq!((&system["UUID"], &system["SerialNumber"]), (&UUID.into(), &"anvil".into()), "{system}");
    assert_eq!(system["ProcessorSummary"]["LogicalProcessorCount"], 2, "{system}");
    let mut events = program.events().await;

    let mut console = program.console();
    console.shows("SOL Session operational").await;
    program.ipmitool(0, "power on").await.succeeds();
    events.tell("ResourcePoweredOn").await;
    console.shows("SeaBIOS (version").await;
    console.shows("GUEST-ON-DISK").await;
    console.types("hello").await;
    console.shows("hello").await;
    program.is("on").await;

    // A CD by Redfish and its flag by IPMI: for one boot.
    let inserted = program.post(&format!("{MEDIA}.InsertMedia"), &format!("{{\"Image\":\"{url}\"}}")).await;
    inserted.succeeds();
    program.ipmitool(0, "chassis bootdev cdrom").await.succeeds();
    console.seen.clear();
    program.ipmitool(0, "power cycle").await.succeeds();
    console.shows("GUEST-ON-CD").await;
    assert!(!console.seen.contains("GUEST-ON-DISK"), "{}", console.seen);
    program.ipmitool(0, "chassis bootparam get 5").await.says("No override");
    // From the network for good: nobody answers there, so it goes on to the disk, reset after reset.
    program.ipmitool(0, "chassis bootdev pxe options=persistent").await.succeeds();
    for _ in 0..2 {
        console.seen.clear();
        program.ipmitool(0, "power reset").await.succeeds();
        console.shows("Booting from ROM").await;
        console.shows("GUEST-ON-DISK").await;
    }

    // The guest switches itself off, and everybody is told.
    console.types("q").await;
    events.tell("ResourcePoweredOff").await;
    program.is("off").await;
    let log = program.ipmitool(0, "sel list").await;
    log.says("Power off/down | Asserted");
    // ipmitool has repeated the first one meanwhile, since QEMU takes its time.
    assert_eq!(log.text.matches("Power cycle").count(), 3, "{}", log.text);
    program.ipmitool(0, "power reset").await.fails();
    // A file of this host is not for whoever speaks Redfish.
    program.post(&format!("{MEDIA}.EjectMedia"), "{}").await.succeeds();
    program.post(&format!("{MEDIA}.InsertMedia"), "{\"Image\":\"file:///etc/hostname\"}").await.fails();
    console.types("\r~.").await;
    console.ends().await;
    program.stop().await;
}

/// A QEMU that somebody else has started.
fn start(parts: &Parts) -> Child {
    let command = parts.command();
    let socket = |name: &str| format!("unix:{},server=on,wait=off", parts.path(name));
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).args(["-qmp", &socket("qmp"), "-serial", &socket("serial")]);
    child.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("apt-get install qemu-system-x86")
}

#[tokio::test]
async fn a_qemu_that_runs_already_stays_while_its_machine_has_no_power() {
    let parts = Parts::new();
    let mut qemu = start(&parts);
    let there = async {
        while UnixStream::connect(parts.path("serial")).await.is_err()
            || !Path::new(&parts.path("qmp")).exists()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(there).await;
    let program =
        Program::start(1, "", &["--qmp", &parts.path("qmp"), "--serial", &parts.path("serial")]).await;
    // Nobody has pressed a button.
    program.is("on").await;
    let mut events = program.events().await;
    let mut console = program.console();
    console.shows("SOL Session operational").await;
    program.ipmitool(0, "power off").await.succeeds();
    events.tell("ResourcePoweredOff").await;
    program.is("off").await;
    program.ipmitool(0, "power cycle").await.fails();
    console.seen.clear();
    program.ipmitool(0, "chassis bootdev pxe").await.succeeds();
    program.ipmitool(0, "power on").await.succeeds();
    events.tell("ResourcePoweredOn").await;
    console.shows("Booting from ROM").await;
    console.shows("GUEST-ON-DISK").await;
    console.types("q").await;
    events.tell("ResourcePoweredOff").await;
    program.becomes("off").await;
    // It is the same QEMU, and starts again; by the command line's order, since the flag was for once.
    assert!(qemu.try_wait().unwrap().is_none());
    console.seen.clear();
    program.ipmitool(0, "power on").await.succeeds();
    console.shows("GUEST-ON-DISK").await;
    assert!(!console.seen.contains("Booting from ROM"), "{}", console.seen);

    // Its owner ends it and starts another: no power, then power that nobody has pressed a button for.
    qemu.kill().await.unwrap();
    events.tell("ResourcePoweredOff").await;
    program.is("off").await;
    program.ipmitool(0, "power on").await.fails();
    for name in ["qmp", "serial"] {
        std::fs::remove_file(parts.path(name)).unwrap();
    }
    let _again = start(&parts);
    program.becomes("on").await;
    console.shows("GUEST-ON-DISK").await;
    program.stop().await;
}

#[tokio::test]
async fn a_command_line_that_is_no_good_is_said_at_once() {
    for (words, said) in [
        (&["--", QEMU, "-device", "no-such-device"][..], "see what it said"),
        (&["--", "/no/such/program"], "cannot be started"),
        (&["--qmp", "/no/such/socket"], "expected one started with -qmp"),
        (&["--serial", "/no/such/socket"], "--qmp"),
        (&["--count", "2", "--", QEMU, "-display", "none", "-nodefaults"], "expected --count 1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("pw");
        std::fs::write(&password, PASSWORD).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier-sim"));
        command
            .args(["bmc", "--ipmi-port", "0", "--redfish-port", "0", "--password-file"])
            .arg(password)
            .args(words);
        run(command, "farrier-sim").await.fails().says(said);
    }
}
