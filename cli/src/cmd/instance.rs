//! `farrier instance …`

use super::Session;
use crate::args::{EtagArg, ListArgs, WaitArgs};
use crate::client::request_id;
use crate::failure::Failure;
use crate::names::{full, full_or_empty};
use crate::{call, list};
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::{Flavors, Images, Instances, Nodes, Racks, Sites};
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::{ReadyGate, ResizeVolumeRequest};
use farrier_proto::scheduler::instance_service_client::InstanceServiceClient;
use farrier_proto::scheduler::{
    CreateInstanceRequest, DeleteInstanceRequest, GetInstanceRequest, Instance, ListInstancesRequest,
    RecoverInstanceRequest, SnapshotInstanceRequest,
};
use farrier_proto::types::DeployMethod;
use std::path::{Path, PathBuf};

/// cloud-init user data that the API takes, in bytes.
const MAX_USER_DATA: usize = 64 << 10;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Asks for a machine.
    Create(Box<CreateArgs>),
    /// Shows one instance.
    Get {
        /// The instance, by its name.
        name: String,
    },
    /// Says why the instance is where it is, and what can be done.
    Explain {
        /// The instance, by its name.
        name: String,
    },
    /// Lists instances.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only those in this state: pending, deploying, active, failed, deleting, deleted.
        #[arg(long)]
        state: Option<String>,
    },
    /// Gives the machine back: off, erased, verified, available again.
    Delete {
        /// The instance, by its name.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Makes an image of a diskless instance's disk, while its system runs.
    ///
    /// The image is what a power cut at that moment would have left: what the system has written and synced is in
    /// it. It belongs to the instance's project and has the size of its disk.
    Snapshot {
        /// The instance, by its name.
        name: String,
        /// The image that is made.
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// Of the image.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Makes the disk of a running diskless instance larger.
    ///
    /// Its system hears of it; Linux takes the new size when it is told to (`echo 1 > /sys/class/block/sda/device/rescan`),
    /// then partition and file system are grown there (growpart, resize2fs). A disk does not shrink.
    Resize {
        /// The instance, by its name.
        name: String,
        /// Its new size.
        #[arg(long, value_name = "SIZE", value_parser = farrier_model::size::parse)]
        disk: i64,
        /// rackd's address, instead of the one that inventory has.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
    /// Moves a diskless instance from a node that broke onto another of its rack.
    ///
    /// The first node is switched off and loses the disk, the second boots from it as it is. cloud-init sees a new
    /// instance and runs again.
    Recover {
        /// The instance, by its name.
        name: String,
        /// The node that takes it: available, of the same rack, with the same boot mode.
        #[arg(long, value_name = "NODE")]
        onto: String,
        /// Go on although the first node's BMC does not answer. The disk is safe, but a system that still runs there
        /// keeps its address until somebody pulls the plug.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The instance, by its name.
    name: String,
    /// What the machine must have, by the flavor's name.
    #[arg(long)]
    flavor: String,
    /// What is put on it, by the image's name.
    #[arg(long)]
    image: String,
    /// The instance's name when left out.
    #[arg(long)]
    hostname: Option<String>,
    /// OpenSSH public keys, one a line; repeat for more files.
    #[arg(long = "ssh-key", value_name = "FILE")]
    ssh_keys: Vec<PathBuf>,
    /// cloud-init user data, at most 64 KiB.
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// How the operating system gets onto the machine.
    #[arg(long, value_enum, default_value_t = Method::Direct)]
    method: Method,
    /// Segment of the rack for the finished machine; the rack's default when left out.
    #[arg(long)]
    network: Option<String>,
    /// Only in this site.
    #[arg(long)]
    site: Option<String>,
    /// Only in this rack.
    #[arg(long)]
    rack: Option<String>,
    /// Only this node.
    #[arg(long)]
    node: Option<String>,
    /// Project that owns it; yours when left out.
    #[arg(long, value_name = "PROJECT")]
    owner: Option<String>,
    /// Done at power on, without waiting for the operating system to call back.
    #[arg(long)]
    no_ready_gate: bool,
    /// Seconds that the operating system may take to call back [default: the server's].
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_ready_gate", value_parser = seconds)]
    ready_seconds: Option<i32>,
    /// Only ask whether a node would fit now.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

fn seconds(text: &str) -> Result<i32, String> {
    crate::args::count(text, "seconds", 1)
}

/// Deploy methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The ramdisk streams the image over HTTP to the local disk.
    Direct,
    /// The ramdisk copies the image from an iSCSI disk of the rack.
    Iscsi,
    /// Nothing is copied: the machine boots from an iSCSI disk of the rack.
    Diskless,
}

impl From<Method> for DeployMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Direct => DeployMethod::Direct,
            Method::Iscsi => DeployMethod::Iscsi,
            Method::Diskless => DeployMethod::Diskless,
        }
    }
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Create(args) => {
            let (dry_run, wait) = (args.dry_run, args.wait.wait);
            let instance = instance(*args)?;
            let request = CreateInstanceRequest {
                instance: Some(instance),
                request_id: request_id(),
                validate_only: dry_run,
            };
            let operation = call!(link, InstanceServiceClient, create_instance, request)?;
            if dry_run {
                // A refusal may also come as the operation's error.
                crate::progress::outcome(&operation)?;
                session.say("a node would fit; nothing was stored");
                return session.printer.one(&operation);
            }
            session.operation(&link, operation, wait).await
        }
        Verb::Get { name } => {
            let name = full(Instances, &name)?;
            session.printer.one(&call!(
                link,
                InstanceServiceClient,
                get_instance,
                GetInstanceRequest { name }
            )?)
        }
        Verb::Explain { name } => super::explain::instance(session, &name).await,
        Verb::List { args, state } => {
            let filter = args.filter_with(state.map(|state| format!("state={state}")));
            let instances = list!(
                link,
                InstanceServiceClient,
                list_instances,
                ListInstancesRequest {},
                instances,
                args.limit,
                filter
            )?;
            session.printer.list(&instances)
        }
        Verb::Delete { name, etag, wait } => {
            let name = full(Instances, &name)?;
            session.confirm(&format!("{name} will be switched off and its disks erased"))?;
            let request =
                DeleteInstanceRequest { name, etag: etag.etag.unwrap_or_default(), request_id: request_id() };
            let operation = call!(link, InstanceServiceClient, delete_instance, request)?;
            session.operation(&link, operation, wait.wait).await
        }
        Verb::Snapshot { name, image, description, wait } => {
            let request = SnapshotInstanceRequest {
                name: full(Instances, &name)?,
                image: full(Images, &image)?,
                description: description.unwrap_or_default(),
                request_id: request_id(),
            };
            let operation = call!(link, InstanceServiceClient, snapshot_instance, request)?;
            session.operation(&link, operation, wait.wait).await
        }
        Verb::Resize { name, disk, address } => {
            let name = full(Instances, &name)?;
            let request = GetInstanceRequest { name: name.clone() };
            let instance = call!(link, InstanceServiceClient, get_instance, request)?;
            if instance.method() != DeployMethod::Diskless {
                return Err(Failure::refused(format!(
                    "{name}: expected a diskless instance, whose disk is at its rack; the disk of this one is in its \
                     machine"
                )));
            }
            let node = instance.placed_node;
            if node.is_empty() {
                return Err(Failure::refused(format!("{name} has no node yet")));
            }
            let rack = super::node::get(&session.services.inventory()?, &node).await?.rack;
            let daemon = super::rack::daemon(session, &rack, address).await?;
            let request = ResizeVolumeRequest { instance: name, size_bytes: disk };
            session.printer.one(&call!(daemon, RackServiceClient, resize_volume, request)?)
        }
        Verb::Recover { name, onto, force, wait } => {
            let (name, onto) = (full(Instances, &name)?, full(Nodes, &onto)?);
            let hard = if force { ", also if its BMC does not answer" } else { "" };
            session.confirm(&format!(
                "the node that has {name} will be switched off{hard} and lose its disk to {onto}"
            ))?;
            let request = RecoverInstanceRequest { name, onto, force, request_id: request_id() };
            let operation = call!(link, InstanceServiceClient, recover_instance, request)?;
            session.operation(&link, operation, wait.wait).await
        }
    }
}

