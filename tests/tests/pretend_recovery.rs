//! Bad input, end to end: the node ends in a state that says what is wrong, `explain` says what to type, and
//! what it says leads back to `available`.
//!
//! Real processes, real IPMI on the wire, the real agent; only the machines are pretended.

use crate::bench::within;
use crate::pretend_site::{BMC_PASSWORD, Site};
use farrier_proto::inventory::{Explanation, Node};
use farrier_proto::scheduler::{Instance, InstanceState, Operation};
use farrier_proto::types::{NodeVerb, ProvisionState};
use farrier_sim::bmc::{Cut, Faults};
use farrier_sim::lab::{ImageFile, OperationFailed};
use farrier_sim::pretend::{self, Event, Mishaps};

/// The operation must fail.
async fn fails(site: &Site, operation: Operation) -> Operation {
    let error = site.client.wait(operation, |_| ()).await.expect_err("expected a failure");
    match error.downcast::<OperationFailed>() {
        Ok(failed) => *failed.operation,
        Err(other) => panic!("{other:#}\n{}", site.tails()),
    }
}

async fn verb_fails(site: &Site, node: &str, verb: NodeVerb) {
    let operation = site.client.act(node, verb).await.unwrap();
    fails(site, operation).await;
}

/// The node says what is wrong, in `state`, free for the next request, and `explain` repeats it.
async fn stuck(site: &Site, node: &str, state: ProvisionState, words: &[&str]) -> (Node, Explanation) {
    let (seen, told) = (site.client.node(node).await.unwrap(), site.client.explain(node).await.unwrap());
    assert_eq!(seen.state(), state, "{}", seen.last_error);
    assert_eq!(seen.operation, "");
    for word in words {
        assert!(seen.last_error.contains(word), "expected {word:?}, saw {}", seen.last_error);
        assert!(told.observed.contains(word), "expected {word:?}, saw {}", told.observed);
    }
    (seen, told)
}

/// Types the command that `explain` prints and that begins so, as a person would.
fn obey(site: &Site, told: &Explanation, begin: &str, fill: &[(&str, &str)]) -> String {
    let printed = told.actions.iter().find(|a| a.starts_with(begin));
    let printed = printed.unwrap_or_else(|| panic!("expected {begin:?} in {:#?}", told.actions));
    let words = printed.split(' ').skip(1);
    let mut words: Vec<&str> =
        words.map(|w| fill.iter().find(|(key, _)| *key == w).map_or(w, |(_, value)| *value)).collect();
    if ["manage", "inspect", "provide", "delete"].iter().any(|verb| words.contains(verb)) {
        words.extend(["--wait", "--yes"]);
    }
    site.installation.farrier(&words).unwrap_or_else(|e| panic!("{printed}: {e:#}\n{}", site.tails()))
}

