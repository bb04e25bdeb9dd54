//! Machines without a disk of their own, pretended: snapshots of their disks, and disks that move to another machine.
//! What their systems write is written by QEMU's initiator, with what the machine knows since its boot.

use std::process::{Command, Output, Stdio};

use farrier_identity::Identity;
use farrier_proto::images::{
    GetManifestRequest, Image, ReadChunksRequest, ReleaseImageRequest, ReserveImageRequest,
};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    Clean, Deploy, Fence, Power, PowerAction, Recovery, ResizeVolumeRequest, Snapshot, Task, TaskState,
};
use farrier_proto::types::DeployMethod;
use farrier_sim::bmc::{Faults, PowerState};
use farrier_sim::pretend::{Event, Mishaps, PretendNode, San};

use crate::bench::{Bench, deploy, spec, within};

/// The image's bytes.
const IMAGE: u64 = 24 << 20;

pub(crate) fn diskless(image: &Image, instance: &str) -> Deploy {
    let Work::Deploy(deploy) = deploy(image, instance) else { unreachable!() };
    Deploy {
        method: DeployMethod::Diskless.into(),
        volume_bytes: 32 << 20,
        user_data: b"#cloud-config\n# hers\n".to_vec(),
        ..deploy
    }
}

fn attach(image: &Image, instance: &str, from: &PretendNode, onto: &PretendNode) -> Work {
    let recovery = Recovery { from: name(from), onto: name(onto), force: false };
    let deploy = diskless(image, instance);
    Work::Deploy(Deploy { recovery: Some(recovery), user_data: Vec::new(), ..deploy })
}

fn fence(instance: &str, onto: &PretendNode, force: bool) -> Work {
    Work::Fence(Fence { instance: format!("instances/{instance}"), onto: name(onto), force })
}

fn snapshot(instance: &str, image: &str, max_bytes: i64) -> Work {
    Work::Snapshot(Snapshot {
        instance: format!("instances/{instance}"),
        image: format!("images/{image}"),
        max_bytes,
        description: String::new(),
    })
}

fn name(node: &PretendNode) -> String {
    format!("nodes/{}", node.name())
}

#[track_caller]
fn assert_done(task: &Task) {
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
}

/// `qemu-io` on logical unit 0, logged in as `san` says.
fn qemu_io(san: &San, commands: &[&str]) -> Output {
    let image = format!(
        "driver=iscsi,transport=tcp,portal={},target={},lun=0,user={},password-secret=chap,initiator-name={},timeout=60",
        san.portal, san.target, san.user, san.initiator
    );
    let mut command = Command::new("timeout");
    command.args(["120", "qemu-io", "--object", &format!("secret,id=chap,data={}", san.secret)]);
    command.args(["-t", "none", "--image-opts", &image]);
    for line in commands {
        command.args(["-c", line]);
    }
    command.stdin(Stdio::null()).output().expect("qemu-io of the Debian package qemu-utils runs")
}

/// What the machine's system does with its disk.
pub(crate) async fn guest(node: &PretendNode, commands: &'static [&'static str]) -> String {
    let san = node.san().expect("it booted from an iSCSI disk");
    let output = tokio::task::spawn_blocking(move || qemu_io(&san, commands)).await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !text.contains("verification failed"), "{text}");
    text
}

pub(crate) async fn is_refused(san: San) -> bool {
    !tokio::task::spawn_blocking(move || qemu_io(&san, &["read 0 512"])).await.unwrap().status.success()
}

async fn reserve(bench: &Bench, id: &str, task: &str) -> i64 {
    let request = ReserveImageRequest {
        image: Some(Image { name: format!("images/{id}"), owner: "blue".into(), ..Image::default() }),
        rack: "racks/r1".into(),
        operation: format!("operations/{task}"),
    };
    let mut images = bench.images(Identity::Service("scheduler".into()));
    within(images.reserve_image(request)).await.unwrap().into_inner().max_bytes
}

async fn release(bench: &Bench, id: &str, task: &str) -> Option<Image> {
    let request =
        ReleaseImageRequest { name: format!("images/{id}"), operation: format!("operations/{task}") };
    let mut images = bench.images(Identity::Service("scheduler".into()));
    within(images.release_image(request)).await.unwrap().into_inner().image
}

