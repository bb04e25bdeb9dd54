//! What machines said while nobody watched.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::within;
use crate::pretend_site::{BMC_PASSWORD, Site};
use farrier_sim::pretend::PretendNode;

/// Lines of the console's log that contain `text`.
fn found(site: &Site, text: &str) -> String {
    let found = site.installation.farrier(&["node", "console", "n0", "--search", text, "-o", "json"]);
    found.unwrap_or_else(|error| format!("{error:#}"))
}

async fn until_found(site: &Site, text: &str) {
    within(async {
        while !found(site, text).contains(text) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

fn ipmitool(node: &PretendNode, words: &[&str]) -> Command {
    let address = node.bmc_address();
    let mut command = Command::new("timeout");
    command
        .args(["120", "ipmitool", "-I", "lanplus", "-C", "17", "-U", "admin", "-P", BMC_PASSWORD])
        .args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(words);
    command
}

/// ipmitool's console, when the BMC gives it one: an earlier task's is given back half a minute after its end.
async fn takes_console(node: &PretendNode) -> Child {
    let bmc = node.ipmi().unwrap();
    let before = bmc.consoles();
    within(async {
        loop {
            let mut activate = ipmitool(node, &["sol", "activate"]);
            activate.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut session = activate.spawn().expect("ipmitool runs");
            while session.try_wait().unwrap().is_none() {
                if bmc.consoles() > before {
                    return session;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_nobody_watched_can_be_read_afterwards() {
    let site = Site::start(1).await;
    let operation = site.create_instance("web").await;
    site.succeeds(operation, "nobody watches").await;
    for said in ["pretend: AgentStarted", "pretend: DiskBoot", "web login:"] {
        until_found(&site, said).await;
    }
    let history = site.installation.farrier(&["event", "list", "--resource", "n0", "-o", "json"]).unwrap();
    assert!(!history.contains("console attach"), "nobody was attached: {history}");
    // Half a minute after the task, the BMC has its console again, for anybody's program.
    let mut somebody = takes_console(&site.nodes[0]).await;
    somebody.kill().unwrap();
    somebody.wait().unwrap();
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_console_is_left_alone_and_the_work_is_done_all_the_same() {
    let site = Site::start(1).await;
    // Once the console of the last task is given back.
    let mut somebody = takes_console(&site.nodes[0]).await;
    let operation = site.create_instance("web").await;
    site.succeeds(operation, "somebody else has the console").await;
    assert!(somebody.try_wait().unwrap().is_none(), "he was thrown out");
    somebody.kill().unwrap();
    somebody.wait().unwrap();
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_always_kept_a_lost_session_loses_little_and_a_person_types_at_the_same_desk() {
    let mut site = Site::enrolled(1).await;
    site.installation.farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    site.set_console_log("always").await;
    let node = &site.nodes[0];
    within(node.serial_port().wait_connected()).await;
    node.serial_port().say("before\r\n");
    until_found(&site, "before").await;
    // The BMC restarts, and knows no session any more.
    node.ipmi().unwrap().forget_sessions();
    within(async {
        while !found(&site, "after").contains("after") {
            node.serial_port().say("after\r\n");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    // One console and one for commands: whoever comes sits down at the desk that is there.
    let line = format!("{} node console n0", site.installation.farrier_line().unwrap());
    let mut terminal = Command::new("script")
        .args(["-q", "-f", "-e", "-c", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of bsdutils runs");
    // Until it has the keyboard for itself.
    let mut screen = terminal.stdout.take().unwrap();
    let (attached, is_attached) = tokio::sync::oneshot::channel();
    let reader = std::thread::spawn(move || {
        let (mut shown, mut piece, mut attached) = (String::new(), [0; 512], Some(attached));
        while let Ok(length @ 1..) = screen.read(&mut piece) {
            shown.push_str(&String::from_utf8_lossy(&piece[..length]));
            if shown.contains("~. on a new line") {
                attached.take().map(|attached| attached.send(()));
            }
        }
    });
    within(is_attached).await.unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(b"root\r").unwrap();
    within(node.serial_port().wait_for(|heard| heard.typed.ends_with(b"root\r"))).await;
    assert!(node.ipmi().unwrap().session_count() <= 2, "{}", node.ipmi().unwrap().session_count());
    keyboard.write_all(b"\r~.").unwrap();
    drop(keyboard);
    assert!(tokio::task::spawn_blocking(move || terminal.wait().unwrap()).await.unwrap().success());
    reader.join().unwrap();
    // A node in maintenance is not looked at, and its console is let go.
    site.installation.farrier(&["node", "maintenance", "on", "n0"]).unwrap();
    let mut somebody = takes_console(node).await;
    somebody.kill().unwrap();
    somebody.wait().unwrap();
    site.shutdown().await;
}
