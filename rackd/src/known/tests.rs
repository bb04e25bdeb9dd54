use super::*;
use crate::fixture;
use crate::secrets::Secrets;
use farrier_journal::Record;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    Clean, Deploy, Machine, MachinePort, Power, Step, StepState, Task, TaskSpec, TaskState,
};
use farrier_proto::types::DeployMethod;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn nodes(count: u8) -> BTreeMap<String, String> {
    (0..count).map(|n| (mac(n).to_string(), format!("n{n}"))).collect()
}

/// It asks in a network where it is not served.
async fn asks(rack: &Arc<Rack>, n: u8, network: &str) {
    crate::homes::moved(rack, mac(n), rack.provisioning_named(network).unwrap()).await.unwrap();
}

/// Where each of so many is served.
fn served(rack: &Rack, count: u8) -> Vec<Vec<String>> {
    let table = rack.netboot.table();
    let of = |n| {
        let mut all: Vec<_> =
            table.entries_of(mac(n)).iter().map(|entry| format!("{} {}", entry.network, entry.ip)).collect();
        all.sort();
        all
    };
    (0..count).map(of).collect()
}

/// The table and the list that is kept: each has one address, which nobody else has.
async fn look(rack: &Rack, count: u8) -> usize {
    let machines = serve(rack, &nodes(count)).await.unwrap();
    let mut all: Vec<_> = served(rack, count).into_iter().flatten().collect();
    let len = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), len, "an address is one machine's: {all:?}");
    machines.len()
}

fn in_network(rack: &Rack, network: &str, count: u8) -> Vec<u8> {
    (0..count).filter(|n| rack.netboot.table().entry(mac(*n), network).is_some()).collect()
}

#[tokio::test]
async fn those_for_whom_the_first_network_is_too_small_wait_in_another_one_and_follow_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[4, 4, 4]).await;
    assert_eq!(look(&rack, 10).await, 10, "none is left out");
    let of = |network| in_network(&rack, network, 10);
    assert_eq!((of("row-1").len(), of("row-2").len(), of("row-3").len()), (4, 4, 2));
    let before = served(&rack, 10);
    assert_eq!(look(&rack, 10).await, 10);
    assert_eq!(served(&rack, 10), before, "and nobody is moved without need");
    // Four of them are in the third network: two that never asked and wait there make room.
    for n in [0, 1, 4, 5] {
        asks(&rack, n, "row-3").await;
    }
    assert_eq!(look(&rack, 10).await, 10);
    let there = in_network(&rack, "row-3", 10);
    assert_eq!(there, [0, 1, 4, 5]);
    assert_eq!(rack.known.lock().without, 0);
    let before = served(&rack, 10);
    assert_eq!(look(&rack, 10).await, 10);
    assert_eq!(served(&rack, 10), before);
}

#[tokio::test]
async fn an_address_is_free_for_another_machine_when_its_own_one_has_moved() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[2, 2]).await;
    look(&rack, 2).await;
    asks(&rack, 0, "row-2").await;
    asks(&rack, 1, "row-2").await;
    look(&rack, 2).await;
    assert_eq!(in_network(&rack, "row-1", 2), [0, 1], "what they had there is left to them");
    assert_eq!(look(&rack, 4).await, 4, "until it is needed");
    assert_eq!((in_network(&rack, "row-1", 4), in_network(&rack, "row-2", 4)), (vec![2, 3], vec![0, 1]));
    assert_eq!(look(&rack, 5).await, 4);
    assert_eq!(rack.known.lock().without, 1);
}

#[tokio::test]
async fn who_pretends_to_be_an_idle_machine_elsewhere_takes_nothing_away_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    look(&rack, 1).await;
    let before = Arc::clone(rack.netboot.table().entry(mac(0), "row-1").unwrap());
    asks(&rack, 0, "row-2").await;
    look(&rack, 1).await;
    let table = rack.netboot.table();
    assert!(Arc::ptr_eq(table.entry(mac(0), "row-1").unwrap(), &before), "the very same");
    assert!(table.entry(mac(0), "row-2").is_some());
    for network in ["row-1", "row-2"] {
        assert!(rack.known.is_idle(&table, mac(0), network), "{network}");
    }
    // One that is forgotten is forgotten everywhere.
    serve(&rack, &BTreeMap::new()).await.unwrap();
    assert!(served(&rack, 1).concat().is_empty());
    assert!(rack.known.lock().served.is_empty());
}

