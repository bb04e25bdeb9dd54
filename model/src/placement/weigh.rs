use super::Candidate;
use crate::lifecycle::State;
use std::collections::HashMap;

/// Best first: spread over racks (fewest busy nodes), then the smallest machine that fits (leave the big
/// ones for those who need them), then the longest idle, then by name so that the answer never depends
/// on the order of rows.
pub(super) fn best_first(mut fits: Vec<&Candidate>, all: &[Candidate]) -> Vec<String> {
    let mut busy: HashMap<&str, usize> = HashMap::new();
    for candidate in all {
        if matches!(candidate.state, State::Deploying | State::Active) {
            *busy.entry(candidate.rack.as_str()).or_default() += 1;
        }
    }
    let weight = |c: &Candidate| {
        (busy.get(c.rack.as_str()).copied().unwrap_or(0), c.memory_bytes >> 30, c.cpu_count, c.idle_since)
    };
    fits.sort_by(|a, b| weight(a).cmp(&weight(b)).then_with(|| a.node.cmp(&b.node)));
    fits.into_iter().map(|c| c.node.clone()).collect()
}
