//! Who may call what. Which objects they see is decided in `app`, per noun.

use farrier_identity::Role;
use farrier_runtime::authz::{Rule, RuleTable};

/// Full names of the services that this server has.
pub const SERVICES: &[&str] = &[
    "farrier.inventory.v1.SiteService",
    "farrier.inventory.v1.RackRegistryService",
    "farrier.inventory.v1.NodeService",
    "farrier.inventory.v1.PortService",
    "farrier.inventory.v1.FlavorService",
    "farrier.inventory.v1.EventService",
    "farrier.inventory.v1.JoinService",
    "farrier.inventory.v1.DispatchService",
    "farrier.inventory.v1.WatchService",
    "farrier.inventory.v1.DiscoveredService",
    "farrier.inventory.v1.SnapshotService",
];

const SERVICES_THAT_READ: Rule = Rule::Service(&["scheduler", "images", "console"]);
const READ: Rule = Rule::Any(&[Rule::User(Role::Reader), SERVICES_THAT_READ]);
/// A rack reads itself and its nodes.
const READ_OR_RACK: Rule = Rule::Any(&[Rule::User(Role::Reader), SERVICES_THAT_READ, Rule::Rack]);
const WRITE: Rule = Rule::User(Role::Operator);
const SCHEDULER: Rule = Rule::Service(&["scheduler"]);

macro_rules! rules {
    ($($service:literal { $($method:literal: $rule:expr,)+ })+) => {
        &[$($((concat!("farrier.inventory.v1.", $service, "/", $method), $rule),)+)+]
    };
}

/// One rule a method.
pub const RULES: RuleTable = rules! {
    "SiteService" {
        "CreateSite": WRITE,
        "GetSite": READ,
        "ListSites": READ,
        "UpdateSite": WRITE,
        "DeleteSite": WRITE,
    }
    "RackRegistryService" {
        "CreateRack": WRITE,
        "GetRack": READ_OR_RACK,
        "ListRacks": READ,
        "UpdateRack": WRITE,
        "DeleteRack": WRITE,
    }
    "NodeService" {
        "CreateNode": WRITE,
        "GetNode": READ_OR_RACK,
        "ListNodes": READ,
        "UpdateNode": WRITE,
        "DeleteNode": WRITE,
        "ExplainNode": READ,
    }
    "PortService" {
        "CreatePort": WRITE,
        "GetPort": READ,
        "ListPorts": READ,
        "UpdatePort": WRITE,
        "DeletePort": WRITE,
    }
    "FlavorService" {
        "CreateFlavor": WRITE,
        "GetFlavor": READ,
        "ListFlavors": READ,
        "DeleteFlavor": WRITE,
    }
    "EventService" {
        "ListEvents": Rule::User(Role::Operator),
        "ReportEvents": Rule::Rack,
    }
    "JoinService" {
        "CreateJoinToken": Rule::User(Role::Admin),
        "Join": Rule::Bearer,
        "RenewCertificate": Rule::Any(&[Rule::Rack, Rule::Service(&["inventory", "scheduler", "images", "console"])]),
    }
    "DispatchService" {
        "ListCandidates": SCHEDULER,
        "TransitionNode": SCHEDULER,
        "HoldNode": SCHEDULER,
        "ReleaseNode": SCHEDULER,
        "RecordAction": SCHEDULER,
        "MoveBmc": SCHEDULER,
        "GetDispatch": SCHEDULER,
        "ListPowerToKeep": SCHEDULER,
    }
    // Machines that are no project's.
    "DiscoveredService" {
        "GetDiscoveredMachine": WRITE,
        "ListDiscoveredMachines": WRITE,
        "AcceptDiscoveredMachine": WRITE,
        "DeleteDiscoveredMachine": WRITE,
        "GetDiscoveryPlan": WRITE,
        "ReplaceDiscoveryPlan": WRITE,
        "SightMachine": Rule::Rack,
        "ReportMachine": Rule::Rack,
        "ReportBmc": Rule::Rack,
    }
    "SnapshotService" {
        "ListBootPorts": Rule::Rack,
    }
    "WatchService" {
        "ListWatchedNodes": Rule::Rack,
        "ReportObservations": Rule::Rack,
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_rule_and_every_rule_a_method() {
        assert_eq!(farrier_runtime::authz::unruled(SERVICES, RULES), Vec::<String>::new());
    }
}