fn instance(args: CreateArgs) -> Result<Instance, Failure> {
    let ready = if args.no_ready_gate { ReadyGate::None } else { ReadyGate::Unspecified };
    let keys: Vec<_> = args.ssh_keys.iter().map(|path| ssh_keys(path)).collect::<Result<_, _>>()?;
    Ok(Instance {
        name: full(Instances, &args.name)?,
        flavor: full(Flavors, &args.flavor)?,
        image: full(Images, &args.image)?,
        hostname: args.hostname.unwrap_or_default(),
        ssh_keys: keys.into_iter().flatten().collect(),
        user_data: args.user_data.as_deref().map(user_data).transpose()?.unwrap_or_default(),
        network: args.network.unwrap_or_default(),
        method: DeployMethod::from(args.method).into(),
        ready: ready.into(),
        ready_seconds: args.ready_seconds.unwrap_or_default(),
        site: full_or_empty(Sites, args.site.as_deref())?,
        rack: full_or_empty(Racks, args.rack.as_deref())?,
        node: full_or_empty(Nodes, args.node.as_deref())?,
        owner: args.owner.unwrap_or_default(),
        ..Instance::default()
    })
}

/// The keys in a file such as `id_ed25519.pub` or `authorized_keys`. A private key is refused: it must
/// never leave its owner's disk, and it is one keystroke away from the public one.
fn ssh_keys(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, "read", &error))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(Failure::usage(format!("{} is a private key: expected the public one", path.display()))
            .next(format!("--ssh-key {}.pub", path.display())));
    }
    let keys: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if keys.is_empty() {
        return Err(Failure::usage(format!("{} has no key", path.display())));
    }
    Ok(keys)
}

fn user_data(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file(path, "read", &error))?;
    if bytes.len() > MAX_USER_DATA {
        return Err(Failure::usage(format!(
            "{} has {} bytes: user data may have {MAX_USER_DATA}",
            path.display(),
            bytes.len()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_stays_at_home() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        std::fs::write(&path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        assert_eq!(ssh_keys(&path).unwrap_err().exit.code(), 2);
        std::fs::write(&path, "# mine\nssh-ed25519 AAAA a@b\n\nssh-rsa BBBB\n").unwrap();
        assert_eq!(ssh_keys(&path).unwrap(), ["ssh-ed25519 AAAA a@b", "ssh-rsa BBBB"]);
    }

    #[test]
    fn user_data_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ud");
        std::fs::write(&path, vec![b'x'; MAX_USER_DATA + 1]).unwrap();
        assert!(user_data(&path).is_err());
        std::fs::write(&path, vec![b'x'; MAX_USER_DATA]).unwrap();
        assert!(user_data(&path).is_ok());
    }
}
