//! `farrier node capabilities|power-draw|bmc-network|set-bmc-network|watchdog|virtual-media|nmi|identify|reset-bmc NODE`: what a node's BMC can do, and does at once.

use super::Session;
use super::node_act::Switch;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Nodes;
use farrier_proto::rack::{BmcAddressSource, BmcNetworkSettings, MediaAction};
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{
    DisarmNodeWatchdogRequest, IdentifyNodeRequest, InterruptNodeRequest, ReadNodeBmcNetworkRequest,
    ReadNodeCapabilitiesRequest, ReadNodePowerDrawRequest, ReadNodeWatchdogRequest, ResetNodeBmcRequest,
    SetNodeBmcNetworkRequest, UseNodeVirtualMediaRequest,
};
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Shows what can be asked of the node's BMC, and which driver answers.
    Capabilities {
        /// The node, by its name.
        name: String,
    },
    /// Shows how much power the node draws.
    PowerDraw {
        /// The node, by its name.
        name: String,
    },
    /// Shows how the node's BMC itself is in the network.
    BmcNetwork {
        /// The node, by its name.
        name: String,
    },
    /// Changes how the node's BMC itself is in the network; what is not said stays. The node's `--bmc-address` follows where the
    /// BMC is seen at its new address.
    SetBmcNetwork {
        /// The node, by its name.
        name: String,
        /// A static address with its network, such as 192.0.2.7/24.
        #[arg(long, value_name = "IP/PREFIX", conflicts_with = "dhcp")]
        address: Option<String>,
        /// With `--address`: the way out of its network.
        #[arg(long, value_name = "IP", requires = "address")]
        gateway: Option<String>,
        /// The address is from a DHCP server.
        #[arg(long)]
        dhcp: bool,
        /// The VLAN that its frames are tagged with; `none`: they are not.
        #[arg(long, value_name = "VLAN", value_parser = vlan)]
        vlan: Option<i32>,
        /// The interface, as `bmc-network` names it; without it the one that the BMC is asked through.
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
    },
    /// Shows the watchdog timer of the node's BMC, or stops it: what has set it may start it again.
    Watchdog {
        /// What to do.
        #[arg(value_enum)]
        action: WatchdogArg,
        /// The node, by its name.
        name: String,
    },
    /// Looks into the node's virtual CD drive, or changes what is in it.
    VirtualMedia {
        /// What to do.
        #[arg(value_enum)]
        action: MediaArg,
        /// The node, by its name.
        name: String,
        /// With `insert`: where the BMC reads the image from, `http://` or `https://`.
        #[arg(long, value_name = "URL", required_if_eq("action", "insert"))]
        url: Option<String>,
        /// With `insert`: boot from it the next time the node starts, and not after that.
        #[arg(long, requires = "url")]
        boot_once: bool,
        /// Change it though an operation works on the node.
        #[arg(long)]
        force: bool,
    },
    /// Sends the node a diagnostic interrupt (NMI): an operating system that hangs then writes down why.
    Nmi {
        /// The node, by its name.
        name: String,
        /// Also while an operation works on the node.
        #[arg(long)]
        force: bool,
    },
    /// Switches the node's locator LED, so that it can be found in its rack.
    Identify {
        /// On or off.
        #[arg(value_enum)]
        switch: Switch,
        /// The node, by its name.
        name: String,
        /// With `on`: for so long, at most 255 s, then off. Over IPMI; Redfish has no such thing.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        lasts: Option<i32>,
    },
    /// Restarts the node's BMC; the node keeps running.
    ResetBmc {
        /// The node, by its name.
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchdogArg {
    Show,
    Disarm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MediaArg {
    Show,
    Insert,
    Eject,
}

fn vlan(text: &str) -> Result<i32, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(0),
        (_, Ok(id @ 1..=4094)) => Ok(id),
        _ => Err(format!("expected 1 to 4094, or none, saw {text:?}")),
    }
}

/// Address and mask of `192.0.2.7/24`.
fn network(text: &str) -> Result<(String, String), Failure> {
    let parts = text.split_once('/').and_then(|(ip, prefix)| Some((ip, prefix.parse::<u32>().ok()?)));
    let Some((ip, prefix @ 1..=30)) = parts else {
        return Err(Failure::usage(format!(
            "--address: expected an address and its network's bits, such as 192.0.2.7/24, saw {text:?}"
        )));
    };
    Ok((ip.to_owned(), Ipv4Addr::from(u32::MAX << (32 - prefix)).to_string()))
}

/// `30s`, `2m` or a number of seconds.
fn seconds(text: &str) -> Result<i32, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number.parse().ok().and_then(|number: i32| number.checked_mul(unit));
    seconds
        .filter(|seconds| (1..=255).contains(seconds))
        .ok_or_else(|| format!("expected 1s to 255s, such as 30s or 2m, saw {text:?}"))
}

