//! Real firmware in QEMU: SeaBIOS with iPXE's option ROM, OVMF by PXE and by HTTP.

mod beside;
mod ipv6;

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use farrier_netboot::{Artifact, Boot, Config, Dhcp, EventKind, KernelArgs, Ramdisk, Ramdisks, Segment};

use crate::foreign::{GIVES, dnsmasq_on};
use crate::lab::{HTTP_PORT, Killed, MAC, Namespace, Running, SERVER_IP, entry, file, noise, table, tool};
use crate::record::Recording;

/// A running machine and what it says on its serial port.
pub(crate) struct Machine {
    _process: Killed,
    serial: mpsc::Receiver<Vec<u8>>,
}

impl Machine {
    pub(crate) fn expect_serial(&self, word: &[u8]) {
        let deadline = Instant::now() + Duration::from_secs(PATIENCE);
        let mut said = Vec::new();
        while !said.windows(word.len()).any(|w| w == word) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.serial.recv_timeout(left) {
                Ok(bytes) => said.extend(bytes),
                Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&said)),
            }
        }
    }
}

/// A rack with one machine: a bridge with the server's address and a tap for QEMU.
pub(crate) struct Rack {
    pub(crate) namespace: Namespace,
    pub(crate) dir: tempfile::TempDir,
}

impl Rack {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new("q");
        namespace.sh(&format!(
            "ip link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0; \
             ip addr add {SERVER_IP}/24 dev br0; ip tuntap add t0 mode tap; ip link set t0 master br0; \
             ip link set t0 up; ip link set br0 up"
        ));
        Self { namespace, dir: tempfile::tempdir().unwrap() }
    }

    /// Starts the server with a script whose kernel is no kernel: that it is fetched is what is to be shown.
    fn serve(&self, boot: Boot) -> Running {
        self.serve_on(Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24), boot)
    }

    fn serve_on(&self, segment: Segment, boot: Boot) -> Running {
        let mut config = Config::new(HTTP_PORT);
        file("/usr/lib/ipxe/snponly.efi", "ipxe");
        config.load_files(Path::new("/usr/lib/ipxe")).unwrap();
        let mut table = table(segment, boot);
        table.publish_artifact("vmlinuz".parse().unwrap(), Artifact::Bytes(noise(20_000).into()));
        Running::start(&self.namespace, config, table)
    }

    pub(crate) fn machine(&self, args: &[&str]) -> Machine {
        self.machine_of("qemu-system-x86_64", "qemu-system-x86", args)
    }

    fn machine_of(&self, program: &str, package: &str, args: &[&str]) -> Machine {
        let qemu = tool(program, package);
        let mut command: Command = self.namespace.command(&qemu);
        let nic = "-netdev tap,id=n0,ifname=t0,script=no,downscript=no,vhost=off";
        command.args("-accel tcg -m 256 -nodefaults -no-user-config -display none -serial stdio".split(' '));
        command.args(nic.split(' ')).args(args);
        let mut process = Killed(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        let mut output = process.0.stdout.take().unwrap();
        let (sender, serial) = mpsc::channel();
        // Ends with the process, which is killed on drop.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                let _ = sender.send(buffer[..len].to_vec());
            }
        });
        Machine { _process: process, serial }
    }

    fn bios(&self, more: &[&str]) -> Machine {
        file("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu");
        let nic = format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1");
        self.machine(&[&["-machine", "q35,graphics=off", "-device", &nic], more].concat())
    }

    fn uefi(&self, more: &[&str]) -> Machine {
        self.ovmf("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", &[&["-machine", "q35"], more].concat())
    }

    /// A machine whose firmware has Microsoft's keys, and runs nothing that they have not signed.
    pub(crate) fn locked(&self) -> Machine {
        let lock = "driver=cfi.pflash01,property=secure,value=on";
        let args = ["-machine", "q35,smm=on", "-global", lock];
        self.ovmf("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd", &args)
    }

    fn ovmf(&self, code: &str, factory: &str, more: &[&str]) -> Machine {
        let vars = self.dir.path().join("vars.fd");
        std::fs::copy(file(&format!("/usr/share/OVMF/{factory}"), "ovmf"), &vars).unwrap();
        let code = file(&format!("/usr/share/OVMF/{code}"), "ovmf");
        let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={}", code.display());
        let vars = format!("if=pflash,format=raw,unit=1,file={}", vars.display());
        let nic = format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1,romfile=");
        let args = ["-drive", &code, "-drive", &vars, "-device", &nic, "-device", "virtio-rng-pci"];
        self.machine(&[&args, more].concat())
    }
}

