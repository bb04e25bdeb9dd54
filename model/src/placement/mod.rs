//! Which node gets an instance: filters, then weighers, over a snapshot. Pure, and it says why not.

mod filters;
mod weigh;

use crate::lifecycle::State;
use crate::root_device::{Disk, Hints};
use std::collections::BTreeMap;

/// What an instance needs (a flavor plus where it may go).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Empty: any.
    pub architecture: String,
    /// Hardware threads, at least.
    pub cpu_count: u32,
    /// Bytes, at least.
    pub memory_bytes: u64,
    /// Bytes of the root disk, at least: the flavor's or the image's, whichever is more. 0: none is needed.
    pub disk_bytes: u64,
    /// Empty: any.
    pub resource_class: String,
    pub traits: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Empty: any.
    pub site: String,
    pub rack: String,
    pub node: String,
    /// Project that asks.
    pub project: String,
    /// Architecture of the image; empty: any.
    pub image_architecture: String,
}

/// What placement knows of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub node: String,
    pub rack: String,
    pub site: String,
    pub state: State,
    pub maintenance: bool,
    pub architecture: String,
    pub cpu_count: u32,
    pub memory_bytes: u64,
    pub disks: Vec<Disk>,
    /// Which of them takes the operating system.
    pub root_device: Hints,
    pub resource_class: String,
    pub traits: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Empty: everybody's.
    pub owner: String,
    /// Has a port that may boot from the network.
    pub bootable: bool,
    /// What its rack found wrong with its BMC when it last looked; empty: nothing.
    pub bmc_problem: String,
    /// Unix seconds of its last change of state.
    pub idle_since: i64,
}

/// Why one node was not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub node: String,
    pub reason: String,
}

/// The outcome: nodes that fit, best first, and why the others do not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    pub fits: Vec<String>,
    pub rejections: Vec<Rejection>,
}

/// Sorts the candidates into fits and rejections. Deterministic: the same snapshot gives the same answer.
pub fn place(demand: &Demand, candidates: &[Candidate]) -> Placement {
    let mut fits = Vec::new();
    let mut rejections = Vec::new();
    for candidate in candidates {
        match filters::FILTERS.iter().find_map(|filter| filter(demand, candidate)) {
            Some(reason) => rejections.push(Rejection { node: candidate.node.clone(), reason }),
            None => fits.push(candidate),
        }
    }
    let fits = weigh::best_first(fits, candidates);
    Placement { fits, rejections }
}

#[cfg(test)]
mod tests;
