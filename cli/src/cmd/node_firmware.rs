//! `farrier node firmware list|update|task NODE`: what has firmware, and other firmware for it.

use super::Session;
use crate::args::WaitArgs;
use crate::call;
use crate::client::request_id;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::{Images, Nodes};
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeBmcTaskRequest, ReadNodeFirmwareRequest, UpdateNodeFirmwareRequest};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows what has firmware, and which.
    List {
        /// The node, by its name.
        name: String,
    },
    /// Has the node's BMC fetch an image and install it, as an operation that has the node meanwhile; many parts take the new
    /// one at the node's next start.
    Update {
        /// The node, by its name.
        name: String,
        /// Where the BMC reads the image from, `http://` or `https://`.
        #[arg(long, value_name = "URL", required_unless_present = "image")]
        url: Option<String>,
        /// Or a file in the catalogue of images, which the node's rack sends to the BMC; it was imported with `--format raw
        /// --compression none`.
        #[arg(long, value_name = "IMAGE", conflicts_with = "url")]
        image: Option<String>,
        /// With `--image`: what the BMC is told that the file is called, where it goes by that; as the image when left out.
        #[arg(long, value_name = "NAME", requires = "image", default_value = "", hide_default_value = true)]
        file_name: String,
        /// The part that it is for, by its id; several are possible. Without one the BMC finds out from the image.
        #[arg(long, value_name = "ID")]
        part: Vec<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Shows how a task of the node's BMC gets on, as an update or a change of BIOS settings told it.
    Task {
        /// The node, by its name.
        name: String,
        /// The task.
        task: String,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::List { name } => {
            let request = ReadNodeFirmwareRequest { name: full(Nodes, &name)? };
            let read = call!(link, NodeBmcServiceClient, read_node_firmware, slow request)?;
            session.say(&format!("{} parts, by driver {}", read.parts.len(), read.driver));
            session.printer.list(&read.parts)
        }
        Verb::Update { name, url, image, file_name, part, wait } => {
            let name = full(Nodes, &name)?;
            session.confirm(&format!("{name} gets other firmware: its BMC may be away meanwhile"))?;
            let image = image.map(|image| full(Images, &image)).transpose()?;
            let request = UpdateNodeFirmwareRequest {
                name,
                image_url: url.unwrap_or_default(),
                parts: part,
                request_id: request_id(),
                image: image.unwrap_or_default(),
                file_name,
            };
            let operation = call!(link, NodeBmcServiceClient, update_node_firmware, request)?;
            session.operation(&link, operation, wait.wait).await
        }
        Verb::Task { name, task } => {
            let request = ReadNodeBmcTaskRequest { name: full(Nodes, &name)?, task };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_bmc_task, slow request)?)
        }
    }
}
