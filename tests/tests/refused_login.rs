//! Somebody who is not let in to an iSCSI disk is in the history, by name.

use std::process::{Command, Stdio};
use std::time::Duration;

use farrier_proto::types::DeployMethod;

use crate::bench::within;
use crate::pretend_site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_an_event_of_the_node_and_a_stranger_one_of_the_rack() {
    let site = Site::diskless(1).await;
    let operation = site.create_instance_by("web", DeployMethod::Diskless).await;
    site.client.wait(operation, |_| ()).await.unwrap();
    let target = "iqn.2026-11.dev.farrier:r:volume:web";
    let node = "iqn.2026-11.dev.farrier:r:node:n0";
    inquiry(&site, node, "n0%not-the-secret-00", target);
    inquiry(&site, "iqn.2026-11.com.example:stranger", "n0%not-the-secret-00", target);

    let of_node = event(&site, "n0").await;
    assert!(of_node.contains(node) && of_node.contains(target), "{of_node}");
    assert!(of_node.contains("127."), "where it came from: {of_node}");
    assert!(!of_node.contains("not-the-secret"), "{of_node}");
    let of_rack = event(&site, "racks/r").await;
    assert!(of_rack.contains("iqn.2026-11.com.example:stranger"), "{of_rack}");
    // The machine itself noticed nothing.
    assert_eq!(site.client.instance("web").await.unwrap().last_error, "");
    site.shutdown().await;
}

/// The first event of a refused login that `farrier event list` shows.
async fn event(site: &Site, resource: &str) -> String {
    within(async {
        loop {
            let listed = site.installation.farrier(&["event", "list", "--resource", resource, "-o", "json"]);
            let listed = listed.unwrap_or_else(|error| panic!("{error:#}\n{}", site.tails()));
            let events: serde_json::Value = serde_json::from_str(&listed).unwrap();
            let mut events = events.as_array().into_iter().flatten();
            if let Some(event) = events.find(|event| event["action"] == "refuse login") {
                return event.to_string();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
}

/// libiscsi tries to log in, in vain.
fn inquiry(site: &Site, initiator: &str, proof: &str, target: &str) {
    let url = format!("iscsi://{proof}@{}/{target}/0", site.portal());
    let done = Command::new("timeout")
        .args(["60", "iscsi-inq", "-i", initiator, &url])
        .stdin(Stdio::null())
        .output()
        .expect("iscsi-inq of libiscsi-bin runs");
    assert!(!done.status.success(), "{done:?}");
}
