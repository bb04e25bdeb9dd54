//! Snapshots that are refused, and which one is served after that.

use super::Snapshot;
use super::kept::Kept;
use std::os::unix::fs::PermissionsExt as _;

const GOOD: &str = r#"
generation: 7
segments:
- name: lab
  interface: br0
  address: 10.90.0.1/24
  gateway: 10.90.0.254
  pool: { first: 10.90.0.100, last: 10.90.0.199 }
machines:
- { name: web-1, mac: "52:54:00:00:00:01", segment: lab, address: 10.90.0.10, boot: local_disk }
- name: web-2
  mac: 52-54-00-00-00-02
  segment: lab
  address: 10.90.0.11
  boot: { linux: { kernel: k, initrd: i, args: quiet } }
artifacts: { k: /etc/hostname, i: /etc/hostname }
...
"#;

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = Snapshot::parse(GOOD).unwrap();
    let json = Snapshot::parse(&serde_json::to_string(&yaml).unwrap()).unwrap();
    assert_eq!(yaml, json);
    let table = json.table().unwrap();
    assert_eq!(table.entries().count(), 2);
    assert!(table.segment("lab").unwrap().pool.is_some());
}

#[test]
fn a_machine_boots_its_disk_a_ramdisk_or_an_iscsi_disk_whose_secret_is_in_a_file() {
    use farrier_netboot::Boot;
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (dir.path().join("rack.yaml"), dir.path().join("chap"));
    let diskless = format!(
        "- name: web-3\n  mac: 52-54-00-00-00-03\n  segment: lab\n  address: 10.90.0.12\n  boot: {{ iscsi: {{ portal: \
         \"10.90.0.2:3260\", target: iqn.2026-11.example:web-3, initiator: iqn.2026-11.example:node-3, user: web-3, \
         secret_file: {} }} }}\nartifacts:",
        secret.display()
    );
    let text = GOOD.replace("artifacts:", &diskless);
    std::fs::write(&file, &text).unwrap();
    let mut kept = Kept::open(dir.path().join("snapshot.json"));
    let error = |kept: &mut Kept| format!("{:#}", kept.take(&file).unwrap_err());
    assert!(
        error(&mut kept).contains("machine web-3: boot: secret_file: cannot read"),
        "{}",
        error(&mut kept)
    );
    std::fs::write(&secret, "not a word\n").unwrap();
    assert!(error(&mut kept).contains("expected a CHAP name or secret"), "{}", error(&mut kept));
    std::fs::write(&secret, "horse-4711-shoe\n").unwrap();
    let snapshot = kept.take(&file).unwrap();
    let boots = |snapshot: &Snapshot| {
        let table = snapshot.table().unwrap();
        ["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"]
            .map(|mac| table.entry(mac.parse().unwrap(), "lab").unwrap().boot.clone())
    };
    let [disk, ramdisk, iscsi] = boots(&snapshot);
    assert!(disk == Boot::LocalDisk && matches!(ramdisk, Boot::Script { .. }), "{disk:?} {ramdisk:?}");
    let Boot::San(san) = iscsi else { panic!("{iscsi:?}") };
    assert_eq!((san.portal, san.lun), ("10.90.0.2:3260".parse().unwrap(), 0));
    assert_eq!(san.secret, "horse-4711-shoe".parse().unwrap());
    // As JSON it is the same, and the secret is in neither.
    let json = std::fs::read_to_string(dir.path().join("snapshot.json")).unwrap();
    assert!(!json.contains("horse-4711-shoe"));
    assert_eq!(Snapshot::parse(&json).unwrap(), snapshot);
    // One that is away after a restart keeps nobody else from booting.
    std::fs::remove_file(&secret).unwrap();
    let [disk, _, iscsi] = boots(Kept::open(dir.path().join("snapshot.json")).last().unwrap());
    assert_eq!((disk, iscsi), (Boot::LocalDisk, Boot::None));
    let for_all = text.replace(
        "last: 10.90.0.199",
        "last: 10.90.0.199, boot: { iscsi: { portal: \"10.90.0.2:3260\", \
         target: iqn.2026-11.example:x, initiator: iqn.2026-11.example:y, user: z, secret_file: /z } }",
    );
    let error = format!("{:#}", Snapshot::parse(&for_all).unwrap().table().unwrap_err());
    assert!(error.contains("which is one machine's"), "{error}");
}

