//! `farrier node secure-boot show|set|keys|reset-keys NODE`: UEFI Secure Boot, as a machine's firmware is set.

use super::Session;
use super::node_act::Switch;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Nodes;
use farrier_proto::rack::{BmcSecureBootKeys, SecureBootKeyReset};
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{
    ReadNodeSecureBootKeysRequest, ReadNodeSecureBootRequest, ResetNodeSecureBootKeysRequest,
    SetNodeSecureBootRequest,
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows what the next start is, and what the last one was.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Sets it from the node's next start on. How Farrier boots the node is its `--secure-boot`.
    Set {
        /// The node, by its name.
        name: String,
        /// On or off.
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Counts the keys that the node's firmware has.
    Keys {
        /// The node, by its name.
        name: String,
    },
    /// Replaces all keys of the node's firmware.
    ResetKeys {
        /// The node, by its name.
        name: String,
        /// By which.
        #[arg(value_enum)]
        to: KeysArg,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeysArg {
    /// Those that it was delivered with.
    Default,
    /// None: the firmware is in setup mode, and takes whichever are brought next.
    DeleteAll,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Show { name } => {
            let request = ReadNodeSecureBootRequest { name: full(Nodes, &name)? };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_secure_boot, slow request)?)
        }
        Verb::Set { name, switch } => {
            let request =
                SetNodeSecureBootRequest { name: full(Nodes, &name)?, enabled: switch == Switch::On };
            let set = call!(link, NodeBmcServiceClient, set_node_secure_boot, slow request)?;
            session.say("it takes effect at the node's next start");
            session.printer.one(&set)
        }
        Verb::Keys { name } => {
            let request = ReadNodeSecureBootKeysRequest { name: full(Nodes, &name)? };
            shown(&call!(link, NodeBmcServiceClient, read_node_secure_boot_keys, slow request)?, session)
        }
        Verb::ResetKeys { name, to } => {
            let name = full(Nodes, &name)?;
            let (reset, what) = match to {
                KeysArg::Default => (SecureBootKeyReset::Default, "replaced by those it was delivered with"),
                KeysArg::DeleteAll => (SecureBootKeyReset::DeleteAll, "deleted"),
            };
            session.confirm(&format!("all Secure Boot keys of {name} will be {what}"))?;
            let request = ResetNodeSecureBootKeysRequest { name, reset: reset.into() };
            let keys = call!(link, NodeBmcServiceClient, reset_node_secure_boot_keys, slow request)?;
            session.say("where it is not to be seen yet, it takes effect at the node's next start");
            shown(&keys, session)
        }
    }
}

fn shown(keys: &BmcSecureBootKeys, session: &Session) -> Result<(), Failure> {
    for warning in &keys.warnings {
        session.say(warning);
    }
    session.say(&format!("mode {:?}, by driver {}", keys.mode, keys.driver));
    session.printer.list(&keys.databases)
}
