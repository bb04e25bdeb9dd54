//! Whose power is to be put back: pure, but for the one read.

use super::{App, error, state};
use farrier_proto::inventory::{BmcHealth, Node, Observation, PowerPolicy, PowerToKeep};
use farrier_proto::types::PowerState;
use farrier_runtime::time::millis;
use tonic::Status;

impl App {
    pub(crate) async fn power_to_keep(&self) -> Result<Vec<PowerToKeep>, Status> {
        let differing = self.store.power_differing().await.map_err(error::store)?;
        Ok(differing.iter().filter_map(|(node, seen)| to_keep(node, seen)).collect())
    }
}

/// Nothing: it is somebody's to work on, or nobody knows what it is now.
fn to_keep(node: &Node, seen: &Observation) -> Option<PowerToKeep> {
    let at_rest = node.operation.is_empty() && !node.maintenance;
    let wanted = node.power_policy() == PowerPolicy::Keep && node.power_state() != PowerState::Unspecified;
    // What was seen before the last write of the node may be what that write was about.
    let since = seen
        .power_time
        .as_ref()
        .is_some_and(|time| node.update_time.as_ref().is_none_or(|written| millis(written) < millis(time)));
    let known = seen.bmc_health() == BmcHealth::Ok && seen.power_differs;
    // A machine whose last work failed may be half written, or somebody's that was to be erased: nobody but a person switches it on.
    let has_failed = state::read(node.state()).is_failed();
    let safe = !has_failed || node.power_state() == PowerState::Off;
    (at_rest && wanted && since && known && safe && node.power_state() != seen.power_state()).then(|| {
        PowerToKeep {
            node: node.name.clone(),
            left: node.power_state,
            seen: seen.power_state,
            fence: node.fence,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::types::ProvisionState;
    use farrier_runtime::time::timestamp;

    #[test]
    fn only_power_that_is_to_be_kept_and_was_seen_otherwise_since_is_put_back() {
        let node = Node {
            name: "nodes/n1".into(),
            power_policy: PowerPolicy::Keep.into(),
            power_state: PowerState::On.into(),
            update_time: Some(timestamp(1000)),
            fence: 7,
            ..Node::default()
        };
        let seen = Observation {
            power_state: PowerState::Off.into(),
            power_time: Some(timestamp(2000)),
            power_differs: true,
            bmc_health: BmcHealth::Ok.into(),
            ..Observation::default()
        };
        let kept = to_keep(&node, &seen).unwrap();
        assert_eq!((kept.left(), kept.seen(), kept.fence), (PowerState::On, PowerState::Off, 7));
        for other in [
            Node { power_policy: PowerPolicy::Report.into(), ..node.clone() },
            Node { power_policy: 0, ..node.clone() },
            Node { power_state: 0, ..node.clone() },
            Node { operation: "operations/o1".into(), ..node.clone() },
            Node { maintenance: true, ..node.clone() },
            Node { update_time: Some(timestamp(2000)), ..node.clone() },
        ] {
            assert_eq!(to_keep(&other, &seen), None, "{other:?}");
        }
        // Nobody but a person switches a machine on whose last work failed; off it may be put.
        for state in
            [ProvisionState::DeployFailed, ProvisionState::CleanFailed, ProvisionState::ServiceFailed]
        {
            let failed = Node { state: state.into(), ..node.clone() };
            assert_eq!(to_keep(&failed, &seen), None, "{state:?}");
            let off = Node { power_state: PowerState::Off.into(), ..failed };
            let seen_on = Observation { power_state: PowerState::On.into(), ..seen.clone() };
            assert_eq!(to_keep(&off, &seen_on).map(|kept| kept.left()), Some(PowerState::Off), "{state:?}");
        }
        for other in [
            Observation { power_differs: false, ..seen.clone() },
            Observation { bmc_health: BmcHealth::Unreachable.into(), ..seen.clone() },
            Observation { power_time: None, ..seen.clone() },
        ] {
            assert_eq!(to_keep(&node, &other), None, "{other:?}");
        }
    }
}
