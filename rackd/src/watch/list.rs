//! Which BMCs are looked at.

use crate::bmc::{Access, BadAccess, Keys};
use farrier_bmc::Bmc;
use farrier_proto::inventory::watch_service_client::WatchServiceClient;
use farrier_proto::inventory::{ListWatchedNodesRequest, WatchedNode};
use farrier_proto::rack::Machine;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;
use zeroize::Zeroizing;

/// A BMC that is looked at, and what is kept of it between two looks.
pub(super) struct Watched {
    /// `nodes/{node}`
    pub(super) node: String,
    pub(super) words: Arc<Words>,
    /// What the words came to, from the first look on. Held so that its breaker stays.
    pub(super) bmc: Option<Known>,
    /// How often they came to something: another handle may be another machine's.
    pub(super) opens: u64,
    /// Not looked at before this.
    pub(super) not_before: Option<Instant>,
    /// Since when its power has been on the way to another state.
    pub(super) settling_since: Option<Instant>,
    /// Its password was refused once: it may have been changed since inventory was asked for it.
    pub(super) doubted: bool,
    /// The mark of who answered last.
    pub(super) who: Option<u64>,
    /// When to ask again who the machine is; `None`: at the next look.
    pub(super) machine_at: Option<Instant>,
}

impl Watched {
    /// Nothing is known of it yet.
    pub(super) fn new(node: &str, words: Arc<Words>) -> Self {
        Self {
            node: node.to_owned(),
            words,
            bmc: None,
            opens: 0,
            not_before: None,
            settling_since: None,
            doubted: false,
            who: None,
            machine_at: None,
        }
    }

    /// Whether its power may still be on the way to another state; one that is for ever is told as it is.
    pub(super) fn may_settle(&mut self, now: Instant) -> bool {
        now < *self.settling_since.get_or_insert(now) + SETTLES
    }

    /// Its password was refused when it was last asked.
    pub(super) fn is_refused(&self) -> bool {
        self.doubted || self.not_before.is_some()
    }
}

pub(super) struct Known {
    pub(super) bmc: Bmc,
    /// The words cannot come to anything else.
    pub(super) settled: bool,
    /// As in a sighting.
    pub(super) passed_over: String,
}

/// What inventory says of a BMC.
pub(super) struct Words {
    machine: Machine,
    keys: Keys,
    /// Tells whether they are the same as before without keeping them twice.
    digest: [u8; 32],
}

impl Words {
    pub(super) fn of(mut node: WatchedNode) -> Self {
        let secret = |text: &mut String| Zeroizing::new(std::mem::take(text));
        let keys = Keys {
            password: secret(&mut node.bmc_password),
            next: secret(&mut node.bmc_next_password),
            kg: secret(&mut node.bmc_kg),
        };
        let bmc = node.bmc.unwrap_or_default();
        let machine = Machine {
            name: node.node,
            bmc_driver: bmc.driver,
            bmc_address: bmc.address,
            bmc_user: bmc.user,
            bmc_next_user: bmc.next_user,
            bmc_cipher_suite: bmc.cipher_suite,
            bmc_scheme: bmc.scheme,
            bmc_certificate_sha256: bmc.certificate_sha256,
            bmc_ca_pem: bmc.ca_pem,
            bmc_system: bmc.system,
            bmc_ssh_host_key_sha256: bmc.ssh_host_key_sha256,
            ..Machine::default()
        };
        let mut hash = Sha256::new();
        hash.update(prost::Message::encode_length_delimited_to_vec(&machine));
        for secret in [&keys.password, &keys.next, &keys.kg] {
            hash.update(secret.as_bytes());
            hash.update([0]);
        }
        Self { machine, keys, digest: hash.finalize().into() }
    }

    /// Where they lead, as inventory has it in a machine's identity.
    pub(super) fn place(&self) -> String {
        let (address, system) = (&self.machine.bmc_address, &self.machine.bmc_system);
        if system.is_empty() { address.clone() } else { format!("{address} {system}") }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(super) async fn access(&self) -> Result<Access, BadAccess> {
        Access::of(&self.machine, &self.keys).await
    }
}

/// All nodes that inventory wants to be looked at.
pub(super) async fn list(mut inventory: WatchServiceClient<Channel>) -> Result<Vec<WatchedNode>, Status> {
    let (mut nodes, mut page_token) = (Vec::new(), String::new());
    for _ in 0..MOST / 100 {
        let request = ListWatchedNodesRequest { page_size: PAGE, page_token };
        let page = inventory.list_watched_nodes(request).await?.into_inner();
        nodes.extend(page.nodes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(nodes);
        }
        if nodes.len() > MOST {
            break;
        }
    }
    Err(Status::out_of_range(format!(
        "expected at most {MOST} nodes in a rack, saw more pages than they have"
    )))
}

/// Longer than any product takes to tell that its power has changed.
pub(super) const SETTLES: Duration = Duration::from_secs(5 * 60);
const PAGE: i32 = 500;
/// More than any rack has: an inventory that pages for ever is not followed.
const MOST: usize = 100_000;
