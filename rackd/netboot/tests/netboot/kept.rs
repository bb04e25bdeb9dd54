//! That of each boot a capture is kept: read from the tests themselves, so that a new one without a capture is noticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::golden::names;

/// A test function: its name and its text.
struct Test {
    name: String,
    text: String,
}

/// The tests of all files of this folder, and all their text.
fn tests() -> (Vec<Test>, String) {
    let (mut tests, mut all) = (Vec::new(), String::new());
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/netboot")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_this(&path) {
                let text = std::fs::read_to_string(&path).unwrap();
                tests.extend(in_file(&text));
                all += &text;
            }
        }
    }
    (tests, all)
}

fn is_this(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "kept.rs")
}

/// rustfmt's shape: a test begins at the left edge, and so does its last brace.
fn in_file(text: &str) -> impl Iterator<Item = Test> {
    text.split("#[test]\nfn ").skip(1).map(|rest| {
        let body = rest.split("\n}\n").next().unwrap_or_default();
        let name = body.split('(').next().unwrap_or_default().to_owned();
        Test { name, text: body.to_owned() }
    })
}

/// What stands between quotes.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

/// Tests whose machine says and hears nothing of DHCP, TFTP and HTTP's heads that another's capture has not.
const SAME: [(&str, &str); 1] =
    [("a_machine_whose_disk_is_away_asks_again_and_boots_when_it_is_back", "seabios-ipxe")];

#[test]
fn of_every_machine_that_boots_a_capture_is_kept() {
    let (tests, _) = tests();
    let kept = names();
    let boots = |test: &&Test| STARTS.iter().any(|start| test.text.contains(start));
    let without: Vec<_> = tests
        .iter()
        .filter(boots)
        .filter(|test| !SAME.iter().any(|(name, capture)| *name == test.name && kept.contains(*capture)))
        .filter(|test| !literals(&test.text).any(|word| kept.contains(word)))
        .map(|test| test.name.as_str())
        .collect();
    assert!(tests.iter().filter(boots).count() >= 11, "expected the tests of firmware, saw fewer");
    assert_eq!(without, [""; 0], "expected `Recording::begin` and its file in `golden` of each");
}

#[test]
fn of_every_client_program_a_capture_is_kept_or_it_is_said_why_not() {
    let (_, all) = tests();
    let named = all.match_indices(".client(").filter_map(|(at, word)| {
        // `client(20, "curl", "curl", …`: the program, then its package.
        let arguments = all.get(at + word.len()..)?.split_once(',')?.1.trim_start();
        arguments.strip_prefix('"')?.split('"').next()
    });
    let tools =
        all.match_indices("tool(\"").filter_map(|(at, word)| all.get(at + word.len()..)?.split('"').next());
    let used: BTreeSet<&str> = named.chain(tools).collect();
    let known: BTreeMap<&str, Kept> = PROGRAMS.into_iter().collect();
    let unknown: Vec<_> = used.iter().filter(|program| !known.contains_key(*program)).collect();
    assert!(unknown.is_empty(), "expected a line in PROGRAMS for {unknown:?}");
    let kept = names();
    for (program, what) in PROGRAMS {
        assert!(used.contains(program) || all.contains(&format!("/{program}")), "{program}: nobody runs it");
        if let Kept::In(captures) = what {
            for capture in captures {
                assert!(kept.contains(*capture), "{program}: expected golden/{capture}.txt, saw none");
                assert!(all.contains(&format!("\"{capture}\"")), "{capture}: no test records it");
            }
        }
    }
}

#[test]
fn every_capture_is_of_a_test_that_is_there() {
    let (_, all) = tests();
    let orphans: Vec<_> = names().into_iter().filter(|name| !all.contains(&format!("\"{name}\""))).collect();
    assert!(orphans.is_empty(), "no test records {orphans:?}");
}

/// How a test starts a machine of QEMU's.
const STARTS: [&str; 5] = [".bios(", ".uefi(", ".locked(", ".machine_of(", "arm64_fetches("];

#[derive(Clone, Copy)]
enum Kept {
    In(&'static [&'static str]),
    /// It asks for no boot, or not by itself.
    No(#[allow(dead_code, reason = "for who reads")] &'static str),
}

const PROGRAMS: [(&str, Kept); 19] = [
    ("atftp", Kept::In(&["atftp"])),
    ("curl", Kept::In(&["curl-http", "curl-tftp"])),
    ("dhclient", Kept::In(&["dhclient", "dhclient6", "dhclient-relay6"])),
    ("dhcpcd", Kept::In(&["dhcpcd-inform"])),
    ("dhcrelay", Kept::In(&["udhcpc-relay", "dhclient-relay6"])),
    ("systemd-networkd", Kept::In(&["networkd"])),
    ("tftp", Kept::In(&["tftp-hpa"])),
    ("udhcpc", Kept::In(&["udhcpc", "udhcpc-relay"])),
    ("atk6-flood_dhcpc6", Kept::No("floods: machines that are not there")),
    ("yersinia", Kept::No("floods: machines that are not there")),
    ("dnsmasq", Kept::No("a server beside ours")),
    ("ip", Kept::No("makes the rack")),
    ("mount", Kept::No("makes the rack")),
    ("perfdhcp", Kept::No("load: ever new machines of a pool, which a capture's one machine is not")),
    ("python3", Kept::No("scapy says what a test writes down, and is asked what it heard")),
    ("ss", Kept::No("looks at sockets")),
    ("tcpdump", Kept::No("listens")),
    ("timeout", Kept::No("ends what hangs")),
    ("unshare", Kept::No("gives a client a file system of its own")),
];
