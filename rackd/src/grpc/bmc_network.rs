//! A BMC's own place in the network is changed, and the BMC looked for where it is then.

use super::bmc::{bmc_failed, driver};
use super::bmc_itself::interface;
use crate::bmc::Access;
use crate::rack::Rack;
use farrier_bmc::{
    Bmc, BmcError, Capability, Deadline, NetworkInterface, NetworkSettings, NewAddress, StaticAddress,
};
use farrier_proto::rack::{BmcAddressSource, BmcNetworkChange, BmcNetworkSettings};
use farrier_runtime::error::{internal, invalid};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// For the change itself.
const CHANGE: Duration = Duration::from_secs(60);
/// From then until it should be seen: BMCs take half a minute to bring their interface up.
const SEEN: Duration = Duration::from_secs(60);
/// Of one look, and between two.
const LOOK: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked for, checked before anybody is told of it.
pub(super) fn wanted(settings: BmcNetworkSettings) -> Result<NetworkSettings, Status> {
    let source = settings.source();
    let BmcNetworkSettings { interface, address, subnet_mask, gateway, vlan_id, .. } = settings;
    let address = match source {
        BmcAddressSource::Static => {
            let address = StaticAddress::parse(&address, &subnet_mask, &gateway);
            Some(NewAddress::Static(address.map_err(|error| invalid("settings", error))?))
        }
        _ if !(address.is_empty() && subnet_mask.is_empty() && gateway.is_empty()) => {
            return Err(invalid("settings.address", "expected one only where the source is static"));
        }
        BmcAddressSource::Dhcp => Some(NewAddress::Dhcp),
        BmcAddressSource::Unspecified => None,
    };
    let vlan = match vlan_id.map(u16::try_from) {
        None => None,
        Some(Ok(0)) => Some(None),
        Some(Ok(id @ 1..=4094)) => Some(Some(id)),
        Some(_) => return Err(invalid("settings.vlan_id", "expected 1 to 4094, or 0 for none")),
    };
    if address.is_none() && vlan.is_none() {
        return Err(invalid("settings", "expected an address, its source or a VLAN"));
    }
    Ok(NetworkSettings { interface, address, vlan })
}

/// Also when the caller goes away: a change that is cut off would leave a BMC that nobody can reach.
pub(super) async fn change(
    rack: Arc<Rack>,
    node: String,
    access: Access,
    wanted: NetworkSettings,
) -> Result<BmcNetworkChange, Status> {
    let change = tokio::spawn(async move { whole_change(&rack, &node, access, &wanted).await });
    change.await.map_err(internal)?
}

async fn whole_change(
    rack: &Rack,
    node: &str,
    access: Access,
    wanted: &NetworkSettings,
) -> Result<BmcNetworkChange, Status> {
    let deadline = Deadline::after(CHANGE);
    let failed = |error| bmc_failed(&error);
    let bmc = rack.bmc.open(node, access.clone(), deadline).await.map_err(failed)?.bmc;
    let here = access.ipmi.addr.ip();
    let through = is_asked_through(&bmc, wanted, here, deadline).await.map_err(failed)?;
    bmc.set_network(wanted, deadline).await.map_err(failed)?;
    let driver = driver(&bmc, Capability::SetNetwork);
    // Its session is of the place that the BMC may have left.
    drop(bmc);
    let there = match wanted.address {
        Some(NewAddress::Static(address)) if through => IpAddr::V4(address.address()),
        _ => here,
    };
    let until = Deadline::after(SEEN);
    let seen = look(rack, node, &access.at(there), wanted, until).await;
    let address = match &seen {
        // It has answered there, whatever else is not as it shall be.
        Ok(_) | Err(BmcError::NotApplied { .. }) if there != here && !access.has_name() => there.to_string(),
        _ => String::new(),
    };
    let next = next_step(&access, there, wanted, seen.as_ref().err());
    Ok(BmcNetworkChange { interface: seen.ok().map(interface), address, next, driver })
}

