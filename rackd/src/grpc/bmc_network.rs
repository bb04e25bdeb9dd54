//! A BMC's own place in the network is changed, and the BMC looked for where it is then.

use super::bmc::{access_of, bmc_failed, driver, not_busy};
use super::bmc_itself::interface;
use crate::bmc::{Access, Moving};
use crate::rack::Rack;
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, NetworkInterface, NetworkSettings, NewAddress};
use farrier_model::bmc_place::{Asked, Source};
use farrier_proto::rack::{BmcAddressSource, BmcNetworkChange, BmcNetworkSettings, Machine};
use farrier_runtime::error::{Reason, internal, invalid, refuse};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// For the change itself.
const CHANGE: Duration = Duration::from_secs(60);
/// From then until it should be seen: BMCs take half a minute to bring their interface up.
const SEEN: Duration = Duration::from_secs(60);
/// Of the first look; each has twice the time of the one before.
const LOOK: Duration = Duration::from_secs(10);
/// Between two.
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked for, checked before anybody is told of it, by the rules that the scheduler checked it by.
pub(super) fn wanted(settings: &BmcNetworkSettings) -> Result<NetworkSettings, Status> {
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
    NetworkSettings::of(asked).map_err(|bad| match bad.part() {
        "" => invalid("settings", bad),
        part => invalid(&format!("settings.{part}"), bad),
    })
}

/// Also when the caller goes away: a change that is cut off would leave a BMC that nobody can reach.
pub(super) async fn change(
    rack: Arc<Rack>,
    machine: Machine,
    wanted: NetworkSettings,
) -> Result<BmcNetworkChange, Status> {
    let from = machine.bmc_address.clone();
    let moving = begin(&rack, &machine.name).await?;
    let (node, access) = access_of(Some(machine)).await?;
    let change = tokio::spawn(async move {
        let change = whole_change(&rack, &node, access, &wanted).await;
        if let Ok(change) = &change
            && !change.address.is_empty()
        {
            moving.went(&from, &change.address);
        }
        change
    });
    change.await.map_err(internal)?
}

/// From here on no work begins that needs the BMC, and none has begun. Whoever accepts a task looks for a move in a turn of his
/// own: of the two that come together one sees the other.
async fn begin(rack: &Rack, name: &str) -> Result<Moving, Status> {
    let _turn = rack.tasks.turn().await;
    let Some(moving) = rack.moves.begin(name) else {
        return Err(refuse(
            Code::FailedPrecondition,
            Reason::NodeBusy,
            format!("the BMC of {name} is on its way to another address already: wait for it"),
        ));
    };
    not_busy(rack, name).await?;
    if let Some(why) = rack.changes.keeps_waiting(name) {
        return Err(refuse(Code::FailedPrecondition, Reason::NodeBusy, format!("{why}: wait for it")));
    }
    Ok(moving)
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
    // Its session is kept from one look to the next: a slow BMC needs more than one look to open it.
    let mut found = None;
    let mut patience = LOOK;
    loop {
        let deadline = Deadline::after(patience.min(until.remaining()));
        let seen = async {
            let bmc: &Bmc = match &mut found {
                Some(bmc) => bmc,
                none => none.insert(rack.bmc.open(node, access.clone(), deadline).await?.bmc),
            };
            bmc.settle_network(wanted, deadline).await
        };
        match seen.await {
            Err(error) if until.remaining() > PAUSE && !error.is_wrong_password() => {
                tracing::debug!(node, %error, "the BMC is not seen as it shall be yet");
                patience *= 2;
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
    use super::super::rack::RackApi;
    use super::*;
    use crate::fixture;
    use farrier_proto::rack::rack_service_server::RackService as _;
    use farrier_proto::rack::task_spec::Work;
    use farrier_proto::rack::{Power, PowerAction, StartTaskRequest, Task, TaskSpec};
    use tonic::{Request, Response};

    #[test]
    fn what_is_refused_is_named_by_its_place_in_the_request() {
        let mut settings = BmcNetworkSettings { vlan_id: Some(4095), ..BmcNetworkSettings::default() };
        settings.set_source(BmcAddressSource::Dhcp);
        assert!(wanted(&settings).unwrap_err().message().starts_with("settings.vlan_id: expected 1 to 4094"));
        settings.vlan_id = Some(0);
        let good = wanted(&settings).unwrap();
        assert_eq!((good.address, good.vlan), (Some(NewAddress::Dhcp), Some(None)));
        settings.set_source(BmcAddressSource::Static);
        assert!(wanted(&settings).unwrap_err().message().contains("address: expected IPv4"));
    }

    /// A task of a BMC that says nothing: it runs as long as the test does.
    fn ordered() -> StartTaskRequest {
        let machine = Machine {
            name: "nodes/n1".into(),
            bmc_driver: "ipmi".into(),
            bmc_address: "127.0.0.1:1".into(),
            ..Machine::default()
        };
        let power = Power { action: PowerAction::Off.into() };
        let spec = TaskSpec { machine: Some(machine), work: Some(Work::Power(power)) };
        StartTaskRequest { id: "1".into(), fence: 1, spec: Some(spec) }
    }

    /// A task that has been looked at, and waits for its turn to begin.
    async fn starting(rack: &Arc<Rack>) -> tokio::task::JoinHandle<Result<Response<Task>, Status>> {
        let (before, api) = (rack.tracker.len(), RackApi { rack: Arc::clone(rack) });
        let started = tokio::spawn(async move { api.start_task(Request::new(ordered())).await });
        while rack.tracker.len() == before {
            tokio::task::yield_now().await;
        }
        started
    }

    #[tokio::test]
    async fn a_task_that_a_move_overtakes_waits_and_is_not_journaled() {
        let dir = tempfile::tempdir().unwrap();
        let rack = fixture::rack(dir.path(), &[9]).await;
        let turn = rack.tasks.turn().await;
        let started = starting(&rack).await;
        // As `begin` does in its turn.
        let moving = rack.moves.begin("nodes/n1").unwrap();
        drop(turn);
        let refused = started.await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("on its way to another address"), "{refused}");
        assert!(rack.journal.get("1").await.unwrap().is_none() && rack.tasks.all().is_empty());
        // It is asked for again, and the move is over.
        drop(moving);
        starting(&rack).await.await.unwrap().unwrap();
        rack.shutdown.cancel();
    }

    #[tokio::test]
    async fn a_move_that_a_task_overtakes_is_refused_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let rack = fixture::rack(dir.path(), &[9]).await;
        let turn = rack.tasks.turn().await;
        let started = starting(&rack).await;
        let asked = Arc::clone(&rack);
        let moving = tokio::spawn(async move { begin(&asked, "nodes/n1").await.map(drop) });
        tokio::task::yield_now().await;
        // Turns are taken in the order in which they were asked for.
        drop(turn);
        started.await.unwrap().unwrap();
        let refused = moving.await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("operations/1 works on nodes/n1"), "{refused}");
        assert_eq!(rack.moves.keeps_waiting("nodes/n1", "127.0.0.1:1"), None);
        rack.shutdown.cancel();
    }
}