/// From `manageable` on, nothing stands in the way any more.
async fn to_available(site: &Site, node: &str) {
    for begin in ["farrier node inspect", "farrier node provide"] {
        let told = site.client.explain(node).await.unwrap();
        obey(site, &told, begin, &[]);
    }
    assert_eq!(site.client.node(node).await.unwrap().state(), ProvisionState::Available);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_silent_bmc_are_named_and_overcome() {
    let mut site = Site::enrolled(2).await;
    let (wrong, right) = (site.dir.join("wrong"), site.dir.join("right"));
    std::fs::write(&wrong, "guess\n").unwrap();
    std::fs::write(&right, format!("{BMC_PASSWORD}\n")).unwrap();
    let (wrong, right) = (wrong.to_string_lossy().into_owned(), right.to_string_lossy().into_owned());
    let addresses: Vec<String> = site.nodes.iter().map(|n| n.bmc_address().to_string()).collect();

    site.installation.farrier(&["node", "update", "n0", "--bmc-password-file", &wrong]).unwrap();
    verb_fails(&site, "n0", NodeVerb::Manage).await;
    let (_, told) =
        stuck(&site, "n0", ProvisionState::VerifyFailed, &["password", "admin", &addresses[0]]).await;
    assert!(!format!("{told:?}").contains("guess"));
    let fill = [("HOST", addresses[0].as_str()), ("USER", "admin"), ("FILE", right.as_str())];
    obey(&site, &told, "farrier node update n0", &fill);
    obey(&site, &told, "farrier node manage n0", &[]);
    to_available(&site, "n0").await;

    site.set_timeouts(&[("bmc_seconds", 6), ("bmc_call_seconds", 2)]).await;
    site.nodes[1].set_faults(Faults { silent: true, ..Faults::default() });
    verb_fails(&site, "n1", NodeVerb::Manage).await;
    let (_, told) = stuck(&site, "n1", ProvisionState::VerifyFailed, &["BMC", &addresses[1]]).await;
    site.nodes[1].set_faults(Faults::default());
    site.set_timeouts(&[]).await;
    obey(&site, &told, "farrier node manage n1", &[]);
    to_available(&site, "n1").await;
    site.shutdown().await;
}

/// A BMC whose answers nobody can read is not told as one that is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_from_a_bmc_is_named_and_overcome() {
    let mut site = Site::enrolled(1).await;
    site.set_timeouts(&[("bmc_seconds", 6), ("bmc_call_seconds", 2)]).await;
    let garbled = Faults { garbled: true, ..Faults::default() };
    let cut = Cut { netfn: 0, cmd: 0x01, keep: 1 };
    for (faults, words) in [
        (garbled, ["cannot be read", "version expected 06h"]),
        (
            Faults { cut: vec![cut], ..Faults::default() },
            ["Get Chassis Status", "expected at least 3 bytes, seen 1"],
        ),
    ] {
        site.nodes[0].set_faults(faults);
        verb_fails(&site, "n0", NodeVerb::Manage).await;
        let (_, told) = stuck(&site, "n0", ProvisionState::VerifyFailed, &words).await;
        assert!(told.actions.iter().any(|action| action == "farrier node manage n0"), "{told:?}");
        site.nodes[0].set_faults(Faults::default());
    }
    site.set_timeouts(&[]).await;
    let told = site.client.explain("n0").await.unwrap();
    obey(&site, &told, "farrier node manage n0", &[]);
    to_available(&site, "n0").await;
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_enrolled_again_under_its_name_is_taken_by_its_rack() {
    let site = Site::start(1).await;
    let address = site.nodes[0].bmc_address().to_string();
    let password = site.dir.join("password");
    std::fs::write(&password, format!("{BMC_PASSWORD}\n")).unwrap();
    let before = site.client.node("n0").await.unwrap();
    assert!(before.fence > 0, "its rack has seen tokens");
    let farrier = |args: &[&str]| site.installation.farrier(args).unwrap();
    farrier(&["node", "delete", "n0", "--yes"]);
    let described =
        ["--bmc-driver", "ipmi", "--bmc-address", &address, "--bmc-user", "admin", "--boot-mode", "bios"];
    let enrol = ["node", "create", "n0", "--rack", "r", "--bmc-password-file", &password.to_string_lossy()];
    farrier(&[&enrol[..], &described].concat());
    assert_eq!(site.client.node("n0").await.unwrap().fence, 0);
    farrier(&["node", "manage", "n0", "--wait"]);
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_never_calls_leads_to_the_boot_trace_and_on() {
    let mut site = Site::enrolled(1).await;
    let operation = site.client.act("n0", NodeVerb::Manage).await.unwrap();
    site.client.wait(operation, |_| ()).await.unwrap();
    site.set_timeouts(&[("agent_seconds", 10)]).await;
    site.nodes[0].set_mishaps(Mishaps { agent_never_calls: true, ..Mishaps::default() });
    verb_fails(&site, "n0", NodeVerb::Inspect).await;
    let (_, told) = stuck(&site, "n0", ProvisionState::InspectFailed, &["wait_agent", "boot-trace n0"]).await;
    let trace = obey(&site, &told, "farrier node boot-trace n0", &[]);
    assert!(trace.contains(&site.nodes[0].mac_address()), "{trace}");
    site.nodes[0].set_mishaps(Mishaps::default());
    site.set_timeouts(&[]).await;
    to_available(&site, "n0").await;
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_that_cannot_end_well_cost_no_node() {
    let site = Site::start(1).await;
    // A network that the rack does not have: no node is touched.
    for network in ["dmz", "provisioning"] {
        let asked = Instance {
            name: network.to_owned(),
            flavor: "flavors/any".to_owned(),
            image: "images/os".to_owned(),
            network: network.to_owned(),
            ..Instance::default()
        };
        let operation = site.client.create_instance(asked).await.unwrap();
        let error = fails(&site, operation).await.error.unwrap();
        let why = format!("network: asked for {network}, racks/r has tenant");
        assert_eq!((error.reason.as_str(), error.rejections[0].reason.as_str()), ("NO_NODE_FITS", &*why));
    }
    // Larger than any disk: no node is touched.
    let path = site.dir.join("big.raw");
    pretend::write_image(&path, 96 << 20, 3).unwrap();
    site.client.import_image("big", &ImageFile::raw(&path).unwrap(), |_, _| ()).await.unwrap();
    let instance = |name: &str, image: &str, ready_seconds| Instance {
        name: name.to_owned(),
        flavor: "flavors/any".to_owned(),
        image: format!("images/{image}"),
        ready_seconds,
        ..Instance::default()
    };
    let operation = site.client.create_instance(instance("big", "big", 60)).await.unwrap();
    let error = fails(&site, operation).await.error.unwrap();
    assert_eq!(error.reason, "NO_NODE_FITS");
    assert!(error.rejections[0].reason.starts_with("disk: "), "{:?}", error.rejections);
    let node = site.client.node("n0").await.unwrap();
    assert_eq!((node.state(), node.instance.as_str()), (ProvisionState::Available, ""));
    assert_eq!(site.client.instance("big").await.unwrap().state(), InstanceState::Failed);
    site.installation.farrier(&["instance", "delete", "big", "--wait", "--yes"]).unwrap();

    // A system that does not come up: the node keeps its instance until that is deleted.
    site.nodes[0].set_mishaps(Mishaps { system_never_calls: true, ..Mishaps::default() });
    let operation = site.client.create_instance(instance("mute", "os", 2)).await.unwrap();
    fails(&site, operation).await;
    let (node, told) = stuck(&site, "n0", ProvisionState::DeployFailed, &["wait_system", "phone-home"]).await;
    assert_eq!(node.instance, "instances/mute");
    let mute = site.client.instance("mute").await.unwrap();
    assert_eq!((mute.state(), mute.last_error), (InstanceState::Failed, node.last_error));
    site.nodes[0].set_mishaps(Mishaps::default());
    obey(&site, &told, "farrier instance delete mute", &[]);
    let node = site.client.node("n0").await.unwrap();
    assert_eq!((node.state(), node.instance.as_str()), (ProvisionState::Available, ""));
    assert!(site.client.instance("mute").await.is_err());

    // And it takes the next one.
    let operation = site.create_instance("web").await;
    let operation = site.client.wait(operation, |_| ()).await.unwrap();
    site.assert_disk_has_image(&operation.node).await;
    site.shutdown().await;
}

/// The disk at the images service, below the installation's directory.
fn central_disk(dir: &std::path::Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    if dir.ends_with("disks") {
        return files.into_iter().find(|path| path.extension().is_some_and(|e| e == "raw")).unwrap();
    }
    let below = dirs.iter().filter(|dir| dir.ends_with("images") || dir.ends_with("disks"));
    below.map(|dir| central_disk(dir)).next().unwrap_or_else(|| panic!("no disks in {dirs:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_rotted_at_the_centre_reaches_no_disk_and_costs_no_node() {
    let mut site = Site::start(1).await;
    site.set_timeouts(&[("write_seconds", 15)]).await;
    let disk = central_disk(&site.dir.join("installation"));
    let good = std::fs::read(&disk).unwrap();
    let mut bad = good.clone();
    *bad.first_mut().unwrap() ^= 0xff;
    std::fs::write(&disk, &bad).unwrap();

    let operation = site.create_instance("web").await;
    fails(&site, operation).await;
    let words = ["fetch_image", "chunk 0", "expected", "saw"];
    let (node, told) = stuck(&site, "n0", ProvisionState::DeployFailed, &words).await;
    assert_eq!(node.instance, "instances/web");
    assert_eq!(site.nodes[0].counters().network_boots, 2, "inspection and cleaning only");
    obey(&site, &told, "farrier instance delete web", &[]);
    assert_eq!(site.client.node("n0").await.unwrap().state(), ProvisionState::Available);

    // A person puts the file back: the next deployment has it.
    std::fs::write(&disk, &good).unwrap();
    site.set_timeouts(&[]).await;
    let operation = site.create_instance("web").await;
    let operation = site.client.wait(operation, |_| ()).await.unwrap();
    site.assert_disk_has_image(&operation.node).await;
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_that_goes_away_in_mid_deploy_is_named_and_the_node_is_taken_back_when_it_is_there_again() {
    let mut site = Site::start(1).await;
    site.set_timeouts(&[("bmc_seconds", 6), ("bmc_call_seconds", 2), ("soft_off_seconds", 2)]).await;
    let address = site.nodes[0].bmc_address().to_string();
    site.nodes[0].set_mishaps(Mishaps { stall_after_bytes: Some(1), ..Mishaps::default() });
    let operation = site.create_instance("web").await;
    within(site.nodes[0].wait_for(|events| events.last() == Some(&Event::Struck("stall_after_bytes")))).await;
    site.nodes[0].set_faults(Faults { silent: true, ..Faults::default() });
    site.nodes[0].set_mishaps(Mishaps::default());
    fails(&site, operation).await;
    let (node, told) =
        stuck(&site, "n0", ProvisionState::DeployFailed, &["agent_off", "BMC", &address]).await;
    assert_eq!(node.instance, "instances/web");

    site.nodes[0].set_faults(Faults::default());
    site.set_timeouts(&[]).await;
    obey(&site, &told, "farrier instance delete web", &[]);
    assert_eq!(site.client.node("n0").await.unwrap().state(), ProvisionState::Available);
    let operation = site.create_instance("web").await;
    let operation = site.client.wait(operation, |_| ()).await.unwrap();
    site.assert_disk_has_image(&operation.node).await;
    site.shutdown().await;
}
