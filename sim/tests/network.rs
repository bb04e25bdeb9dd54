//! Namespaces: sockets made inside stay inside, ports move, and nothing outlives its maker.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use common::{http, rack};
use farrier_sim::net::{Netns, sweep};
use farrier_sim::rack::Rack;

#[test]
fn sockets_belong_to_the_namespace_they_were_made_in() {
    let (one, two) = (rack(), rack());
    let _posts = http(&one, "10.90.0.1:8080", |_| Some(b"one".to_vec()));
    let mut stream = one.netns().tcp_connect("10.90.0.1:8080".parse().unwrap()).unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("one"), "{answer}");
    // The same address in the other rack is another host.
    assert!(two.netns().tcp_connect("10.90.0.1:8080".parse().unwrap()).is_err());
    // Low ports, twice.
    for rack in [&one, &two] {
        rack.netns().udp_bind("10.90.0.1:67".parse().unwrap()).unwrap();
    }
}

#[test]
fn tasks_of_a_runtime_inside_see_its_addresses() {
    let rack = rack();
    let bmc = rack.bmc_address(0).unwrap();
    let runtime = rack.netns().runtime(1).unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let bound = tokio::net::UdpSocket::bind((bmc, 623)).await;
        sender.send(bound.map(|socket| socket.local_addr().unwrap())).unwrap();
    });
    assert_eq!(done.recv().unwrap().unwrap().to_string(), "10.92.0.10:623");
}

#[test]
fn a_port_moves_between_networks() {
    let rack = rack();
    let netns = rack.netns();
    let (_spec, tap) = rack.machine_spec(1, farrier_sim::machine::Firmware::Bios).unwrap();
    let network = || netns.ip("link show tap1\n").unwrap();
    assert!(network().contains("master prov"));
    netns.plug(&tap, rack.tenant()).unwrap();
    assert!(network().contains("master tenant"));
    netns.unplug(&tap).unwrap();
    assert!(!network().contains("master"));
}

#[test]
fn dropping_a_rack_removes_its_namespace_directory_and_processes() {
    let rack = rack();
    let (netns, dir) = (rack.netns().path(), rack.dir().to_owned());
    let mut stray = rack.netns().spawn(sleep()).unwrap();
    assert!(netns.exists() && dir.exists());
    drop(rack);
    assert!(!netns.exists() && !dir.exists());
    assert!(!stray.wait().unwrap().success());
}

#[test]
fn a_sweep_removes_what_a_killed_process_left_and_nothing_else() {
    let mine = Netns::create().unwrap();
    // This test binary again, running only `victim`.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let made = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("MADE ").map(|(_, name)| name.to_owned()))
        .unwrap();
    let path = std::path::Path::new("/run/netns").join(&made);
    sweep();
    assert!(path.exists(), "swept a namespace whose owner lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(path.exists());
    let dir = mine.dir().with_file_name(&made);
    assert!(dir.exists());
    sweep();
    assert!(!path.exists() && !dir.exists());
    assert!(mine.path().exists() && mine.dir().exists());
}

fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

/// Not a test: the process that the test above kills. Does nothing when run by itself.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let rack = Rack::build().unwrap();
    let mut inside = rack.netns().spawn(sleep()).unwrap();
    println!("MADE {}", rack.netns().name());
    inside.wait().unwrap();
}

const VICTIM: &str = "FARRIER_LAB_TEST_VICTIM";
