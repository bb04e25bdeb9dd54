//! `farrier flavor …`. Flavors are immutable: there is no update.

use super::Session;
use crate::args::{EtagArg, ListArgs, key_value};
use crate::client::request_id;
use crate::failure::Failure;
use crate::names::full;
use crate::{call, list};
use clap::Subcommand;
use farrier_model::Collection::Flavors;
use farrier_model::size;
use farrier_proto::inventory::flavor_service_client::FlavorServiceClient;
use farrier_proto::inventory::{
    CreateFlavorRequest, DeleteFlavorRequest, Flavor, GetFlavorRequest, ListFlavorsRequest,
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes a flavor: what is left out is not asked for.
    Create {
        /// The flavor, by its name.
        name: String,
        /// Text for people.
        #[arg(long)]
        description: Option<String>,
        /// `x86_64` or `aarch64`.
        #[arg(long)]
        arch: Option<String>,
        /// At least this many hardware threads.
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = cpus)]
        cpus: i32,
        /// At least this much memory, for example 64GiB.
        #[arg(long, value_name = "SIZE", value_parser = size::parse)]
        memory: Option<i64>,
        /// At least one disk of this size, for example 480GB.
        #[arg(long, value_name = "SIZE", value_parser = size::parse)]
        disk: Option<i64>,
        /// Exactly this resource class.
        #[arg(long, value_name = "CLASS")]
        resource_class: Option<String>,
        /// Repeat for more.
        #[arg(long = "trait", value_name = "TRAIT")]
        traits: Vec<String>,
        /// Only nodes with this label; repeat for more.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
        labels: Vec<(String, String)>,
    },
    /// Shows one flavor.
    Get {
        /// The flavor, by its name.
        name: String,
    },
    /// Lists flavors.
    List(ListArgs),
    /// Removes a flavor; instances that have it stay.
    Delete {
        /// The flavor, by its name.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
    },
}

fn cpus(text: &str) -> Result<i32, String> {
    crate::args::count(text, "hardware threads", 0)
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    match verb {
        Verb::Create { name, description, arch, cpus, memory, disk, resource_class, traits, labels } => {
            let flavor = Flavor {
                name: full(Flavors, &name)?,
                description: description.unwrap_or_default(),
                architecture: arch.unwrap_or_default(),
                cpu_count: cpus,
                memory_bytes: memory.unwrap_or_default(),
                disk_bytes: disk.unwrap_or_default(),
                resource_class: resource_class.unwrap_or_default(),
                traits,
                labels: labels.into_iter().collect(),
                ..Flavor::default()
            };
            let request =
                CreateFlavorRequest { flavor: Some(flavor), request_id: request_id(), validate_only: false };
            session.printer.one(&call!(link, FlavorServiceClient, create_flavor, request)?)
        }
        Verb::Get { name } => {
            let name = full(Flavors, &name)?;
            session.printer.one(&call!(link, FlavorServiceClient, get_flavor, GetFlavorRequest { name })?)
        }
        Verb::List(args) => {
            let filter = args.filter_with([]);
            let flavors = list!(
                link,
                FlavorServiceClient,
                list_flavors,
                ListFlavorsRequest {},
                flavors,
                args.limit,
                filter
            )?;
            session.printer.list(&flavors)
        }
        Verb::Delete { name, etag } => {
            let name = full(Flavors, &name)?;
            session.confirm(&format!("{name} will be deleted"))?;
            let request = DeleteFlavorRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, FlavorServiceClient, delete_flavor, request)?;
            session.say(&format!("{name} deleted"));
            Ok(())
        }
    }
}
