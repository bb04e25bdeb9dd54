//! UEFI HTTP boot over TLS by real firmware: Debian's OVMF, which knows an authority by `fw_cfg` and speaks no elliptic curves.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::standalone::{Cable, inside};

/// One machine and a bridge, in a namespace of the cable.
const BRIDGE: &str = "10.77.0.1";
const MAC: &str = "52:54:00:77:00:01";
/// Under emulation on a busy machine; unloaded it is a tenth of this.
const PATIENCE: Duration = Duration::from_secs(240);

/// Ended on drop.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority and a certificate of RSA for our address, by openssl: names of files in `dir`.
pub(crate) fn certificate(dir: &Path, ip: &str) {
    let run = |args: &str| {
        let mut openssl = Command::new("openssl");
        let done = openssl.args(args.split(' ')).current_dir(dir).output();
        let done = done.expect("openssl is missing: install the Debian package openssl");
        assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    std::fs::write(dir.join("extensions"), format!("subjectAltName=IP:{ip}\nbasicConstraints=CA:FALSE\n"))
        .unwrap();
    run("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=boot-authority -days 9");
    run(&format!("req -new -newkey rsa:2048 -nodes -keyout key.pem -subj /CN={ip} -out request.pem"));
    run(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile extensions -out cert.pem",
    );
    run("x509 -in ca.pem -outform der -out ca.der");
}

/// UEFI 2.10 §32.4.1: EFI_SIGNATURE_LIST with one certificate, as OVMF's TlsAuthConfigLib reads it.
fn signature_list(der: &[u8]) -> Vec<u8> {
    // EFI_CERT_X509_GUID, a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
    const X509: [u8; 16] =
        [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
    let owner = [7; 16];
    let signature = u32::try_from(owner.len() + der.len()).unwrap();
    let list = 28 + signature;
    [&X509[..], &list.to_le_bytes(), &0_u32.to_le_bytes(), &signature.to_le_bytes(), &owner, der].concat()
}

/// What rackd logs, line by line, from a thread that ends with it.
fn lines(of: ChildStderr) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let read: Lines<_> = BufReader::new(of).lines();
    std::thread::spawn(move || read.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

/// Reads on until each of these was logged, in their order.
fn expect(log: &Receiver<String>, steps: &[&str]) {
    let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
    for step in steps {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = log.recv_timeout(left).unwrap_or_else(|error| panic!("{step}: {error}; {seen:#?}"));
            let found = line.contains(step);
            seen.push(line);
            if found {
                break;
            }
        }
    }
}

/// With `FARRIER_RECORD`, what netboot's tests make a golden exchange of (`rackd/netboot/tests/netboot/record.rs`): all but what
/// is inside TLS.
fn record(namespace: &str) -> Option<Ended> {
    std::env::var_os("FARRIER_RECORD")?;
    let pcap = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ovmf-https.pcap");
    let mut tcpdump = inside(namespace, Path::new("tcpdump"));
    tcpdump.args("-i br0 --immediate-mode -U -s 2048 -B 65536 -Z root -w".split(' ')).arg(pcap);
    tcpdump.arg("udp or tcp port 8080").stderr(Stdio::piped());
    let mut tcpdump = Ended(tcpdump.spawn().expect("install the Debian package tcpdump"));
    let said = BufReader::new(tcpdump.0.stderr.take().unwrap()).lines();
    assert!(said.map_while(Result::ok).any(|line| line.contains("listening on")));
    Some(tcpdump)
}

#[test]
fn a_uefi_machine_that_knows_the_authority_boots_over_https() {
    let cable = Cable::new();
    let dir = cable.path("");
    certificate(&dir, BRIDGE);
    std::fs::write(dir.join("ca.esl"), signature_list(&std::fs::read(dir.join("ca.der")).unwrap())).unwrap();
    std::fs::write(dir.join("vmlinuz"), vec![7; 20_000]).unwrap();
    let server = &cable.server;
    cable.ip(&[
        format!("-n {server} link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0"),
        format!("-n {server} addr add {BRIDGE}/24 dev br0"),
        format!("-n {server} tuntap add t0 mode tap"),
        format!("-n {server} link set t0 master br0"),
        format!("-n {server} link set t0 up"),
        format!("-n {server} link set br0 up"),
    ]);
    let at = dir.display();
    // An emulated processor takes its time over RSA.
    cable.snapshot(&format!(
        "generation: 1\nsegments:\n- {{ name: lab, interface: br0, address: {BRIDGE}/24 }}\nmachines:\n- name: web-1\n  \
         mac: {MAC}\n  segment: lab\n  address: 10.77.0.50\n  boot: {{ linux: {{ kernel: k, initrd: k }} }}\n\
         artifacts: {{ k: {at}/vmlinuz }}\nhttps: {{ listen: \"0.0.0.0:8443\", certificate: {at}/cert.pem, key: {at}/key.pem, \
         handshake_seconds: 240 }}\n"
    ));
    let mut rackd = inside(server, Path::new(env!("CARGO_BIN_EXE_rackd")));
    rackd.arg("--standalone").arg(cable.path("rack.yaml")).arg("--data").arg(cable.path("data"));
    rackd.args(["--boot-files", "/usr/lib/ipxe"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut rackd = Ended(rackd.spawn().unwrap());
    let log = lines(rackd.0.stderr.take().unwrap());
    expect(&log, &["boot files over https"]);

    let _recording = record(server);
    let vars = cable.path("vars.fd");
    std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).expect("install the Debian package ovmf");
    let mut qemu = inside(server, Path::new("qemu-system-x86_64"));
    qemu.args("-accel tcg -m 256 -nodefaults -no-user-config -display none -machine q35".split(' '));
    qemu.args("-netdev tap,id=n0,ifname=t0,script=no,downscript=no,vhost=off".split(' '));
    qemu.args(["-device", &format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1,romfile=")]);
    qemu.args("-device virtio-rng-pci -drive".split(' '));
    qemu.arg("if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd");
    qemu.args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", vars.display())]);
    for family in ["IPv4", "IPv6"] {
        qemu.args(["-fw_cfg", &format!("name=opt/org.tianocore/{family}PXESupport,string=n")]);
    }
    qemu.args(["-fw_cfg", &format!("name=etc/edk2/https/cacerts,file={at}/ca.esl")]);
    qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let _machine = Ended(qemu.spawn().expect("install the Debian package qemu-system-x86"));
    let url = format!("https://{BRIDGE}:8443/firmware/snponly.efi");
    expect(&log, &[&url, "HTTP snponly.efi", "HTTP boot script", "HTTP k, 20000 bytes"]);
    eprintln!("uefi over https: kernel after {:?}", started.elapsed());
}
