//! The README's first command: its exit code, its timeline, what it prints to try, and that nothing is left of it. Once
//! as it is (three machines, Debian, SSH), then with one machine and the small image, without a disk.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use farrier_sim::lab::Programs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn the_demo_ends_with_an_answer_on_ssh_and_leaves_nothing() {
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut demo = Demo::start(&["--json", &json.path().to_string_lossy()]);
    let said = demo.read_until(|_| false);
    let status = demo.child.wait().unwrap();
    assert!(status.success(), "{status}\n{said}");
    demo.assert_gone(&said);
    let timeline: Value = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap();
    assert_eq!(timeline["ok"], true);
    let entries = timeline["entries"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["what"] == "ssh" && entry["error"].is_null()), "{timeline:#}");
    for step in ["fetch_image", "wait_agent", "write_image", "wait_system"] {
        let entry = entries.iter().find(|entry| entry["step"] == step);
        assert!(entry.is_some_and(|entry| entry["seconds"].as_f64().is_some()), "{step}: {timeline:#}");
        assert!(said.contains(step), "the timeline for people does not name {step}:\n{said}");
    }
}

#[test]
fn what_it_prints_to_try_works_while_it_is_kept_and_ctrl_c_leaves_nothing() {
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut demo = Demo::start(&[
        "--image",
        "mini",
        "--nodes",
        "1",
        "--method",
        "diskless",
        "--keep",
        "--json",
        &json.path().to_string_lossy(),
    ]);
    let said = demo.read_until(|line| line.contains("until Ctrl-C"));
    assert!(said.contains("until Ctrl-C"), "it ended early:\n{said}");
    let timeline: Value = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap();
    assert_eq!(timeline["ok"], true);
    for step in ["make_volume", "offer_volume", "wait_system"] {
        let entries = timeline["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["step"] == step);
        assert!(entry.is_some_and(|entry| entry["seconds"].as_f64().is_some()), "{step}: {timeline:#}");
    }

    let alias = said.lines().find_map(|line| line.trim().strip_prefix("alias farrier='")).unwrap();
    let farrier = alias.strip_suffix('\'').unwrap();
    // Everything that it says can be typed is typed, in its order.
    let printed: Vec<&str> = said.lines().map(str::trim).collect();
    let buf = crate::buf::buf().display().to_string();
    let typed = |begin: &str, word: &str, program: &str| -> Vec<String> {
        let lines = printed.iter().filter(|line| line.starts_with(begin) && line.contains(word));
        let answers = lines.map(|line| shell(&line.replacen(word, program, 1)));
        answers.collect()
    };
    let answers = typed("farrier ", "farrier", farrier);
    let expected: [&[&str]; 12] = [
        &["n1", "active"],
        &["n1", "active"],
        &["deploy", "done"],
        // Why it booted as it did, and what its BMC has to say.
        &["DHCPACK"],
        &["n1"],
        &["power", "ipmi"],
        &[],
        &[],
        // What only a machine without a disk has: its disk, an image of it, more of it.
        &["anvil"],
        &[],
        &["anvil", "4 GiB"],
        &[],
    ];
    for (answer, words) in answers.iter().zip(expected) {
        assert!(words.iter().all(|word| answer.contains(word)), "{words:?}: {answer}");
    }
    assert_eq!(answers.len(), expected.len(), "{said}");
    let answers = typed("", "buf curl", &format!("{buf} curl"));
    assert!(answers.len() == 1 && answers[0].contains("nodes/n1"), "{answers:?}\n{said}");
    let listed = shell(&format!("{farrier} node list -o json"));
    assert!(listed.contains("\"nodes/n1\"") && listed.contains("available"), "{listed}");

    demo.signal(Signal::INT);
    assert_eq!(demo.child.wait().unwrap().code(), Some(130));
    demo.assert_gone(&said);
}

#[test]
fn ctrl_c_in_mid_work_leaves_nothing() {
    let mut demo = Demo::start(&["--image", "mini", "--nodes", "1"]);
    // The ramdisk is being booted for inspection: services, BMCs and an emulated machine are all there.
    let said = demo.read_until(|line| line.contains("n1 inspect") && line.contains("power_on"));
    demo.signal(Signal::INT);
    assert_eq!(demo.child.wait().unwrap().code(), Some(130), "{said}");
    demo.assert_gone(&said);
}

struct Demo {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Demo {
    fn start(options: &[&str]) -> Self {
        let programs = Programs::beside_tests().unwrap();
        let lab = programs.path("farrier").unwrap().with_file_name("farrier-lab");
        let mut child = Command::new(lab)
            .arg("demo")
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    /// What it says, up to and with the line that `done` likes, or to its end.
    fn read_until(&mut self, done: impl Fn(&str) -> bool) -> String {
        let mut said = String::new();
        let mut line = String::new();
        while self.stderr.read_line(&mut line).unwrap() > 0 {
            said.push_str(&line);
            if done(&line) {
                break;
            }
            line.clear();
        }
        said
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// No namespace (and so no tap and no bridge), no directory, no process.
    fn assert_gone(&self, said: &str) {
        let prefix = format!("frr-{}-", self.child.id());
        assert!(said.contains(&prefix), "it made no rack:\n{said}");
        for dir in ["/run/netns", "/var/tmp/farrier-lab"] {
            assert_eq!(names(Path::new(dir), &prefix), Vec::<PathBuf>::new());
        }
        assert_eq!(processes(&prefix), Vec::<String>::new());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn names(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect()
}

/// Command lines that name the rack: every process of it has its directory or its namespace there.
fn processes(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|l| l.contains(prefix))
        .collect()
}

fn shell(line: &str) -> String {
    let done = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