#[test]
fn arm64_machines_may_start_another_ramdisk() {
    use farrier_netboot::{Boot, Ramdisks};
    let with = |arm64: &str| GOOD.replace("args: quiet", &format!("args: quiet, arm64: {{ {arm64} }}"));
    let snapshot = Snapshot::parse(&with("kernel: i, initrd: k, args: console=ttyAMA0")).unwrap();
    assert_eq!(Snapshot::parse(&serde_json::to_string(&snapshot).unwrap()).unwrap(), snapshot);
    let table = snapshot.table().unwrap();
    let boot = &table.entry("52:54:00:00:00:02".parse().unwrap(), "lab").unwrap().boot;
    let Boot::Script(Ramdisks::Two { x86, arm64 }) = boot else { panic!("{boot:?}") };
    assert_eq!((x86.kernel.to_string(), arm64.kernel.to_string()), ("k".into(), "i".into()));
    assert_eq!(arm64.args, farrier_netboot::KernelArgs::parse("console=ttyAMA0").unwrap());
    let error = |text: &str| format!("{:#}", Snapshot::parse(text).and_then(|s| s.table()).unwrap_err());
    assert!(
        error(&with("kernel: none, initrd: k")).contains("boot: arm64: \"none\" is not among the artifacts")
    );
    assert!(error(&with("kernel: i, initrd: k, arg: x")).contains(".arg: expected a key of a snapshot"));
    assert!(error(&with("kernel: i")).contains("initrd"));
}

#[test]
fn a_subnet_behind_a_relay_is_not_ours() {
    let far = "- { name: far, address: 10.90.0.1/16, behind_relay: 10.91.0.0/24 }\nmachines:";
    let text = GOOD.replace("machines:", far);
    let table = Snapshot::parse(&text).unwrap().table().unwrap();
    let segment = table.segment_of([10, 91, 0, 254].into()).unwrap();
    assert_eq!((segment.server_ip, segment.netmask()), ([10, 90, 0, 1].into(), [255, 255, 255, 0].into()));
    assert_eq!(table.segment_of([10, 90, 0, 1].into()).unwrap().network, "lab");
    for (from, to, place) in [
        ("behind_relay", "interface: br1, behind_relay", "expected no interface, saw br1"),
        (
            "10.90.0.1/16",
            "10.90.0.2/16",
            "segment far: address: expected that of a segment with an interface",
        ),
        ("behind_relay", "dhcp: off, behind_relay", "segment far: dhcp: expected authoritative"),
    ] {
        let error = Snapshot::parse(&text.replace(from, to)).unwrap().table().unwrap_err();
        assert!(format!("{error:#}").contains(place), "{error:#}");
    }
}

