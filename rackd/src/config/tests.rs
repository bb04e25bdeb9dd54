use super::*;
use std::net::Ipv4Addr;

const GOOD: &str = r#"
        rack = "r1"
        data = "/var/lib/farrier"
        identity = "/etc/farrier/r1"
        images = "https://images:7300"
        ramdisk = { kernel = "/boot/k", initrd = "/boot/i" }
        [[segment]]
        name = "provisioning"
        role = "provisioning"
        interface = "br0"
        address = "10.90.0.1/24"
        pool = "10.90.0.10-10.90.0.99"
    "#;

#[test]
fn a_small_file_is_enough() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.listen.port(), 7400);
    assert_eq!(config.segments[0].pool.1, Ipv4Addr::new(10, 90, 0, 99));
}

#[test]
fn there_may_be_a_ramdisk_for_arm64_beside_that_of_x86() {
    let arm64 = "initrd = \"/boot/i\", args = \"console=ttyS0\", arm64 = { kernel = \"/boot/arm64/k\", initrd = \"/i\" }";
    let ramdisk = Config::parse(&GOOD.replace("initrd = \"/boot/i\"", arm64)).unwrap().ramdisk;
    assert_eq!((ramdisk.files.kernel, ramdisk.files.args), ("/boot/k".into(), "console=ttyS0".into()));
    let arm64 = ramdisk.arm64.unwrap();
    // Serial ports are called otherwise there.
    assert_eq!((arm64.kernel, arm64.args), ("/boot/arm64/k".into(), String::new()));
}

#[test]
fn the_files_in_deploy_are_good() {
    Config::parse(include_str!("../../../deploy/rackd.real.toml")).unwrap();
    Config::parse(include_str!("../../../deploy/rackd.toml")).unwrap();
}

const BEHIND: &str = r#"
        [[segment]]
        name = "far"
        role = "tenant"
        address = "10.90.0.1/24"
        behind_relay = "10.91.0.0/24"
        gateway = "10.91.0.1"
        pool = "10.91.0.10-10.91.0.99"
    "#;

