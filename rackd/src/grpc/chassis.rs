//! What a chassis does for its servers, in the words of the wire: VLANs of NICs, and volumes.

use farrier_bmc::{BmcError, Deadline, NicVlans, StoragePool, Volumes};
use farrier_proto::rack;
use farrier_runtime::error::invalid;
use std::collections::BTreeSet;
use tonic::Status;

/// What is asked for, each VLAN one that there is.
pub(super) fn wanted(vlans: rack::NicVlans) -> Result<NicVlans, Status> {
    let set = |field: &str, list: Vec<i32>, most: usize| -> Result<BTreeSet<u16>, Status> {
        let good = list.iter().map(|vlan| u16::try_from(*vlan).ok().filter(|vlan| (1..=4094).contains(vlan)));
        let good: Option<BTreeSet<u16>> = good.collect();
        good.filter(|good| good.len() == list.len() && list.len() <= most)
            .ok_or_else(|| invalid(field, format!("expected at most {most} VLANs of 1 to 4094, each once")))
    };
    Ok(NicVlans {
        untagged: set("vlans.untagged", vlans.untagged, 1)?,
        tagged: set("vlans.tagged", vlans.tagged, MOST_TAGGED)?,
        nic: vlans.nic,
    })
}

const MOST_TAGGED: usize = 64;

pub(super) fn vlans(seen: Vec<NicVlans>, driver: String) -> rack::BmcNicVlans {
    let list = |vlans: BTreeSet<u16>| vlans.into_iter().map(i32::from).collect();
    let nic = |seen: NicVlans| rack::NicVlans {
        nic: seen.nic,
        untagged: list(seen.untagged),
        tagged: list(seen.tagged),
    };
    rack::BmcNicVlans { nics: seen.into_iter().map(nic).collect(), driver }
}

/// What there is now, read.
pub(super) async fn volumes(
    chassis: &dyn Volumes,
    created: String,
    driver: String,
    deadline: Deadline,
) -> Result<rack::BmcVolumes, BmcError> {
    let pools = chassis.storage_pools(deadline).await?;
    let pool = |StoragePool { id, free_gb }| rack::StoragePool {
        id,
        free_gb: free_gb.map(|gb| i64::try_from(gb).unwrap_or(i64::MAX)),
    };
    let root = chassis.root_volume(deadline).await?.unwrap_or_default();
    Ok(rack::BmcVolumes { pools: pools.into_iter().map(pool).collect(), root, created, driver })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_is_one_that_there_is_and_named_once() {
        let asked = |untagged: &[i32], tagged: &[i32]| {
            wanted(rack::NicVlans { nic: "nic0".into(), untagged: untagged.into(), tagged: tagged.into() })
        };
        let good = asked(&[1], &[4094, 7]).unwrap();
        assert_eq!((good.untagged, good.tagged), (BTreeSet::from([1]), BTreeSet::from([7, 4094])));
        for (untagged, tagged) in
            [(&[0][..], &[][..]), (&[4095], &[]), (&[1, 2], &[]), (&[], &[5, 5]), (&[], &[-1])]
        {
            assert!(asked(untagged, tagged).is_err(), "{untagged:?} {tagged:?}");
        }
    }
}