#[tokio::test]
async fn what_a_task_says_of_a_port_stands() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    let of_a_task = BootEntry {
        mac: mac(0),
        node: "nodes/n0".into(),
        hostname: "n0".into(),
        ip: [10, 90, 2, 11].into(),
        network: "row-2".into(),
        boot: Boot::None,
    };
    rack.netboot.update(|table| table.publish(of_a_task));
    look(&rack, 2).await;
    assert_eq!(served(&rack, 1), [["row-2 10.90.2.11"]]);
}

/// What was kept, of a rack whose first machine is on its disk, and whose second one has an iSCSI disk.
fn kept(rack: &Rack, dir: &std::path::Path) -> Kept {
    let segments = rack.config.segments.iter().map(SegmentText::from).collect();
    let on_disk = |n: u8| {
        MachineText::on_disk(&format!("n{n}"), &mac(n).to_string(), "row-1", [10, 90, 1, 16 - n].into())
    };
    let machines = vec![on_disk(0), on_disk(1).elsewhere()];
    let snapshot = Snapshot { generation: 6, segments, machines, artifacts: BTreeMap::new(), https: None };
    let mut kept = Kept::open(dir.join(FILE));
    kept.renew(snapshot).unwrap();
    kept
}

/// What each of so many is told to boot, and where.
fn boots(rack: &Rack, count: u8) -> Vec<(Boot, Ipv4Addr)> {
    let table = rack.netboot.table();
    let of = |n| table.entry(mac(n), "row-1").map(|entry| (entry.boot.clone(), entry.ip));
    (0..count).filter_map(of).collect()
}

fn ports(count: u8) -> Vec<BootPort> {
    let of =
        |(mac_address, node)| BootPort { mac_address, node: format!("nodes/{node}"), ..BootPort::default() };
    nodes(count).into_iter().map(of).collect()
}

#[tokio::test]
async fn without_the_journal_a_diskless_machine_is_given_no_other_disk_and_all_keep_their_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    drop(kept(&rack, dir.path()));
    let kept = open(&rack, &dir.path().join(FILE)).await;
    let ip = |n: u8| Ipv4Addr::from([10, 90, 1, 16 - n]);
    let expected = [(Boot::LocalDisk, ip(0)), (Boot::None, ip(1))];
    assert_eq!(boots(&rack, 2), expected);
    assert_eq!(rack.known.lock().stranded, 1);
    // The centre is back, and says nothing of disks.
    let kept = take(&rack, kept, ports(2)).await;
    assert_eq!(boots(&rack, 2), expected);
    let last = kept.last().unwrap();
    assert_eq!((last.generation, &last.machines[1].boot), (7, &BootText::None), "nothing has changed");
    // The next rackd has it of what this one kept.
    drop(kept);
    let again = Kept::open(dir.path().join(FILE));
    assert_eq!(again.last().unwrap().machines[1].boot, BootText::None);
}

#[tokio::test]
async fn a_diskless_machine_without_a_journal_is_an_ordinary_one_after_its_next_task() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let kept = kept(&rack, dir.path());
    serve_kept(&rack, &kept).await;
    let ends = async |id: &str, fence, work| {
        let spec = Some(TaskSpec { machine: None, work: Some(work) });
        let node = "nodes/n1".to_owned();
        let mut task = Task { id: id.to_owned(), node, fence, spec, ..Task::default() };
        task.set_state(TaskState::Running);
        rack.journal.accept(Record { task: task.clone(), sealed: Vec::new() }).await.unwrap();
        task.set_state(TaskState::Done);
        rack.journal.save(&mut task, None).await.unwrap();
    };
    // Power says nothing of disks.
    ends("p", 1, Work::Power(Power { action: 1 })).await;
    serve_again(&rack).await;
    assert_eq!(boots(&rack, 2)[1].0, Boot::None);
    ends("c", 2, Work::Clean(Clean::default())).await;
    let kept = take(&rack, kept, ports(2)).await;
    assert_eq!(boots(&rack, 2)[1].0, Boot::LocalDisk);
    assert_eq!(kept.last().unwrap().machines[1].boot, BootText::LocalDisk);
    assert_eq!(rack.known.lock().stranded, 0);
}