fn script() -> Boot {
    Boot::Script(
        Ramdisk {
            kernel: "vmlinuz".parse().unwrap(),
            initrd: "initrd".parse().unwrap(),
            args: KernelArgs::parse("console=ttyS0 farrier.token=abc").unwrap(),
        }
        .into(),
    )
}

/// That of x86 is the one that is published.
pub(crate) fn two(args: &str) -> Ramdisks {
    let of = |kernel: &str, initrd: &str| {
        let args = KernelArgs::parse(args).unwrap();
        Ramdisk { kernel: kernel.parse().unwrap(), initrd: initrd.parse().unwrap(), args }
    };
    Ramdisks::Two { x86: of("vmlinuz", "initrd"), arm64: of("vmlinuz-arm64", "initrd-arm64") }
}

/// Under emulation on a busy machine; unloaded it is a tenth of this.
pub(crate) const PATIENCE: u64 = 120;

fn expect_boot(server: &mut Running, what: &str, started: Instant) {
    server.wait(PATIENCE, |kind| *kind == EventKind::HttpScript);
    eprintln!("{what}: script after {:?}", started.elapsed());
    let kernel = EventKind::HttpArtifact { name: "vmlinuz".into(), bytes: 20_000 };
    server.wait(PATIENCE, |kind| *kind == kernel);
    eprintln!("{what}: kernel after {:?}", started.elapsed());
}

