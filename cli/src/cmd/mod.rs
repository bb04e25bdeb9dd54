//! The nouns: one file each.

mod boot_events;
pub mod ca;
pub mod completion;
pub mod context;
pub mod discovered;
mod discovery_plan;
pub mod event;
mod explain;
pub mod flavor;
pub mod health;
pub mod image;
pub mod instance;
pub mod node;
pub mod node_act;
pub mod node_bios;
pub mod node_bmc;
pub mod node_boot;
pub mod node_boot_mode;
pub mod node_boot_order;
pub mod node_chassis;
pub mod node_console;
pub mod node_firmware;
pub mod node_inventory;
pub mod node_profile;
pub mod node_secure_boot;
pub mod node_sel;
pub mod node_sensors;
pub mod operation;
pub mod port;
pub mod rack;
pub mod rack_dhcp;
pub mod site;

use crate::args::Cli;
use crate::client::{Link, Services};
use crate::context::{self as settings, Environment};
use crate::failure::Failure;
use crate::output::{Format, Printer};
use crate::{progress, prompt, talk};
use clap::Subcommand;
use farrier_proto::scheduler::Operation;
use std::collections::HashMap;
use std::time::SystemTime;

/// What can be done, noun by noun.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Places that have racks.
    #[command(subcommand)]
    Site(site::Verb),
    /// Racks, each run by one rackd.
    #[command(subcommand)]
    Rack(rack::Verb),
    /// Physical servers.
    #[command(subcommand)]
    Node(Box<node::Verb>),
    /// Network interfaces of nodes.
    #[command(subcommand)]
    Port(port::Verb),
    /// Machines that asked to boot and are no nodes yet.
    #[command(subcommand)]
    Discovered(discovered::Verb),
    /// Operating system images.
    #[command(subcommand)]
    Image(image::Verb),
    /// What a request needs of a machine.
    #[command(subcommand)]
    Flavor(flavor::Verb),
    /// Machines that somebody asked for.
    #[command(subcommand)]
    Instance(instance::Verb),
    /// Work that takes time.
    #[command(subcommand)]
    Operation(operation::Verb),
    /// What happened: the audit log.
    #[command(subcommand)]
    Event(event::Verb),
    /// The embedded certificate authority, on the local disk.
    #[command(subcommand)]
    Ca(ca::Verb),
    /// Installations and identities in the configuration file.
    #[command(subcommand)]
    Context(context::Verb),
    /// Asks one server whether it serves: for probes of containers and load balancers.
    Health(health::Args),
    /// Prints the completion script of a shell.
    Completion(completion::Args),
}

/// What every command works with.
#[derive(Debug)]
pub struct Session {
    pub services: Services,
    pub printer: Printer,
    /// `--yes`
    pub yes: bool,
    pub env: Environment,
}

impl Session {
    /// Asks before `what`, which destroys something.
    pub fn confirm(&self, what: &str) -> Result<(), Failure> {
        prompt::confirm(self.yes, what)
    }

    /// Says something to the person, not to the program that reads stdout.
    pub fn say(&self, text: &str) {
        talk::say(text);
    }

    /// Prints an operation, after it is done where that is asked for.
    pub async fn operation(&self, link: &Link, operation: Operation, wait: bool) -> Result<(), Failure> {
        if !wait {
            self.printer.one(&operation)?;
            if !operation.done {
                self.say(&format!(
                    "started: `farrier operation watch {}` follows it",
                    crate::names::short(&operation.name)
                ));
            }
            return Ok(());
        }
        let last = progress::wait(link, operation).await?;
        match self.printer.format {
            // Its steps were told just now.
            Format::Table | Format::Wide => self.printer.list(std::slice::from_ref(&last))?,
            Format::Json | Format::Yaml => self.printer.one(&last)?,
        }
        progress::outcome(&last)
    }
}

/// Runs the command.
pub async fn dispatch(cli: Cli, env: &Environment) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    // These need no services, and must work where the configuration is broken.
    match command {
        Command::Ca(verb) => return ca::run(verb, global.yes),
        Command::Context(verb) => return context::run(verb, &global, env),
        Command::Completion(args) => return completion::run(&args),
        _ => {}
    }
    let session = Session {
        services: Services::new(settings::load(&global, env)?),
        printer: Printer {
            format: global.output,
            colour: global.color.on_stdout(env),
            now: SystemTime::now(),
        },
        yes: global.yes,
        env: env.clone(),
    };
    match command {
        Command::Site(verb) => site::run(verb, &session).await,
        Command::Rack(verb) => rack::run(verb, &session).await,
        Command::Node(verb) => node::run(*verb, &session).await,
        Command::Port(verb) => port::run(verb, &session).await,
        Command::Image(verb) => image::run(verb, &session).await,
        Command::Discovered(verb) => discovered::run(verb, &session).await,
        Command::Flavor(verb) => flavor::run(verb, &session).await,
        Command::Instance(verb) => instance::run(verb, &session).await,
        Command::Operation(verb) => operation::run(verb, &session).await,
        Command::Event(verb) => event::run(verb, &session).await,
        Command::Health(args) => health::run(args, &session).await,
        Command::Ca(_) | Command::Context(_) | Command::Completion(_) => Ok(()),
    }
}

/// Labels to set and to remove.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LabelArgs {
    /// Sets a label; repeat for more.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = crate::args::key_value)]
    pub set: Vec<(String, String)>,
    /// Removes a label; repeat for more.
    #[arg(long = "remove-label", value_name = "KEY")]
    pub remove: Vec<String>,
}

impl LabelArgs {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    pub fn apply(&self, labels: &mut HashMap<String, String>) {
        for key in &self.remove {
            labels.remove(key);
        }
        labels.extend(self.set.iter().cloned());
    }
}

/// The field mask of an update: what was typed, or a usage error when nothing was.
pub fn mask(paths: Vec<&'static str>) -> Result<Option<prost_types::FieldMask>, Failure> {
    if paths.is_empty() {
        return Err(Failure::usage("nothing to update: name at least one field, see --help"));
    }
    Ok(Some(prost_types::FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }))
}

/// Sets a field of an update where its flag was given, and puts it into the mask.
pub fn set<T>(paths: &mut Vec<&'static str>, path: &'static str, field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
        paths.push(path);
    }
}
