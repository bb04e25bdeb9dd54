//! A node's BMC gets another place in the network: the rack moves it and looks for it, and the node follows.

use super::App;
use super::node_rack::Audit;
use farrier_model::bmc_place::{Asked, BmcPlace, Source};
use farrier_proto::inventory::MoveBmcRequest;
use farrier_proto::rack::bmc_service_client::BmcServiceClient;
use farrier_proto::rack::{BmcAddressSource, BmcNetworkSettings, Machine, SetBmcNetworkRequest};
use farrier_proto::scheduler::{NodeBmcNetworkChange, SetNodeBmcNetworkRequest};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{asked, internal, invalid};
use std::net::IpAddr;
use tonic::Status;
use tonic::transport::Channel;

impl App {
    pub(crate) async fn set_bmc_network(
        &self,
        caller: &Caller,
        request: SetNodeBmcNetworkRequest,
    ) -> Result<NodeBmcNetworkChange, Status> {
        let SetNodeBmcNetworkRequest { name, settings } = request;
        let settings = settings.unwrap_or_default();
        let place = wanted(&settings)?;
        self.not_held(&name).await?;
        let (machine, rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        // Whose place that is already is known before the BMC goes there.
        let address = place.new_address().map(|address| address.address().to_string());
        if let Some(address) = address.and_then(|address| at(&machine.bmc_address, &address)) {
            audit.moved(&machine.bmc_address, &address, true).await?;
        }
        audit.record(ACTION, &place.to_string()).await?;
        // Also when the caller goes away: the node must follow its BMC.
        let change = tokio::spawn(change(audit, rack, machine, settings));
        change.await.map_err(internal)?
    }
}

async fn change(
    audit: Audit,
    mut rack: BmcServiceClient<Channel>,
    machine: Machine,
    settings: BmcNetworkSettings,
) -> Result<NodeBmcNetworkChange, Status> {
    let before = machine.bmc_address.clone();
    let request = SetBmcNetworkRequest { machine: Some(machine), settings: Some(settings) };
    let mut change = audit.outcome(ACTION, rack.set_bmc_network(request).await).await?;
    let Some(address) = at(&before, &change.address) else {
        return Ok(NodeBmcNetworkChange { change: Some(change), ..NodeBmcNetworkChange::default() });
    };
    match audit.moved(&before, &address, false).await {
        Ok(()) => Ok(NodeBmcNetworkChange { change: Some(change), node_address: address }),
        Err(status) => {
            let node = audit.node.trim_start_matches("nodes/");
            change.next = format!(
                "the BMC is at {address}, and its node does not follow ({}): do it with `farrier node update {node} \
                 --bmc-address {address}`",
                status.message()
            );
            Ok(NodeBmcNetworkChange { change: Some(change), ..NodeBmcNetworkChange::default() })
        }
    }
}

impl Audit {
    /// The node's BMC is elsewhere, or could be.
    async fn moved(&self, from: &str, to: &str, validate_only: bool) -> Result<(), Status> {
        let request = MoveBmcRequest {
            node: self.node.clone(),
            address: to.to_owned(),
            expected_address: from.to_owned(),
            actor: self.actor.clone(),
            validate_only,
        };
        let answer = self.clients.dispatch.clone().move_bmc(request).await;
        answer.map(drop).map_err(|status| asked("inventory", status))
    }
}

/// By the rules that the rack judges it by.
fn wanted(settings: &BmcNetworkSettings) -> Result<BmcPlace, Status> {
    let source = match settings.source() {
        BmcAddressSource::Unspecified => None,
        BmcAddressSource::Dhcp => Some(Source::Dhcp),
        BmcAddressSource::Static => Some(Source::Static),
    };
    let asked = Asked {
        interface: &settings.interface,
        source,
        address: &settings.address,
        subnet_mask: &settings.subnet_mask,
        gateway: &settings.gateway,
        vlan: settings.vlan_id,
    };
    BmcPlace::of(asked).map_err(|bad| match bad.part() {
        "" => invalid("settings", bad),
        part => invalid(&format!("settings.{part}"), bad),
    })
}

const ACTION: &str = "set bmc network";

/// A node's BMC address with another host and the same port; `None`: it is the same, or none is said.
fn at(before: &str, host: &str) -> Option<String> {
    // Without brackets an IPv6 address has no port.
    let port = match before.rsplit_once(':') {
        Some((rest, port)) if rest.ends_with(']') || !rest.contains(':') => Some(port),
        _ => None,
    };
    let ip: IpAddr = host.parse().ok()?;
    let after = port.map_or_else(|| ip.to_string(), |port| format!("{ip}:{port}"));
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bmc_that_moves_keeps_its_port() {
        let after = |before: &str| at(before, "192.0.2.7");
        assert_eq!(after("10.0.0.1:6230").as_deref(), Some("192.0.2.7:6230"));
        assert_eq!(after("[fe80::1]:623").as_deref(), Some("192.0.2.7:623"));
        for plain in ["10.0.0.1", "fe80::1", "bmc1.example"] {
            assert_eq!(after(plain).as_deref(), Some("192.0.2.7"), "{plain}");
        }
        assert_eq!((after("192.0.2.7"), after("192.0.2.7:623"), at("10.0.0.1", "")), (None, None, None));
    }

    #[test]
    fn what_is_written_down_is_what_was_asked_for() {
        let mut settings = BmcNetworkSettings {
            address: "192.0.2.7".into(),
            subnet_mask: "255.255.255.0".into(),
            gateway: "192.0.2.1".into(),
            vlan_id: Some(5),
            interface: "eth0".into(),
            ..BmcNetworkSettings::default()
        };
        settings.set_source(BmcAddressSource::Static);
        let place = wanted(&settings).unwrap();
        assert_eq!(place.to_string(), "address 192.0.2.7/24 via 192.0.2.1, VLAN 5, interface eth0");
        settings.gateway = "10.0.0.1".into();
        assert!(wanted(&settings).unwrap_err().message().contains("gateway"));
        assert!(wanted(&BmcNetworkSettings::default()).is_err());
    }
}
