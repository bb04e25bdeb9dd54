//! BMC passwords are changed, whoever dies on the way: never is a BMC locked out.

use crate::bench::{Bench, spec};
use crate::pretend_site::Site;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Machine, RotateBmcCredentials, Task, TaskState, Verify};
use farrier_sim::bmc::redfish::Personality;
use farrier_sim::bmc::{Secret, Takes};
use farrier_sim::lab::Service;
use farrier_sim::pretend::{BmcSockets, PretendNode};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Before and after each word that one says to another, and right after the BMC has taken the password.
const POINTS: &[(Service, &str)] = &[
    (Service::Inventory, "hold:before"),
    (Service::Inventory, "hold:after"),
    (Service::Scheduler, "start:before"),
    (Service::Scheduler, "start:after"),
    (Service::Rackd, "rotate_bmc_credentials:before"),
    (Service::Rackd, "rotate_bmc_credentials:told"),
    (Service::Rackd, "rotate_bmc_credentials:after"),
    (Service::Rackd, "rotate_bmc_credentials:done"),
    (Service::Scheduler, "close:before"),
    (Service::Inventory, "release:before"),
    (Service::Inventory, "release:after"),
    (Service::Scheduler, "close:after"),
];

async fn ipmitool_is_let_in(site: &Site, password: &Secret) -> bool {
    let address = site.nodes[0].bmc_address();
    let done = Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", "17", "-R", "2", "-U", "admin", "-P"])
        .arg(std::str::from_utf8(password.expose()).unwrap())
        .args(["-H", &address.ip().to_string(), "-p", &address.port().to_string(), "power", "status"])
        .output()
        .await
        .expect("ipmitool is installed: apt-get install ipmitool");
    done.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_goes_on_whoever_is_killed_and_the_old_password_ends() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    let mut old = site.password();
    for (service, point) in POINTS {
        site.installation.restart_with(*service, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let operation = site.client.rotate_bmc_credentials("n0").await.unwrap();
        site.installation.wait_ended(*service).await.unwrap();
        if *point == "rotate_bmc_credentials:told" {
            // The BMC has a password that only inventory knows besides: nobody writes over it.
            let mine = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(mine.path(), "mine").unwrap();
            let path = mine.path().to_str().unwrap();
            let refused = site
                .installation
                .farrier(&["node", "update", "n0", "--bmc-password-file", path])
                .unwrap_err();
            assert!(format!("{refused:#}").contains("a new password: retry"), "{refused:#}");
        }
        site.installation.restart(*service).await.unwrap();
        site.succeeds(operation, point).await;
        let new = site.password();
        assert_ne!(new, old, "{point}");
        let node = site.client.node("n0").await.unwrap();
        assert!(!node.bmc.unwrap().rotation_pending, "{point}");
        old = new;
    }
    // Another author's client with the one and the other; and Farrier, by the command line.
    let told =
        site.installation.farrier(&["node", "rotate-bmc-credentials", "n0", "--wait", "--yes"]).unwrap();
    assert!(told.contains("done"), "{told}");
    assert!(!ipmitool_is_let_in(&site, &old).await);
    assert!(ipmitool_is_let_in(&site, &site.password()).await);
    site.installation.farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    let history = site.installation.farrier(&["event", "list", "--resource", "n0"]).unwrap();
    assert!(history.contains("rotate bmc credentials"), "{history}");
    site.shutdown().await;
}

/// Where a rotation to another account has one more thing behind it.
const ACCOUNT_POINTS: &[(Service, &str)] = &[
    (Service::Inventory, "hold:after"),
    (Service::Rackd, "rotate_bmc_credentials:before"),
    (Service::Rackd, "rotate_bmc_credentials:told"),
    (Service::Rackd, "rotate_bmc_credentials:proven"),
    (Service::Rackd, "rotate_bmc_credentials:removed"),
    (Service::Rackd, "rotate_bmc_credentials:after"),
    (Service::Scheduler, "close:before"),
    (Service::Inventory, "release:before"),
    (Service::Inventory, "release:after"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_to_another_account_goes_on_whoever_is_killed_and_the_old_account_ends() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    let mut old = "admin".to_owned();
    for (number, (service, point)) in ACCOUNT_POINTS.iter().enumerate() {
        let new = format!("farrier-{number}");
        site.installation.restart_with(*service, &[("FARRIER_CRASH_AT", point)]).await.unwrap();
        let operation = site.client.rotate_bmc_credentials_to("n0", &new).await.unwrap();
        site.installation.wait_ended(*service).await.unwrap();
        // Either opens it, at every moment.
        let accounts = site.nodes[0].accounts().clone();
        assert!(accounts.password(&old).is_some() || accounts.password(&new).is_some(), "{point}");
        site.installation.restart(*service).await.unwrap();
        site.succeeds(operation, point).await;
        let bmc = site.client.node("n0").await.unwrap().bmc.unwrap();
        assert_eq!((bmc.user.as_str(), bmc.next_user.as_str()), (new.as_str(), ""), "{point}");
        assert!(!bmc.rotation_pending && accounts.password(&old).is_none(), "{point}");
        old = new;
    }
    // Another author's client sees the one and not the others, by the command line too.
    let rotate = ["node", "rotate-bmc-credentials", "n0", "--new-user", "last", "--wait", "--yes"];
    site.installation.farrier(&rotate).unwrap();
    let password = site.nodes[0].accounts().password("last").unwrap();
    let address = site.nodes[0].bmc_address();
    let listed = Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", "17", "-U", "last", "-P"])
        .arg(std::str::from_utf8(password.expose()).unwrap())
        .args(["-H", &address.ip().to_string(), "-p", &address.port().to_string(), "user", "list", "1"])
        .output()
        .await
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let is_there =
        |name: &str| listed.lines().any(|line| line.contains(name) && line.contains("ADMINISTRATOR"));
    assert!(is_there("last") && !is_there("farrier-8") && !is_there("admin "), "{listed}");
    // A name that somebody has is not written over, and leaves nothing open.
    site.nodes[0].accounts().add("theirs", &Secret::new("their-password"));
    let rotate = ["node", "rotate-bmc-credentials", "n0", "--new-user", "theirs", "--wait", "--yes"];
    let refused = format!("{:#}", site.installation.farrier(&rotate).unwrap_err());
    assert!(refused.contains("has an account \"theirs\" already"), "{refused}");
    assert!(site.nodes[0].accounts().knows("theirs", b"their-password"));
    let bmc = site.client.node("n0").await.unwrap().bmc.unwrap();
    assert_eq!((bmc.user.as_str(), bmc.rotation_pending), ("last", false));
    // Nor does one that the BMC's policy refuses: what was begun of it is taken away.
    site.nodes[0].accounts().refuse_passwords(true);
    let rotate = ["node", "rotate-bmc-credentials", "n0", "--new-user", "never", "--wait", "--yes"];
    let refused = format!("{:#}", site.installation.farrier(&rotate).unwrap_err());
    assert!(refused.contains("refused"), "{refused}");
    assert!(site.nodes[0].accounts().password("never").is_none());
    site.installation.farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    site.shutdown().await;
}

/// Over Redfish: as a member, and on a BMC whose places are always there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_account_is_made_over_redfish_and_the_first_deleted() {
    let bench = Bench::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = bench.node_with(1, |options| options.sockets = listener.into()).await;
    let mut ordered = spec(&node, Work::RotateBmcCredentials(RotateBmcCredentials::default()));
    let machine = ordered.machine.as_mut().unwrap();
    (machine.bmc_driver, machine.bmc_scheme) = ("redfish".into(), "http".into());
    (machine.bmc_next_user, machine.bmc_next_password) = ("second".into(), "another-One-4now".into());
    bench.start_task("rotate", 1, ordered).await.unwrap();
    let done = bench.ended("rotate").await;
    assert_eq!(done.state(), TaskState::Done, "{}", done.error);
    assert!(done.steps[0].detail.contains("account \"admin\" is gone"), "{}", done.steps[0].detail);
    assert!(node.accounts().password("admin").is_none());
    let url = format!("http://{}/redfish/v1/Systems/1", node.bmc_address());
    let asked = async |login: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", login]).arg(&url);
        curl.output().await.unwrap().stdout
    };
    assert_eq!(asked("second:another-One-4now").await, b"200");
    assert_eq!(asked("admin:pretend").await, b"401");
    bench.stop(vec![node]).await;
}

