//! A machine behind a router with ISC's dhcrelay, by IPv6: its address, and where its boot file is, come through the relay.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use farrier_netboot::{Boot, BootEntry, Config, Dhcp6, EventKind, KernelArgs, Ramdisk, Segment};

use crate::dhcpv6::{SERVER6, has_settled, six};
use crate::lab::{Cable, HTTP_PORT, Killed, MAC, Running, entry, noise, segment, table, text, tool};
use crate::record::Recording;
use crate::relay::far;

const FAR_IP: &str = "10.79.0.50";
/// The prefix behind the router, and the machine's IPv4 address.
const FAR6: &str = "2001:db8:79::a4f:32";
const ROUTER6: &str = "2001:db8:79::1";

/// dhclient, as firmware of UEFI x64 that boots by PXE asks: architecture 7 (option 61), its class (option 16), and that it wants
/// the boot file's URL and parameters (RFC 5970 §3).
const FIRMWARE: &str = "option dhcp6.bootfile-url code 59 = text;
option dhcp6.bootfile-param code 60 = string;
option dhcp6.firmware-architecture code 61 = unsigned integer 16;
option dhcp6.firmware-class code 16 = string;
send dhcp6.firmware-architecture 7;
send dhcp6.firmware-class 00:00:01:57:00:20:50:58:45:43:6c:69:65:6e:74:3a:41:72:63:68:3a:30:30:30:30:37:3a:55:4e:44:49:3a:30:30:33:30:31:36;
request dhcp6.bootfile-url, dhcp6.bootfile-param;
";

#[test]
fn firmware_behind_dhcrelay_has_its_subnets_address_and_its_boot_file_over_the_router() {
    // Of the second cable only the client's end: its other end moves into the router.
    let (near, behind) = (Cable::new(), Cable::new());
    let router = &near.client;
    behind.server.sh(&format!("ip addr flush dev s0; ip link set s0 netns {} name down0", router.name()));
    near.server.sh(&format!(
        "ip addr add {SERVER6}/64 dev s0 nodad; ip -6 route add 2001:db8:79::/64 via 2001:db8:77::2"
    ));
    router.sh(&format!(
        "ip addr add 2001:db8:77::2/64 dev c0 nodad; ip addr add {ROUTER6}/64 dev down0 nodad; ip link set down0 up; \
         echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
    ));
    for (end, interface) in [(&near.server, "s0"), (router, "c0"), (router, "down0"), (&behind.client, "c0")]
    {
        has_settled(end, interface);
    }
    let mut relay = router.command(&tool("dhcrelay", "isc-dhcp-relay"));
    // -I names its interface in each packet (option 18).
    relay
        .args(["-6", "-d", "-I", "-l", "down0", "-u", &format!("{SERVER6}%c0"), "-pf"])
        .arg(near.path("pid"));
    let relay = relay.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _relay = Killed(relay.spawn().unwrap());

    let behind_relay = Some("2001:db8:79::".parse().unwrap());
    let its = Dhcp6 { behind_relay, ..six().dhcp6.unwrap() };
    let args = KernelArgs::parse("farrier.token=abc").unwrap();
    let boot = Boot::Script(
        Ramdisk { kernel: "vmlinuz".parse().unwrap(), initrd: "initrd".parse().unwrap(), args }.into(),
    );
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    table.set_segments(vec![six(), Segment { dhcp6: Some(its), ..far() }]);
    table.publish(BootEntry { network: "far".into(), ip: FAR_IP.parse().unwrap(), ..entry(boot) });
    let mut config = Config::new(HTTP_PORT);
    let program = noise(70_001);
    config.files.insert("snponly.efi".into(), program.clone().into());
    let recording = Recording::begin("dhclient-relay6", &near.server, "s0");
    let mut server = Running::start(&near.server, config, table);

    let path = |name: &str| behind.path(name).display().to_string();
    let (script, config, leases, pid) = (path("script6"), path("config6"), path("leases6"), path("pid6"));
    let body = format!(
        "#!/bin/sh\n{{ echo \"reason=$reason\"; env; echo \"end=$reason\"; }} >> {}\n",
        path("told6")
    );
    std::fs::write(&script, body).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&config, FIRMWARE).unwrap();
    // -d: it stays until it is ended, so that nothing of it is left.
    let args = [
        "-6", "-v", "-d", "-1", "-D", "LL", "-sf", &script, "-cf", &config, "-lf", &leases, "-pf", &pid, "c0",
    ];
    let mut dhclient = behind.client.command(&tool("dhclient", "isc-dhcp-client"));
    let _dhclient = Killed(dhclient.args(args).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    server.wait(30, |kind| *kind == EventKind::Dhcp6("REPLY"));
    let begun = std::time::Instant::now();
    let told = loop {
        let told = std::fs::read_to_string(behind.path("told6")).unwrap_or_default();
        if told.contains("end=BOUND6\n") {
            break told;
        }
        assert!(begun.elapsed().as_secs() < 30, "{told} {:#?}", server.netboot.trace(MAC));
        std::thread::yield_now();
    };
    recording.end(&server);
    let url = format!("tftp://[{SERVER6}]/snponly.efi");
    for expect in [
        format!("new_ip6_address={FAR6}"),
        format!("new_dhcp6_bootfile_url={url}"),
        // One parameter of three octets: the file has 137 blocks of 512 octets.
        "new_dhcp6_bootfile_param=0:3:31:33:37".to_owned(),
    ] {
        assert!(told.lines().any(|line| line == expect), "{expect}: {told}");
    }
    let trace = server.netboot.trace(MAC);
    let through = format!("through a relay on the link of {ROUTER6}");
    let solicit = trace.iter().find(|event| event.kind == EventKind::Dhcp6("SOLICIT"));
    assert!(solicit.is_some_and(|event| event.detail.contains(&through)), "{trace:#?}");
    assert_eq!(trace[0].node.as_deref(), Some("node-1"), "{trace:#?}");

    // The file is where it was told that it is; and the script is given to the machine's address alone.
    behind
        .client
        .sh(&format!("ip addr add {FAR6}/64 dev c0 nodad; ip addr add 2001:db8:79::9/64 dev c0 nodad"));
    behind.client.sh(&format!("ip -6 route add default via {ROUTER6}"));
    let curl = |from: &str, url: &str| {
        behind.client.client(20, "curl", "curl", &["-sSf", "-g", "--interface", from, url])
    };
    let fetched = curl(FAR6, &url);
    assert!(fetched.status.success() && fetched.stdout == program, "{} bytes", fetched.stdout.len());
    let script = format!("http://[{SERVER6}]:{HTTP_PORT}/boot/{}.ipxe", MAC.hyphenated());
    let given = text(&curl(FAR6, &script));
    assert!(given.contains(&format!("http://[{SERVER6}]:{HTTP_PORT}/artifacts/vmlinuz ")), "{given}");
    assert!(!curl("2001:db8:79::9", &script).status.success());
}
