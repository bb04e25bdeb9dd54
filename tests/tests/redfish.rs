//! rackd over Redfish, and over whichever driver works: pretend nodes whose BMCs speak one of them, or both.

use std::num::NonZeroU32;

use farrier_identity::device::SelfSigned;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    Inspect, Machine, RotateBmcCredentials, StepState, Task, TaskSpec, TaskState, Verify,
};
use farrier_proto::types::{self, DeployMethod};
use farrier_sim::bmc::redfish::RedfishFaults;
use farrier_sim::pretend::{BmcSockets, PretendNode};
use tokio::net::TcpListener;

use crate::bench::{Bench, deploy, spec};
use crate::pretend_site::Site;

/// A task's order with other words about the BMC.
fn order(node: &PretendNode, work: Work, change: impl FnOnce(&mut Machine)) -> TaskSpec {
    let mut spec = spec(node, work);
    change(spec.machine.as_mut().unwrap());
    spec
}

#[track_caller]
fn assert_done(task: &Task) {
    assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    for step in &task.steps {
        assert_eq!(step.state(), StepState::Done, "{}", step.name);
    }
}

fn detail(task: &Task) -> &str {
    &task.steps[0].detail
}

/// A node that speaks Redfish only, over https with a certificate of its own.
async fn redfish_node(bench: &Bench, index: u16) -> (PretendNode, SelfSigned) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = SelfSigned::generate(&["127.0.0.1".to_owned()]).unwrap();
    let theirs = tls.clone();
    let node = bench
        .node_with(index, |options| {
            options.sockets = listener.into();
            options.tls = Some(theirs);
        })
        .await;
    (node, tls)
}

fn pinned(tls: &SelfSigned) -> impl Fn(&mut Machine) + use<> {
    let pin: String = tls.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    move |machine: &mut Machine| {
        machine.bmc_driver = "redfish".into();
        machine.bmc_certificate_sha256.clone_from(&pin);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_redfish_only_is_verified_inspected_and_deployed() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 << 20).await;
    let (node, tls) = redfish_node(&bench, 1).await;
    let pinned = pinned(&tls);
    // A BMC in the field: busy now and then, and every thirteenth connection breaks.
    node.set_redfish_faults(RedfishFaults {
        busy_every: NonZeroU32::new(7),
        drop_every: NonZeroU32::new(13),
        ..RedfishFaults::default()
    });

    let run = async |id: &str, fence, work| {
        bench.start_task(id, fence, order(&node, work, &pinned)).await.unwrap();
        let task = bench.ended(id).await;
        assert_done(&task);
        task
    };
    let verified = run("verify", 1, Work::Verify(Verify::default())).await;
    assert_eq!(verified.result.as_ref().unwrap().power_state(), types::PowerState::Off);
    let told = detail(&verified);
    assert!(told.starts_with("driver redfish, manufacturer Farrier, product Pretend Machine"), "{told}");
    assert!(
        told.contains("the BMC sees 8 threads, 16384 MiB, 1 NICs") && !told.contains("none of"),
        "{told}"
    );

    let inspected = run("inspect", 2, Work::Inspect(Inspect {})).await;
    assert_eq!(inspected.result.unwrap().hardware.unwrap().system.unwrap().serial_number, "n1");
    run("deploy", 3, deploy(&image, "anvil")).await;
    assert!(content.is_on(&node).await);
    let counters = node.counters();
    assert_eq!((counters.network_boots, counters.disk_boots, counters.phone_homes), (2, 1, 1));
    bench.stop(vec![node]).await;
}

