//! How an answer reaches a machine that has no address yet: tcpdump is the witness, udhcpc the machine.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use farrier_netboot::{Boot, Config};

use crate::dhcp_clients::{told, udhcpc};
use crate::lab::{Cable, HTTP_PORT, MAC, Running, segment, table, text, tool};

/// The first answer on the wire, as tcpdump prints it.
fn first_answer(arguments: &[&str]) -> String {
    let cable = Cable::new();
    let _server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::LocalDisk));
    let mut tcpdump = cable.client.command(&tool("tcpdump", "tcpdump"));
    tcpdump.args(["-e", "-n", "-l", "-c", "1", "-i", "c0", "udp src port 67"]);
    let mut tcpdump = tcpdump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // From then on it misses nothing.
    let said = BufReader::new(tcpdump.stderr.take().unwrap()).lines();
    assert!(said.map_while(Result::ok).any(|line| line.contains("listening on")));
    let output = udhcpc(&cable, arguments);
    assert!(output.status.success(), "{}", text(&output));
    assert!(told(&cable).contains("ip=10.77.0.50"), "{}", told(&cable));
    let printed = tcpdump.wait_with_output().unwrap();
    String::from_utf8_lossy(&printed.stdout).into_owned()
}

#[test]
fn a_machine_that_did_not_ask_for_a_broadcast_is_sent_a_frame_of_its_own() {
    let seen = first_answer(&[]);
    assert!(seen.contains(&format!("> {MAC}, ethertype IPv4")), "{seen}");
    assert!(seen.contains("10.77.0.1.67 > 10.77.0.50.68"), "{seen}");
}

#[test]
fn one_that_asked_for_a_broadcast_is_sent_one() {
    let seen = first_answer(&["-B"]);
    assert!(seen.contains("> ff:ff:ff:ff:ff:ff, ethertype IPv4"), "{seen}");
    assert!(seen.contains("10.77.0.1.67 > 255.255.255.255.68"), "{seen}");
}