#[test]
fn a_segment_behind_a_relay_has_its_own_subnet_and_our_address() {
    let config = Config::parse(&format!("{GOOD}{BEHIND}")).unwrap();
    let far = &config.segments[1];
    assert_eq!((far.behind_relay, far.prefix), (Some(Ipv4Addr::new(10, 91, 0, 0)), 24));
    assert_eq!((far.address, far.interface.as_str()), (Ipv4Addr::new(10, 90, 0, 1), ""));
    for (from, to, key) in [
        ("gateway = \"10.91.0.1\"", "", "far: gateway"),
        ("gateway = \"10.91.0.1\"", "gateway = \"10.90.0.9\"", "far: gateway"),
        ("role = \"tenant\"", "role = \"tenant\"\ninterface = \"br1\"", "far: interface"),
        ("10.91.0.0/24", "10.91.0.0", "far: behind_relay"),
        ("10.91.0.0/24", "10.88.0.0/14", "far: behind_relay"),
        ("10.90.0.1/24", "10.90.0.2/24", "far: address"),
        ("10.91.0.10-10.91.0.99", "10.90.0.10-10.90.0.99", "far: pool"),
        ("10.91.0.10-10.91.0.99", "10.91.0.1-10.91.0.99", "far: pool"),
        ("role = \"tenant\"", "role = \"tenant\"\ndhcp = \"off\"", "far: dhcp"),
    ] {
        let error = Config::parse(&format!("{GOOD}{}", BEHIND.replace(from, to))).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
    let bridged = format!("switch = \"bridge\"\n{GOOD}{BEHIND}");
    assert!(Config::parse(&bridged).unwrap_err().to_string().contains("far: behind_relay"));
}

#[test]
fn a_rack_has_several_provisioning_networks_each_with_its_own_subnet_and_mode() {
    const ROW_2: &str = r#"
            [[segment]]
            name = "row-2"
            role = "provisioning"
            interface = "br2"
            address = "10.92.0.1/24"
            dhcp = "authoritative"
            guests = "10.92.0.200-10.92.0.220"
            pool = "10.92.0.10-10.92.0.99"
        "#;
    let far = BEHIND.replace("tenant", "provisioning");
    let config = Config::parse(&format!("{GOOD}{ROW_2}{far}")).unwrap();
    assert!(config.segments.iter().all(|segment| segment.role == Role::Provisioning));
    let modes: Vec<_> = config.segments.iter().map(|segment| segment.dhcp).collect();
    assert_eq!(modes, [DhcpMode::Reservations, DhcpMode::Authoritative, DhcpMode::Reservations]);
    for (from, to, key) in [
        ("row-2", "provisioning", "provisioning: name"),
        ("br2", "br0", "row-2: interface"),
        ("10.92.0", "10.90.0", "row-2: address"),
    ] {
        let error = Config::parse(&format!("{GOOD}{}", ROW_2.replace(from, to))).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

#[test]
fn a_subnets_own_two_addresses_are_no_machines() {
    let pool = |text: &str| {
        let config = Config::parse(&GOOD.replace("10.90.0.10-10.90.0.99", text));
        config.map(|config| config.segments[0].pool).map_err(|error| error.to_string())
    };
    let ip = |last: u8| Ipv4Addr::new(10, 90, 0, last);
    assert_eq!(pool("10.90.0.2-10.90.0.255").unwrap(), (ip(2), ip(254)));
    assert!(pool("10.90.0.255-10.90.0.255").unwrap_err().contains("pool"));
    assert!(pool("10.90.0.0-10.90.0.0").unwrap_err().contains("pool"));
    // Ours is another one.
    let text = GOOD.replace("10.90.0.1/24", "10.90.0.254/24");
    let config = Config::parse(&text.replace("10.90.0.10-10.90.0.99", "10.90.0.0-10.90.0.9")).unwrap();
    assert_eq!(config.segments[0].pool, (ip(1), ip(9)));
}

#[test]
fn a_router_beside_us_is_named_where_we_would_answer_for_one() {
    let with = |more: &str| Config::parse(&GOOD.replace("pool =", &format!("{more}\npool =")));
    let advertises = |more: &str| with(more).unwrap().segments[0].router_advertisements;
    assert!(advertises("") && advertises("router_advertisements = true"));
    assert!(!advertises("router_advertisements = false"));
    let error = with("dhcp = \"proxy\"\nrouter_advertisements = true").unwrap_err().to_string();
    assert!(error.contains("router_advertisements"), "{error}");
}

#[test]
fn addresses_are_looked_for_unless_the_segment_says_otherwise() {
    let with = |more: &str| Config::parse(&GOOD.replace("pool =", &format!("{more}\npool =")));
    let checks = |more: &str| with(more).unwrap().segments[0].conflict_check;
    assert!(checks("") && checks("conflict_check = true") && !checks("conflict_check = false"));
}

#[test]
fn leases_of_systems_outlive_a_night_without_rackd() {
    let with = |more: &str| {
        Config::parse(&format!("{GOOD}{BEHIND}{more}"))
            .map(|c| c.segments.into_iter().map(|s| s.lease_seconds).collect::<Vec<_>>())
    };
    assert_eq!(with("").unwrap(), vec![3600, 86_400]);
    assert_eq!(with("lease_seconds = 600").unwrap(), vec![3600, 600]);
    let named = Config::parse(&format!("{GOOD}domain = \"r1.example\"")).unwrap();
    assert_eq!(named.segments[0].domain.as_deref(), Some("r1.example"));
    for (more, key) in [
        ("lease_seconds = 59", "far: lease_seconds"),
        ("lease_seconds = 31536001", "far: lease_seconds"),
        ("domain = \"-\"", "far: domain"),
        ("domain = \"a..b\"", "far: domain"),
    ] {
        let error = with(more).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn whose_dhcp_it_is() {
    assert_eq!(Config::parse(GOOD).unwrap().segments[0].dhcp, DhcpMode::Reservations);
    let with = |more: &str| Config::parse(&GOOD.replace("pool =", &format!("{more}\npool =")));
    let proxy = with("dhcp = \"proxy\"").unwrap();
    assert_eq!((proxy.segments[0].dhcp, proxy.segments[0].guests), (DhcpMode::Proxy, None));
    let all = with("dhcp = \"authoritative\"\nguests = \"10.90.0.200-10.90.0.220\"").unwrap();
    let guests = ([10, 90, 0, 200].into(), [10, 90, 0, 220].into());
    assert_eq!((all.segments[0].dhcp, all.segments[0].guests), (DhcpMode::Authoritative, Some(guests)));
    for (more, key) in [
        ("dhcp = \"authoritative\"", "guests"),
        ("dhcp = \"authoritative\"\nguests = \"10.90.0.99-10.90.0.120\"", "guests"),
        ("dhcp = \"authoritative\"\nguests = \"10.91.0.9-10.91.0.12\"", "guests"),
        ("guests = \"10.90.0.200-10.90.0.220\"", "guests"),
        ("dhcp = \"maybe\"", "dhcp"),
    ] {
        let text = farrier_runtime::telemetry::chain(&with(more).unwrap_err());
        assert!(text.contains(key), "{more}: {text}");
    }
}

#[test]
fn a_segment_has_ipv6_where_it_says_so() {
    let with = |more: &str| {
        let text = GOOD.replace("data =", "http_listen = \"[::]:8080\"\ndata =");
        Config::parse(&text.replace("pool =", &format!("{more}\npool =")))
    };
    let six = "dhcp6 = \"reservations\"\naddress6 = \"2001:db8:90::1/64\"";
    let config = with(six).unwrap();
    let six_of = config.segments[0].dhcp6.unwrap();
    assert_eq!(six_of.address(config.segments[0].pool.0).to_string(), "2001:db8:90::a5a:a");
    assert_eq!(with("").unwrap().segments[0].dhcp6, None);
    for (more, key) in [
        ("dhcp6 = \"reservations\"", "address6"),
        ("address6 = \"2001:db8:90::1/64\"", "address6"),
        ("dhcp6 = \"reservations\"\naddress6 = \"fe80::1/64\"", "address6"),
        ("dhcp6 = \"reservations\"\naddress6 = \"2001:db8:90::1/112\"", "address6"),
        ("dhcp6 = \"reservations\"\naddress6 = \"2001:db8::10.90.0.10/64\"", "none of pool"),
        ("dhcp6 = \"maybe\"", "dhcp6"),
    ] {
        let text = farrier_runtime::telemetry::chain(&with(more).unwrap_err());
        assert!(text.contains(key), "{more}: {text}");
    }
    let error = Config::parse(&GOOD.replace("pool =", &format!("{six}\npool ="))).unwrap_err();
    assert!(error.to_string().contains("http_listen"), "{error}");
}

#[test]
fn a_segment_behind_a_relay_has_ipv6_of_a_subnet_of_its_own() {
    const FAR: &str = r#"
            [[segment]]
            name = "row-2"
            role = "tenant"
            address = "10.90.0.1/24"
            behind_relay = "10.92.0.0/24"
            gateway = "10.92.0.1"
            pool = "10.92.0.100-10.92.0.199"
            dhcp6 = "reservations"
            address6 = "2001:db8:90::1/64"
            behind_relay6 = "2001:db8:92::/56"
        "#;
    let near = "dhcp6 = \"reservations\"\naddress6 = \"2001:db8:90::1/64\"\npool =";
    let text = GOOD.replace("data =", "http_listen = \"[::]:8080\"\ndata =").replace("pool =", near);
    let parse = |far: &str| Config::parse(&format!("{text}{far}"));
    let far = parse(FAR).unwrap().segments.pop().unwrap();
    let six = far.dhcp6.unwrap();
    assert_eq!((six.server_ip.to_string(), six.prefix), ("2001:db8:90::1".to_owned(), 56));
    assert_eq!(six.address(far.pool.0).to_string(), "2001:db8:92::a5c:64");
    for (from, to, key) in [
        ("behind_relay6 = \"2001:db8:92::/56\"", "", "row-2: behind_relay6"),
        ("2001:db8:92::/56", "2001:db8:92::", "row-2: behind_relay6"),
        ("2001:db8:92::/56", "fe80::/64", "row-2: behind_relay6"),
        ("2001:db8:92::/56", "2001:db8:90::/56", "2001:db8:90::/56, where segment provisioning is"),
        ("2001:db8:90::1/64", "2001:db8:90::2/64", "row-2: address6"),
        (
            "dhcp6 = \"reservations\"\n            address6 = \"2001:db8:90::1/64\"",
            "",
            "row-2: behind_relay6",
        ),
    ] {
        let error = parse(&FAR.replace(from, to)).unwrap_err();
        let text = farrier_runtime::telemetry::chain(&error);
        assert!(text.contains(key), "{to}: {text}");
    }
    let alone = text.replace("pool =", "behind_relay6 = \"2001:db8:92::/56\"\npool =");
    let error = Config::parse(&alone).unwrap_err().to_string();
    assert!(error.contains("behind_relay6") && error.contains("none unless behind_relay"), "{error}");
}

#[test]
fn each_mistake_names_its_key() {
    for (from, to, key) in [
        ("rack = \"r1\"", "rack = \"R 1\"", "rack"),
        ("https://", "http://", "images"),
        ("10.90.0.1/24", "10.90.0.1", "address"),
        ("10.90.0.10-10.90.0.99", "10.90.0.1-10.90.0.99", "pool"),
        ("10.90.0.10-10.90.0.99", "10.91.0.10-10.91.0.99", "pool"),
        ("role = \"provisioning\"", "role = \"tenant\"", "provisioning"),
        ("data =", "dta =", "dta"),
        ("ramdisk =", "timeouts = { bmc_seconds = 18446744073709551615 }\nramdisk =", "week"),
        ("ramdisk =", "timeouts = { agent_seconds = 0 }\nramdisk =", "week"),
        ("ramdisk =", "cache = { most = 1 }\nramdisk =", "most"),
        ("ramdisk =", "consoles = { log = \"never\" }\nramdisk =", "attended"),
        ("ramdisk =", "consoles = { log = \"always\" }\nramdisk =", "inventory"),
        ("ramdisk =", "watch = { every_seconds = -1 }\nramdisk =", "every_seconds"),
        ("ramdisk =", "virtual_media = { bios = \"/b\" }\nramdisk =", "efi"),
        (
            "ramdisk =",
            "virtual_media = { bios = \"/b\", efi = \"/e\", url = \"http://a/b\" }\nramdisk =",
            "url",
        ),
        ("ramdisk =", "inspection = { neighbour_seconds = 256 }\nramdisk =", "neighbour_seconds"),
        ("ramdisk =", "discovery = { mode = \"maybe\" }\nramdisk =", "mode"),
        ("ramdisk =", "discovery = { mode = \"wait\" }\nramdisk =", "inventory"),
        ("ramdisk =", "metrics_listen = \"0.0.0.0:9740\"\nramdisk =", "loopback"),
        ("ramdisk =", "https = { listen = \"0.0.0.0:443\", key = \"/k\" }\nramdisk =", "certificate"),
        (
            "ramdisk =",
            "https = { listen = \"0.0.0.0:443\", certificate = \"/c\", key = \"/k\", name = \"a/b\" }\nramdisk =",
            "https.name",
        ),
        ("initrd = \"/boot/i\"", "initrd = \"/boot/i\", arm64 = { kernel = \"/boot/arm64/k\" }", "initrd"),
        ("initrd = \"/boot/i\"", "initrd = \"/boot/i\", x86 = { kernel = \"/k\", initrd = \"/i\" }", "x86"),
        ("ramdisk =", "discovery = { secure_boot = true }\nramdisk =", "signed_boot"),
        ("ramdisk =", "signed_boot = { x86_64 = { shim = \"/s\" } }\nramdisk =", "grub"),
    ] {
        let error = Config::parse(&GOOD.replace(from, to)).unwrap_err();
        let text = farrier_runtime::telemetry::chain(&error);
        assert!(text.contains(key), "{key}: {text}");
    }
}

/// Firmware is sent to the name that the certificate has, and boots nothing where it cannot resolve it.
#[test]
fn a_name_that_machines_are_sent_to_wants_a_name_server_where_rackd_gives_addresses() {
    let with = |segment: &str, name: &str| {
        let https = format!("https = {{ listen = \"[::]:8443\", certificate = \"/c\", key = \"/k\"{name} }}");
        let text = GOOD.replace("ramdisk =", &format!("http_listen = \"[::]:8080\"\n{https}\nramdisk ="));
        Config::parse(&text.replace("pool =", &format!("{segment}\npool =")))
    };
    let six = "dhcp6 = \"reservations\"\naddress6 = \"2001:db8::1/64\"";
    let (dns, dns6) = ("dns = [\"10.90.0.2\"]", "dns6 = [\"2001:db8::2\"]");
    let both = format!("{six}\n{dns}");
    for (segment, missing) in [
        (String::new(), Some("segment provisioning: dns:")),
        (dns.to_owned(), None),
        ("dhcp = \"proxy\"".to_owned(), None),
        (both.clone(), Some("segment provisioning: dns6:")),
        (format!("{six}\n{dns6}"), Some("segment provisioning: dns:")),
        (format!("{both}\n{dns6}"), None),
    ] {
        let parsed = with(&segment, ", name = \"r1.example\"").map_err(|error| error.to_string());
        match (parsed, missing) {
            (Ok(_), None) => {}
            (Err(error), Some(key)) => {
                assert!(error.contains(key) && error.contains("r1.example"), "{error}")
            }
            (parsed, _) => panic!("{segment}: {parsed:?}"),
        }
        if !segment.contains("dns6") || segment.contains(six) {
            with(&segment, "").unwrap();
        }
    }
    let error = with(dns6, "").unwrap_err().to_string();
    assert!(error.contains("provisioning: dns6"), "{error}");
    assert_eq!(with(&format!("{both}\n{dns6}"), "").unwrap().segments[0].dns6.len(), 1);
}

/// Which of two machines asks is told by its address, and so is whose boot script it gets.
#[test]
fn tenants_of_one_rack_have_subnets_of_their_own_where_rackd_answers() {
    let tenant = |name: &str, interface: &str, address: &str| {
        let [a, b, c, _] = address.parse::<Ipv4Addr>().unwrap().octets();
        format!(
            "[[segment]]\nname = \"{name}\"\nrole = \"tenant\"\ninterface = \"{interface}\"\naddress = \"{address}/24\"\n\
             pool = \"{a}.{b}.{c}.10-{a}.{b}.{c}.99\"\n"
        )
    };
    let parse = |red: String, blue: String| Config::parse(&format!("{GOOD}{red}{blue}"));
    let red = || tenant("red", "br1", "10.91.0.1");
    parse(red(), tenant("blue", "br2", "10.92.0.1")).unwrap();
    for (blue, seen) in [
        (tenant("blue", "br2", "10.91.0.2"), "10.91.0.2/24, where segment red is"),
        (tenant("blue", "br2", "10.90.0.2"), "10.90.0.2/24, where segment provisioning is"),
    ] {
        let error = parse(red(), blue).unwrap_err().to_string();
        assert!(error.contains("blue: address") && error.contains(seen), "{error}");
    }
    // Their own DHCP server's: they never see each other.
    parse(red(), tenant("blue", "", "10.91.0.2")).unwrap();
}

#[test]
fn a_network_of_bmcs_has_a_pool_for_all_and_addresses_of_their_own() {
    const BMCS: &str = r#"
            [[segment]]
            name = "bmcs"
            role = "management"
            interface = "br9"
            address = "10.9.0.1/24"
            pool = "10.9.0.100-10.9.0.199"
            reservations = { "52:54:00:00:00:99" = "10.9.0.10" }
        "#;
    let parse = |text: &str| Config::parse(&format!("{GOOD}{text}"));
    let bmcs = parse(BMCS).unwrap().segments.pop().unwrap();
    assert_eq!(
        (bmcs.role, bmcs.dhcp, bmcs.lease_seconds),
        (Role::Management, DhcpMode::Authoritative, 86_400)
    );
    assert_eq!(bmcs.strangers(), Some(([10, 9, 0, 100].into(), [10, 9, 0, 199].into())));
    assert_eq!(bmcs.reservations, [("52:54:00:00:00:99".parse().unwrap(), [10, 9, 0, 10].into())]);
    let named_only = parse(&format!("{BMCS}dhcp = \"reservations\"")).unwrap().segments.pop().unwrap();
    assert_eq!(named_only.strangers(), None);
    let error = Config::parse(&format!("{}{BMCS}", GOOD.replace("provisioning", "tenant"))).unwrap_err();
    assert!(error.to_string().contains("provisioning"), "BMCs boot nobody: {error}");
    for (from, to, key) in [
        ("10.9.0.", "10.90.0.", "bmcs: address"),
        ("52:54:00:00:00:99", "5254", "bmcs: reservations"),
        ("\"10.9.0.10\"", "\"10.8.0.10\"", "bmcs: reservations"),
        ("\"10.9.0.10\"", "\"10.9.0.1\"", "bmcs: reservations"),
        ("\"10.9.0.10\"", "\"10.9.0.0\"", "bmcs: reservations"),
        ("\"10.9.0.10\"", "\"10.9.0.255\"", "bmcs: reservations"),
        ("\"10.9.0.10\" }", "\"10.9.0.10\", \"52:54:00:00:00:98\" = \"10.9.0.10\" }", "bmcs: reservations"),
        ("\"management\"", "\"tenant\"", "bmcs: reservations"),
        ("pool =", "guests = \"10.9.0.200-10.9.0.210\"\npool =", "bmcs: guests"),
        ("pool =", "dhcp = \"proxy\"\npool =", "bmcs: dhcp"),
        ("pool =", "dhcp6 = \"reservations\"\naddress6 = \"2001:db8::1/64\"\npool =", "bmcs: dhcp6"),
    ] {
        assert!(BMCS.contains(from), "{from}");
        let text = farrier_runtime::telemetry::chain(&parse(&BMCS.replace(from, to)).unwrap_err());
        assert!(text.contains(key), "{key}: {text}");
    }
}
