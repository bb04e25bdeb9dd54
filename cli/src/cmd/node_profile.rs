//! `farrier node profile export|import NODE`: all that a machine and its BMC are set to, as its vendor writes it.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use crate::output::emit;
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Nodes;
use farrier_proto::rack::{ProfileFormat, ProfileShutdown};
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ExportNodeProfileRequest, ImportNodeProfileRequest};
use std::io::Read as _;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Writes the profile of a Dell to standard output; that takes its BMC some minutes.
    Export {
        /// The node, by its name.
        name: String,
        /// How it is written.
        #[arg(long, value_enum, default_value = "xml")]
        format: FormatArg,
        /// Only this part, in Dell's words, such as `BIOS`; all of it when left out.
        #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
        target: String,
    },
    /// Has the node's BMC take a profile over, by a job that `farrier node firmware task NODE TASK` follows.
    Import {
        /// The node, by its name.
        name: String,
        /// The profile; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Only this part, in Dell's words, such as `BIOS`; all of it when left out.
        #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
        target: String,
        /// What the BMC may do with the machine now; with `none`, what needs a start waits for one.
        #[arg(long, value_enum, default_value = "none")]
        shutdown: ShutdownArg,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    Xml,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShutdownArg {
    /// Nothing.
    None,
    /// Ask its system to shut down, and start it again.
    Graceful,
    /// Switch it off, and on again.
    Forced,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Export { name, format, target } => {
            let format = match format {
                FormatArg::Xml => ProfileFormat::Xml,
                FormatArg::Json => ProfileFormat::Json,
            };
            let request =
                ExportNodeProfileRequest { name: full(Nodes, &name)?, format: format.into(), target };
            emit(&call!(link, NodeBmcServiceClient, export_node_profile, slow request)?.profile)
        }
        Verb::Import { name, file, target, shutdown } => {
            let name = full(Nodes, &name)?;
            let profile = read(&file)?;
            session.confirm(&format!("{name} and its BMC will be set to what the profile says"))?;
            let shutdown = match shutdown {
                ShutdownArg::None => ProfileShutdown::None,
                ShutdownArg::Graceful => ProfileShutdown::Graceful,
                ShutdownArg::Forced => ProfileShutdown::Forced,
            };
            let request = ImportNodeProfileRequest { name, profile, target, shutdown: shutdown.into() };
            session.printer.one(&call!(link, NodeBmcServiceClient, import_node_profile, slow request)?)
        }
    }
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().take(MOST).read_to_string(&mut text),
        _ => std::fs::File::open(file).and_then(|file| file.take(MOST).read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(text)
}

/// One byte more than the scheduler takes: it says what is too long.
const MOST: u64 = (1 << 20) + 1;
