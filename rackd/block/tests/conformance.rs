//! libiscsi's conformance suite, every leaf test in its own process, destructive ones included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use farrier_block::{Backing, FileBacking, Limits, LunSpec, Mode, Overlay, OverlayOptions};
use support::{Server, file, sparse, target};

#[test]
fn a_file_conforms() {
    conforms("file", |directory, name| file(directory, name, SIZE));
}

#[test]
fn an_overlay_conforms() {
    conforms("overlay", |directory, name| {
        // Half of it has an image below.
        let image = FileBacking::open(&sparse(directory, &format!("{name}.image"), SIZE / 2), Mode::ReadOnly);
        let options = OverlayOptions { size: Some(SIZE), ..OverlayOptions::default() };
        Overlay::create(&directory.join(name), &options, image.expect("opens"), "image").expect("made")
    });
}

/// Runs all tests, several at a time on a target each, and compares with what is expected.
fn conforms(label: &str, backing: impl Fn(&Path, &str) -> Arc<dyn Backing>) {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(Limits::default(), 2);
    let read_only = LunSpec::new(0, backing(directory.path(), "read-only")).read_only();
    server.targets.add(target(&iqn(label, "ro"), read_only)).expect("added");
    let fine = LunSpec::new(0, backing(directory.path(), "fine")).physical_block(512);
    server.targets.add(target(&iqn(label, "fine"), fine)).expect("added");
    for worker in 0..WORKERS {
        let lun = LunSpec::new(0, backing(directory.path(), &format!("disk-{worker}"))).removable();
        server.targets.add(target(&iqn(label, &worker.to_string()), lun)).expect("added");
    }
    let tests = leaf_tests();
    assert_eq!(tests.len(), 230, "another version of iscsi-test-cu: look at its new tests");
    let queue = Mutex::new(tests);
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (queue, outcomes, server) = (&queue, &outcomes, &server);
            scope.spawn(move || {
                loop {
                    let Some(test) = queue.lock().expect("no panic").pop() else { return };
                    let name = match test.as_str() {
                        "ReadOnly.ReadOnlySBC" => "ro".into(),
                        // It asks for the status of one block and expects the answer to begin at the next
                        // physical one: the two are the same with blocks of 512 only (SBC-3 section 5.4.2).
                        "GetLBAStatus.UnmapSingle" => "fine".into(),
                        _ => worker.to_string(),
                    };
                    let outcome = run(server, &iqn(label, &name), &test);
                    outcomes.lock().expect("no panic").insert(test, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no panic");
    let mut wrong = Vec::new();
    for (test, (outcome, text)) in &outcomes {
        let expected = EXPECTED.iter().find(|(name, _, _)| name == test).map_or(Outcome::Pass, |row| row.1);
        if *outcome != expected {
            wrong.push(format!("{test}: {outcome:?}, expected {expected:?}\n{text}"));
        }
    }
    let count = |which: Outcome| outcomes.values().filter(|(outcome, _)| *outcome == which).count();
    let counts = (count(Outcome::Pass), count(Outcome::Skip), count(Outcome::Fail));
    eprintln!("{label}: {} pass, {} skip, {} fail", counts.0, counts.1, counts.2);
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
}

fn leaf_tests() -> Vec<String> {
    let listed =
        Command::new("iscsi-test-cu").arg("-l").output().expect("iscsi-test-cu of libiscsi-bin runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let leaves = text.lines().filter_map(|line| line.trim().strip_prefix("ALL."));
    leaves.filter(|name| name.contains('.')).map(str::to_owned).collect()
}

fn run(server: &Server, name: &str, test: &str) -> (Outcome, String) {
    let mut command = Command::new("timeout");
    command.args([LIMIT_SECONDS, "iscsi-test-cu", "-d"]);
    // Without -S the tool skips it: see the table.
    if test != "Sanitize.Reset" {
        command.arg("-S");
    }
    command.args(["-t", &format!("ALL.{test}"), &server.url(name)]);
    if test.starts_with("MultipathIO.") {
        command.arg(format!("iscsi://{}/{name}/0", server.portals[1]));
    }
    let output = command.stdin(Stdio::null()).output().expect("timeout of coreutils runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let failed = |kind: &str| -> Option<u32> {
        let line = text.lines().find(|line| line.trim_start().starts_with(kind))?;
        line.split_whitespace().nth(4)?.parse().ok()
    };
    let outcome = match (output.status.success(), failed("tests"), failed("asserts")) {
        (true, Some(0), Some(0)) if text.contains("[SKIPPED]") => Outcome::Skip,
        (true, Some(0), Some(0)) => Outcome::Pass,
        _ => Outcome::Fail,
    };
    (outcome, text)
}

fn iqn(label: &str, name: &str) -> String {
    format!("iqn.2026-01.dev.farrier:{label}-{name}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pass,
    Skip,
    Fail,
}

/// What does not pass, and why (docs/protocols.md has the same list for readers).
const EXPECTED: &[(&str, Outcome, &str)] = &[
    ("Sanitize.CryptoErase", Outcome::Skip, "nothing here is encrypted"),
    ("Sanitize.Readonly", Outcome::Skip, "its CRYPTO ERASE part; the others ran"),
    ("Sanitize.Reservations", Outcome::Skip, "its CRYPTO ERASE part; the others ran"),
    (
        "Sanitize.Reset",
        Outcome::Skip,
        "wants a medium that is overwritten for four seconds, then waits a minute",
    ),
    ("WriteAtomic16.Simple", Outcome::Skip, NOT_ATOMIC),
    ("WriteAtomic16.BeyondEol", Outcome::Skip, NOT_ATOMIC),
    ("WriteAtomic16.ZeroBlocks", Outcome::Skip, NOT_ATOMIC),
    ("WriteAtomic16.WriteProtect", Outcome::Skip, NOT_ATOMIC),
    ("WriteAtomic16.DpoFua", Outcome::Skip, NOT_ATOMIC),
    ("WriteAtomic16.VPD", Outcome::Skip, NOT_ATOMIC),
    ("WriteSame10.ZeroBlocks", Outcome::Skip, NO_ZERO_BLOCKS),
    ("WriteSame16.ZeroBlocks", Outcome::Skip, NO_ZERO_BLOCKS),
    // libiscsi 1.19.0 asserts the result of the callback before the callback can have run; mended upstream
    // since (the assertion is in the callback now). No target passes it.
    ("iSCSITMF.LUNResetSimpleAsync", Outcome::Fail, "the test's own mistake"),
];

const NOT_ATOMIC: &str = "a file cannot promise that a power failure leaves all of a write or none of it";
const NO_ZERO_BLOCKS: &str = "a length of zero is refused (WSNZ), as the block limits page says";

/// Enough for every length in the suite.
const SIZE: u64 = 128 << 20;
/// Most of the time a test waits: for its own sleeps, or for the answers.
const WORKERS: usize = 4;
/// Against a hang; the longest takes four seconds on a quiet machine.
const LIMIT_SECONDS: &str = "300";