/// Whether the interface that changes is the one that the BMC is asked through: only then the BMC is elsewhere afterwards.
async fn is_asked_through(
    bmc: &Bmc,
    wanted: &NetworkSettings,
    here: IpAddr,
    deadline: Deadline,
) -> Result<bool, BmcError> {
    if wanted.interface.is_empty() {
        return Ok(true);
    }
    let all = bmc.network(deadline).await?.interfaces;
    let named = all.iter().find(|one| one.name == wanted.interface);
    // One that tells no address may be it.
    Ok(named.and_then(|one| one.address).is_none_or(|address| IpAddr::V4(address) == here))
}

/// Until the BMC is as it shall be, or the time is over: then what was seen last.
async fn look(
    rack: &Rack,
    node: &str,
    access: &Access,
    wanted: &NetworkSettings,
    until: Deadline,
) -> Result<NetworkInterface, BmcError> {
    loop {
        let deadline = Deadline::after(LOOK.min(until.remaining()));
        let seen = async {
            let opened = rack.bmc.open(node, access.clone(), deadline).await?;
            opened.bmc.settle_network(wanted, deadline).await
        };
        match seen.await {
            Err(error) if until.remaining() > PAUSE && !error.is_wrong_password() => {
                tracing::debug!(node, %error, "the BMC is not seen as it shall be yet");
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// What is left for a person.
fn next_step(access: &Access, there: IpAddr, wanted: &NetworkSettings, unseen: Option<&BmcError>) -> String {
    let host = &access.redfish.host;
    let follow = "`farrier node update NODE --bmc-address HOST`";
    match (unseen, wanted.address) {
        (None, _) if there != access.ipmi.addr.ip() && access.has_name() => {
            format!("have {host} resolve to {there}: the node's BMC has that name")
        }
        (None, _) => String::new(),
        (Some(error), Some(NewAddress::Dhcp)) => format!(
            "the BMC took DHCP and was not seen at its old address {there} for {} s ({error}): its server knows the new one; \
             give it to the node with {follow}",
            SEEN.as_secs()
        ),
        (Some(error), _) => format!(
            "the BMC took the change and was not seen so at {there} for {} s: {error}; see that {there} and its VLAN can be \
             reached from this rack; once the BMC answers there, {follow}; where it is still at its old address, `farrier node \
             bmc-network NODE` shows what it took",
            SEEN.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_cut_a_bmc_off_is_refused_before_it_is_asked() {
        let settings = |source: BmcAddressSource, address: &str, gateway: &str, vlan_id| BmcNetworkSettings {
            source: source.into(),
            address: address.into(),
            subnet_mask: if address.is_empty() { String::new() } else { "255.255.255.0".into() },
            gateway: gateway.into(),
            vlan_id,
            ..BmcNetworkSettings::default()
        };
        use BmcAddressSource::{Dhcp, Static, Unspecified};
        assert!(wanted(settings(Static, "192.0.2.7", "192.0.2.1", Some(4094))).is_ok());
        assert_eq!(wanted(settings(Unspecified, "", "", Some(0))).unwrap().vlan, Some(None));
        assert_eq!(wanted(settings(Dhcp, "", "", None)).unwrap().address, Some(NewAddress::Dhcp));
        for (bad, why) in [
            (settings(Unspecified, "", "", None), "expected an address, its source or a VLAN"),
            (settings(Static, "192.0.2.7", "192.0.3.1", None), "gateway: expected another host"),
            (settings(Static, "192.0.2.255", "", None), "the first or the last"),
            (settings(Static, "bmc1", "", None), "address: expected IPv4"),
            (settings(Static, "", "", None), "address: expected IPv4"),
            (settings(Dhcp, "192.0.2.7", "", None), "only where the source is static"),
            (settings(Dhcp, "", "", Some(4095)), "expected 1 to 4094"),
            (settings(Dhcp, "", "", Some(-1)), "expected 1 to 4094"),
        ] {
            let error = wanted(bad).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
    }
}
