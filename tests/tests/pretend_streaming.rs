//! Machines without a disk on a rack whose link to the centre is bad: they start while their image is on its way, live
//! through what happens to the link and to rackd, and the image crosses the link once.

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Clean, Task, TaskState};
use farrier_proto::types::{DeployMethod, Hardware};
use farrier_sim::bmc::PowerState;
use farrier_sim::link::Quality;
use farrier_sim::pretend::{DATA_OFFSET, Event, PretendNode, TAIL_BYTES};

use crate::bench::{Bench, deploy, spec, within};

const MIB: u64 = 1 << 20;
const IMAGE_BYTES: u64 = 64 * MIB;

fn diskless(image: &farrier_proto::images::Image, name: &str) -> Work {
    let Work::Deploy(mut deploy) = deploy(image, name) else { unreachable!("a deployment") };
    deploy.set_method(DeployMethod::Diskless);
    deploy.ready_seconds = 120;
    Work::Deploy(deploy)
}

async fn node(bench: &Bench, index: u16, reads: std::ops::Range<u64>) -> PretendNode {
    let change = |options: &mut farrier_sim::pretend::PretendOptions| {
        options.diskless = true;
        options.san_reads.push(reads);
    };
    bench.node_with(index, change).await
}

#[track_caller]
fn assert_done(task: &Task) {
    assert_eq!(task.state(), TaskState::Done, "{}\n{:#?}", task.error, task.steps);
}

fn read(node: &PretendNode) -> Option<String> {
    node.events().iter().find_map(|event| match event {
        Event::SanRead { sha256 } => Some(sha256.clone()),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_start_and_live_while_their_image_comes_over_a_bad_link() {
    let mut bench = Bench::start_linked(Quality::Slow(MIB)).await;
    let (image, _) = bench.image("debian", IMAGE_BYTES).await;
    let (first, second) = (40 * MIB..41 * MIB, 56 * MIB..58 * MIB);

    // The whole image takes a minute on this link; then there is no link at all, and the machine needs none.
    let n1 = node(&bench, 1, first.clone()).await;
    bench.start_task("deploy-1", 1, spec(&n1, diskless(&image, "anvil"))).await.unwrap();
    within(n1.wait_for(|events| events.iter().any(|e| matches!(e, Event::SanRead { .. })))).await;
    bench.link().be(Quality::Cut);
    assert_done(&bench.ended("deploy-1").await);
    assert!(!bench.has_whole(&image), "the system was up only after the whole image");
    assert_eq!(read(&n1), Some(bench.image_sha256("debian", first)));
    // Whoever asks hears that this disk lives on the link.
    let disk = bench.shown().await.remove(0);
    assert_eq!((disk.instance.as_str(), disk.session_count), ("instances/anvil", 1));
    assert!(0 < disk.image_here_bytes && disk.image_here_bytes < disk.image_bytes, "{disk:?}");
    assert!(n1.events().contains(&Event::SystemUp { hostname: "anvil".into() }), "{:?}", n1.events());

    // rackd begins anew without the centre: what is here is served, the rest is waited for.
    bench = bench.restart_rackd().await;
    let n2 = node(&bench, 2, second.clone()).await;
    bench.start_task("deploy-2", 1, spec(&n2, diskless(&image, "hammer"))).await.unwrap();
    within(n2.wait_for(|events| events.contains(&Event::SanBoot))).await;
    assert_eq!(read(&n2), None);
    bench.link().be(Quality::Free);
    assert_done(&bench.ended("deploy-2").await);
    assert_eq!(read(&n2), Some(bench.image_sha256("debian", second)));
    assert_eq!(n1.power().await, PowerState::On);

    // All of it is here in the end, and it came once, but for what was cut off on its way.
    within(bench.until_whole(&image)).await;
    for disk in bench.shown().await {
        assert_eq!((disk.image_here_bytes, disk.image_bytes), (disk.image_bytes, IMAGE_BYTES.cast_signed()));
    }
    let carried = bench.link().carried();
    assert!(carried >= IMAGE_BYTES, "{carried}");
    assert!(carried < IMAGE_BYTES + 20 * MIB, "{carried}");

    // Taken back: its target is gone, and the ramdisk sees no disk either.
    let mut clean = spec(&n1, Work::Clean(Clean { full: true }));
    clean.machine.as_mut().unwrap().hardware = Some(Hardware::default());
    bench.start_task("clean-1", 2, clean).await.unwrap();
    assert_done(&bench.ended("clean-1").await);
    assert_eq!(n1.power().await, PowerState::Off);
    bench.stop(vec![n1, n2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_machines_have_one_image_that_crosses_the_link_once() {
    const NODES: u16 = 8;
    const IMAGE_BYTES: u64 = 32 * MIB;
    let bench = Bench::start_linked(Quality::Free).await;
    let (image, content) = bench.image("debian", IMAGE_BYTES).await;
    let mut nodes = Vec::new();
    for index in 0..NODES {
        nodes.push(node(&bench, index, DATA_OFFSET..IMAGE_BYTES - TAIL_BYTES).await);
    }
    for node in &nodes {
        let name = node.name();
        bench.start_task(&format!("deploy-{name}"), 1, spec(node, diskless(&image, name))).await.unwrap();
    }
    for node in &nodes {
        assert_done(&bench.ended(&format!("deploy-{}", node.name())).await);
        assert_eq!(read(node).as_deref(), Some(content.sha256()));
        assert!(node.events().contains(&Event::SystemUp { hostname: node.name().into() }));
    }
    within(bench.until_whole(&image)).await;
    let carried = bench.link().carried();
    assert!(carried < IMAGE_BYTES + 12 * MIB, "{carried}");
    bench.stop(nodes).await;
}