/// Dell gives a new user its role, and nothing of IPMI, which has the serial console.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_account_has_ipmi_as_the_old_one_had_or_the_old_one_stays() {
    let bench = Bench::start_with(|timeouts| timeouts.password = Duration::from_secs(1)).await;
    let mut nodes = Vec::new();
    for (index, (personality, keeps)) in (1..).zip([
        (Personality::Idrac, false),
        (Personality::Plain, false),
        (Personality::Idrac, true),
        (Personality::Plain, true),
    ]) {
        let sockets = BmcSockets::both([127, 0, 0, 1].into()).await.unwrap();
        let node = bench
            .node_with(index, |options| (options.sockets, options.personality) = (sockets, personality))
            .await;
        if keeps {
            node.accounts().keep_ipmi();
        }
        let mut ordered = spec(&node, Work::RotateBmcCredentials(RotateBmcCredentials::default()));
        let machine = ordered.machine.as_mut().unwrap();
        (machine.bmc_driver, machine.bmc_scheme) = ("auto".into(), "http".into());
        (machine.bmc_next_user, machine.bmc_next_password) = ("second".into(), "another-One-4now".into());
        let id = format!("rotate-{index}");
        bench.start_task(&id, 1, ordered).await.unwrap();
        let ended = bench.ended(&id).await;
        let accounts = node.accounts().clone();
        if keeps {
            assert_eq!(ended.state(), TaskState::Failed, "{personality:?}");
            assert!(ended.error.contains("is not let in over IPMI"), "{personality:?}: {}", ended.error);
            assert!(accounts.knows("admin", b"pretend") && accounts.password("second").is_none());
            assert!(
                ended.result.unwrap().bmc_password_refused,
                "{personality:?}: the centre forgets the second"
            );
        } else {
            assert_eq!(ended.state(), TaskState::Done, "{personality:?}: {}", ended.error);
            assert!(accounts.administers_over_ipmi("second"), "{personality:?}");
            assert!(accounts.password("admin").is_none(), "{personality:?}");
        }
        nodes.push(node);
    }
    bench.stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_a_bmc_refuses_is_forgotten_and_the_next_rotation_makes_another() {
    let site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    let old = site.password();
    site.nodes[0].accounts().refuse_passwords(true);
    let rotate = ["node", "rotate-bmc-credentials", "n0", "--wait", "--yes"];
    let refused = format!("{:#}", site.installation.farrier(&rotate).unwrap_err());
    assert!(refused.contains("refused"), "{refused}");
    assert_eq!(site.password(), old);
    let node = site.client.node("n0").await.unwrap();
    assert!(!node.bmc.unwrap().rotation_pending, "nothing is left open");
    site.nodes[0].accounts().refuse_passwords(false);
    site.installation.farrier(&rotate).unwrap();
    assert_ne!(site.password(), old);
    assert!(ipmitool_is_let_in(&site, &site.password()).await);
    site.shutdown().await;
}