/// As BMCs come since 2020: the password that is on the label opens nothing but its own change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_that_wants_another_password_first_gets_it_by_a_rotation_or_at_first_contact() {
    let bench = Bench::start().await;
    let works = [
        Work::RotateBmcCredentials(RotateBmcCredentials::default()),
        Work::Verify(Verify { replace_default_password: true }),
    ];
    let mut nodes = Vec::new();
    for (index, work) in (1..).zip(works) {
        let (node, tls) = redfish_node(&bench, index).await;
        node.accounts().require_change();
        let pinned = pinned(&tls);
        let id = format!("before-{index}");
        bench.start_task(&id, 1, order(&node, Work::Verify(Verify::default()), &pinned)).await.unwrap();
        let refused = bench.ended(&id).await.error;
        assert!(
            refused.contains("only to change the password") && refused.contains("rotate-bmc"),
            "{refused}"
        );
        let change = |machine: &mut Machine| {
            pinned(machine);
            machine.bmc_next_password = "another-One-4now".into();
        };
        let id = format!("change-{index}");
        bench.start_task(&id, 2, order(&node, work, change)).await.unwrap();
        assert_done(&bench.ended(&id).await);
        assert!(node.accounts().knows("admin", b"another-One-4now"));
        nodes.push(node);
    }
    bench.stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_takes_redfish_where_it_answers_and_ipmi_where_not() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 << 20).await;
    let auto = |machine: &mut Machine| {
        machine.bmc_driver = "auto".into();
        machine.bmc_scheme = "http".into();
    };
    let verify = async |id: &str, node: &PretendNode| {
        bench.start_task(id, 1, order(node, Work::Verify(Verify::default()), auto)).await.unwrap();
        bench.ended(id).await
    };

    let old = bench.node(1).await;
    let told = verify("old", &old).await;
    assert_done(&told);
    assert!(detail(&told).starts_with("driver ipmi,"), "{}", detail(&told));
    assert!(detail(&told).contains("takes no connection: expected Redfish"), "{}", detail(&told));
    bench.start_task("deploy", 2, order(&old, deploy(&image, "old"), auto)).await.unwrap();
    assert_done(&bench.ended("deploy").await);
    assert!(content.is_on(&old).await);

    let sockets = BmcSockets::both([127, 0, 0, 1].into()).await.unwrap();
    let new = bench.node_with(2, |options| options.sockets = sockets).await;
    let told = verify("new", &new).await;
    assert_done(&told);
    assert!(detail(&told).starts_with("driver redfish,"), "{}", detail(&told));
    // Redfish is in trouble for a moment: IPMI stands in, and the next task has Redfish again.
    let busy = RedfishFaults { status: Some(503), ..RedfishFaults::default() };
    for (fence, id, faults, driver) in
        [(2, "busy", busy, "ipmi"), (3, "over", RedfishFaults::default(), "redfish")]
    {
        new.set_redfish_faults(faults);
        bench.start_task(id, fence, order(&new, Work::Verify(Verify::default()), auto)).await.unwrap();
        let told = bench.ended(id).await;
        assert_done(&told);
        assert!(detail(&told).starts_with(&format!("driver {driver},")), "{}", detail(&told));
    }
    // Redfish dies, IPMI does not: the next task finds its way.
    new.set_redfish_faults(RedfishFaults { status: Some(404), ..RedfishFaults::default() });
    bench.start_task("again", 4, order(&new, Work::Verify(Verify::default()), auto)).await.unwrap();
    let told = bench.ended("again").await;
    assert_done(&told);
    assert!(detail(&told).starts_with("driver ipmi,"), "{}", detail(&told));
    bench.stop(vec![old, new]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_that_is_not_the_one_that_is_meant_gets_no_password() {
    let bench = Bench::start().await;
    let (node, tls) = redfish_node(&bench, 1).await;
    let (other, _) = redfish_node(&bench, 2).await;
    let seen: String = tls.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    let fails = async |id: &str, change: &dyn Fn(&mut Machine), words: &str| {
        let work = Work::Verify(Verify::default());
        let ordered = order(&node, work, |machine| {
            machine.bmc_driver = "redfish".into();
            change(machine);
        });
        bench.start_task(id, 1, ordered).await.unwrap();
        let task = bench.ended(id).await;
        assert_eq!(task.state(), TaskState::Failed, "{id}");
        assert!(task.error.contains(words), "{id}: expected {words:?}, saw {}", task.error);
        task.error
    };
    // No pin and no authority: refused, and told what to pin.
    let error = fails("nothing", &|_| (), &seen).await;
    assert!(error.contains("--bmc-certificate-sha256"), "{error}");
    fails("another", &|m| m.bmc_certificate_sha256 = "ab".repeat(32), &seen).await;
    fails("auto", &|m| (m.bmc_driver, m.bmc_certificate_sha256) = ("auto".into(), "ab".repeat(32)), &seen)
        .await;
    assert_eq!(node.redfish().unwrap().request_count(), 0, "nobody was let in, and nothing was said");
    // The other one's certificate is no authority of this one's; its own is.
    let pem = tls.cert_pem().to_owned();
    let wrong = SelfSigned::generate(&["127.0.0.1".to_owned()]).unwrap().cert_pem().to_owned();
    fails("authority", &|m| m.bmc_ca_pem.clone_from(&wrong), &seen).await;
    fails("scheme", &|m| m.bmc_scheme = "http".into(), "is it https?").await;
    fails("password", &|m| (m.bmc_ca_pem, m.bmc_password) = (pem.clone(), "wrong".into()), "the password")
        .await;
    let right = order(&node, Work::Verify(Verify::default()), |m| {
        (m.bmc_driver, m.bmc_ca_pem) = ("redfish".into(), pem.clone());
    });
    bench.start_task("right", 1, right).await.unwrap();
    assert_done(&bench.ended("right").await);
    bench.stop(vec![node, other]).await;
}

/// What a diskless machine needs, a boot script, is nowhere where machines boot from virtual media: that is said at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_boots_from_virtual_media_is_not_diskless() {
    let site = Site::media(1).await;
    let operation = site.create_instance_by("i0", DeployMethod::Diskless).await;
    let refused = site.client.wait(operation, |_| ()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("--boot-interface network"), "{refused:#}");
    site.shutdown().await;
}
