use super::{Candidate, Demand};
use crate::lifecycle::State;
use crate::root_device::{Hints, pick};

/// Disks of one node whose reasons are told.
const DISKS_TOLD: usize = 4;

/// A filter: `None` when the node passes, else why it does not: what is asked for, what it has.
pub(super) type Filter = fn(&Demand, &Candidate) -> Option<String>;

/// In the order a person would ask: is it the right place, is it free, is it big enough.
pub(super) const FILTERS: &[Filter] = &[
    named,
    site,
    rack,
    owner,
    state,
    maintenance,
    bootable,
    bmc,
    architecture,
    cpus,
    memory,
    disk,
    class,
    traits,
    labels,
];

fn differs(what: &str, asked: &str, has: &str) -> Option<String> {
    (!asked.is_empty() && asked != has).then(|| format!("{what}: asked for {asked}, has {}", or_unknown(has)))
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "none recorded" } else { text }
}

/// What a number is where nobody looked: an agent or a BMC writes down what a node has.
fn or_not_inspected(has: u64) -> String {
    if has == 0 { "none recorded (was it inspected?)".to_owned() } else { has.to_string() }
}

fn named(d: &Demand, c: &Candidate) -> Option<String> {
    differs("node", &d.node, &c.node)
}

fn site(d: &Demand, c: &Candidate) -> Option<String> {
    differs("site", &d.site, &c.site)
}

fn rack(d: &Demand, c: &Candidate) -> Option<String> {
    differs("rack", &d.rack, &c.rack)
}

fn owner(d: &Demand, c: &Candidate) -> Option<String> {
    // Whose it is stays untold: a project learns nothing of another's.
    (!c.owner.is_empty() && c.owner != d.project).then(|| "owner: belongs to another project".to_owned())
}

fn state(_: &Demand, c: &Candidate) -> Option<String> {
    (c.state != State::Available).then(|| format!("state: must be available, is {}", c.state))
}

fn maintenance(_: &Demand, c: &Candidate) -> Option<String> {
    c.maintenance.then(|| "maintenance: a person keeps it out of use".to_owned())
}

fn bootable(_: &Demand, c: &Candidate) -> Option<String> {
    (!c.bootable).then(|| "ports: none with network boot enabled".to_owned())
}

/// A deployment starts with its BMC.
fn bmc(_: &Demand, c: &Candidate) -> Option<String> {
    (!c.bmc_problem.is_empty()).then(|| format!("BMC: must answer, its rack saw: {}", c.bmc_problem))
}

fn architecture(d: &Demand, c: &Candidate) -> Option<String> {
    differs("architecture", &d.architecture, &c.architecture)
        .or_else(|| differs("architecture of the image", &d.image_architecture, &c.architecture))
}

fn cpus(d: &Demand, c: &Candidate) -> Option<String> {
    (c.cpu_count < d.cpu_count)
        .then(|| format!("CPUs: asked for {}, has {}", d.cpu_count, or_not_inspected(c.cpu_count.into())))
}

fn memory(d: &Demand, c: &Candidate) -> Option<String> {
    (c.memory_bytes < d.memory_bytes).then(|| {
        format!("memory: asked for {} bytes, has {}", d.memory_bytes, or_not_inspected(c.memory_bytes))
    })
}

fn disk(d: &Demand, c: &Candidate) -> Option<String> {
    if d.disk_bytes == 0 {
        return None;
    }
    // As the agent will pick it: the smallest that the hints allow and that is large enough.
    let wanted =
        Hints { min_size_bytes: d.disk_bytes.max(c.root_device.min_size_bytes), ..c.root_device.clone() };
    let rejections = pick(&c.disks, &wanted).err()?;
    let asked = format!("disk: asked for {} bytes on the root disk", d.disk_bytes);
    if rejections.is_empty() {
        return Some(format!("{asked}, has {}", or_not_inspected(0)));
    }
    let mut each: Vec<String> =
        rejections.iter().take(DISKS_TOLD).map(|r| format!("{} {}", r.disk, r.because)).collect();
    if rejections.len() > DISKS_TOLD {
        each.push(format!("{} more do not fit either", rejections.len() - DISKS_TOLD));
    }
    Some(format!("{asked}, but {}", each.join("; ")))
}

fn class(d: &Demand, c: &Candidate) -> Option<String> {
    differs("resource class", &d.resource_class, &c.resource_class)
}

fn traits(d: &Demand, c: &Candidate) -> Option<String> {
    let missing: Vec<_> = d.traits.iter().filter(|t| !c.traits.contains(t)).map(String::as_str).collect();
    (!missing.is_empty()).then(|| format!("traits: lacks {}", missing.join(", ")))
}

fn labels(d: &Demand, c: &Candidate) -> Option<String> {
    d.labels.iter().find(|(key, value)| c.labels.get(*key) != Some(value)).map(|(key, value)| {
        let has = c.labels.get(key).map_or("none", String::as_str);
        format!("label {key}: asked for {value}, has {has}")
    })
}
