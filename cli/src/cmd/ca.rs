//! `farrier ca …`: certificates without a service.

use crate::failure::Failure;
use crate::{ca, prompt, talk};
use clap::{ArgGroup, Subcommand};
use farrier_identity::{Identity, Role};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes an authority (ca.pem, ca.key) in a directory. Keep ca.key off the network.
    Init {
        /// Directory of the authority.
        dir: PathBuf,
        /// Name in its certificate.
        #[arg(long, value_name = "NAME", default_value = "farrier")]
        common_name: String,
    },
    /// Makes everything that a small installation on one machine starts with: an authority in DIR/ca, and
    /// identities in DIR/inventory, DIR/scheduler, DIR/images, DIR/RACK and DIR/USER. What is there and
    /// loads stays, so that it may run before every start; what has a --host more, or ends
    /// soon, gets a new certificate.
    Bootstrap {
        /// Directory of all of them.
        dir: PathBuf,
        /// A rack's id; repeat for more.
        #[arg(long = "rack", value_name = "RACK")]
        racks: Vec<String>,
        /// Name of a first user, with role admin.
        #[arg(long, value_name = "NAME", default_value = "admin")]
        user: String,
        /// DNS name or address under which all are reached besides their own names; repeat for more.
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Days the identities are valid.
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Issues an identity (cert.pem, key.pem, ca.pem).
    #[command(group(ArgGroup::new("who").required(true).args(["service", "rack", "user"])))]
    Issue {
        /// Directory of the authority.
        dir: PathBuf,
        /// inventory, scheduler or images.
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// A rack's id; a rack joins by itself with `farrier rack join-token`.
        #[arg(long, value_name = "RACK")]
        rack: Option<String>,
        /// A user's name.
        #[arg(long, value_name = "NAME", requires = "role")]
        user: Option<String>,
        /// What the user may do at most.
        #[arg(long, value_parser = role, conflicts_with_all = ["service", "rack"])]
        role: Option<Role>,
        /// Project of the user.
        #[arg(long, conflicts_with_all = ["service", "rack"])]
        project: Option<String>,
        /// DNS name or address it will be reached under; repeat for more.
        #[arg(long = "host", value_name = "HOST", conflicts_with = "user")]
        hosts: Vec<String>,
        /// Days it is valid.
        #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Directory that gets the files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

pub fn run(verb: Verb, yes: bool) -> Result<(), Failure> {
    match verb {
        Verb::Init { dir, common_name } => {
            ca::init(&dir, &common_name)?;
            talk::say(format_args!(
                "authority made in {}: ca.pem goes to everybody, ca.key to nobody",
                dir.display()
            ));
            Ok(())
        }
        Verb::Bootstrap { dir, racks, user, hosts, days } => {
            let services = SERVICES.map(|name| (name.to_owned(), Identity::Service(name.to_owned())));
            let racks = racks.iter().map(|rack| {
                let id = crate::names::short(rack).to_owned();
                (id.clone(), Identity::Rack(id))
            });
            let admin = Identity::User { name: user.clone(), role: Role::Admin, project: String::new() };
            let all: Vec<_> = services.into_iter().chain(racks).chain([(user, admin)]).collect();
            let made = ca::bootstrap(&dir, all, &hosts, days)?;
            if made.is_empty() {
                talk::say(format_args!("all of it is in {}, and stays", dir.display()));
            }
            for line in made {
                talk::say(line);
            }
            Ok(())
        }
        Verb::Issue { dir, service, rack, user, role, project, hosts, days, out } => {
            let identity = match (service, rack, user) {
                (Some(name), _, _) => Identity::Service(name),
                (_, Some(id), _) => Identity::Rack(crate::names::short(&id).to_owned()),
                (_, _, Some(name)) => Identity::User {
                    name,
                    role: role.unwrap_or(Role::Reader),
                    project: project.unwrap_or_default(),
                },
                // clap requires one of them.
                _ => return Err(Failure::usage("expected --service, --rack or --user")),
            };
            let identity = ca::checked(identity)?;
            if out.join("key.pem").exists() {
                prompt::confirm(yes, &format!("{} has an identity, which will be replaced", out.display()))?;
            }
            let issued = ca::issue(&dir, &identity, &hosts, days, &out)?;
            talk::say(format_args!("{issued} in {}, valid for {days} days", out.display()));
            Ok(())
        }
    }
}

/// Services of the centre.
const SERVICES: [&str; 3] = ["inventory", "scheduler", "images"];

fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|error: farrier_identity::ParseIdentityError| error.to_string())
}
