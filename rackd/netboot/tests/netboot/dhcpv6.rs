//! DHCPv6 and IPv6 boot files, as clients that other people wrote see them.

use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;

use farrier_netboot::{Boot, Config, Dhcp6, EventKind, KernelArgs, Segment};

use crate::lab::{Cable, HTTP_PORT, MAC, Running, SERVER_IP, noise, segment, table, text};

const SERVER6: &str = "2001:db8:77::1";
/// The prefix, and 10.77.0.50.
const CLIENT6: &str = "2001:db8:77::a4d:32";

fn six() -> Segment {
    let server_ip: Ipv6Addr = SERVER6.parse().unwrap();
    Segment { dhcp6: Some(Dhcp6 { server_ip, prefix: 64 }), ..segment() }
}

/// With settled IPv6 addresses on both ends.
fn cable() -> Cable {
    let cable = Cable::new();
    cable.server.sh(&format!("ip addr add {SERVER6}/64 dev s0 nodad"));
    for (end, interface) in [(&cable.server, "s0"), (&cable.client, "c0")] {
        end.sh(&format!(
            "timeout 20 sh -c 'until ip -6 addr show dev {interface} scope link | grep fe80 | grep -vq tentative; do :; done'"
        ));
    }
    cable
}

fn boot() -> Boot {
    let args = KernelArgs::parse("farrier.token=abc").unwrap();
    Boot::Script { kernel: "vmlinuz".parse().unwrap(), initrd: "initrd".parse().unwrap(), args }
}

/// dhclient's script: it configures the address, as the package's own does, and writes down what it was told.
fn dhclient(cable: &Cable, args: &[&str]) -> std::process::Output {
    let script = cable.path("script6");
    let told = cable.path("told6");
    let body = format!(
        "#!/bin/sh\n{{ echo \"reason=$reason\"; env; }} >> {}\n\
         case $reason in BOUND6|RENEW6|REBIND6) ip -6 addr replace $new_ip6_address/128 dev $interface nodad;;\n\
         RELEASE6|EXPIRE6) ip -6 addr del $old_ip6_address/128 dev $interface;; esac\nexit 0\n",
        told.display()
    );
    std::fs::write(&script, body).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = cable.path("dhclient6.conf");
    let asks = "option dhcp6.bootfile-url code 59 = text;\nrequest dhcp6.bootfile-url;\n";
    std::fs::write(&config, asks).unwrap();
    let path = |name: &str| cable.path(name).display().to_string();
    let (script, config, leases, pid) =
        (script.display().to_string(), config.display().to_string(), path("leases6"), path("pid6"));
    let fixed = ["-6", "-v", "-sf", &script, "-cf", &config, "-lf", &leases, "-pf", &pid];
    cable.client.client(30, "dhclient", "isc-dhcp-client", &[&fixed[..], args, &["c0"]].concat())
}

#[test]
fn dhclient_gets_its_reservation_and_gives_it_back() {
    let cable = cable();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(six(), boot()));
    // It goes to the background when it is bound, and `-r` ends it.
    let bound = dhclient(&cable, &["-1", "-D", "LL"]);
    assert!(bound.status.success(), "{}", text(&bound));
    server.wait(30, |kind| *kind == EventKind::Dhcp6("REPLY"));
    let told = std::fs::read_to_string(cable.path("told6")).unwrap_or_default();
    for expect in ["reason=BOUND6", &format!("new_ip6_address={CLIENT6}"), "new_max_life=3600"] {
        assert!(told.lines().any(|line| line == expect), "{expect}: {told}");
    }
    let released = dhclient(&cable, &["-r"]);
    assert!(released.status.success(), "{}", text(&released));
    server.wait(10, |kind| *kind == EventKind::Dhcp6("RELEASE"));
    let kinds = server.kinds();
    for kind in ["SOLICIT", "ADVERTISE", "REQUEST", "REPLY"] {
        assert!(kinds.contains(&EventKind::Dhcp6(kind)), "{kind}: {kinds:?}");
    }
}

#[test]
fn files_and_the_script_go_over_ipv6_and_the_script_to_its_machine_alone() {
    let cable = cable();
    let mut config = Config::new(HTTP_PORT);
    let bytes = noise(70_001);
    config.files.insert("snponly.efi".into(), bytes.clone().into());
    let mut server = Running::start(&cable.server, config, table(six(), boot()));
    cable
        .client
        .sh(&format!("ip addr add {CLIENT6}/64 dev c0 nodad; ip addr add 2001:db8:77::9/64 dev c0 nodad"));
    let curl = |from: &str, url: &str| {
        cable.client.client(20, "curl", "curl", &["-sSf", "-g", "--interface", from, url])
    };
    for scheme in [&format!("tftp://[{SERVER6}]"), &format!("http://[{SERVER6}]:{HTTP_PORT}/firmware")] {
        let output = curl(CLIENT6, &format!("{scheme}/snponly.efi"));
        assert!(output.status.success() && output.stdout == bytes, "{scheme}: {}", output.stdout.len());
    }
    let done = server.wait(5, |kind| matches!(kind, EventKind::TftpDone { .. }));
    assert_eq!(done.node.as_deref(), Some("node-1"), "it is known by its IPv6 address");
    let url = format!("http://[{SERVER6}]:{HTTP_PORT}/boot/{}.ipxe", MAC.hyphenated());
    let script = text(&curl(CLIENT6, &url));
    assert!(
        script.contains(&format!("kernel --name kernel http://[{SERVER6}]:{HTTP_PORT}/artifacts/vmlinuz ")),
        "{script}"
    );
    assert!(!curl("2001:db8:77::9", &url).status.success());
}

#[test]
fn where_ipv6_cannot_be_served_ipv4_is_and_ipv6_follows() {
    // The server's end has no IPv6 address yet.
    let cable = Cable::addressed();
    let mut config = Config::new(HTTP_PORT);
    let bytes = noise(3000);
    config.files.insert("snponly.efi".into(), bytes.clone().into());
    let server = Running::begin(&cable.server, config, table(six(), boot()));
    let error = || server.netboot.segments().into_iter().find_map(|segment| segment.error);
    assert!(error().is_some_and(|error| error.starts_with("IPv6: ")), "{:?}", error());
    let curl = |url: &str| cable.client.client(20, "curl", "curl", &["-sSf", "-g", url]);
    let over_v4 = curl(&format!("tftp://{SERVER_IP}/snponly.efi"));
    assert!(over_v4.status.success() && over_v4.stdout == bytes, "{}", text(&over_v4));
    cable.server.sh(&format!("ip addr add {SERVER6}/64 dev s0 nodad"));
    cable.client.sh(&format!("ip addr add {CLIENT6}/64 dev c0 nodad"));
    // It is looked for again and again.
    let url = format!("tftp://[{SERVER6}]/snponly.efi");
    cable
        .client
        .sh(&format!("timeout 30 sh -c 'until curl -sf -g --max-time 5 -o /dev/null \"{url}\"; do :; done'"));
    assert_eq!(error(), None);
}
