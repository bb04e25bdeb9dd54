//! `farrier node manage|inspect|clean|provide|abort|power|maintenance`: what is done to nodes.

use super::{Session, mask};
use crate::args::WaitArgs;
use crate::call;
use crate::client::request_id;
use crate::failure::Failure;
use crate::names::full;
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Nodes;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::{Node, UpdateNodeRequest};
use farrier_proto::rack::PowerAction;
use farrier_proto::scheduler::node_action_service_client::NodeActionServiceClient;
use farrier_proto::scheduler::{ActOnNodeRequest, RotateNodeBmcCredentialsRequest, SetNodePowerRequest};
use farrier_proto::types::NodeVerb;

#[derive(Debug, Subcommand)]
pub enum Act {
    /// Proves that the BMC answers: enroll to manageable. An available node is only taken out of placement.
    Manage {
        /// The node, by its name.
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Boots the ramdisk and looks at the hardware.
    Inspect {
        /// The node, by its name.
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Erases the disks and proves it; the node stays manageable.
    Clean {
        /// The node, by its name.
        name: String,
        /// Whole disks, not only their metadata.
        #[arg(long)]
        full_erase: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Cleans the node and makes it available to instances.
    Provide {
        /// The node, by its name.
        name: String,
        /// Whole disks, not only their metadata.
        #[arg(long)]
        full_erase: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Stops what is being done; the node goes to the failed state of that work.
    Abort {
        /// The node, by its name.
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Switches a node, once what is being done to it is over.
    Power {
        /// What the power is to do.
        #[arg(value_enum)]
        action: PowerArg,
        /// The node, by its name.
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Gives the node's BMC a new password that nobody sees, and proves it; the old one ends.
    RotateBmcCredentials {
        /// The node, by its name.
        name: String,
        /// Makes an account of this name with the new password, and takes the old account away once the new one has opened the
        /// BMC; the node keeps the new name.
        #[arg(long, value_name = "ACCOUNT")]
        new_user: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Takes a node out of placement, or puts it back.
    Maintenance {
        /// On or off.
        #[arg(value_enum)]
        switch: Switch,
        /// The node, by its name.
        name: String,
        /// Why, for whoever comes next.
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PowerArg {
    On,
    /// Hard.
    Off,
    /// The power button is pressed once; a system that has not gone off two minutes later, longer where its BMC is slow, is switched
    /// off hard.
    SoftOff,
    /// Off, hard, and on again.
    Cycle,
    /// A hard reset of a machine that is on; not queued behind what is being done to it.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

pub async fn run(act: Act, session: &Session) -> Result<(), Failure> {
    match act {
        Act::Manage { name, wait } => ask(session, &name, NodeVerb::Manage, false, &wait, None).await,
        Act::Inspect { name, wait } => ask(session, &name, NodeVerb::Inspect, false, &wait, None).await,
        Act::Clean { name, full_erase, wait } => {
            ask(session, &name, NodeVerb::Clean, full_erase, &wait, Some("its disks will be erased")).await
        }
        Act::Provide { name, full_erase, wait } => {
            ask(session, &name, NodeVerb::Provide, full_erase, &wait, Some("its disks will be erased")).await
        }
        Act::Abort { name, wait } => {
            ask(session, &name, NodeVerb::Abort, false, &wait, Some("its work will be stopped")).await
        }
        Act::Power { action, name, wait } => power(session, action, &name, &wait).await,
        Act::RotateBmcCredentials { name, new_user, wait } => {
            rotate(session, &name, new_user.unwrap_or_default(), &wait).await
        }
        Act::Maintenance { switch, name, reason } => maintenance(session, switch, &name, reason).await,
    }
}

async fn ask(
    session: &Session,
    name: &str,
    verb: NodeVerb,
    full_erase: bool,
    wait: &WaitArgs,
    harm: Option<&str>,
) -> Result<(), Failure> {
    let name = full(Nodes, name)?;
    if let Some(harm) = harm {
        session.confirm(&format!("{name}: {harm}"))?;
    }
    let link = session.services.scheduler()?;
    let request = ActOnNodeRequest { name, verb: verb.into(), request_id: request_id(), full_erase };
    let operation = call!(link, NodeActionServiceClient, act_on_node, request)?;
    session.operation(&link, operation, wait.wait).await
}

async fn power(session: &Session, action: PowerArg, name: &str, wait: &WaitArgs) -> Result<(), Failure> {
    let name = full(Nodes, name)?;
    let (action, harm) = match action {
        PowerArg::On => (PowerAction::On, None),
        PowerArg::Off => (PowerAction::Off, Some("will be switched off hard")),
        PowerArg::SoftOff => (
            PowerAction::SoftOff,
            Some("will be shut down, and switched off hard where it does not go off by itself"),
        ),
        PowerArg::Cycle => (PowerAction::Cycle, Some("will be switched off hard and on again")),
        PowerArg::Reset => (PowerAction::Reset, Some("will be reset hard")),
    };
    if let Some(harm) = harm {
        session.confirm(&format!("{name} {harm}"))?;
    }
    let link = session.services.scheduler()?;
    let request = SetNodePowerRequest { name, action: action.into(), request_id: request_id() };
    let operation = call!(link, NodeActionServiceClient, set_node_power, request)?;
    session.operation(&link, operation, wait.wait).await
}

async fn rotate(session: &Session, name: &str, new_user: String, wait: &WaitArgs) -> Result<(), Failure> {
    let name = full(Nodes, name)?;
    session
        .confirm(&format!("whoever uses the password of {name}'s BMC besides Farrier will be locked out"))?;
    let link = session.services.scheduler()?;
    let request = RotateNodeBmcCredentialsRequest { name, new_user, request_id: request_id() };
    let operation = call!(link, NodeActionServiceClient, rotate_node_bmc_credentials, request)?;
    session.operation(&link, operation, wait.wait).await
}

async fn maintenance(
    session: &Session,
    switch: Switch,
    name: &str,
    reason: Option<String>,
) -> Result<(), Failure> {
    let on = switch == Switch::On;
    if !on && reason.is_some() {
        return Err(Failure::usage("--reason goes with `maintenance on`"));
    }
    let node = Node {
        name: full(Nodes, name)?,
        maintenance: on,
        // Off: the old reason goes with it.
        maintenance_reason: reason.unwrap_or_default(),
        ..Node::default()
    };
    let link = session.services.inventory()?;
    let update_mask = mask(vec!["maintenance", "maintenance_reason"])?;
    let request = UpdateNodeRequest { node: Some(node), update_mask };
    session.printer.one(&call!(link, NodeServiceClient, update_node, request)?)
}
