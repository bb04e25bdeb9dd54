//! How a node moves: a pure function from what is stored and what is asked.

use super::{fence, state};
use farrier_inventory_store::{Applied, Stored};
use farrier_model::lifecycle::{Event, State, next};
use farrier_model::{Collection, MacAddress, parse_name};
use farrier_proto::inventory::{Node, Port, TransitionNodeRequest};
use farrier_proto::types::{BootMode, Hardware, PowerState};
use farrier_runtime::error::{Reason, invalid, refuse, refuse_with, stale_etag};
use prost_types::Timestamp;
use tonic::{Code, Status};
use uuid::Uuid;

/// What a request comes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// It was done before: the same answer.
    Again,
    /// The node as it shall be.
    Move(Box<Move>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Move {
    pub(super) node: Node,
    pub(super) from: State,
    pub(super) to: State,
    pub(super) applied: Applied,
    /// Interfaces that the hardware has.
    pub(super) nics: Vec<Nic>,
}

/// An interface with an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nic {
    pub(super) mac: MacAddress,
    pub(super) link_up: bool,
}

/// Decides one request.
pub(super) fn decide(
    stored: &Stored,
    request: &TransitionNodeRequest,
    now: Timestamp,
) -> Result<Decision, Status> {
    let event: Event = request.event.parse().map_err(|()| invalid("event", known()))?;
    parse_name(Collection::Operations, &request.operation).map_err(|e| invalid("operation", e))?;
    let applied = Applied { operation: request.operation.clone(), event: event.as_str().to_owned() };
    if stored.applied == applied {
        return Ok(Decision::Again);
    }
    let node = &stored.node;
    if !request.etag.is_empty() && request.etag != node.etag {
        return Err(stale_etag(&node.name, Some((&request.etag, &node.etag))));
    }
    // Stopping is asked by a person and told by whoever works on the node: here it is the end of that work.
    let outcome = !event.is_verb() || event == Event::Abort;
    holder(node, &request.operation, outcome)?;
    let from = state::read(node.state());
    let to = next(from, event).map_err(|refused| {
        let facts = [("node", node.name.clone()), ("state", from.to_string()), ("event", event.to_string())];
        refuse_with(Code::FailedPrecondition, Reason::LifecycleRefused, refused.to_string(), facts)
    })?;
    if !event.is_driven() {
        let why = format!("the life cycle knows `{event}`; this version of Farrier does not do it");
        return Err(refuse(Code::FailedPrecondition, Reason::NotDriven, why));
    }

    let mut node = node.clone();
    node.set_state(state::write(to));
    node.state_time = Some(now);
    node.update_time = Some(now);
    if outcome {
        node.operation.clear();
        node.last_error = match event {
            Event::Fail | Event::Abort | Event::Moved => reason(event, &request.error),
            _ => String::new(),
        };
    } else {
        node.last_error.clear();
        node.fence = fence::next(node.fence, now);
        // A verb that only changes the state leaves no work behind, so nobody has the node afterwards.
        node.operation = if to.is_working() { request.operation.clone() } else { String::new() };
    }
    match event {
        Event::Deploy => {
            in_use(&node)?;
            give(&mut node, &request.instance)?;
        }
        // The disk is at the node's rack already: whoever keeps the node out of use since then comes too late.
        Event::Recover => give(&mut node, &request.instance)?,
        _ => {}
    }
    if (from == State::Deleting && event == Event::Done) || event == Event::Moved {
        node.instance.clear();
    }
    if request.power_state() != PowerState::Unspecified {
        node.power_state = request.power_state;
    }
    let nics =
        request.hardware.as_ref().map(|hardware| describe(&mut node, hardware, now)).unwrap_or_default();
    Ok(Decision::Move(Box::new(Move { node, from, to, applied, nics })))
}

/// Ports for interfaces that are not known yet. A node that nobody described boots from whatever has link;
/// where somebody did, new interfaces stay out of the way.
pub(super) fn new_ports(node: &str, nics: &[Nic], existing: &[Port], now: Timestamp) -> Vec<Port> {
    nics.iter()
        .filter(|nic| !existing.iter().any(|p| p.mac_address == nic.mac.to_string()))
        .map(|nic| Port {
            name: Collection::Ports.name(&nic.mac.hexhyp()),
            uid: Uuid::now_v7().to_string(),
            node: node.to_owned(),
            mac_address: nic.mac.to_string(),
            pxe_enabled: existing.is_empty() && nic.link_up,
            create_time: Some(now),
            ..Port::default()
        })
        .collect()
}

/// Whether this operation may work on the node, or says how its work ended.
pub(super) fn holder(node: &Node, operation: &str, outcome: bool) -> Result<(), Status> {
    if outcome && node.operation != operation {
        let seen = if node.operation.is_empty() { "nobody" } else { &node.operation };
        let why = format!("{} is not worked on by {operation} but by {seen}", node.name);
        return Err(refused(node, why));
    }
    if !node.operation.is_empty() && node.operation != operation {
        return Err(refuse_with(
            Code::Aborted,
            Reason::NodeBusy,
            format!("{} works on {}: retry when it has ended", node.operation, node.name),
            [("node", node.name.clone()), ("operation", node.operation.clone())],
        ));
    }
    Ok(())
}

pub(super) fn refused(node: &Node, why: String) -> Status {
    refuse_with(Code::FailedPrecondition, Reason::LifecycleRefused, why, [("node", node.name.clone())])
}

fn in_use(node: &Node) -> Result<(), Status> {
    if node.maintenance {
        let why = format!("{} is in maintenance: {}", node.name, node.maintenance_reason);
        return Err(refused(node, why));
    }
    Ok(())
}

fn give(node: &mut Node, instance: &str) -> Result<(), Status> {
    parse_name(Collection::Instances, instance).map_err(|e| invalid("instance", e))?;
    if !node.instance.is_empty() && node.instance != instance {
        let why = format!("{} is given to {}", node.name, node.instance);
        return Err(refused(node, why));
    }
    instance.clone_into(&mut node.instance);
    Ok(())
}

/// Takes the hardware over, and what it settles where nobody did.
fn describe(node: &mut Node, hardware: &Hardware, now: Timestamp) -> Vec<Nic> {
    node.hardware = Some(hardware.clone());
    node.inspect_time = Some(now);
    if let Some(cpu) = hardware.cpu.as_ref().filter(|_| node.architecture.is_empty()) {
        node.architecture.clone_from(&cpu.architecture);
    }
    if node.boot_mode() == BootMode::Unspecified {
        node.boot_mode = hardware.boot_mode;
    }
    // Off is no word against it: somebody may have said that it will be on.
    node.secure_boot |= hardware.secure_boot && node.boot_mode() == BootMode::Uefi;
    let mut nics: Vec<Nic> = Vec::new();
    for nic in &hardware.nics {
        // An interface without an address of its own (a dummy, InfiniBand) cannot be a port.
        if let Ok(mac) = nic.mac_address.parse()
            && !nics.iter().any(|seen| seen.mac == mac)
        {
            nics.push(Nic { mac, link_up: nic.link_up });
        }
    }
    nics
}

fn reason(event: Event, error: &str) -> String {
    match (event, error) {
        (Event::Abort, "") => "stopped by a person".to_owned(),
        (_, "") => "failed without a reason".to_owned(),
        (_, error) => error.to_owned(),
    }
}

fn known() -> String {
    let words: Vec<_> = Event::ALL.iter().map(|e| e.as_str()).collect();
    format!("expected one of {}", words.join(", "))
}
