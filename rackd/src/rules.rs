//! Who may call rackd.

use farrier_identity::Role;
use farrier_runtime::authz::{Rule, RuleTable};

pub const SERVICES: &[&str] =
    &["farrier.rack.v1.RackService", "farrier.rack.v1.ConsoleService", "farrier.rack.v1.BmcService"];
pub const AGENT_SERVICES: &[&str] = &["farrier.agent.v1.AgentService"];

const SCHEDULER: Rule = Rule::Service(&["scheduler"]);
const READ: Rule =
    Rule::Any(&[SCHEDULER, Rule::Service(&["inventory", "console"]), Rule::User(Role::Operator)]);

/// The centre and an operator on site. Only the scheduler starts work: it alone holds fencing tokens.
pub const RULES: RuleTable = &[
    ("farrier.rack.v1.RackService/StartTask", SCHEDULER),
    ("farrier.rack.v1.RackService/AbortTask", SCHEDULER),
    ("farrier.rack.v1.RackService/GetTask", READ),
    ("farrier.rack.v1.RackService/ListTasks", READ),
    ("farrier.rack.v1.RackService/WatchTasks", READ),
    ("farrier.rack.v1.RackService/GetRackStatus", READ),
    ("farrier.rack.v1.RackService/GetBootTrace", READ),
    ("farrier.rack.v1.RackService/WatchBootEvents", READ),
    ("farrier.rack.v1.RackService/ListLeases", READ),
    ("farrier.rack.v1.RackService/ListReservations", READ),
    ("farrier.rack.v1.RackService/ListVolumes", READ),
    ("farrier.rack.v1.RackService/ResizeVolume", Rule::User(Role::Operator)),
    // The scheduler writes down who does what, and has the BMC's password.
    ("farrier.rack.v1.ConsoleService/AttachConsole", SCHEDULER),
    ("farrier.rack.v1.ConsoleService/ReadConsoleLog", Rule::Any(&[SCHEDULER, Rule::User(Role::Operator)])),
    ("farrier.rack.v1.BmcService/ReadBmcEventLog", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcSensors", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcInventory", SCHEDULER),
    ("farrier.rack.v1.BmcService/ClearBmcEventLog", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcCapabilities", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcPowerDraw", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcNetwork", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetBmcNetwork", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadWatchdog", SCHEDULER),
    ("farrier.rack.v1.BmcService/DisarmWatchdog", SCHEDULER),
    ("farrier.rack.v1.BmcService/UseVirtualMedia", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBios", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetBios", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadFirmware", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcTask", SCHEDULER),
    ("farrier.rack.v1.BmcService/InterruptMachine", SCHEDULER),
    ("farrier.rack.v1.BmcService/ResetBmc", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBootDevice", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetBootDevice", SCHEDULER),
    ("farrier.rack.v1.BmcService/IdentifyMachine", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBootMode", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetBootMode", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadSecureBoot", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetSecureBoot", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadSecureBootKeys", SCHEDULER),
    ("farrier.rack.v1.BmcService/ResetSecureBootKeys", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBootOrder", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetBootOrder", SCHEDULER),
    ("farrier.rack.v1.BmcService/ExportProfile", SCHEDULER),
    ("farrier.rack.v1.BmcService/ImportProfile", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadNicVlans", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetNicVlans", SCHEDULER),
    ("farrier.rack.v1.BmcService/ReadBmcVolumes", SCHEDULER),
    ("farrier.rack.v1.BmcService/SetBmcVolume", SCHEDULER),
];

/// Ramdisks. Another listener, with rackd's own authority: a machine on the provisioning network cannot
/// even try the calls above.
pub const AGENT_RULES: RuleTable = &[
    ("farrier.agent.v1.AgentService/Register", Rule::Bearer),
    ("farrier.agent.v1.AgentService/Session", Rule::Node),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_rule() {
        assert_eq!(farrier_runtime::authz::unruled(SERVICES, RULES), Vec::<String>::new());
        assert_eq!(farrier_runtime::authz::unruled(AGENT_SERVICES, AGENT_RULES), Vec::<String>::new());
    }
}