#[test]
fn a_subnet_behind_a_relay_has_ipv6_where_it_says_which() {
    let near = GOOD.replacen("  pool:", "  address6: 2001:db8:90::1/64\n  pool:", 1);
    let far = "- { name: far, address: 10.90.0.1/16, behind_relay: 10.91.0.0/24, address6: \"2001:db8:90::1/64\", \
               behind_relay6: \"2001:db8:91::/64\" }\nmachines:";
    let text = near.replace("machines:", far);
    let snapshot = Snapshot::parse(&text).unwrap();
    let table = snapshot.table().unwrap();
    let six = table.segment("far").unwrap().dhcp6.unwrap();
    assert_eq!(
        (six.server_ip.to_string(), six.subnet().to_string()),
        ("2001:db8:90::1".into(), "2001:db8:91::".into())
    );
    for (from, to, place) in [
        (", behind_relay6: \"2001:db8:91::/64\"", "", "segment far: behind_relay6: expected the subnet"),
        (
            "2001:db8:91::/64",
            "2001:db8:90::/64",
            "segment far: behind_relay6: expected a subnet that no other",
        ),
        ("2001:db8:91::/64", "2001:db8:91::", "segment far: behind_relay6: expected a global address"),
        (
            "address6: \"2001:db8:90::1/64\"",
            "address6: \"2001:db8:90::2/64\"",
            "segment far: address6: expected that of",
        ),
        ("address6: 2001:db8:90::1/64", "behind_relay6: 2001:db8:95::/64", "segment lab: behind_relay6"),
    ] {
        let error = Snapshot::parse(&text.replace(from, to)).unwrap().table().unwrap_err();
        assert!(format!("{error:#}").contains(place), "{error:#}");
    }
}

#[test]
fn whose_dhcp_it_is() {
    use farrier_netboot::Dhcp;
    let dhcp = |text: &str| Snapshot::parse(text).unwrap().table().map(|t| t.segment("lab").unwrap().dhcp);
    assert_eq!(dhcp(GOOD).unwrap(), Dhcp::Ours);
    let beside = GOOD.replace("  pool: { first: 10.90.0.100, last: 10.90.0.199 }\n", "  dhcp: proxy\n");
    assert_eq!(dhcp(&beside).unwrap(), Dhcp::Proxy);
    assert_eq!(dhcp(&beside.replace("proxy", "off")).unwrap(), Dhcp::Off);
    let advertises = |text: &str| {
        let table = Snapshot::parse(text).unwrap().table().unwrap();
        table.segment("lab").unwrap().router_advertisements
    };
    assert!(advertises(GOOD));
    assert!(!advertises(&GOOD.replace("  pool:", "  router_advertisements: false\n  pool:")));
    let checks =
        |text: &str| Snapshot::parse(text).unwrap().table().unwrap().segment("lab").unwrap().conflict_check;
    assert!(checks(GOOD) && !checks(&GOOD.replace("  pool:", "  conflict_check: false\n  pool:")));
    let both = GOOD.replace("  pool:", "  dhcp: proxy\n  pool:");
    assert!(format!("{:#}", dhcp(&both).unwrap_err()).contains("pool: expected none"));
}

#[test]
fn each_mistake_names_its_place() {
    const HTTPS: &str = "https: { listen: \"[::]:8443\", certificate: /c, key: /k, name: r1.example }\nsegments:\n- name: lab";
    for (from, to, place) in [
        ("segments:\n- name: lab", HTTPS, "segment lab: dns: expected a name server"),
        (
            "segments:\n- name: lab",
            &format!("{HTTPS}\n  dns: [10.90.0.2]\n  address6: 2001:db8::1/64"),
            "segment lab: dns6: expected a name server",
        ),
        ("gateway:", "dns6: [\"2001:db8::2\"]\n  gateway:", "segment lab: dns6: expected none"),
        ("generation: 7", "", "generation"),
        ("interface:", "interfaces:", "interfaces"),
        ("10.90.0.1/24", "10.90.0.1", "segment lab: address"),
        ("last: 10.90.0.199", "last: 10.91.0.1", "segment lab: pool"),
        ("address: 10.90.0.10,", "address: 10.91.0.10,", "machine web-1: address"),
        ("address: 10.90.0.10,", "address: 10.90.0.0,", "machine web-1: address"),
        ("address: 10.90.0.10,", "address: 10.90.0.255,", "machine web-1: address"),
        ("address: 10.90.0.10,", "address: 10.90.0.1,", "machine web-1: address"),
        ("address: 10.90.0.10,", "address: 10.90.0.254,", "machine web-1: address"),
        ("address: 10.90.0.11", "address: 10.90.0.10", "machine web-2: 10.90.0.10 is another"),
        ("52-54-00-00-00-02", "52-54-00-00-00-01", "machine web-2: 52:54:00:00:00:01 has two"),
        ("52-54-00-00-00-02", "5254", "machine web-2: mac"),
        ("segment: lab, a", "segment: lap, a", "machine web-1: there is no segment"),
        ("initrd: i", "initrd: j", "machine web-2: boot: \"j\""),
        ("args: quiet", "args: \"a\\nb\"", "machine web-2: boot: args"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let parsed = Snapshot::parse(&GOOD.replacen(from, to, 1));
        let error = parsed.and_then(|snapshot| snapshot.table().map(|_| snapshot)).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(place), "{place}: {text}");
    }
}