pub async fn run(ask: Ask, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match ask {
        Ask::Capabilities { name } => {
            let request = ReadNodeCapabilitiesRequest { name: full(Nodes, &name)? };
            let read = call!(link, NodeBmcServiceClient, read_node_capabilities, slow request)?;
            if !read.passed_over.is_empty() {
                session.say(&format!("another driver does not work: {}", read.passed_over));
            }
            session.printer.list(&read.capabilities)
        }
        Ask::PowerDraw { name } => {
            let request = ReadNodePowerDrawRequest { name: full(Nodes, &name)? };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_power_draw, slow request)?)
        }
        Ask::BmcNetwork { name } => {
            let request = ReadNodeBmcNetworkRequest { name: full(Nodes, &name)? };
            let read = call!(link, NodeBmcServiceClient, read_node_bmc_network, slow request)?;
            for warning in &read.warnings {
                session.say(warning);
            }
            session.printer.list(&read.interfaces)
        }
        Ask::SetBmcNetwork { name, address, gateway, dhcp, vlan, interface } => {
            let name = full(Nodes, &name)?;
            let mut settings = BmcNetworkSettings {
                interface: interface.unwrap_or_default(),
                gateway: gateway.unwrap_or_default(),
                vlan_id: vlan,
                ..BmcNetworkSettings::default()
            };
            match address {
                Some(address) => {
                    (settings.address, settings.subnet_mask) = network(&address)?;
                    settings.set_source(BmcAddressSource::Static);
                }
                None if dhcp => settings.set_source(BmcAddressSource::Dhcp),
                None if vlan.is_none() => return Err(Failure::usage("expected --address, --dhcp or --vlan")),
                None => {}
            }
            session
                .confirm(&format!("the BMC of {name} changes its network, and may be out of reach then"))?;
            let request = SetNodeBmcNetworkRequest { name: name.clone(), settings: Some(settings) };
            let done = call!(link, NodeBmcServiceClient, set_node_bmc_network, slow request)?;
            let change = done.change.unwrap_or_default();
            if !done.node_address.is_empty() {
                session.say(&format!("{name}: its BMC is reached at {} now", done.node_address));
            }
            // Sent, and not seen: whoever goes on as if it were done loses the BMC.
            if change.interface.is_none() && !change.next.is_empty() {
                return Err(Failure::refused(change.next).about_node(&name));
            }
            if !change.next.is_empty() {
                session.say(&change.next);
            }
            session.printer.list(change.interface.as_slice())
        }
        Ask::Watchdog { action, name } => {
            let name = full(Nodes, &name)?;
            session.printer.one(&match action {
                WatchdogArg::Show => {
                    let request = ReadNodeWatchdogRequest { name };
                    call!(link, NodeBmcServiceClient, read_node_watchdog, slow request)?
                }
                WatchdogArg::Disarm => {
                    let request = DisarmNodeWatchdogRequest { name };
                    call!(link, NodeBmcServiceClient, disarm_node_watchdog, slow request)?
                }
            })
        }
        Ask::VirtualMedia { action, name, url, boot_once, force } => {
            let action = match action {
                MediaArg::Show => MediaAction::Show,
                MediaArg::Insert => MediaAction::Insert,
                MediaArg::Eject => MediaAction::Eject,
            };
            let request = UseNodeVirtualMediaRequest {
                name: full(Nodes, &name)?,
                action: action.into(),
                image_url: url.unwrap_or_default(),
                boot_once,
                force,
            };
            session.printer.one(
                &call!(link, NodeBmcServiceClient, use_node_virtual_media, slow request)
                    .map_err(|failure| while_busy(failure, force))?,
            )
        }
        Ask::Nmi { name, force } => {
            let name = full(Nodes, &name)?;
            session
                .confirm(&format!("{name} gets a diagnostic interrupt: its system may crash or restart"))?;
            let request = InterruptNodeRequest { name: name.clone(), force };
            let done = call!(link, NodeBmcServiceClient, interrupt_node, slow request)
                .map_err(|failure| while_busy(failure, force))?;
            session.say(&format!("{name} got a diagnostic interrupt, by driver {}", done.driver));
            Ok(())
        }
        Ask::Identify { switch, name, lasts } => {
            let name = full(Nodes, &name)?;
            let on = switch == Switch::On;
            if !on && lasts.is_some() {
                return Err(Failure::usage("--for goes with `identify on`"));
            }
            let request = IdentifyNodeRequest { name: name.clone(), on, seconds: lasts.unwrap_or_default() };
            let done = call!(link, NodeBmcServiceClient, identify_node, slow request)?;
            let state = if on { "on" } else { "off" };
            session.say(&format!("the locator LED of {name} is {state}, by driver {}", done.driver));
            Ok(())
        }
        Ask::ResetBmc { name } => {
            let name = full(Nodes, &name)?;
            session.confirm(&format!("the BMC of {name} will be away for a minute or more"))?;
            let request = ResetNodeBmcRequest { name: name.clone() };
            let done = call!(link, NodeBmcServiceClient, reset_node_bmc, slow request)?;
            session.say(&format!("the BMC of {name} restarts, by driver {}", done.driver));
            Ok(())
        }
    }
}

/// What may be done to a node at work all the same.
fn while_busy(failure: Failure, force: bool) -> Failure {
    let busy = !force && failure.reason.as_deref() == Some("NODE_BUSY");
    if busy {
        failure.next("`--force` does it all the same: what is at work may fail by it")
    } else {
        failure
    }
}
