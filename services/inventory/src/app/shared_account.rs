//! Nodes that are systems of one BMC and have one account there: the password that a rotation gives to it is the password of
//! all of them.

use super::bmc::{has_bmc, place_of_host};
use super::node::bmc_context;
use super::{App, error};
use farrier_inventory_store::{SecretChange, Secrets, Shared, Watchable};
use farrier_proto::inventory::{Event, Node};
use farrier_runtime::error::{Reason, internal, refuse_with};
use farrier_runtime::time;
use std::collections::HashMap;
use tonic::{Code, Status};

/// The account that a node has, before it perhaps gets another.
pub(super) fn user_of(node: &Node) -> String {
    node.bmc.as_ref().map(|bmc| bmc.user.clone()).unwrap_or_default()
}

impl App {
    /// What becomes of the others with this account when a rotation of the node's password begins or has ended: it begins
    /// only while nothing is going on with any of them, and its end is theirs too.
    pub(super) async fn shared_account(
        &self,
        node: &Node,
        user: &str,
        secrets: &Secrets,
        operation: &str,
    ) -> Result<Vec<Shared>, Status> {
        let begins = matches!(secrets.next, SecretChange::Store(_));
        let settled = match &secrets.current {
            SecretChange::Store(sealed) => Some(sealed),
            SecretChange::Keep | SecretChange::Clear => None,
        };
        let bmc = node.bmc.as_ref().filter(|bmc| has_bmc(bmc) && (begins || settled.is_some()));
        let Some(bmc) = bmc else { return Ok(Vec::new()) };
        let all =
            self.store.nodes_at(&place_of_host(&node.rack, &bmc.address)).await.map_err(error::store)?;
        let others = all.into_iter().filter(|other| other.name != node.name && user_of(other) == user);
        let Some(sealed) = settled else {
            return others.map(|other| held(node, other)).collect();
        };
        let password = self.vault.open(&bmc_context(&node.name), sealed).map_err(internal)?;
        let mut shared = Vec::new();
        for mut other in others {
            let sealed = self.vault.seal(&bmc_context(&other.name), &password).map_err(internal)?;
            let revision = other.etag.parse().map_err(|_| internal("a node without a revision"))?;
            let now = time::now();
            if let Some(theirs) = &mut other.bmc {
                theirs.user.clone_from(&bmc.user);
                theirs.password_set = true;
                theirs.default_password = false;
            }
            other.update_time = Some(now);
            let event = Event {
                time: Some(now),
                resource: other.name.clone(),
                action: "update".to_owned(),
                operation: operation.to_owned(),
                detail: format!("its BMC's account {} has another password, as {} has", bmc.user, node.name),
                ..Event::default()
            };
            let secrets = Secrets { current: SecretChange::Store(sealed), ..Secrets::default() };
            shared.push(Shared { node: other, revision, secrets, event: Some(event) });
        }
        Ok(shared)
    }

    /// While the account of a node gets another password by the rotation of another system's node: that password, and the name of
    /// the account that gets it, where that is another. Which of the two the BMC has is found out by asking it.
    pub(super) async fn next_by_another(&self, node: &Node) -> Result<Another, Status> {
        let Some(bmc) = node.bmc.as_ref().filter(|bmc| has_bmc(bmc) && !bmc.rotation_pending) else {
            return Ok(Another::Nobody);
        };
        let all =
            self.store.nodes_at(&place_of_host(&node.rack, &bmc.address)).await.map_err(error::store)?;
        let others: Vec<Node> =
            all.into_iter().filter(|other| other.name != node.name && user_of(other) == bmc.user).collect();
        if others.is_empty() {
            return Ok(Another::Nobody);
        }
        let rotates = |other: &&Node| other.bmc.as_ref().is_some_and(|bmc| bmc.rotation_pending);
        let Some(rotating) = others.iter().find(rotates) else { return Ok(Another::Idle) };
        let rotating = self.store.stored_node(&rotating.name).await.map_err(error::store)?;
        let password = self.bmc_next_password(&rotating.node.name, rotating.next_secret.as_deref())?;
        // It has ended meanwhile.
        if password.is_empty() {
            return Ok(Another::Idle);
        }
        let user = rotating.node.bmc.map(|bmc| bmc.next_user).unwrap_or_default();
        Ok(Another::Rotates { user, password })
    }
}

/// The rotations under way, by the account that they are of.
pub(super) type Rotating = HashMap<(String, String), Next>;

/// What an account gets.
pub(super) struct Next {
    /// Whose rotation it is.
    pub(super) node: String,
    /// The account that gets it; empty: the same.
    pub(super) user: String,
    /// The password, sealed for that node.
    pub(super) next: Vec<u8>,
}

/// By account: those that `nodes` have under way.
pub(super) fn by_account(nodes: &[Watchable]) -> Rotating {
    let of = |row: &Watchable| {
        let bmc = row.node.bmc.as_ref().filter(|bmc| bmc.rotation_pending)?;
        let (user, next) = (bmc.next_user.clone(), row.next_secret.clone()?);
        Some((account(&row.node), Next { node: row.node.name.clone(), user, next }))
    };
    nodes.iter().filter_map(of).collect()
}

/// Where it is, and its name.
pub(super) fn account(node: &Node) -> (String, String) {
    let address = node.bmc.as_ref().map(|bmc| bmc.address.as_str()).unwrap_or_default();
    (place_of_host(&node.rack, address), user_of(node))
}

/// What becomes of a node's account by another node that has it too.
pub(super) enum Another {
    /// No other node has it.
    Nobody,
    /// None of them rotates it now; one may have a moment ago.
    Idle,
    Rotates {
        /// Empty: the account stays.
        user: String,
        password: String,
    },
}

/// As it is, if it is idle: of two that begin at once one meets the other's write, and looks again.
fn held(node: &Node, other: Node) -> Result<Shared, Status> {
    is_idle(node, &other)?;
    let revision = other.etag.parse().map_err(|_| internal("a node without a revision"))?;
    Ok(Shared { node: other, revision, secrets: Secrets::default(), event: None })
}

/// Work that has the old password would be refused in its middle, and of two new passwords one would be lost.
fn is_idle(node: &Node, other: &Node) -> Result<(), Status> {
    let rotates = other.bmc.as_ref().is_some_and(|bmc| bmc.rotation_pending);
    let why = match (other.operation.as_str(), rotates) {
        ("", false) => return Ok(()),
        ("", true) => format!(
            "a rotation is not settled: settle it with `farrier node rotate-bmc-credentials {}`",
            other.name.trim_start_matches("nodes/")
        ),
        (operation, _) => format!("{operation} is at work: retry when it has ended"),
    };
    let (name, there) = (&node.name, &other.name);
    let text = format!("{name} and {there} are systems of one BMC with one account, and with {there} {why}");
    Err(refuse_with(Code::Aborted, Reason::NodeBusy, text, [("node", other.name.clone())]))
}
