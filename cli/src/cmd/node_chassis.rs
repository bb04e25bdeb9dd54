//! `farrier node vlans|volume …`: what a node's chassis does for it.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::Nodes;
use farrier_proto::rack::{BmcVolumes, NewVolume, NicVlans};
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::set_node_volume_request::Change;
use farrier_proto::scheduler::{
    ReadNodeNicVlansRequest, ReadNodeVolumesRequest, SetNodeNicVlansRequest, SetNodeVolumeRequest,
};

#[derive(Debug, Subcommand)]
pub enum VlansVerb {
    /// Shows in which VLANs the node's NICs are.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Makes a NIC a member of these VLANs and of no other; none named: of none.
    Set {
        /// The node, by its name.
        name: String,
        /// The NIC, such as `nic0`.
        nic: String,
        /// The VLAN of frames without a tag.
        #[arg(long, value_name = "VLAN", value_parser = clap::value_parser!(i32).range(1..=4094))]
        untagged: Option<i32>,
        /// VLANs of frames with their tag, with commas between.
        #[arg(long, value_name = "VLAN", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(1..=4094))]
        tagged: Vec<i32>,
    },
}

#[derive(Debug, Subcommand)]
pub enum VolumeVerb {
    /// Shows the pools of the node's chassis, and which volume is the node's first disk.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Makes a volume; one of this name in this pool is taken as it is.
    Create {
        /// The node, by its name.
        name: String,
        /// The pool, by its id.
        #[arg(long, value_name = "POOL")]
        pool: String,
        /// What it is called.
        #[arg(long, value_name = "NAME")]
        volume: String,
        /// How large, in GB as the chassis counts.
        #[arg(long, value_name = "GB", value_parser = clap::value_parser!(i64).range(1..))]
        size_gb: i64,
    },
    /// Gives the node a volume as its first disk, in place of another.
    Attach {
        /// The node, by its name.
        name: String,
        /// The volume, by the id that `create` told.
        volume: String,
    },
    /// Takes the node's first disk away; the volume stays.
    Detach {
        /// The node, by its name.
        name: String,
    },
}

pub async fn vlans(verb: VlansVerb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    let seen = match verb {
        VlansVerb::Show { name } => {
            let request = ReadNodeNicVlansRequest { name: full(Nodes, &name)? };
            call!(link, NodeBmcServiceClient, read_node_nic_vlans, slow request)?
        }
        VlansVerb::Set { name, nic, untagged, tagged } => {
            let vlans = NicVlans { nic, untagged: untagged.into_iter().collect(), tagged };
            let request = SetNodeNicVlansRequest { name: full(Nodes, &name)?, vlans: Some(vlans) };
            call!(link, NodeBmcServiceClient, set_node_nic_vlans, slow request)?
        }
    };
    session.printer.list(&seen.nics)
}

pub async fn volume(verb: VolumeVerb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    let (name, change) = match verb {
        VolumeVerb::Show { name } => {
            let request = ReadNodeVolumesRequest { name: full(Nodes, &name)? };
            let seen = call!(link, NodeBmcServiceClient, read_node_volumes, slow request)?;
            return shown(&seen, session);
        }
        VolumeVerb::Create { name, pool, volume, size_gb } => {
            (name, Change::Create(NewVolume { pool, name: volume, size_gb }))
        }
        VolumeVerb::Attach { name, volume } => {
            session.confirm(&format!("{name} will have {volume} as its first disk, in place of another"))?;
            (name, Change::Root(volume))
        }
        VolumeVerb::Detach { name } => {
            session.confirm(&format!("{name} will have no first disk"))?;
            (name, Change::Root(String::new()))
        }
    };
    let request = SetNodeVolumeRequest { name: full(Nodes, &name)?, change: Some(change) };
    shown(&call!(link, NodeBmcServiceClient, set_node_volume, slow request)?, session)
}

fn shown(seen: &BmcVolumes, session: &Session) -> Result<(), Failure> {
    session.printer.one(seen)
}