#[test]
fn a_copy_that_a_later_rackd_wrote_is_read_as_far_as_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.json");
    let mut later = serde_json::to_value(Snapshot::parse(GOOD).unwrap()).unwrap();
    later["machines"][0]["oven"] = "hot".into();
    std::fs::write(&path, later.to_string()).unwrap();
    assert!(Snapshot::parse(&later.to_string()).unwrap_err().to_string().contains("machines.0.oven"));
    assert_eq!(Kept::open(path).last(), Some(&Snapshot::parse(GOOD).unwrap()));
}

#[test]
fn the_last_good_one_is_kept_over_bad_old_and_changed_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (file, path) = (dir.path().join("rack.yaml"), dir.path().join("snapshot.json"));
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let mut kept = Kept::open(path.clone());
    write(GOOD);
    assert_eq!(kept.take(&file).unwrap().generation, 7);
    kept.take(&file).unwrap();
    // Its kernel arguments may have a password in them.
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for (text, why) in [
        (GOOD.replace("generation: 7", "generation: 6"), "expected a later one"),
        (GOOD.replace("web-1", "web-9"), "raise `generation`"),
        (GOOD.replace("generation: 7", "generation: 8").replace("/24", ""), "address"),
        ("{".to_owned(), "cannot be used"),
        // Whoever writes it has come so far: each is a YAML, and the first of them another rack.
        (
            GOOD.replace("generation: 7", "generation: 8")[..GOOD.find("- name: web-2").unwrap()].to_owned(),
            "is not whole",
        ),
        (GOOD.replace("generation: 7", "generation: 8").replace("\n...\n", "\n"), "whose last line is `...`"),
        (GOOD.replace("generation: 7", "generation: 8").replace("\n...\n", "\n.."), "is not whole"),
    ] {
        write(&text);
        let error = format!("{:#}", kept.take(&file).unwrap_err());
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!(Kept::open(path.clone()).last().map(|s| s.generation), Some(7));
    }
    write(&GOOD.replace("generation: 7", "generation: 8").replace("web-1", "web-9"));
    kept.take(&file).unwrap();
    assert_eq!(Kept::open(path.clone()).last().map(|s| s.generation), Some(8));
    // A disk that is not mounted: not what a new one may name, and no reason to serve nothing after a restart.
    let away = GOOD.replace("generation: 7", "generation: 9").replace("k: /etc/hostname", "k: /nowhere");
    write(&away);
    let error = format!("{:#}", kept.take(&file).unwrap_err());
    assert!(error.contains("artifact k: expected a file at /nowhere"), "{error}");
    let half = std::fs::read(&path).unwrap();
    // Half a copy is as good as none, and no reason not to start.
    std::fs::write(&path, &half[..half.len() / 2]).unwrap();
    std::fs::remove_file(path.with_extension("previous")).unwrap();
    assert_eq!(Kept::open(path).last(), None);
}

