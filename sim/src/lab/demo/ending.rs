//! The last words: what was done and what to try next, or everything that helps to see why not.

use farrier_proto::scheduler::Operation;

use super::Method;
use super::board::Board;
use super::flow::{Deployed, Guest, INSTANCE, RACK};
use super::node_name;
use crate::lab::client::Client;
use crate::lab::guest::Image;
use crate::lab::installation::Installation;
use crate::lab::operation::OperationFailed;
use crate::lab::process::tail;
use crate::virtual_server::VirtualServer;

/// Timeline, then how to go on.
pub(super) fn success(
    board: &Board,
    installation: &Installation,
    guest: &Guest,
    deployed: &Deployed,
    keeps: bool,
) {
    board.say(&format!("\n{}", board.timeline_text()));
    let answered = match guest.image {
        Image::Debian => "called and answered on SSH",
        Image::Mini => "called (mini has no SSH)",
    };
    board.say(&format!(
        "{} runs instances/{INSTANCE} at {}: its own operating system {answered}. {:.1} s in all.\n",
        deployed.node,
        deployed.address,
        board.elapsed()
    ));
    if !keeps {
        // What could be typed here would find nobody.
        board.say(
            "What to try next:\n\n  cargo xtask demo --keep\n\n\
             leaves everything running and prints what can be typed then: farrier, grpcurl and ssh, ready made. \
             `--image mini --nodes 1` makes it quick. README.md goes on with a rack of your own.",
        );
        return;
    }
    let endpoints = installation.endpoints();
    let prefix = installation.place().prefix();
    let farrier = installation.farrier_line().unwrap_or_default();
    let identity = installation.admin_dir();
    let identity = identity.display();
    let authority = endpoints.inventory.trim_start_matches("https://");
    let files = |dash: &str| {
        format!("{dash}cacert {identity}/ca.pem {dash}cert {identity}/cert.pem {dash}key {identity}/key.pem")
    };
    let (one, two) = (files("-"), files("--"));
    let node = deployed.node.trim_start_matches("nodes/");
    let more = match guest.method {
        Method::Diskless => format!(
            "farrier rack volumes {RACK}\n  farrier instance snapshot {INSTANCE} --image golden --wait\n  \
             farrier instance resize {INSTANCE} --disk 4GiB\n  "
        ),
        _ => String::new(),
    };
    board.say(&format!(
        "What to try next:\n\
         \n  inventory {}\n  scheduler {}\n  images    {}\n  rackd     {}\n  identity  {identity}\n\
         \n  alias farrier='{farrier}'\n  farrier node list\n  farrier node explain {}\n  farrier event list\n  \
         farrier node boot-trace {}\n  farrier rack dhcp leases {RACK}\n  farrier node capabilities {}\n  \
         farrier node sensors {}\n  farrier node console {} --log\n  \
         {more}farrier instance delete {INSTANCE} --wait --yes\n\
         \n  With grpcurl, or with buf (neither is installed by the demo):\n  {prefix}grpcurl {one} {authority} list\n  \
         {prefix}grpcurl {one} -d '{{}}' {authority} farrier.inventory.v1.NodeService/ListNodes\n  \
         {prefix}buf curl {two} --protocol grpc -d '{{}}' {}/farrier.inventory.v1.NodeService/ListNodes",
        endpoints.inventory,
        endpoints.scheduler,
        endpoints.images,
        endpoints.rack,
        node,
        node,
        node,
        node,
        node,
        endpoints.inventory,
    ));
    if guest.image == Image::Debian {
        board.say(&format!("\n  {prefix}ssh {}", guest.key.arguments(&deployed.address).join(" ")));
    }
}

pub(super) fn how_to_stop(board: &Board) {
    board.say(&format!(
        "\nEverything runs until Ctrl-C here, or `kill {}`; nothing is left behind.",
        std::process::id()
    ));
}

/// The operation's error, explanation and boot trace of its node, consoles and logs.
pub(super) async fn failure(
    board: &Board,
    installation: &Installation,
    client: &Client,
    servers: &[VirtualServer],
    error: &anyhow::Error,
) {
    board.say(&format!("\n{}", board.timeline_text()));
    let operation = error.downcast_ref::<OperationFailed>().map(|failed| failed.operation.as_ref());
    for server in servers.iter().filter(|server| concerns(operation, server)) {
        let node = node_name(server);
        if let Ok(explanation) = client.explain(&node).await {
            board.say(&format!(
                "── {node}: {}\n   expected: {}\n   observed: {}\n   you can: {}",
                explanation.summary,
                explanation.expected,
                explanation.observed,
                explanation.actions.join("; ")
            ));
        }
        for mac in &server.macs {
            let Ok(events) = client.boot_trace(mac).await else { continue };
            board.say(&format!("── {node}: boot trace of {mac}"));
            for event in events {
                let seconds = event.time.map(|time| time.seconds % 86_400).unwrap_or_default();
                let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                board.say(&format!("   {h:02}:{m:02}:{s:02} {} {}", event.kind, event.detail));
            }
        }
        let console = server.machine.spec().serial_log();
        board.say(&format!("── {node}: console ({})\n{}", console.display(), tail(&console, 30)));
    }
    board.say(&installation.tails(30));
    board.say(&format!("── error\n{error:#}"));
}

/// Everybody, when the failure names no node.
fn concerns(operation: Option<&Operation>, server: &VirtualServer) -> bool {
    let node = format!("nodes/{}", node_name(server));
    operation.is_none_or(|o| o.node == node || o.target == node || o.node.is_empty())
}
