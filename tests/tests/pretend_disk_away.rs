//! A diskless machine that asks while its iSCSI disk is not back after a restart of rackd: it is known, and waits.

use std::path::Path;
use std::process::{Command, Stdio};

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    BootEvent, BootEventType, LeaseKind, ListLeasesRequest, ListReservationsRequest, ReservedBoot, Task,
    TaskState, WatchBootEventsRequest,
};
use farrier_rackd::{Config, Role};
use farrier_sim::pretend::{Event, Lan, Mishaps, PretendNode, PretendOptions, Rom};
use tokio::net::UdpSocket;

use crate::bench::{Bench, POOL, spec, within};
use crate::hall::{Card, Hall, in_a_hall};
use crate::pretend_diskless::diskless;

const IMAGE: u64 = 24 << 20;

/// Strangers are given addresses in the network where it boots, and it is none of them: neither while it is deployed nor after that.
#[test]
fn a_machine_whose_disk_is_not_back_after_a_restart_has_its_address_and_waits() {
    in_a_hall(1, |hall| async move {
        let bench = Bench::start_configured(|config| *config = with_guests(config)).await;
        let node = node_of(&hall, 0, &bench.data()).await;
        let (image, _) = bench.image("debian", IMAGE).await;
        // Deployed as far as its first boot.
        node.set_mishaps(Mishaps { system_never_calls: true, ..Mishaps::default() });
        let work = Work::Deploy(diskless(&image, "web"));
        bench.start_task("deploy", 1, spec(&node, work)).await.unwrap();
        within(node.wait_for(|events| events.contains(&Event::Struck("system_never_calls")))).await;
        let address = reserved(&bench).await.0;

        let bench = bench.restart_rackd_after(disks_go_away).await;
        node.set_mishaps(Mishaps::default());
        let task = bench.until("deploy", |_| true).await;
        assert_eq!(task.state(), TaskState::Running, "{}", task.error);
        boots_nothing(&bench, &hall, &node, &address).await;
        disks_come_back(&bench.data());
        boots(&node, 2).await;
        let task: Task = bench.ended("deploy").await;
        assert_eq!(task.state(), TaskState::Done, "{}", task.error);

        // The same of a machine that no task works on any more.
        let bench = bench.restart_rackd_after(disks_go_away).await;
        boots_nothing(&bench, &hall, &node, &address).await;
        disks_come_back(&bench.data());
        boots(&node, 3).await;
        bench.stop(vec![node]).await;
    });
}

/// What its disk is on does not even fail: nothing that asks it comes back. rackd serves, the machine waits at its address, and
/// another one boots.
#[test]
fn a_disk_that_hangs_when_rackd_starts_keeps_nobody_but_its_machine_waiting() {
    in_a_hall(2, |hall| async move {
        let bench = Bench::start_configured(|config| *config = with_guests(config)).await;
        let web = node_of(&hall, 0, &bench.data()).await;
        let db = node_of(&hall, 1, &bench.data()).await;
        let (image, _) = bench.image("debian", IMAGE).await;
        for (node, instance) in [(&web, "web"), (&db, "db")] {
            let task = bench.run(instance, 1, node, Work::Deploy(diskless(&image, instance))).await;
            assert_eq!(task.state(), TaskState::Done, "{}", task.error);
        }

        let bench = bench.restart_rackd_after(|data| hangs(data, "web")).await;
        cycle(&db);
        boots(&db, 2).await;
        let script = told(&bench, &hall, &web).await;
        assert!(script.detail.ends_with("it is told to ask again"), "{script:?}");
        let all = within(bench.rack.clone().list_reservations(ListReservationsRequest::default())).await;
        let all = all.unwrap().into_inner().reservations;
        assert!(all.len() == 2 && all.iter().all(|its| its.boot() == ReservedBoot::Iscsi), "{all:?}");

        comes_back(&bench.data(), "web").await;
        boots(&web, 2).await;
        bench.stop(vec![web, db]).await;
    });
}

/// A pipe that nobody writes to: whoever opens it waits for that.
fn hangs(data: &Path, instance: &str) {
    let record = data.join(format!("volumes/{instance}.json"));
    std::fs::rename(&record, data.join("away.json")).unwrap();
    let made = Command::new("mkfifo").arg(&record).status().unwrap();
    assert!(made.success());
}

/// Whoever waits for it reads nothing there, and whoever asks from then on what was there.
async fn comes_back(data: &Path, instance: &str) {
    let (record, kept) = (data.join(format!("volumes/{instance}.json")), data.join("away.json"));
    let back = move || {
        // Somebody does wait: this would, too.
        let pipe = std::fs::OpenOptions::new().write(true).open(&record).unwrap();
        std::fs::rename(&kept, &record).unwrap();
        drop(pipe);
    };
    within(tokio::task::spawn_blocking(back)).await.unwrap();
}