#[test]
fn what_inventory_says_is_kept_under_the_next_number_where_it_is_news() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.json");
    let said = Snapshot::parse(GOOD).unwrap();
    let mut kept = Kept::open(path.clone());
    let mut numbers = Vec::new();
    for machines in [&said.machines[..1], &said.machines[..1], &said.machines[..], &said.machines[..0]] {
        let new = Snapshot { generation: 0, machines: machines.to_vec(), ..said.clone() };
        kept.renew(new).unwrap();
        let again = Kept::open(path.clone());
        assert_eq!(again.last(), kept.last());
        numbers.push((again.last().unwrap().generation, again.last().unwrap().machines.len()));
    }
    assert_eq!(numbers, [(1, 1), (1, 1), (2, 2), (3, 0)]);
    // What would be refused when it is read is not written.
    let mut bad = said.clone();
    bad.segments[0].address = "10.90.0.1".into();
    kept.renew(bad).unwrap_err();
    assert_eq!(Kept::open(path.clone()).last().unwrap().generation, 3);
    // Where the disk takes nothing, what is kept stays what is on it.
    std::fs::remove_dir_all(dir.path()).unwrap();
    kept.renew(said).unwrap_err();
    assert_eq!(kept.last().unwrap().generation, 3);
}

#[test]
fn one_machine_that_cannot_be_served_takes_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.json");
    let mut kept = Kept::open(path.clone());
    let said = Snapshot::parse(GOOD).unwrap();
    let third = |change: &dyn Fn(&mut super::MachineText)| {
        let mut third = said.machines[0].clone();
        (third.name, third.mac) = ("web-3".into(), "52:54:00:00:00:03".into());
        change(&mut third);
        let machines = [&said.machines[..1], &[third], &said.machines[1..]].concat();
        Snapshot { machines, ..said.clone() }
    };
    let twice = [10, 90, 0, 10].into();
    for bad in [
        // An address of another machine, or of another network; a port that has one.
        third(&|m| m.address = twice),
        third(&|m| m.address = [10, 91, 0, 10].into()),
        third(&|m| m.mac = "52:54:00:00:00:01".into()),
        third(&|m| m.segment = "bmcs".into()),
    ] {
        kept.renew(bad).unwrap();
        let again = Kept::open(path.clone());
        let names: Vec<_> = again.last().unwrap().machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!((names, again.last().unwrap().generation), (vec!["web-1", "web-2"], said.generation + 1));
    }
    kept.renew(third(&|m| m.address = [10, 90, 0, 12].into())).unwrap();
    assert_eq!(Kept::open(path).last().unwrap().machines.len(), 3);
}

#[test]
fn the_example_of_the_documents_is_a_snapshot() {
    let text = include_str!("../../../deploy/README.md");
    let example = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // Its files are nobody's here.
    let example = example
        .replace("/srv/boot/vmlinuz", "/etc/hostname")
        .replace("/srv/boot/initrd.img", "/etc/hostname");
    let table = Snapshot::parse(&example).unwrap().table().unwrap();
    assert_eq!(table.entries().count(), 2);
    assert!(table.segment_of([10, 91, 0, 7].into()).is_some());
}

#[test]
fn one_that_is_damaged_gives_way_to_the_one_before_and_never_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.json");
    let of = |name: &str| Snapshot::parse(&GOOD.replace("web-1", name)).unwrap();
    let machine = |kept: &Kept| kept.last().map(|last| last.machines[0].name.clone());
    let mut kept = Kept::open(path.clone());
    for name in ["first", "second"] {
        kept.renew(of(name)).unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\0\0\0\0"] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(machine(&Kept::open(path.clone())).as_deref(), Some("first"));
    }
    let mut kept = Kept::open(path.clone());
    kept.renew(of("third")).unwrap();
    assert_eq!(machine(&Kept::open(path.clone())).as_deref(), Some("third"));
    // The damaged one is not what is left of it now.
    std::fs::write(&path, "").unwrap();
    assert_eq!(machine(&Kept::open(path.clone())).as_deref(), Some("first"));
    // Whoever takes the file away wants it gone.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(machine(&Kept::open(path)), None);
}
