//! Nodes that are systems of one BMC and have one account there: the password that a rotation gives to it is the password of
//! all of them.

use super::bmc::{has_bmc, place_of_host};
use super::node::bmc_context;
use super::{App, error};
use farrier_inventory_store::{SecretChange, Secrets, Shared};
use farrier_proto::inventory::{Event, Node};
use farrier_runtime::error::{Reason, internal, refuse_with};
use farrier_runtime::time;
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