/// What a rotation left that nobody settled: the next contact finds out which password it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_of_two_passwords_opens_a_bmc_and_neither_is_said_to_be_wrong() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    let run = async |id: &str, fence, work, change: &dyn Fn(&mut Machine)| {
        let mut ordered = spec(&node, work);
        change(ordered.machine.as_mut().unwrap());
        bench.start_task(id, fence, ordered).await.unwrap();
        bench.ended(id).await
    };
    let rotate = || Work::RotateBmcCredentials(RotateBmcCredentials::default());
    let verify = || Work::Verify(Verify::default());
    // The BMC has the next one already.
    let had =
        |m: &mut Machine| (m.bmc_password, m.bmc_next_password) = ("forgotten".into(), "pretend".into());
    let done = |task: &farrier_proto::rack::Task| assert_eq!(task.state(), TaskState::Done, "{}", task.error);
    done(&run("verify", 1, verify(), &had).await);
    done(&run("again", 2, rotate(), &had).await);
    // It has it not yet.
    let gets = |m: &mut Machine| m.bmc_next_password = "another-One-4now".into();
    done(&run("rotate", 3, rotate(), &gets).await);
    let accounts = node.accounts().clone();
    assert!(accounts.knows("admin", b"another-One-4now") && !accounts.knows("admin", b"pretend"));
    done(&run("after", 4, verify(), &gets).await);
    let neither = run("neither", 5, rotate(), &had).await;
    assert!(neither.error.contains("neither the old password nor the new one"), "{}", neither.error);
    let none = run("none", 6, rotate(), &|_| ()).await;
    assert!(none.error.contains("expected a password that the BMC shall get"), "{}", none.error);
    bench.stop(vec![node]).await;
}

/// A node that is another system of the BMC, and has the same account: it begins before the rotation has ended, whoever is first at
/// the BMC, and has from inventory what there is to have then (`while_one_rotates_the_others_with_its_account_are_given_both_passwords`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_on_a_sibling_that_begins_while_their_account_rotates_goes_through() {
    let bench = Bench::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = bench.node_with(1, |options| options.sockets = listener.into()).await;
    let ordered = |name: &str, old: &str, next: &str, work| {
        let mut ordered = spec(&node, work);
        let machine = ordered.machine.as_mut().unwrap();
        (machine.bmc_driver, machine.bmc_scheme) = ("redfish".into(), "http".into());
        (machine.name, machine.bmc_password, machine.bmc_next_password) =
            (name.into(), old.into(), next.into());
        ordered
    };
    let mut old = "pretend".to_owned();
    let itself = format!("nodes/{}", node.name());
    for round in 1..=6 {
        let next = format!("another-One-{round}now");
        let before = node.accounts().refused_log_ins();
        let rotate = Work::RotateBmcCredentials(RotateBmcCredentials::default());
        let (rotation, sibling) = (format!("rotate-{round}"), format!("sibling-{round}"));
        bench.start_task(&rotation, round, ordered(&itself, &old, &next, rotate)).await.unwrap();
        if round % 3 == 0 {
            // It has both from before the end, and begins behind it.
            bench.ended(&rotation).await;
        }
        let work = Work::Verify(Verify::default());
        bench.start_task(&sibling, round, ordered("nodes/sibling", &old, &next, work)).await.unwrap();
        for task in [bench.ended(&rotation).await, bench.ended(&sibling).await] {
            assert_eq!(task.state(), TaskState::Done, "{} {}", task.id, task.error);
        }
        let refused = node.accounts().refused_log_ins() - before;
        assert!(refused <= 1, "{refused} log-ins were refused in round {round}");
        assert!(node.accounts().knows("admin", next.as_bytes()));
        old = next;
    }
    bench.stop(vec![node]).await;
}

