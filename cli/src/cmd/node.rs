//! `farrier node …`: describing nodes. What is done to them is in [`super::node_act`].

use super::node_act::Act;
use super::{LabelArgs, Session, boot_events, mask, set};
use crate::args::{EtagArg, ListArgs, key_value};
use crate::client::{Link, request_id};
use crate::failure::Failure;
use crate::names::{full, mac, short};
use crate::{call, list, prompt};
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::{Nodes, Racks};
use farrier_model::lifecycle::State;
use farrier_model::size;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::{
    Bmc, CreateNodeRequest, DeleteNodeRequest, GetNodeRequest, ListNodesRequest, Node, PowerPolicy,
    UpdateNodeRequest,
};
use farrier_proto::types::{BootInterface, BootMode, RootDeviceHints};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Enrols a server.
    Create {
        /// The node, by its name.
        name: String,
        /// The rack it is in, by its name.
        #[arg(long)]
        rack: String,
        #[command(flatten)]
        fields: Box<Fields>,
        /// Repeat for more.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
        labels: Vec<(String, String)>,
    },
    /// Shows one node.
    Get {
        /// The node, by its name.
        name: String,
    },
    /// Lists nodes.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only those in this state, for example `active` or `deploy-failed`.
        #[arg(long, value_parser = state)]
        state: Option<State>,
        /// Only those of this rack.
        #[arg(long)]
        rack: Option<String>,
    },
    /// Changes the fields that are named.
    Update {
        /// The node, by its name.
        name: String,
        #[command(flatten)]
        fields: Box<Fields>,
        #[command(flatten)]
        labels: LabelArgs,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Forgets a node.
    Delete {
        /// The node, by its name.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Says why the node is where it is, and what can be done.
    Explain {
        /// The node, by its name.
        name: String,
    },
    /// Shows the packets seen from the node, oldest first: why does it not boot?
    BootTrace {
        /// The node, by its name.
        name: String,
        /// Only of this port; all ports of the node when left out.
        #[arg(long)]
        mac: Option<String>,
        /// And then what happens, until it is interrupted.
        #[arg(long, short)]
        follow: bool,
        /// rackd's address, instead of the one that inventory has.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
    /// Shows the serial console of a node, or what it said before.
    Console(super::node_console::Args),
    /// Shows a log of the node's BMC, oldest first: the System Event Log when none is named.
    Sel(super::node_sel::Args),
    /// Shows what the BMC knows of its machine: model, serial number, firmware, NICs, disks.
    Inventory(super::node_inventory::Args),
    /// Shows what the node's sensors say now: temperatures, voltages, fans, power.
    Sensors(super::node_sensors::Args),
    /// Shows and changes the settings of the node's BIOS or UEFI.
    #[command(subcommand)]
    Bios(super::node_bios::Verb),
    /// Shows and sets what the node starts from.
    #[command(subcommand)]
    BootDevice(super::node_boot::Verb),
    /// Shows and sets in which mode the node's firmware starts, BIOS or UEFI.
    #[command(subcommand)]
    BootMode(super::node_boot_mode::Verb),
    /// Shows and sets in which order the node's firmware tries what it can start from.
    #[command(subcommand)]
    BootOrder(super::node_boot_order::Verb),
    /// Shows and sets UEFI Secure Boot in the node's firmware, and its keys.
    #[command(subcommand)]
    SecureBoot(super::node_secure_boot::Verb),
    /// Shows and updates the node's firmware.
    #[command(subcommand)]
    Firmware(super::node_firmware::Verb),
    /// Exports and imports all that a Dell is set to (Server Configuration Profile).
    #[command(subcommand)]
    Profile(super::node_profile::Verb),
    /// Shows and sets the VLANs of the node's NICs, where its chassis is their switch (SeaMicro).
    #[command(subcommand)]
    Vlans(super::node_chassis::VlansVerb),
    /// Makes volumes of the node's chassis, and gives the node its first disk (SeaMicro).
    #[command(subcommand)]
    Volume(super::node_chassis::VolumeVerb),
    #[command(flatten)]
    Bmc(super::node_bmc::Ask),
    #[command(flatten)]
    Act(Act),
}

/// What is known of a node: the same for `create` and `update`.
#[derive(Debug, clap::Args)]
pub struct Fields {
    /// Text for people.
    #[arg(long)]
    description: Option<String>,
    /// Lowest rack unit it fills.
    #[arg(long, value_name = "U", value_parser = rack_unit)]
    rack_unit: Option<i32>,
    /// `ipmi`, `redfish`, `ilo` or `idrac` (Redfish of that vendor), `seamicro`, `manual`, `fake`, or `auto`: Redfish
    /// where the BMC answers it, else IPMI.
    #[arg(long, value_name = "DRIVER")]
    bmc_driver: Option<String>,
    /// `host` or `host:port`; the port is the protocol's when left out.
    #[arg(long, value_name = "ADDRESS")]
    bmc_address: Option<String>,
    /// Account of the BMC that Farrier uses.
    #[arg(long, value_name = "USER")]
    bmc_user: Option<String>,
    /// File with the password on its first line, `-` for stdin [env: FARRIER_BMC_PASSWORD holds the password].
    #[arg(long, value_name = "FILE")]
    bmc_password_file: Option<PathBuf>,
    /// IPMI: file with the BMC's own key (Kg) on its first line, for BMCs that ask for two: text, or `0x` and hexadecimal
    /// digits; `0x` alone: none any more. `-` for stdin.
    #[arg(long, value_name = "FILE")]
    bmc_kg_file: Option<PathBuf>,
    /// The password is one that the machine came with: `manage` gives the BMC another. False when a password is given
    /// without this.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    bmc_default_password: Option<bool>,
    /// IPMI: 17 or 3; the best that the BMC offers when left out.
    #[arg(long, value_name = "N", value_parser = cipher_suite)]
    bmc_cipher_suite: Option<i32>,
    /// Redfish, SeaMicro: `https`, or `http` for a BMC without TLS on a network that nobody else can reach.
    #[arg(long, value_name = "SCHEME")]
    bmc_scheme: Option<String>,
    /// Redfish: SHA-256 of the BMC's certificate, which alone is then trusted. A refusal tells what it saw. Empty:
    /// none.
    #[arg(long, value_name = "SHA256")]
    bmc_certificate_sha256: Option<String>,
    /// Redfish: fingerprint of the host key of the BMC's SSH, `SHA256:…`, to which alone the console over SSH is opened. A
    /// refusal tells what it saw. Empty: none.
    #[arg(long, value_name = "FINGERPRINT")]
    bmc_ssh_host_key_sha256: Option<String>,
    /// Redfish: PEM file of the authorities that sign the BMC's certificate.
    #[arg(long, value_name = "FILE")]
    bmc_ca_file: Option<PathBuf>,
    /// Redfish: id or path of the system, where a BMC has several. SeaMicro: the server in the chassis, `0/0`.
    #[arg(long, value_name = "SYSTEM")]
    bmc_system: Option<String>,
    /// How the firmware boots; from the inspection when left out.
    #[arg(long, value_enum)]
    boot_mode: Option<BootModeArg>,
    /// How the ramdisk comes onto the machine: from the network, or from a CD that the BMC pretends (Redfish).
    #[arg(long, value_enum)]
    boot_interface: Option<BootInterfaceArg>,
    /// Its UEFI runs signed programs only, so that shim and GRUB boot it; set too by an inspection that sees it.
    #[arg(long, value_name = "BOOL")]
    secure_boot: Option<bool>,
    /// What is done when somebody else switches it: `report` tells it, `keep` puts the power back as Farrier left it, at most
    /// three times in a day, but switches no node on whose last work failed.
    #[arg(long, value_enum)]
    power_policy: Option<PowerPolicyArg>,
    /// `x86_64` or `aarch64`; from the inspection when left out.
    #[arg(long)]
    arch: Option<String>,
    /// Kind of machine, for flavors that ask for exactly this one.
    #[arg(long, value_name = "CLASS")]
    resource_class: Option<String>,
    /// Replaces all traits; repeat for more.
    #[arg(long = "trait", value_name = "TRAIT")]
    traits: Vec<String>,
    /// Project that owns it.
    #[arg(long, value_name = "PROJECT")]
    owner: Option<String>,
    /// Which disk takes the operating system: name, serial_number, wwn, model, min_size, rotational or
    /// by_path. Replaces all hints; repeat for more.
    #[arg(long = "root-device", value_name = "HINT=VALUE", value_parser = key_value)]
    root_device: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootModeArg {
    Bios,
    Uefi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootInterfaceArg {
    Network,
    VirtualMedia,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PowerPolicyArg {
    Report,
    Keep,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Create { name, rack, fields, labels } => {
            let mut node = Node {
                name: full(Nodes, &name)?,
                rack: full(Racks, &rack)?,
                labels: labels.into_iter().collect(),
                ..Node::default()
            };
            fields.apply(&mut node, session.env.bmc_password.as_deref())?;
            let link = session.services.inventory()?;
            let request =
                CreateNodeRequest { node: Some(node), request_id: request_id(), validate_only: false };
            session.printer.one(&call!(link, NodeServiceClient, create_node, request)?)
        }
        Verb::Get { name } => {
            let link = session.services.inventory()?;
            session.printer.one(&get(&link, &full(Nodes, &name)?).await?)
        }
        Verb::List { args, state, rack } => {
            let link = session.services.inventory()?;
            let rack = rack.map(|rack| full(Racks, &rack)).transpose()?.map(|rack| format!("rack={rack}"));
            let filter = args.filter_with(state.map(|s| format!("state=\"{s}\"")).into_iter().chain(rack));
            let nodes =
                list!(link, NodeServiceClient, list_nodes, ListNodesRequest {}, nodes, args.limit, filter)?;
            session.printer.list(&nodes)
        }
        Verb::Update { name, fields, labels, etag } => {
            let link = session.services.inventory()?;
            let mut node =
                Node { name: full(Nodes, &name)?, etag: etag.etag.unwrap_or_default(), ..Node::default() };
            // The BMC and the labels are written whole: what is changed is what was read, or nothing.
            if fields.touches_bmc() || !labels.is_empty() {
                let read = get(&link, &node.name).await?;
                node.bmc = read.bmc;
                node.labels = read.labels;
                if node.etag.is_empty() {
                    node.etag = read.etag;
                }
            }
            // The variable may be exported for a `create`: here the password is only changed by its flag,
            // or together with the rest of the BMC.
            let password = session.env.bmc_password.as_deref().filter(|_| fields.touches_bmc());
            let mut paths = fields.apply(&mut node, password)?;
            if !labels.is_empty() {
                labels.apply(&mut node.labels);
                paths.push("labels");
            }
            let request = UpdateNodeRequest { node: Some(node), update_mask: mask(paths)? };
            session.printer.one(&call!(link, NodeServiceClient, update_node, request)?)
        }
        Verb::Delete { name, etag } => {
            let link = session.services.inventory()?;
            let name = full(Nodes, &name)?;
            session.confirm(&format!("{name} will be deleted"))?;
            let request = DeleteNodeRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, NodeServiceClient, delete_node, request)?;
            session.say(&format!("{name} deleted"));
            Ok(())
        }
        Verb::Explain { name } => super::explain::run(session, &name).await,
        Verb::BootTrace { name, mac, follow, address } => {
            boot_trace(session, &name, mac, follow, address).await
        }
        Verb::Console(args) => super::node_console::run(args, session).await,
        Verb::Sel(args) => super::node_sel::run(args, session).await,
        Verb::Inventory(args) => super::node_inventory::run(args, session).await,
        Verb::Sensors(args) => super::node_sensors::run(args, session).await,
        Verb::Bios(verb) => super::node_bios::run(verb, session).await,
        Verb::BootDevice(verb) => super::node_boot::run(verb, session).await,
        Verb::BootMode(verb) => super::node_boot_mode::run(verb, session).await,
        Verb::BootOrder(verb) => super::node_boot_order::run(verb, session).await,
        Verb::Profile(verb) => super::node_profile::run(verb, session).await,
        Verb::SecureBoot(verb) => super::node_secure_boot::run(verb, session).await,
        Verb::Firmware(verb) => super::node_firmware::run(verb, session).await,
        Verb::Vlans(verb) => super::node_chassis::vlans(verb, session).await,
        Verb::Volume(verb) => super::node_chassis::volume(verb, session).await,
        Verb::Bmc(ask) => super::node_bmc::run(ask, session).await,
        Verb::Act(act) => super::node_act::run(act, session).await,
    }
}

/// The node as it is now.
pub async fn get(link: &Link, name: &str) -> Result<Node, Failure> {
    call!(link, NodeServiceClient, get_node, GetNodeRequest { name: name.to_owned() })
}

async fn boot_trace(
    session: &Session,
    name: &str,
    only: Option<String>,
    follow: bool,
    address: Option<String>,
) -> Result<(), Failure> {
    let name = full(Nodes, name)?;
    let (macs, rack_name, rack) = match (only, address) {
        // Both are said: inventory is not asked, which may be away.
        (Some(only), Some(address)) => {
            let rack = session.services.any(&address)?;
            (vec![mac(&only)?], format!("rackd at {address}"), rack)
        }
        (only, address) => {
            let inventory = session.services.inventory()?;
            let node = get(&inventory, &name).await?;
            let macs: Vec<String> = match only {
                Some(only) => vec![mac(&only)?],
                None => {
                    let ports = super::port::ports(&inventory, None, format!("node={name}")).await?;
                    ports.into_iter().map(|port| port.mac_address).collect()
                }
            };
            if macs.is_empty() {
                return Err(Failure::refused(format!("{name} has no ports"))
                    .next(format!("`farrier port create MAC --node {}`, or --mac here", short(&name))));
            }
            let rack = super::rack::daemon(session, &node.rack, address).await?;
            (macs, node.rack, rack)
        }
    };
    let seen_of = boot_events::SeenOf { rack: &rack_name, who: &name, macs };
    boot_events::trace(session, &rack, seen_of, follow).await
}

impl Fields {
    fn touches_bmc(&self) -> bool {
        self.bmc_driver.is_some()
            || self.bmc_address.is_some()
            || self.bmc_user.is_some()
            || self.bmc_password_file.is_some()
            || self.bmc_kg_file.is_some()
            || self.bmc_default_password.is_some()
            || self.bmc_cipher_suite.is_some()
            || self.bmc_scheme.is_some()
            || self.bmc_certificate_sha256.is_some()
            || self.bmc_ssh_host_key_sha256.is_some()
            || self.bmc_ca_file.is_some()
            || self.bmc_system.is_some()
    }

    /// Writes what was typed into the node; returns the mask fields it touched.
    pub(super) fn apply(
        &self,
        node: &mut Node,
        password: Option<&str>,
    ) -> Result<Vec<&'static str>, Failure> {
        let mut paths = Vec::new();
        let password = prompt::secret(self.bmc_password_file.as_deref(), password)?;
        let kg = prompt::secret(self.bmc_kg_file.as_deref(), None)?;
        let ca_pem = self.bmc_ca_file.as_deref().map(read_text).transpose()?;
        if self.touches_bmc() || password.is_some() {
            let bmc = node.bmc.get_or_insert_with(Bmc::default);
            for (field, flag) in [
                (&mut bmc.driver, &self.bmc_driver),
                (&mut bmc.address, &self.bmc_address),
                (&mut bmc.user, &self.bmc_user),
                (&mut bmc.password, &password),
                (&mut bmc.kg, &kg),
                (&mut bmc.scheme, &self.bmc_scheme),
                (&mut bmc.certificate_sha256, &self.bmc_certificate_sha256),
                (&mut bmc.ssh_host_key_sha256, &self.bmc_ssh_host_key_sha256),
                (&mut bmc.ca_pem, &ca_pem),
                (&mut bmc.system, &self.bmc_system),
            ] {
                if let Some(value) = flag {
                    field.clone_from(value);
                }
            }
            if let Some(is_default) = self.bmc_default_password.or(password.as_ref().map(|_| false)) {
                bmc.default_password = is_default;
            }
            if let Some(suite) = self.bmc_cipher_suite {
                bmc.cipher_suite = suite;
            }
            paths.push("bmc");
        }
        set(&mut paths, "description", &mut node.description, self.description.clone());
        set(&mut paths, "rack_unit", &mut node.rack_unit, self.rack_unit);
        set(&mut paths, "boot_mode", &mut node.boot_mode, self.boot_mode.map(|m| BootMode::from(m).into()));
        let interface = self.boot_interface.map(|i| BootInterface::from(i).into());
        set(&mut paths, "boot_interface", &mut node.boot_interface, interface);
        set(&mut paths, "secure_boot", &mut node.secure_boot, self.secure_boot);
        let policy = self.power_policy.map(|p| PowerPolicy::from(p).into());
        set(&mut paths, "power_policy", &mut node.power_policy, policy);
        set(&mut paths, "architecture", &mut node.architecture, self.arch.clone());
        set(&mut paths, "resource_class", &mut node.resource_class, self.resource_class.clone());
        set(&mut paths, "traits", &mut node.traits, Some(self.traits.clone()).filter(|t| !t.is_empty()));
        set(&mut paths, "owner", &mut node.owner, self.owner.clone());
        if !self.root_device.is_empty() {
            node.root_device = Some(root_device(&self.root_device)?);
            paths.push("root_device");
        }
        Ok(paths)
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn root_device(typed: &[(String, String)]) -> Result<RootDeviceHints, Failure> {
    let mut hints = RootDeviceHints::default();
    for (key, value) in typed {
        match key.as_str() {
            "name" => hints.name.clone_from(value),
            "serial_number" => hints.serial_number.clone_from(value),
            "wwn" => hints.wwn.clone_from(value),
            "model" => hints.model.clone_from(value),
            "by_path" => hints.by_path.clone_from(value),
            "min_size" => hints.min_size_bytes = size::parse(value).map_err(Failure::usage)?,
            "rotational" => {
                let read = value
                    .parse()
                    .map_err(|_| Failure::usage(format!("rotational={value}: expected true or false")));
                hints.rotational = Some(read?);
            }
            _ => return Err(Failure::usage(format!("--root-device {key}: unknown hint, see --help"))),
        }
    }
    Ok(hints)
}

/// `deploy failed`, `deploy-failed` or `deploy_failed`.
fn state(text: &str) -> Result<State, String> {
    text.to_ascii_lowercase().replace(['-', '_'], " ").parse().map_err(|()| {
        let known: Vec<_> = State::ALL.iter().map(|state| state.as_str().replace(' ', "-")).collect();
        format!("expected one of {}", known.join(", "))
    })
}

fn rack_unit(text: &str) -> Result<i32, String> {
    crate::args::count(text, "rack units", 0)
}

fn cipher_suite(text: &str) -> Result<i32, String> {
    match text {
        "17" => Ok(17),
        "3" => Ok(3),
        // 0 would mean "the best on offer" to the API and "no security" to an IPMI reader: not to be typed.
        _ => Err("expected 17 or 3".to_owned()),
    }
}

impl From<BootModeArg> for BootMode {
    fn from(arg: BootModeArg) -> Self {
        match arg {
            BootModeArg::Bios => BootMode::Bios,
            BootModeArg::Uefi => BootMode::Uefi,
        }
    }
}

impl From<BootInterfaceArg> for BootInterface {
    fn from(arg: BootInterfaceArg) -> Self {
        match arg {
            BootInterfaceArg::Network => BootInterface::Network,
            BootInterfaceArg::VirtualMedia => BootInterface::VirtualMedia,
        }
    }
}

impl From<PowerPolicyArg> for PowerPolicy {
    fn from(arg: PowerPolicyArg) -> Self {
        match arg {
            PowerPolicyArg::Report => PowerPolicy::Report,
            PowerPolicyArg::Keep => PowerPolicy::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_in_every_spelling() {
        for text in ["deploy failed", "deploy-failed", "DEPLOY_FAILED"] {
            assert_eq!(state(text), Ok(State::DeployFailed));
        }
        assert!(state("fine").unwrap_err().contains("deploy-failed"));
    }

    #[test]
    fn root_device_hints_are_read() {
        let typed = [("min_size", "100GB"), ("rotational", "false"), ("model", "X")];
        let hints = root_device(&typed.map(|(k, v)| (k.to_owned(), v.to_owned()))).unwrap();
        assert_eq!(
            (hints.min_size_bytes, hints.rotational, hints.model.as_str()),
            (100_000_000_000, Some(false), "X")
        );
        assert!(root_device(&[("size".into(), "1".into())]).is_err());
    }
}