#[test]
fn a_bios_machine_with_ipxe_in_its_option_rom_fetches_its_kernel_of_two() {
    let rack = Rack::new();
    let mut server = rack.serve(Boot::Script(two("console=ttyS0")));
    let recording = Recording::begin("seabios-ipxe", &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.bios(&[]);
    expect_boot(&mut server, "bios, ipxe rom", started);
    recording.end(&server);
    use EventKind::{Ack, Discover, HttpScript, Offer, Request};
    let kinds = server.kinds();
    let steps: Vec<_> = kinds.iter().filter(|k| [Discover, Request, Ack, HttpScript].contains(k)).collect();
    assert!(steps.ends_with(&[&Request, &Ack, &HttpScript]) && kinds.contains(&Offer), "{kinds:?}");
}

/// It does not begin anew: the script that waits fetches its successor.
#[test]
fn a_machine_whose_disk_is_away_asks_again_and_boots_when_it_is_back() {
    let rack = Rack::new();
    let mut server = rack.serve(Boot::Wait);
    let _machine = rack.bios(&[]);
    for _ in 0..2 {
        let given = server.wait(PATIENCE, |kind| *kind == EventKind::HttpScript);
        assert!(given.detail.ends_with("it is told to ask again"), "{given:?}");
    }
    server.netboot.update(|table| table.publish(entry(script())));
    server.wait(PATIENCE, |kind| *kind == EventKind::HttpArtifact { name: "vmlinuz".into(), bytes: 20_000 });
    let kinds = server.kinds();
    let waits = kinds.iter().position(|kind| *kind == EventKind::HttpScript).unwrap();
    let dhcp = kinds[waits..].iter().filter(|kind| kind.is_dhcp()).count();
    assert_eq!(dhcp, 0, "{kinds:?}");
}

/// Its address is of dnsmasq's choosing: that it has it is proven by ARP.
#[test]
fn a_bios_machine_boots_where_dhcp_is_dnsmasqs_alone() {
    let rack = Rack::new();
    let other = Namespace::new("d");
    rack.namespace.sh(&format!(
        "ip link add v0 type veth peer name d0 netns {}; ip link set v0 master br0; ip link set v0 up",
        other.name()
    ));
    let url = format!("--dhcp-boot=http://{SERVER_IP}:{HTTP_PORT}/boot/${{net0/mac:hexhyp}}.ipxe");
    let theirs = dnsmasq_on(other, rack.dir.path(), &[GIVES, &url]);
    let segment = Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24);
    let mut server = rack.serve_on(Segment { dhcp: Dhcp::Off, ..segment }, script());
    let recording = Recording::begin("seabios-off", &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.bios(&[]);
    let given = server.wait(PATIENCE, |kind| *kind == EventKind::HttpScript);
    assert!(given.detail.contains("to 10.77.0.15"), "{given:?}");
    let kernel = EventKind::HttpArtifact { name: "vmlinuz".into(), bytes: 20_000 };
    let fetched = server.wait(PATIENCE, |kind| *kind == kernel);
    recording.end(&server);
    assert_eq!(fetched.mac, Some(MAC), "the trace has what it fetched");
    eprintln!("bios, beside dnsmasq: kernel after {:?}", started.elapsed());
    // Another machine of the link does not get it, and is told apart.
    let url = format!("http://{SERVER_IP}:{HTTP_PORT}/boot/{}.ipxe", MAC.hyphenated());
    let refused = theirs.machine.client(30, "curl", "curl", &["-sf", &url]);
    assert_eq!(refused.status.code(), Some(22), "{refused:?}");
    let told = server.wait(PATIENCE, |kind| *kind == EventKind::HttpScriptRefused);
    assert!(told.detail.contains(&format!("expected {MAC} to have it on provisioning, saw ")), "{told:?}");
}

#[test]
fn a_uefi_machine_goes_from_pxe_to_ipxe_to_its_kernel_of_two() {
    let rack = Rack::new();
    let mut server = rack.serve(Boot::Script(two("console=ttyS0")));
    let recording = Recording::begin("ovmf-pxe", &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.uefi(&[]);
    let size = std::fs::metadata("/usr/lib/ipxe/snponly.efi").unwrap().len();
    server.wait(PATIENCE, |kind| matches!(kind, EventKind::TftpDone { bytes, .. } if *bytes == size));
    eprintln!("uefi pxe: snponly.efi after {:?}", started.elapsed());
    expect_boot(&mut server, "uefi pxe", started);
    recording.end(&server);
    let details: Vec<_> = server.netboot.trace(MAC).iter().map(|event| event.detail.clone()).collect();
    assert!(details.iter().any(|d| d.starts_with("pxe firmware, architecture 7")), "{details:#?}");
    assert!(details.iter().any(|d| d.starts_with("ipxe, architecture 7")), "{details:#?}");
}

#[test]
fn a_uefi_machine_boots_over_http_alone() {
    let rack = Rack::new();
    let mut server = rack.serve(script());
    let recording = Recording::begin("ovmf-http", &rack.namespace, "br0");
    let started = Instant::now();
    let off = "name=opt/org.tianocore/IPv4PXESupport,string=n";
    let off6 = "name=opt/org.tianocore/IPv6PXESupport,string=n";
    let _machine = rack.uefi(&["-fw_cfg", off, "-fw_cfg", off6]);
    server.wait(PATIENCE, |kind| matches!(kind, EventKind::HttpFirmware { bytes: 1.., .. }));
    eprintln!("uefi http: snponly.efi after {:?}", started.elapsed());
    expect_boot(&mut server, "uefi http", started);
    recording.end(&server);
}

/// Another architecture's firmware, over PXE and over HTTP: it says which it is, and fetches the file of that.
fn arm64_fetches(name: &'static str, more: &[&str], fetched: impl Fn(&EventKind) -> bool, told: &str) {
    let rack = Rack::new();
    let mut config = Config::new(HTTP_PORT);
    // Debian has no iPXE for arm64; that it is fetched whole is what is to be shown.
    config.files.insert("snponly-arm64.efi".into(), noise(300_000).into());
    let segment = Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24);
    let mut server = Running::start(&rack.namespace, config, table(segment, script()));
    let vars = rack.dir.path().join("vars.fd");
    std::fs::copy(file("/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64"), &vars).unwrap();
    let code = "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd";
    let vars = format!("if=pflash,format=raw,unit=1,file={}", vars.display());
    let nic = format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1,romfile=");
    let args = ["-machine", "virt", "-cpu", "cortex-a57", "-drive", code, "-drive", &vars, "-device", &nic];
    let recording = Recording::begin(name, &rack.namespace, "br0");
    let started = Instant::now();
    let _machine = rack.machine_of("qemu-system-aarch64", "qemu-system-arm", &[&args, more].concat());
    server.wait(PATIENCE, fetched);
    eprintln!("arm64: its file after {:?}", started.elapsed());
    recording.end(&server);
    let details: Vec<_> = server.netboot.trace(MAC).iter().map(|event| event.detail.clone()).collect();
    assert!(details.iter().any(|d| d.starts_with(told)), "{details:#?}");
}

const NO_PXE6: &str = "name=opt/org.tianocore/IPv6PXESupport,string=n";

#[test]
fn an_arm64_machine_fetches_its_file_by_tftp() {
    let done = |kind: &EventKind| matches!(kind, EventKind::TftpDone { bytes: 300_000, .. });
    arm64_fetches("aavmf-pxe", &["-fw_cfg", NO_PXE6], done, "pxe firmware, architecture 11");
}

#[test]
fn an_arm64_machine_fetches_its_file_by_http() {
    let off = "name=opt/org.tianocore/IPv4PXESupport,string=n";
    let done = |kind: &EventKind| matches!(kind, EventKind::HttpFirmware { bytes: 300_000, .. });
    arm64_fetches(
        "aavmf-http",
        &["-fw_cfg", off, "-fw_cfg", NO_PXE6],
        done,
        "http boot firmware, architecture 19",
    );
}

/// A boot sector that says "disk!" on the first serial port and halts.
fn disk(rack: &Rack) -> String {
    let mut sector = Vec::new();
    for byte in *b"disk!" {
        // mov dx, 0x3f8; mov al, byte; out dx, al
        sector.extend([0xba, 0xf8, 0x03, 0xb0, byte, 0xee]);
    }
    sector.extend([0xf4, 0xeb, 0xfd]); // hlt; jmp back
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    let path = rack.dir.path().join("disk");
    std::fs::write(&path, sector).unwrap();
    format!("if=none,id=d0,format=raw,file={}", path.display())
}

/// QEMU's network cards have iPXE already: dnsmasq sends that on to undionly.kpxe of our TFTP server, as firmware that has PXE
/// alone is sent there. From there on DHCP is ours, and who asks is what was loaded: the card's iPXE asks once.
#[test]
fn a_bios_machine_loads_undionly_which_asks_for_itself_and_starts_from_its_disk() {
    let rack = Rack::new();
    let other = Namespace::new("d");
    rack.namespace.sh(&format!(
        "ip link add v0 type veth peer name d0 netns {}; ip link set v0 master br0; ip link set v0 up",
        other.name()
    ));
    let names = format!("--dhcp-boot=undionly.kpxe,,{SERVER_IP}");
    let theirs = dnsmasq_on(other, rack.dir.path(), &[GIVES, &names]);
    let ours = Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24);
    let mut server = rack.serve_on(Segment { dhcp: Dhcp::Off, ..ours.clone() }, Boot::LocalDisk);
    let drive = disk(&rack);
    let recording = Recording::begin("seabios-undionly", &rack.namespace, "br0");
    let started = Instant::now();
    let machine = rack.bios(&["-drive", &drive, "-device", "virtio-blk-pci,drive=d0,bootindex=2"]);
    let size = std::fs::metadata(file("/usr/lib/ipxe/undionly.kpxe", "ipxe")).unwrap().len();
    let whole = |kind: &EventKind| matches!(kind, EventKind::TftpDone { bytes, .. } if *bytes == size);
    let loaded = server.wait(PATIENCE, whole);
    assert!(loaded.detail.starts_with("undionly.kpxe"), "{loaded:?}");
    eprintln!("bios: undionly.kpxe after {:?}", started.elapsed());
    drop(theirs);
    recording.end(&server);
    let recording = Recording::begin("undionly", &rack.namespace, "br0");
    server.netboot.update(|table| table.set_segments(vec![ours]));
    let asked = server.wait(PATIENCE, |kind| *kind == EventKind::Discover);
    assert!(asked.detail.starts_with("ipxe, architecture 0"), "{asked:?}");
    let given = server.wait(PATIENCE, |kind| *kind == EventKind::HttpScript);
    assert!(given.detail.contains("user-agent: iPXE/"), "{given:?}");
    eprintln!("bios, undionly.kpxe: script after {:?}", started.elapsed());
    machine.expect_serial(b"disk!");
    recording.end(&server);
}