/// The whole disk of an image.
async fn content(bench: &Bench, image: &Image) -> Vec<u8> {
    let mut images = bench.images(Identity::Rack("r1".into()));
    let request =
        GetManifestRequest { name: image.name.clone(), manifest_sha256: image.manifest_sha256.clone() };
    let manifest = within(images.get_manifest(request)).await.unwrap().into_inner();
    let mut disk = vec![0; usize::try_from(manifest.size_bytes).unwrap()];
    let request = ReadChunksRequest { manifest_sha256: image.manifest_sha256.clone(), ..Default::default() };
    let mut pieces = within(images.read_chunks(request)).await.unwrap().into_inner();
    while let Some(piece) = within(pieces.message()).await.unwrap() {
        let at = usize::try_from(piece.chunk * manifest.chunk_bytes + piece.offset).unwrap();
        disk[at..at + piece.data.len()].copy_from_slice(&piece.data);
    }
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_an_image_of_the_running_disk() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let node = bench.node(1).await;
    assert_done(&bench.run("deploy", 1, &node, Work::Deploy(diskless(&image, "web"))).await);
    guest(&node, &["write -P 0x42 1M 64k", "write -P 0x43 28M 4k", "flush"]).await;

    let max_bytes = reserve(&bench, "golden", "snap").await;
    let task = bench.run("snap", 2, &node, snapshot("web", "golden", max_bytes)).await;
    assert_done(&task);
    // Two chunks of 4 MiB have changes, of eight; what the pretended image has in one does not compress.
    let sent = task.result.unwrap().written_bytes;
    assert!((1..9 << 20).contains(&sent), "{sent}");
    let golden = release(&bench, "golden", "snap").await.expect("an image was made");
    assert_eq!((golden.owner.as_str(), golden.disk_bytes), ("blue", 32 << 20));
    // What is written now is not in it.
    guest(&node, &["write -P 0x44 1M 64k", "flush", "read -P 0x43 28M 4k"]).await;
    let mut expected = content(&bench, &image).await;
    expected.resize(32 << 20, 0);
    expected[1 << 20..(1 << 20) + (64 << 10)].fill(0x42);
    expected[28 << 20..(28 << 20) + 4096].fill(0x43);
    assert!(content(&bench, &golden).await == expected, "the disk as it was");
    assert!(bench.snapshots().is_empty(), "{:?}", bench.snapshots());
    // Its system has noticed nothing, and is served on by a rackd that starts again behind it.
    assert_eq!(node.power().await, PowerState::On);
    assert!(!node.events().contains(&Event::DiskLost), "{:?}", node.events());
    let bench = bench.restart_rackd().await;
    within(node.wait_for(|events| events.contains(&Event::DiskBack))).await;
    guest(&node, &["read -P 0x44 1M 64k"]).await;

    // A machine lives on the new image.
    let other = bench.node(2).await;
    assert_done(&bench.run("golden", 1, &other, Work::Deploy(diskless(&golden, "copy"))).await);
    guest(&other, &["read -P 0x42 1M 64k", "read -P 0x43 28M 4k"]).await;
    bench.stop(vec![node, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_leaves_nothing_behind() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let node = bench.node(1).await;
    assert_done(&bench.run("deploy", 1, &node, Work::Deploy(diskless(&image, "web"))).await);
    // No reservation; another instance's disk; a disk that is too large.
    let refused = bench.run("s1", 2, &node, snapshot("web", "golden", 1 << 30)).await;
    assert!(refused.error.contains("reservation"), "{}", refused.error);
    let missing = bench.run("s2", 3, &node, snapshot("db", "golden", 1 << 30)).await;
    assert!(missing.error.contains("expected its volume on this rack"), "{}", missing.error);
    reserve(&bench, "golden", "s3").await;
    let large = bench.run("s3", 4, &node, snapshot("web", "golden", 1 << 20)).await;
    assert!(large.error.contains("expected at most 1048576"), "{}", large.error);
    for task in [refused, missing, large] {
        assert_eq!(task.state(), TaskState::Failed);
    }
    // Stopped: the images service is away, so it is under way for long.
    assert_eq!(release(&bench, "golden", "s3").await, None);
    reserve(&bench, "golden", "s4").await;
    let bench = bench.without_images().await;
    bench.start_task("s4", 5, spec(&node, snapshot("web", "golden", 1 << 30))).await.unwrap();
    bench.until("s4", |task| task.steps.iter().any(|step| step.detail.contains("did not answer"))).await;
    assert_eq!(bench.snapshots(), ["s4.overlay"]);
    // It goes on after a restart, and is stopped then.
    let bench = bench.restart_rackd().await;
    assert_eq!(bench.snapshots(), ["s4.overlay"]);
    assert_eq!(bench.abort("s4", "enough").await.state(), TaskState::Aborted);
    assert!(bench.snapshots().is_empty(), "{:?}", bench.snapshots());
    // Left by a crash: the next start sweeps it away.
    std::fs::write(bench.snapshot_dir().join("s9.part"), b"half").unwrap();
    let bench = bench.restart_rackd().await;
    assert!(bench.snapshots().is_empty(), "{:?}", bench.snapshots());
    assert_eq!(node.power().await, PowerState::On);
    guest(&node, &["write -P 1 0 4k", "flush"]).await;
    bench.stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_moves_to_another_machine_with_all_that_was_written() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let (old, new) = (bench.node(1).await, bench.node(2).await);
    assert_done(&bench.run("deploy", 1, &old, Work::Deploy(diskless(&image, "web"))).await);
    guest(&old, &["write -P 0x42 1M 64k", "flush"]).await;
    let known = old.san().unwrap();

    assert_done(&bench.run("move", 2, &old, fence("web", &new, false)).await);
    assert_eq!(old.power().await, PowerState::Off);
    assert!(is_refused(known.clone()).await, "between the two it is nobody's");
    // Neither by a restart nor by somebody who presses the button.
    let bench = bench.restart_rackd().await;
    let on = Work::Power(Power { action: PowerAction::On.into() });
    assert_done(&bench.run("on", 3, &old, on).await);
    assert!(is_refused(known.clone()).await);

    let attached = bench.run("move-attach", 1, &new, attach(&image, "web", &old, &new)).await;
    assert_done(&attached);
    assert!(new.events().contains(&Event::SystemUp { hostname: "web".into() }), "{:?}", new.events());
    // cloud-init has seen a new instance, so that it takes the new machine's ports.
    assert!(new.events().contains(&Event::PhonedHome { instance: "move-attach".into() }));
    guest(&new, &["read -P 0x42 1M 64k", "write -P 0x45 2M 4k", "flush"]).await;
    let adopted = attached.steps.iter().find(|step| step.name == "adopt_volume").unwrap();
    assert!(!adopted.detail.contains("not known"), "its user data has come along: {}", adopted.detail);
    assert!(is_refused(known.clone()).await);
    assert_ne!(new.san().unwrap().secret, known.secret);

    // What cleans the old machine leaves the disk alone; a restart offers it to the new one.
    assert_done(&bench.run("clean", 4, &old, Work::Clean(Clean::default())).await);
    let bench = bench.restart_rackd().await;
    within(new.wait_for(|events| events.contains(&Event::DiskBack))).await;
    guest(&new, &["read -P 0x45 2M 4k"]).await;
    // And back, when the old one is whole again: the user data goes with the disk.
    assert_done(&bench.run("back", 2, &new, fence("web", &old, false)).await);
    let back = bench.run("back-attach", 5, &old, attach(&image, "web", &new, &old)).await;
    assert_done(&back);
    assert!(!back.steps.iter().any(|step| step.detail.contains("not known")), "{:?}", back.steps);
    guest(&old, &["read -P 0x42 1M 64k", "read -P 0x45 2M 4k"]).await;
    // Taken back: the disk is gone.
    assert_done(&bench.run("undeploy", 6, &old, Work::Clean(Clean::default())).await);
    assert!(bench.volumes().is_empty(), "{:?}", bench.volumes());
    bench.stop(vec![old, new]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_lives_for_one_boot() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let node = bench.node(1).await;
    assert_done(&bench.run("deploy", 1, &node, Work::Deploy(diskless(&image, "web"))).await);
    let first = node.san().unwrap();
    // The running system logs in with its own again, also at a rackd that has restarted.
    let bench = bench.restart_rackd().await;
    within(node.wait_for(|events| events.contains(&Event::DiskBack))).await;
    assert!(!is_refused(first.clone()).await);

    let cycle = Work::Power(Power { action: PowerAction::Cycle.into() });
    let ups =
        |events: &[Event]| events.iter().filter(|event| matches!(event, Event::SystemUp { .. })).count();
    for boot in 2..4 {
        let before = node.san().unwrap();
        let id = format!("cycle-{boot}");
        assert_done(&bench.run(&id, boot, &node, cycle.clone()).await);
        within(node.wait_for(|events| ups(events) == usize::try_from(boot).unwrap())).await;
        let now = node.san().unwrap();
        assert!(now.secret != before.secret && now.user != before.user);
        assert!(is_refused(before).await);
        assert!(is_refused(first.clone()).await);
        guest(&node, &["write -P 7 1M 4k", "flush"]).await;
    }
    bench.stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_bmc_is_silent_keeps_its_disk_until_it_is_taken_by_force() {
    let bench = Bench::start_with(|timeouts| {
        timeouts.bmc = std::time::Duration::from_secs(15);
        timeouts.bmc_call = std::time::Duration::from_secs(4);
    })
    .await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let (old, new) = (bench.node(1).await, bench.node(2).await);
    assert_done(&bench.run("deploy", 1, &old, Work::Deploy(diskless(&image, "web"))).await);
    guest(&old, &["write -P 0x42 1M 64k", "flush"]).await;
    let known = old.san().unwrap();
    old.set_faults(Faults { silent: true, ..Faults::default() });
    let refused = bench.run("polite", 2, &old, fence("web", &new, false)).await;
    assert_eq!(refused.state(), TaskState::Failed);
    assert!(refused.error.contains("--force"), "{}", refused.error);
    // Nothing has happened to it; also not when rackd starts again.
    assert!(!old.events().contains(&Event::DiskLost), "{:?}", old.events());
    let bench = bench.restart_rackd().await;
    within(old.wait_for(|events| events.contains(&Event::DiskBack))).await;

    let forced = bench.run("forced", 3, &old, fence("web", &new, true)).await;
    assert_done(&forced);
    assert!(forced.steps[0].detail.contains("by force"), "{:?}", forced.steps);
    // It still runs, and its disk refuses it.
    assert_eq!(old.power().await, PowerState::On);
    within(old.wait_for(|events| events.contains(&Event::DiskRefused))).await;
    assert_done(&bench.run("forced-attach", 1, &new, attach(&image, "web", &old, &new)).await);
    guest(&new, &["read -P 0x42 1M 64k"]).await;
    assert!(is_refused(known).await);
    assert_eq!(old.events().iter().filter(|e| **e == Event::DiskBack).count(), 1);
    bench.stop(vec![old, new]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_breaks_off_loses_no_disk_and_can_be_asked_again() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let (old, new, third) = (bench.node(1).await, bench.node(2).await, bench.node(3).await);
    assert_done(&bench.run("deploy", 1, &old, Work::Deploy(diskless(&image, "web"))).await);
    guest(&old, &["write -P 0x42 1M 64k", "flush"]).await;
    // Not its disk to give: nothing happens.
    let wrong = bench.run("wrong", 1, &third, fence("web", &new, false)).await;
    assert_eq!(wrong.state(), TaskState::Failed);
    assert!(!old.events().contains(&Event::DiskLost));

    assert_done(&bench.run("first", 2, &old, fence("web", &new, false)).await);
    // A machine that was not given the disk cannot take it over.
    let stolen = bench.run("stolen", 2, &third, attach(&image, "web", &old, &third)).await;
    assert!(stolen.error.contains("adopt_volume"), "{}", stolen.error);
    // The other one does not come up, and is stopped.
    new.set_mishaps(Mishaps { system_never_calls: true, ..Mishaps::default() });
    bench.start_task("first-attach", 1, spec(&new, attach(&image, "web", &old, &new))).await.unwrap();
    within(new.wait_for(|events| events.contains(&Event::Struck("system_never_calls")))).await;
    assert_eq!(bench.abort("first-attach", "no").await.state(), TaskState::Aborted);
    assert_eq!(new.power().await, PowerState::Off);
    assert!(is_refused(new.san().unwrap()).await);
    // Again onto the same, and on to a third.
    new.set_mishaps(Mishaps::default());
    assert_done(&bench.run("again", 2, &new, fence("web", &new, false)).await);
    assert_done(&bench.run("again-attach", 3, &new, attach(&image, "web", &new, &new)).await);
    guest(&new, &["read -P 0x42 1M 64k"]).await;
    assert_done(&bench.run("on", 4, &new, fence("web", &third, false)).await);
    assert_done(&bench.run("on-attach", 3, &third, attach(&image, "web", &new, &third)).await);
    guest(&third, &["read -P 0x42 1M 64k"]).await;
    bench.stop(vec![old, new, third]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_takes_no_disk_leaves_its_machine_running_as_it_was() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let (old, new) = (bench.node(1).await, bench.node(2).await);
    assert_done(&bench.run("deploy", 1, &old, Work::Deploy(diskless(&image, "web"))).await);
    guest(&old, &["write -P 0x42 1M 64k", "flush"]).await;
    // Of an instance that has no disk here: found out when the machine is off and its address gone.
    let failed = bench.run("wrong", 2, &old, fence("db", &new, false)).await;
    assert_eq!(failed.state(), TaskState::Failed);
    assert!(failed.error.contains("instances/db") && !failed.error.contains("its disk"), "{}", failed.error);
    let cut = |events: &[Event]| events.iter().filter(|event| **event == Event::PowerCut).count();
    assert!(cut(&old.events()) > 0, "{:?}", old.events());
    // On again, booted from its disk, and its power is known.
    assert_eq!(failed.result.unwrap().power_state(), farrier_proto::types::PowerState::On);
    let ups =
        |events: &[Event]| events.iter().filter(|event| matches!(event, Event::SystemUp { .. })).count();
    within(old.wait_for(|events| ups(events) == 2)).await;
    guest(&old, &["read -P 0x42 1M 64k", "write -P 0x43 2M 4k", "flush"]).await;
    bench.stop(vec![old, new]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_taken_back_is_gone_before_its_machine_is_off() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let node = bench.node(1).await;
    assert_done(&bench.run("deploy", 1, &node, Work::Deploy(diskless(&image, "web"))).await);
    let known = node.san().unwrap();
    node.set_faults(Faults { silent: true, ..Faults::default() });
    bench.start_task("back", 2, spec(&node, Work::Clean(Clean::default()))).await.unwrap();
    within(node.wait_for(|events| events.contains(&Event::DiskLost))).await;
    assert!(is_refused(known).await);
    assert_eq!(node.power().await, PowerState::On, "its BMC has not been heard of");
    assert!(!bench.volumes().is_empty(), "the volume goes when it is off");
    node.set_faults(Faults::default());
    assert_done(&bench.ended("back").await);
    assert_eq!(bench.volumes(), Vec::<String>::new());
    bench.stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_grows_under_a_running_system() {
    let bench = Bench::start().await;
    let (image, _) = bench.image("debian", IMAGE).await;
    let node = bench.node(1).await;
    assert_done(&bench.run("deploy", 1, &node, Work::Deploy(diskless(&image, "web"))).await);
    let operator =
        Identity::User { name: "olga".into(), role: farrier_identity::Role::Operator, project: "".into() };
    let mut rack = bench.rackd(operator);
    let request = ResizeVolumeRequest { instance: "instances/web".into(), size_bytes: 48 << 20 };
    let grown = within(rack.resize_volume(request.clone())).await.unwrap().into_inner();
    assert_eq!((grown.size_bytes, grown.node.as_str()), (48 << 20, name(&node).as_str()));
    guest(&node, &["write -P 0x42 47M 64k", "flush"]).await;
    let smaller = ResizeVolumeRequest { size_bytes: 40 << 20, ..request.clone() };
    let refused = within(rack.resize_volume(smaller)).await.unwrap_err();
    assert!(refused.message().contains("can only grow"), "{}", refused.message());
    let mut scheduler = bench.rackd(Identity::Service("scheduler".into()));
    let refused = within(scheduler.resize_volume(request)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    // It stays so.
    let bench = bench.restart_rackd().await;
    within(node.wait_for(|events| events.contains(&Event::DiskBack))).await;
    guest(&node, &["read -P 0x42 47M 64k"]).await;
    assert_eq!(bench.shown().await[0].size_bytes, 48 << 20);
    bench.stop(vec![node]).await;
}