/// As after a restart: the journal has its deployment, and nothing has its volume.
#[tokio::test]
async fn a_diskless_machine_whose_disk_is_not_back_waits_at_its_address_and_is_no_idle_one() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let kept = kept(&rack, dir.path());
    let port = MachinePort { mac_address: mac(1).to_string(), pxe_enabled: true, ..MachinePort::default() };
    let machine = Machine { name: "nodes/n1".into(), ports: vec![port], ..Machine::default() };
    let deploy = Deploy {
        method: DeployMethod::Diskless.into(),
        instance: "instances/web".into(),
        hostname: "web".into(),
        ..Deploy::default()
    };
    let spec = TaskSpec { machine: Some(machine), work: Some(Work::Deploy(deploy)) };
    let done = |name: &str| {
        let mut step = Step { name: name.to_owned(), ..Step::default() };
        step.set_state(StepState::Done);
        step
    };
    let steps = crate::step_names(&spec).into_iter().map(done).collect();
    let (id, node) = ("d".to_owned(), "nodes/n1".to_owned());
    let mut task = Task { id, node, fence: 1, spec: Some(spec), steps, ..Task::default() };
    task.set_state(TaskState::Running);
    let sealed = Secrets::default().seal(&rack.vault, "d").unwrap();
    rack.journal.accept(Record { task: task.clone(), sealed }).await.unwrap();
    task.set_state(TaskState::Done);
    rack.journal.save(&mut task, None).await.unwrap();
    let row = rack.provisioning_named("row-1").unwrap();
    let ip = rack.reserve("nodes/n1", mac(1), row).await.unwrap();

    tasks::resume(&rack, CALL).await.unwrap();
    assert_eq!(boots(&rack, 2), [(Boot::Wait, ip)]);
    assert_eq!(rack.netboot.table().entry(mac(1), "row-1").unwrap().hostname, "web");
    // Neither what was kept nor what the centre says makes another machine of it.
    serve_kept(&rack, &kept).await;
    assert_eq!(boots(&rack, 2)[1], (Boot::Wait, ip));
    let kept = take(&rack, kept, ports(2)).await;
    assert_eq!(boots(&rack, 2)[1], (Boot::Wait, ip));
    assert_eq!(rack.known.lock().stranded, 0);
    assert_eq!(kept.last().unwrap().machines[1].boot, BootText::None);
}

#[tokio::test]
async fn a_machine_that_moved_is_served_at_once_without_a_centre() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    *rack.known.nodes.lock().await = nodes(1);
    serve_again(&rack).await;
    let authority = rack.agent_ca.issue(&Identity::Rack("r1".into()), &[], CALL).unwrap();
    let credentials =
        Credentials::from_pem(&authority.cert_pem, &authority.key_pem, rack.agent_ca.cert_pem()).unwrap();
    let follows = tokio::spawn(follow(rack.clone(), credentials, Kept::open(dir.path().join(FILE))));
    asks(&rack, 0, "row-2").await;
    while rack.netboot.table().entry(mac(0), "row-2").is_none() {
        tokio::task::yield_now().await;
    }
    rack.shutdown.cancel();
    follows.await.unwrap();
}

#[test]
fn an_inventory_that_says_that_all_are_gone_is_believed_when_it_says_so_for_an_hour() {
    let (mut emptied, now) = (Emptied::default(), Instant::now());
    assert!(emptied.is_taken(0, 0, now), "a rack that never had any");
    assert!(emptied.is_taken(5, 1, now), "most of them");
    assert!(!emptied.is_taken(5, 0, now));
    assert!(!emptied.is_taken(5, 0, now + BELIEVED / 2));
    assert!(emptied.is_taken(5, 5, now + BELIEVED / 2), "the right database is back");
    let again = now + BELIEVED / 2;
    assert!(!emptied.is_taken(5, 0, again + BELIEVED / 2), "it begins anew");
    assert!(!emptied.is_taken(5, 0, again + BELIEVED));
    assert!(emptied.is_taken(5, 0, again + BELIEVED * 3 / 2));
}
