//! A boot CD that nobody reads is put in again, whatever the BMC says meanwhile.

use farrier_proto::types::DeployMethod;
use farrier_sim::bmc::redfish::{FailsFirst, RedfishFaults};
use farrier_sim::pretend::{Event, Mishaps};

use crate::bench::within;
use crate::pretend_site::Site;

/// The parts of it, by their requests, and how many of them make two calls fail: what does no harm is asked for four times a call.
const PARTS: [(&[&str], u32); 4] = [
    (&["POST", "ComputerSystem.Reset", "ForceOff"], 8),
    (&["POST", "EjectMedia"], 8),
    (&["POST", "InsertMedia"], 2),
    (&["POST", "ComputerSystem.Reset", "\"On\""], 8),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_that_fails_for_a_moment_at_any_part_of_it_costs_the_boot_no_second_chance() {
    let mut site = Site::media(PARTS.len()).await;
    // Put in again after two thirds of it, once.
    site.set_timeouts(&[("agent_seconds", 150)]).await;
    for node in &site.nodes {
        node.set_mishaps(Mishaps { hang_before_agent: true, ..Mishaps::default() });
    }
    let mut operations = Vec::new();
    for index in 0..PARTS.len() {
        operations.push(site.create_instance_by(&format!("i{index}"), DeployMethod::Direct).await);
    }
    for (node, (words, times)) in site.nodes.iter().zip(PARTS) {
        let hung = Event::Struck("hang_before_agent");
        within(node.wait_for(|events| events.last() == Some(&hung))).await;
        let fails_first = Some(FailsFirst { words, status: 500, times });
        node.set_redfish_faults(RedfishFaults { fails_first, ..RedfishFaults::default() });
        node.set_mishaps(Mishaps::default());
    }
    for operation in operations {
        let node = operation.node.clone();
        site.succeeds(operation, &node).await;
    }
    for (node, (words, _)) in site.nodes.iter().zip(PARTS) {
        assert_eq!(node.redfish().unwrap().failures_left(), 0, "{words:?}");
    }
    site.shutdown().await;
}
