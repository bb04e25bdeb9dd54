//! A machine at the other end of the world: its whole boot, by other people's programs, over a cable of 300 ms that loses a
//! frame of a hundred in each direction.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use farrier_sim::lab::Programs;
use farrier_sim::net::Netns;
use farrier_sim::net::wan::Wan;
use farrier_sim::tool::install_missing;
use tokio_util::sync::CancellationToken;

const MAC: &str = "52:54:00:79:00:01";

#[test]
fn a_machine_boots_whole_over_a_link_of_300_ms_that_loses_a_frame_of_a_hundred() {
    farrier_sim::cleanup::on_signals();
    install_missing(|text| eprintln!("{text}")).unwrap();
    let rackd = Programs::beside_tests().unwrap().path("rackd").unwrap().to_owned();
    let (server, middle, client) =
        (Netns::create().unwrap(), Netns::create().unwrap(), Netns::create().unwrap());
    for (end, interface, address, in_middle) in
        [(&server, "s0", "10.79.0.1/24", "w0"), (&client, "c0", "", "w1")]
    {
        let peer = format!("veth peer name {in_middle} netns {}", middle.name());
        end.ip(&format!("link add {interface} type {peer}\nlink set {interface} up\n")).unwrap();
        middle.ip(&format!("link set {in_middle} up\n")).unwrap();
        if !address.is_empty() {
            end.ip(&format!("addr add {address} dev {interface}\n")).unwrap();
        }
        // Nobody in the middle finishes what is left to a network card.
        let off = ["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        succeeds(end.command("ethtool").args(off));
    }
    client.ip(&format!("link set c0 address {MAC}\n")).unwrap();
    let (cable, cut) = (middle.runtime(2).unwrap(), CancellationToken::new());
    let until = cut.clone();
    let wan = Wan { round_trip: Duration::from_millis(300), loss_per_mille: 10, seed: 1 };
    let carried = cable.spawn_blocking(move || wan.carry("w0", "w1", &until));

    // A boot program of 43 blocks: firmware's TFTP waits for each, and an hour's transfer shows nothing more.
    let dir = server.dir();
    let files = [("snponly.efi", 60_000), ("k", 300_000), ("i", 700_000)];
    for (name, size) in files {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let snapshot = dir.join("rack.yaml");
    std::fs::write(&snapshot, rack(&dir)).unwrap();
    let mut command = server.command(&rackd.to_string_lossy());
    command
        .arg("--standalone")
        .arg(&snapshot)
        .arg("--data")
        .arg(dir.join("data"))
        .arg("--boot-files")
        .arg(&dir);
    let mut serving = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(serving.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(said, "serving generation 1: 1 segments, 1 machines");

    let got = client.dir();
    let script = got.join("full_boot.sh");
    std::fs::write(&script, include_str!("../../rackd/netboot/tests/netboot/full_boot.sh")).unwrap();
    let told = succeeds(client.command("timeout").args(["300", "sh"]).arg(&script).arg("c0").arg(&got));
    eprintln!("{told}");
    for ((name, _), fetched) in files.into_iter().zip(["program", "kernel", "initrd"]) {
        assert!(
            std::fs::read(dir.join(name)).unwrap() == std::fs::read(got.join(fetched)).unwrap(),
            "{fetched}"
        );
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
    cut.cancel();
    cable.block_on(carried).unwrap().unwrap();
}

fn rack(dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    format!(
        "generation: 1\nsegments:\n- {{ name: far, interface: s0, address: 10.79.0.1/24 }}\nmachines:\n\
         - {{ name: m1, mac: \"{MAC}\", segment: far, address: 10.79.0.50, \
         boot: {{ linux: {{ kernel: k, initrd: i }} }} }}\nartifacts: {{ k: {}, i: {} }}\n...\n",
        at("k"),
        at("i")
    )
}

fn succeeds(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{command:?}: {told}");
    told
}
