//! A BMC that was given another address: the node follows it.

use super::bmc::{has_bmc, place_of_host};
use super::dispatch::TRIES;
use super::noun::Noun as _;
use super::{App, check, error};
use farrier_inventory_store::StoreError;
use farrier_proto::inventory::{Event, MoveBmcRequest, Node};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, internal, refuse, stale_etag};
use farrier_runtime::time;
use tonic::{Code, Status};

impl App {
    pub(crate) async fn move_bmc(&self, caller: &Caller, request: MoveBmcRequest) -> Result<Node, Status> {
        let MoveBmcRequest { node: name, address, expected_address, actor, validate_only } = request;
        check::host_port("address", &address)?;
        for _ in 0..TRIES {
            let before = self.get::<Node>(caller, &name).await?;
            let mut node = before.clone();
            let Some(bmc) = node.bmc.as_mut().filter(|bmc| has_bmc(bmc)) else {
                let why = format!("{name} has no BMC that is reached at an address");
                return Err(refuse(Code::FailedPrecondition, Reason::BmcFailed, why));
            };
            // It is so already.
            if bmc.address == address && !validate_only {
                return Ok(before);
            }
            if bmc.address != expected_address {
                return Err(stale_etag(&name, None));
            }
            let (old, new) = (place_of_host(&node.rack, &bmc.address), place_of_host(&node.rack, &address));
            bmc.address.clone_from(&address);
            if old != new {
                self.alone_at(&name, &old, &new).await?;
            }
            node.check()?;
            if validate_only {
                return Ok(before);
            }
            let (revision, now) = (before.etag.parse(), time::now());
            let revision = revision.map_err(|_| internal("a node without a revision"))?;
            node.touch(now);
            let extra = node.seal(Some(&before), &self.vault)?;
            let event = Event {
                time: Some(now),
                actor: if actor.is_empty() { caller.actor() } else { actor.clone() },
                resource: name.clone(),
                action: "move bmc".to_owned(),
                before: expected_address.clone(),
                after: address.clone(),
                ..Event::default()
            };
            match self.store.replace(node, revision, &extra, event).await {
                // Somebody else wrote the node: whether its BMC is where it was is looked at anew.
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map_err(error::store),
            }
        }
        Err(stale_etag(&name, None))
    }

    /// Nobody else is at the place that the BMC leaves, whose BMC would go with it, nor at the one that it comes to.
    async fn alone_at(&self, name: &str, old: &str, new: &str) -> Result<(), Status> {
        if let Some(other) = self.other_at(name, new).await? {
            return Err(error::store(StoreError::Rival { name: name.to_owned(), other }));
        }
        let Some(other) = self.other_at(name, old).await? else { return Ok(()) };
        Err(error::in_use(&format!(
            "{other} is reached at the same address as {name}, and would not be any more: change it on the BMC itself, and \
             bmc.address of both"
        )))
    }

    async fn other_at(&self, name: &str, place: &str) -> Result<Option<String>, Status> {
        let all = self.store.nodes_at(place).await.map_err(error::store)?;
        Ok(all.into_iter().map(|node| node.name).find(|other| other != name))
    }
}
