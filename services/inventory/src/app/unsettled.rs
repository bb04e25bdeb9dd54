//! A rotation that nobody knows the end of: the BMC said yes to a password and does not take it, or was not heard of since. Both
//! passwords are kept and tried, so that nothing fails by it, and nobody would look.

use super::bmc::has_bmc;
use super::observe::Happened;
use farrier_proto::inventory::{Node, Observation};
use farrier_runtime::time::{ago_since, millis};
use prost_types::Timestamp;

/// Told once of each rotation, when it has been so for long: `now` keeps which one that was.
pub(super) fn judge(node: &Node, now: &mut Observation, now_ms: i64) -> Option<Happened> {
    let since = since(node)?;
    let is_long = now_ms.saturating_sub(millis(&since)) >= LONG_MS;
    if !is_long || now.rotation_told_time.as_ref() == Some(&since) {
        return None;
    }
    now.rotation_told_time = Some(since);
    let detail = format!("{}; {}", told(node, now_ms)?, ways(node).join(", or "));
    Some(Happened { action: "bmc rotation unsettled", before: String::new(), after: String::new(), detail })
}

/// What is seen of it, for people; nothing: there is none, or it is under way.
pub(super) fn told(node: &Node, now_ms: i64) -> Option<String> {
    let since = since(node)?;
    let since = match since == NOBODY_KNOWS {
        true => String::new(),
        false => format!(" {} ago", ago_since(millis(&since), now_ms)),
    };
    Some(format!(
        "a rotation of its BMC's password began{since}, and whether the BMC has taken the new one is not known: both passwords are kept"
    ))
}

/// What ends it, each with its reason.
fn ways(node: &Node) -> [String; 2] {
    let [rotate, say] = commands(node);
    [format!("`{rotate}` tries the same one again"), format!("`{say}` says which it has")]
}

/// What ends it, likelier first.
pub(super) fn commands(node: &Node) -> [String; 2] {
    let name = node.name.strip_prefix("nodes/").unwrap_or(&node.name);
    [
        format!("farrier node rotate-bmc-credentials {name}"),
        format!("farrier node update {name} --bmc-password-file FILE"),
    ]
}

/// Since when it waits for somebody.
fn since(node: &Node) -> Option<Timestamp> {
    let bmc = node.bmc.as_ref().filter(|bmc| bmc.rotation_pending && has_bmc(bmc))?;
    node.operation.is_empty().then(|| bmc.rotation_time.unwrap_or(NOBODY_KNOWS))
}

/// An earlier version of Farrier did not keep it.
const NOBODY_KNOWS: Timestamp = Timestamp { seconds: 0, nanos: 0 };
/// Whoever began it has looked at what came of it by then.
const LONG_MS: i64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::Bmc;
    use farrier_runtime::time::timestamp;

    const BEGAN: i64 = 10_000_000;

    fn rotating(time: Option<Timestamp>) -> Node {
        let bmc =
            Bmc { driver: "ipmi".into(), rotation_pending: true, rotation_time: time, ..Bmc::default() };
        Node { name: "nodes/n1".into(), bmc: Some(bmc), ..Node::default() }
    }

    #[test]
    fn a_rotation_that_is_not_settled_is_told_after_an_hour_once_and_the_next_one_too() {
        let mut seen = Observation::default();
        let mut node = rotating(Some(timestamp(BEGAN)));
        let looks = |node: &Node, seen: &mut Observation| {
            let minutes = (0..200).filter(|minute| judge(node, seen, BEGAN + minute * 60_000).is_some());
            minutes.collect::<Vec<_>>()
        };
        assert_eq!(looks(&node, &mut seen), [60]);
        // Another rotation.
        node = rotating(Some(timestamp(BEGAN + 1)));
        let told = judge(&node, &mut seen, BEGAN + 3 * LONG_MS).unwrap();
        for words in ["began 2h", "`farrier node rotate-bmc-credentials n1`", "--bmc-password-file FILE`"] {
            assert!(told.detail.contains(words), "{words}: {}", told.detail);
        }
        // One of an earlier version.
        assert_eq!(looks(&rotating(None), &mut seen), [0]);
    }

    #[test]
    fn one_that_is_under_way_or_settled_is_told_by_nobody() {
        let later = BEGAN + 2 * LONG_MS;
        let node = rotating(Some(timestamp(BEGAN)));
        let busy = Node { operation: "operations/o1".into(), ..node.clone() };
        let mut settled = node.clone();
        settled.bmc.as_mut().unwrap().rotation_pending = false;
        for quiet in [busy, settled, Node { bmc: None, ..node.clone() }] {
            assert_eq!(judge(&quiet, &mut Observation::default(), later), None, "{quiet:?}");
            assert_eq!(told(&quiet, later), None);
        }
        assert!(told(&node, later).is_some());
    }
}
