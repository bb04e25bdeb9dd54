//! `farrier site …`

use super::{LabelArgs, Session, mask, set};
use crate::args::{EtagArg, ListArgs, key_value};
use crate::client::request_id;
use crate::failure::Failure;
use crate::names::full;
use crate::{call, list};
use clap::Subcommand;
use farrier_model::Collection::Sites;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::inventory::{
    CreateSiteRequest, DeleteSiteRequest, GetSiteRequest, ListSitesRequest, Site, UpdateSiteRequest,
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes a site.
    Create {
        /// The site, by its name.
        name: String,
        /// Text for people.
        #[arg(long)]
        description: Option<String>,
        /// Repeat for more.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
        labels: Vec<(String, String)>,
    },
    /// Shows one site.
    Get {
        /// The site, by its name.
        name: String,
    },
    /// Lists sites.
    List(ListArgs),
    /// Changes the fields that are named.
    Update {
        /// The site, by its name.
        name: String,
        /// Text for people.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        labels: LabelArgs,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Removes a site that has no racks.
    Delete {
        /// The site, by its name.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    match verb {
        Verb::Create { name, description, labels } => {
            let site = Site {
                name: full(Sites, &name)?,
                description: description.unwrap_or_default(),
                labels: labels.into_iter().collect(),
                ..Site::default()
            };
            let request =
                CreateSiteRequest { site: Some(site), request_id: request_id(), validate_only: false };
            session.printer.one(&call!(link, SiteServiceClient, create_site, request)?)
        }
        Verb::Get { name } => {
            let name = full(Sites, &name)?;
            session.printer.one(&call!(link, SiteServiceClient, get_site, GetSiteRequest { name })?)
        }
        Verb::List(args) => {
            let filter = args.filter_with([]);
            let sites =
                list!(link, SiteServiceClient, list_sites, ListSitesRequest {}, sites, args.limit, filter)?;
            session.printer.list(&sites)
        }
        Verb::Update { name, description, labels, etag } => {
            let name = full(Sites, &name)?;
            let mut paths = Vec::new();
            let mut site =
                Site { name: name.clone(), etag: etag.etag.unwrap_or_default(), ..Site::default() };
            if !labels.is_empty() {
                // Labels are written whole: what is changed is what was read, or nothing.
                let read = call!(link, SiteServiceClient, get_site, GetSiteRequest { name })?;
                site.labels = read.labels;
                if site.etag.is_empty() {
                    site.etag = read.etag;
                }
                labels.apply(&mut site.labels);
                paths.push("labels");
            }
            set(&mut paths, "description", &mut site.description, description);
            let request = UpdateSiteRequest { site: Some(site), update_mask: mask(paths)? };
            session.printer.one(&call!(link, SiteServiceClient, update_site, request)?)
        }
        Verb::Delete { name, etag } => {
            let name = full(Sites, &name)?;
            session.confirm(&format!("{name} will be deleted"))?;
            let request = DeleteSiteRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, SiteServiceClient, delete_site, request)?;
            session.say(&format!("{name} deleted"));
            Ok(())
        }
    }
}
