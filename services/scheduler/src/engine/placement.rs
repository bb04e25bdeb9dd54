//! From the API's nouns to the model's placement and back.

use super::Engine;
use super::networks::Networks;
use crate::app::state_of;
use farrier_model::placement::{Candidate, Demand, Placement, place};
use farrier_model::root_device;
use farrier_proto::images::Image;
use farrier_proto::inventory::{Flavor, ListCandidatesRequest, ListCandidatesResponse, Node};
use farrier_proto::scheduler::{Instance, OperationError, Rejection};
use farrier_proto::types::{self, DeployMethod};
use farrier_runtime::error::{PreconditionViolation, Reason, refuse_each};
use std::collections::{HashMap, HashSet};
use tonic::{Code, Status};

/// Rejections kept with an operation; an operator reads the first dozens.
const MAX_REJECTIONS: usize = 200;
/// Rejections in a status: it is a header, and clients take some 16 KiB of those.
const MAX_VIOLATIONS: usize = 20;
/// Bytes of a reason in a status; labels and traits may be long.
const MAX_REASON: usize = 200;

/// Bytes that the disk of a machine has at least, for this image in this flavor.
pub(crate) fn root_disk_bytes(flavor: &Flavor, image: &Image) -> i64 {
    flavor.disk_bytes.max(image.disk_bytes)
}

pub(crate) fn demand(instance: &Instance, flavor: &Flavor, image: &Image) -> Demand {
    Demand {
        architecture: flavor.architecture.clone(),
        cpu_count: u32::try_from(flavor.cpu_count).unwrap_or(0),
        memory_bytes: u64::try_from(flavor.memory_bytes).unwrap_or(0),
        disk_bytes: match instance.method() {
            // Its disk is at the rack.
            DeployMethod::Diskless => 0,
            _ => u64::try_from(root_disk_bytes(flavor, image)).unwrap_or(0),
        },
        resource_class: flavor.resource_class.clone(),
        traits: flavor.traits.clone(),
        labels: flavor.labels.clone().into_iter().collect(),
        site: instance.site.clone(),
        rack: instance.rack.clone(),
        node: instance.node.clone(),
        project: instance.owner.clone(),
        image_architecture: image.architecture.clone(),
    }
}

fn candidate(node: &Node, sites: &HashMap<String, String>, bootable: &HashSet<&str>) -> Candidate {
    let hardware = node.hardware.clone().unwrap_or_default();
    Candidate {
        node: node.name.clone(),
        rack: node.rack.clone(),
        site: sites.get(&node.rack).cloned().unwrap_or_default(),
        state: state_of(node.state()),
        maintenance: node.maintenance,
        architecture: node.architecture.clone(),
        cpu_count: hardware.cpu.map_or(0, |c| u32::try_from(c.thread_count).unwrap_or(0)),
        memory_bytes: u64::try_from(hardware.memory_bytes).unwrap_or(0),
        disks: hardware.disks.into_iter().map(disk).collect(),
        root_device: node.root_device.as_ref().map(hints).unwrap_or_default(),
        resource_class: node.resource_class.clone(),
        traits: node.traits.clone(),
        labels: node.labels.clone().into_iter().collect(),
        owner: node.owner.clone(),
        bootable: bootable.contains(node.name.as_str()),
        bmc_problem: node.observation.as_ref().map_or_else(String::new, |seen| seen.bmc_problem.clone()),
        idle_since: node.state_time.as_ref().map_or(0, |t| t.seconds),
    }
}

fn disk(disk: types::Disk) -> root_device::Disk {
    root_device::Disk {
        name: disk.name,
        size_bytes: u64::try_from(disk.size_bytes).unwrap_or(0),
        model: disk.model,
        serial_number: disk.serial_number,
        wwn: disk.wwn,
        rotational: disk.rotational,
        by_path: disk.by_path,
    }
}

fn hints(hints: &types::RootDeviceHints) -> root_device::Hints {
    root_device::Hints {
        name: hints.name.clone(),
        serial_number: hints.serial_number.clone(),
        wwn: hints.wwn.clone(),
        model: hints.model.clone(),
        min_size_bytes: u64::try_from(hints.min_size_bytes).unwrap_or(0),
        rotational: hints.rotational,
        by_path: hints.by_path.clone(),
    }
}

impl Engine {
    /// What fits now, best first, and why the others do not. The racks are asked for the network up to the first
    /// that has it.
    pub(crate) async fn placement(&self, demand: &Demand, network: &str) -> Result<Placement, Status> {
        let (placed, nodes) = self.candidates(demand).await?;
        Ok(Networks::new(network).first(self, placed, &nodes).await)
    }

    /// The same with the nodes' etags, for the reservation.
    pub(super) async fn candidates(&self, demand: &Demand) -> Result<(Placement, Vec<Node>), Status> {
        let answer = self.clients.dispatch.clone().list_candidates(ListCandidatesRequest {}).await?;
        let ListCandidatesResponse { nodes, rack_sites, bootable_nodes } = answer.into_inner();
        let bootable: HashSet<&str> = bootable_nodes.iter().map(String::as_str).collect();
        let candidates: Vec<Candidate> = nodes.iter().map(|n| candidate(n, &rack_sites, &bootable)).collect();
        Ok((place(demand, &candidates), nodes))
    }
}

/// The error of an operation that found no node.
pub(super) fn error(placement: &Placement) -> OperationError {
    OperationError {
        reason: Reason::NoNodeFits.as_str().to_owned(),
        message: summary(placement),
        rejections: placement
            .rejections
            .iter()
            .take(MAX_REJECTIONS)
            .map(|r| Rejection { node: r.node.clone(), reason: r.reason.clone() })
            .collect(),
    }
}

/// The status of a request that would find no node: a typed violation each for the first nodes, and how many
/// more there are.
pub(crate) fn no_node_fits(placement: &Placement) -> Status {
    let violations: Vec<_> = placement
        .rejections
        .iter()
        .take(MAX_VIOLATIONS)
        .map(|r| PreconditionViolation::new("NODE", r.node.clone(), shortened(&r.reason)))
        .collect();
    let rest = placement.rejections.len() - violations.len();
    let mut message = summary(placement);
    if rest > 0 {
        message.push_str(&format!("; {rest} more nodes do not fit either"));
    }
    refuse_each(
        Code::FailedPrecondition,
        Reason::NoNodeFits,
        message,
        [("rejected", placement.rejections.len().to_string()), ("not_listed", rest.to_string())],
        violations,
    )
}

fn shortened(reason: &str) -> String {
    if reason.len() <= MAX_REASON {
        return reason.to_owned();
    }
    let end = reason.floor_char_boundary(MAX_REASON);
    format!("{}…", reason.get(..end).unwrap_or_default())
}

fn summary(placement: &Placement) -> String {
    match placement.rejections.len() {
        0 => "no node fits: there are no nodes; enrol one with `farrier node create`".to_owned(),
        n => format!("no node fits: {n} looked at, each with its reason"),
    }
}
