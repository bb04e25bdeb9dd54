//! Who may call the scheduler.

use farrier_identity::Role;
use farrier_runtime::authz::{Rule, RuleTable};

pub const SERVICES: &[&str] = &[
    "farrier.scheduler.v1.InstanceService",
    "farrier.scheduler.v1.OperationService",
    "farrier.scheduler.v1.NodeActionService",
    "farrier.scheduler.v1.NodeConsoleService",
    "farrier.scheduler.v1.NodeBmcService",
];

const READ: Rule = Rule::Any(&[Rule::User(Role::Reader), Rule::Service(&["console"])]);

/// Whose instances and operations they see is checked against the object.
pub const RULES: RuleTable = &[
    ("farrier.scheduler.v1.InstanceService/CreateInstance", Rule::User(Role::Member)),
    ("farrier.scheduler.v1.InstanceService/DeleteInstance", Rule::User(Role::Member)),
    ("farrier.scheduler.v1.InstanceService/SnapshotInstance", Rule::User(Role::Member)),
    // It decides over two machines, and one of them is to be switched off.
    ("farrier.scheduler.v1.InstanceService/RecoverInstance", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.InstanceService/GetInstance", READ),
    ("farrier.scheduler.v1.InstanceService/ListInstances", READ),
    ("farrier.scheduler.v1.OperationService/GetOperation", READ),
    ("farrier.scheduler.v1.OperationService/ListOperations", READ),
    ("farrier.scheduler.v1.OperationService/WatchOperation", READ),
    ("farrier.scheduler.v1.OperationService/CancelOperation", Rule::User(Role::Member)),
    ("farrier.scheduler.v1.NodeActionService/ActOnNode", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeActionService/SetNodePower", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeActionService/RotateNodeBmcCredentials", Rule::User(Role::Operator)),
    // A console shows what its machine shows, and a machine trusts whoever sits at it.
    ("farrier.scheduler.v1.NodeConsoleService/AttachNodeConsole", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeConsoleService/ReadNodeConsoleLog", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeEventLog", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeSensors", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeInventory", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ClearNodeEventLog", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeCapabilities", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodePowerDraw", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeBmcNetwork", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeBmcNetwork", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeWatchdog", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/DisarmNodeWatchdog", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/UseNodeVirtualMedia", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeBios", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeBios", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeFirmware", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/UpdateNodeFirmware", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeBmcTask", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/InterruptNode", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ResetNodeBmc", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeBootDevice", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeBootDevice", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/IdentifyNode", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeBootMode", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeBootMode", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeSecureBoot", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeSecureBoot", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeSecureBootKeys", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ResetNodeSecureBootKeys", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeBootOrder", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeBootOrder", Rule::User(Role::Operator)),
    // A profile tells most of what a BMC is set to, its accounts' names among it.
    ("farrier.scheduler.v1.NodeBmcService/ExportNodeProfile", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ImportNodeProfile", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeNicVlans", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeNicVlans", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/ReadNodeVolumes", Rule::User(Role::Operator)),
    ("farrier.scheduler.v1.NodeBmcService/SetNodeVolume", Rule::User(Role::Operator)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_rule() {
        assert_eq!(farrier_runtime::authz::unruled(SERVICES, RULES), Vec::<String>::new());
    }
}