/// The rack's own network, with DHCP for everybody.
fn with_guests(config: &Config) -> Config {
    let (data, identity, ramdisk) = (&config.data, &config.identity, &config.ramdisk.files);
    let text = format!(
        r#"
        rack = "r1"
        listen = "127.0.0.1:0"
        agent_listen = "127.0.0.1:0"
        http_listen = "0.0.0.0:0"
        block_listen = "0.0.0.0:0"
        data = {data:?}
        identity = {identity:?}
        images = "{}"
        ramdisk = {{ kernel = {:?}, initrd = {:?} }}
        [[segment]]
        name = "provisioning"
        role = "provisioning"
        interface = "prov"
        address = "10.90.0.1/24"
        dhcp = "authoritative"
        pool = "10.90.0.10-10.90.0.99"
        guests = "10.90.0.200-10.90.0.250"
        conflict_check = false
        "#,
        config.images, ramdisk.kernel, ramdisk.initrd
    );
    let config = Config::parse(&text).unwrap();
    assert!(config.segments.iter().all(|segment| segment.role == Role::Provisioning));
    config
}

/// A diskless machine with iPXE on its card.
async fn node_of(hall: &Hall, index: usize, data: &Path) -> PretendNode {
    let card = &hall.cards[index];
    let socket = hall.rack.netns().udp_bind((card.bmc, 0).into()).unwrap();
    let socket = {
        let _its = card.runtime.enter();
        UdpSocket::from_std(socket).unwrap()
    };
    let name = format!("n{}", index + 1);
    let dir = data.with_file_name(&name);
    let mut options = PretendOptions::new(name, card.mac, socket, dir, POOL);
    options.diskless = true;
    options.lan = Some(Lan { rom: Rom::Ipxe, ..card.lan.clone() });
    card.runtime.spawn(PretendNode::start(options)).await.unwrap().unwrap()
}

/// What is reserved for it, and what it is told to boot.
async fn reserved(bench: &Bench) -> (String, ReservedBoot) {
    let mut rack = bench.rack.clone();
    let all = within(rack.list_reservations(ListReservationsRequest::default())).await.unwrap();
    let all = all.into_inner().reservations;
    let [its] = &all[..] else { panic!("{all:?}") };
    (its.ip_address.clone(), its.boot())
}

/// Where volumes are there is something else, as where a disk gives errors.
fn disks_go_away(data: &Path) {
    std::fs::rename(data.join("volumes"), data.join("away")).unwrap();
    std::fs::write(data.join("volumes"), "").unwrap();
}

fn disks_come_back(data: &Path) {
    std::fs::remove_file(data.join("volumes")).unwrap();
    std::fs::rename(data.join("away"), data.join("volumes")).unwrap();
}

/// It is switched off and on: the first script of this rackd's, and whatever the machine was given before it.
async fn told(bench: &Bench, hall: &Hall, node: &PretendNode) -> BootEvent {
    let (mac, mut rack) = (node.mac_address(), bench.rack.clone());
    let events = WatchBootEventsRequest { mac_addresses: vec![mac.clone()], ..Default::default() };
    let mut events = within(rack.watch_boot_events(events)).await.unwrap().into_inner();
    cycle(node);
    let given = async {
        loop {
            let event = events.message().await.unwrap().expect("rackd ended the stream");
            if event.r#type() == BootEventType::HttpScript {
                return event;
            }
        }
    };
    let given = within(given).await;
    let url = format!("http://10.90.0.1:{}/boot/{}.ipxe", bench.bound.http.port(), mac.replace(':', "-"));
    let its = |card: &Card| mac == card.mac.map(|byte| format!("{byte:02x}")).join(":");
    let card = hall.cards.iter().find(|card| its(card)).expect("it has a card");
    let script = card.runtime.spawn_blocking(move || curl(&url)).await.unwrap();
    assert!(script.contains("chain --replace --autofree http://10.90.0.1:"), "{script}");
    given
}

/// It is switched off and on, and told to wait, by its own address.
async fn boots_nothing(bench: &Bench, hall: &Hall, node: &PretendNode, address: &str) {
    assert_eq!(reserved(bench).await, (address.to_owned(), ReservedBoot::Iscsi));
    told(bench, hall, node).await;
    let mut rack = bench.rack.clone();
    let leases = within(rack.list_leases(ListLeasesRequest::default())).await.unwrap().into_inner().leases;
    let given: Vec<_> = leases.iter().map(|lease| (lease.ip_address.as_str(), lease.kind())).collect();
    assert_eq!(given, [(address, LeaseKind::Reserved)], "{leases:?}");
}

/// It found its disk, for the `times`th time.
async fn boots(node: &PretendNode, times: usize) {
    let count = |events: &[Event]| events.iter().filter(|event| **event == Event::SanBoot).count();
    within(node.wait_for(|events| count(events) == times)).await;
}

fn cycle(node: &PretendNode) {
    let bmc = node.bmc_address();
    let (host, port) = (bmc.ip().to_string(), bmc.port().to_string());
    let mut ipmitool = Command::new("timeout");
    ipmitool.args(["60", "ipmitool", "-I", "lanplus", "-C", "17", "-H", &host, "-p", &port, "-U", "admin"]);
    ipmitool.args(["-P", "pretend", "chassis", "power", "cycle"]);
    let done = ipmitool.stdin(Stdio::null()).output().expect("ipmitool of the Debian package runs");
    assert!(done.status.success(), "{done:?}");
}

/// From where the calling thread is: a script goes to its machine alone.
fn curl(url: &str) -> String {
    let mut curl = Command::new("curl");
    let done = curl.args(["-sS", "--fail", "--max-time", "60", url]).stdin(Stdio::null()).output();
    let done = done.expect("curl of the Debian package runs");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}
