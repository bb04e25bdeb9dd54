//! `farrier rack …`

use super::{LabelArgs, Session, boot_events, mask, rack_dhcp, set};
use crate::args::{EtagArg, ListArgs, key_value};
use crate::client::{Link, request_id};
use crate::failure::Failure;
use crate::names::{full, full_or_empty, mac, short};
use crate::output::{Format, emit};
use crate::{call, list};
use clap::Subcommand;
use farrier_model::Collection::{Nodes, Racks, Sites};
use farrier_proto::inventory::join_service_client::JoinServiceClient;
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::{
    CreateJoinTokenRequest, CreateRackRequest, DeleteRackRequest, GetRackRequest, ListRacksRequest, Rack,
    UpdateRackRequest,
};
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::{GetRackStatusRequest, ListVolumesRequest, Volume};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes a rack in a site.
    Create {
        /// The rack, by its name.
        name: String,
        /// The site it is in, by its name.
        #[arg(long)]
        site: String,
        /// Where the centre reaches rackd, `https://host:port`.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
        /// Text for people.
        #[arg(long)]
        description: Option<String>,
        /// Repeat for more.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
        labels: Vec<(String, String)>,
    },
    /// Shows one rack.
    Get {
        /// The rack, by its name.
        name: String,
    },
    /// Lists racks.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only those of this site.
        #[arg(long)]
        site: Option<String>,
    },
    /// Changes the fields that are named.
    Update {
        /// The rack, by its name.
        name: String,
        /// Where the centre reaches rackd, `https://host:port`.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
        /// Text for people.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        labels: LabelArgs,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Removes a rack that has no nodes.
    Delete {
        /// The rack, by its name.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Makes a one-time token with which a new rackd joins. Shown once.
    JoinToken {
        /// The rack it is in, by its name.
        rack: String,
        /// Seconds it may be used [default: the server's, 3600].
        #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true, value_parser = seconds)]
        valid_seconds: i32,
    },
    /// Shows the addresses of the rack's machines.
    Dhcp {
        #[command(subcommand)]
        verb: rack_dhcp::Verb,
    },
    /// Shows the packets seen from any machine, oldest first, also from one that is no node yet: why does it not boot?
    BootTrace {
        /// The rack, by its name.
        name: String,
        /// The machine's port: EUI-48, with colons or hyphens.
        mac: String,
        /// And then what happens, until it is interrupted.
        #[arg(long, short)]
        follow: bool,
        /// rackd's address, instead of the one that inventory has.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
    /// Lists the disks of the rack's diskless instances, and how much of their images is there.
    Volumes {
        /// The rack, by its name.
        name: String,
        /// Only of this node.
        #[arg(long)]
        node: Option<String>,
        /// rackd's address, instead of the one that inventory has.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
    /// Asks the rack's daemon what it serves.
    Status {
        /// The rack, by its name.
        name: String,
        /// rackd's address, instead of the one that inventory has.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
}

fn seconds(text: &str) -> Result<i32, String> {
    crate::args::count(text, "seconds", 0)
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Create { name, site, address, description, labels } => {
            let link = session.services.inventory()?;
            let rack = Rack {
                name: full(Racks, &name)?,
                site: full(Sites, &site)?,
                address: address.unwrap_or_default(),
                description: description.unwrap_or_default(),
                labels: labels.into_iter().collect(),
                ..Rack::default()
            };
            let request =
                CreateRackRequest { rack: Some(rack), request_id: request_id(), validate_only: false };
            session.printer.one(&call!(link, RackRegistryServiceClient, create_rack, request)?)
        }
        Verb::Get { name } => {
            let link = session.services.inventory()?;
            session.printer.one(&get(&link, &full(Racks, &name)?).await?)
        }
        Verb::List { args, site } => {
            let link = session.services.inventory()?;
            let site = site.map(|site| full(Sites, &site)).transpose()?;
            let filter = args.filter_with(site.map(|site| format!("site={site}")));
            let racks = list!(
                link,
                RackRegistryServiceClient,
                list_racks,
                ListRacksRequest {},
                racks,
                args.limit,
                filter
            )?;
            session.printer.list(&racks)
        }
        Verb::Update { name, address, description, labels, etag } => {
            let link = session.services.inventory()?;
            let name = full(Racks, &name)?;
            let mut paths = Vec::new();
            let mut rack =
                Rack { name: name.clone(), etag: etag.etag.unwrap_or_default(), ..Rack::default() };
            if !labels.is_empty() {
                // Labels are written whole: what is changed is what was read, or nothing.
                let read = get(&link, &name).await?;
                rack.labels = read.labels;
                if rack.etag.is_empty() {
                    rack.etag = read.etag;
                }
                labels.apply(&mut rack.labels);
                paths.push("labels");
            }
            set(&mut paths, "address", &mut rack.address, address);
            set(&mut paths, "description", &mut rack.description, description);
            let request = UpdateRackRequest { rack: Some(rack), update_mask: mask(paths)? };
            session.printer.one(&call!(link, RackRegistryServiceClient, update_rack, request)?)
        }
        Verb::Delete { name, etag } => {
            let link = session.services.inventory()?;
            let name = full(Racks, &name)?;
            session.confirm(&format!("{name} will be deleted"))?;
            let request = DeleteRackRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, RackRegistryServiceClient, delete_rack, request)?;
            session.say(&format!("{name} deleted"));
            Ok(())
        }
        Verb::JoinToken { rack, valid_seconds } => {
            let link = session.services.inventory()?;
            let request = CreateJoinTokenRequest { rack: full(Racks, &rack)?, valid_seconds };
            let token = call!(link, JoinServiceClient, create_join_token, request)?;
            if session.printer.format != Format::Table {
                return session.printer.one(&token);
            }
            // The bare token, so that `$(farrier rack join-token r1)` is all a script needs.
            emit(&format!("{}\n", token.token))?;
            let until =
                token.expire_time.as_ref().and_then(crate::output::value::rfc3339).unwrap_or_default();
            session.say(&format!("give it to `rackd join`; it works once, until {until}"));
            Ok(())
        }
        Verb::Dhcp { verb } => rack_dhcp::run(verb, session).await,
        Verb::BootTrace { name, mac: port, follow, address } => {
            let (name, macs) = (full(Racks, &name)?, vec![mac(&port)?]);
            let link = daemon(session, &name, address).await?;
            let seen_of = boot_events::SeenOf { rack: &name, who: "it", macs };
            boot_events::trace(session, &link, seen_of, follow).await
        }
        Verb::Volumes { name, node, address } => {
            let (name, node) = (full(Racks, &name)?, full_or_empty(Nodes, node.as_deref())?);
            let link = daemon(session, &name, address).await?;
            session.printer.list(&volumes(&link, node).await?)
        }
        Verb::Status { name, address } => {
            let name = full(Racks, &name)?;
            let link = daemon(session, &name, address).await?;
            session.printer.one(&call!(link, RackServiceClient, get_rack_status, GetRackStatusRequest {})?)
        }
    }
}

/// A link to the daemon of `racks/…`, at `address` or where inventory says it is.
pub async fn daemon(session: &Session, name: &str, address: Option<String>) -> Result<Link, Failure> {
    if let Some(address) = address {
        return session.services.rack(short(name), &address, "--address");
    }
    let rack = get(&session.services.inventory()?, name).await?;
    session.services.rack(short(name), &rack.address, &format!("{name} in inventory"))
}

/// The disks that a rack's daemon has for a node, for all nodes when it is empty.
pub async fn volumes(link: &Link, node: String) -> Result<Vec<Volume>, Failure> {
    Ok(call!(link, RackServiceClient, list_volumes, ListVolumesRequest { node })?.volumes)
}

async fn get(link: &Link, name: &str) -> Result<Rack, Failure> {
    call!(link, RackRegistryServiceClient, get_rack, GetRackRequest { name: name.to_owned() })
}