/// A rotation that is over one protocol or the other, on a BMC that says yes to every password.
async fn rotate_on(
    bench: &Bench,
    index: u16,
    driver: &str,
    takes: Takes,
    new_user: &str,
) -> (PretendNode, Task) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = bench
        .node_with(index, |options| {
            if driver == "redfish" {
                options.sockets = listener.into();
            }
        })
        .await;
    node.accounts().take_passwords(takes);
    let mut ordered = spec(&node, Work::RotateBmcCredentials(RotateBmcCredentials::default()));
    let machine = ordered.machine.as_mut().unwrap();
    (machine.bmc_driver, machine.bmc_scheme) = (driver.into(), "http".into());
    (machine.bmc_next_user, machine.bmc_next_password) = (new_user.into(), "another-One-4now".into());
    let id = format!("rotate-{index}");
    bench.start_task(&id, 1, ordered).await.unwrap();
    (node, bench.ended(&id).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_a_bmc_takes_some_time_for_is_waited_for() {
    let bench = Bench::start_with(|timeouts| timeouts.password = Duration::from_secs(5)).await;
    let mut nodes = Vec::new();
    for (index, (driver, requests, new_user)) in
        [("redfish", 3, ""), ("ipmi", 4, ""), ("redfish", 3, "second"), ("ipmi", 8, "second")]
            .into_iter()
            .enumerate()
    {
        let index = u16::try_from(index).unwrap();
        let (node, done) = rotate_on(&bench, index, driver, Takes::After(requests), new_user).await;
        assert_eq!(done.state(), TaskState::Done, "{driver} {new_user:?}: {}", done.error);
        let user = if new_user.is_empty() { "admin" } else { new_user };
        assert!(node.accounts().knows(user, b"another-One-4now"), "{driver} {new_user:?}");
        assert!(!done.result.unwrap().bmc_password_refused, "{driver} {new_user:?}");
        nodes.push(node);
    }
    bench.stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_password_that_a_bmc_says_yes_to_and_does_not_take_both_are_kept_and_no_second_account() {
    let bench = Bench::start_with(|timeouts| timeouts.password = Duration::from_secs(2)).await;
    let mut nodes = Vec::new();
    for (index, (driver, new_user)) in
        [("redfish", ""), ("ipmi", ""), ("redfish", "second"), ("ipmi", "second")].into_iter().enumerate()
    {
        let index = u16::try_from(index).unwrap();
        let (node, failed) = rotate_on(&bench, index, driver, Takes::Never, new_user).await;
        assert_eq!(failed.state(), TaskState::Failed, "{driver} {new_user:?}");
        let expected = if new_user.is_empty() { "both passwords are kept" } else { "the old account stays" };
        assert!(failed.error.contains(expected), "{driver} {new_user:?}: {}", failed.error);
        // What settles the rotation at the centre. A password of the same account may be taken later still.
        assert_eq!(failed.result.unwrap_or_default().bmc_password_refused, !new_user.is_empty(), "{driver}");
        assert!(node.accounts().refused_log_ins() <= 3, "{driver} {new_user:?}");
        assert!(node.accounts().knows("admin", b"pretend"), "{driver} {new_user:?}");
        assert!(node.accounts().password("second").is_none(), "{driver}: what was begun is taken away");
        nodes.push(node);
    }
    // As the centre has it.
    bench.stop(nodes).await;
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.set_timeouts(&[("password_seconds", 2)]).await;
    site.nodes[0].accounts().take_passwords(Takes::Never);
    let rotate = ["node", "rotate-bmc-credentials", "n0", "--wait", "--yes"];
    let refused = format!("{:#}", site.installation.farrier(&rotate).unwrap_err());
    assert!(refused.contains("both passwords are kept"), "{refused}");
    assert!(site.client.node("n0").await.unwrap().bmc.unwrap().rotation_pending);
    site.nodes[0].accounts().take_passwords(Takes::AtOnce);
    site.installation.farrier(&rotate).unwrap();
    assert!(ipmitool_is_let_in(&site, &site.password()).await);
    site.shutdown().await;
}
