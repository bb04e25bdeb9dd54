use super::bmc::has_bmc;
use super::same_machine::Identifiers;
use super::shared_account::{Another, user_of};
use super::transition::{Decision, decide, new_ports};
use super::{App, check, error, rotation};
use farrier_inventory_store::{Candidates, StoreError, Transition};
use farrier_model::Collection;
use farrier_proto::inventory::{
    Dispatch, Event, Flavor, ListCandidatesResponse, Rack, TransitionNodeRequest, TransitionNodeResponse,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, stale_etag};
use farrier_runtime::{crash, time};
use tonic::Status;

/// Tries against others that write the same node: each try loses only to a write that succeeded.
pub(super) const TRIES: usize = 32;

impl App {
    pub(crate) async fn candidates(&self) -> Result<ListCandidatesResponse, Status> {
        let Candidates { mut nodes, rack_sites, bootable_nodes } =
            self.store.candidates().await.map_err(error::store)?;
        // Where there is no BMC any more nobody looks again.
        for node in nodes.iter_mut().filter(|node| !node.bmc.as_ref().is_some_and(has_bmc)) {
            node.observation = None;
        }
        Ok(ListCandidatesResponse { nodes, rack_sites: rack_sites.into_iter().collect(), bootable_nodes })
    }

    pub(crate) async fn transition(
        &self,
        caller: &Caller,
        request: TransitionNodeRequest,
    ) -> Result<TransitionNodeResponse, Status> {
        check::name("node", Collection::Nodes, &request.node)?;
        for _ in 0..TRIES {
            let stored = self.store.stored_node(&request.node).await.map_err(error::store)?;
            let now = time::now();
            let mut decided = match decide(&stored, &request, now)? {
                Decision::Again => return Ok(answer(stored.node)),
                Decision::Move(decided) => *decided,
            };
            let next = stored.next_secret.as_deref();
            let user = user_of(&decided.node);
            let secrets = rotation::in_transition(&mut decided.node, &request, next, &self.vault)?;
            let shared = self.shared_account(&decided.node, &user, &secrets, &request.operation).await?;
            let ports = if decided.nics.is_empty() {
                Vec::new()
            } else {
                let existing = self.store.ports_of(&request.node).await.map_err(error::store)?;
                new_ports(&request.node, &decided.nics, &existing, now)
            };
            let revision = stored.node.etag.parse().map_err(|_| internal("a node without a revision"))?;
            let event = Event {
                time: Some(now),
                actor: if request.actor.is_empty() { caller.actor() } else { request.actor.clone() },
                resource: request.node.clone(),
                action: request.event.clone(),
                before: decided.from.to_string(),
                after: decided.to.to_string(),
                operation: request.operation.clone(),
                detail: detail(&request),
                ..Event::default()
            };
            let system = request.hardware.as_ref().map(|hardware| Identifiers::new("", hardware).system());
            let (node, applied) = (decided.node, decided.applied);
            let transition = Transition { node, revision, applied, secrets, shared, system, ports, event };
            crash::point(&request.event, "before");
            match self.store.transition(transition).await {
                Ok(node) => {
                    crash::point(&request.event, "after");
                    return Ok(answer(node));
                }
                // Somebody else wrote the node: whether this may still happen is decided anew.
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => return Err(error::store(other)),
            }
        }
        Err(stale_etag(&request.node, None))
    }

    pub(crate) async fn dispatch(&self, node: &str, flavor: &str) -> Result<Dispatch, Status> {
        check::name("node", Collection::Nodes, node)?;
        let mut stored = self.store.stored_node(node).await.map_err(error::store)?;
        let another = self.next_by_another(&stored.node).await?;
        if !matches!(another, Another::Nobody) {
            // A rotation that ended in between has written this node, too.
            stored = self.store.stored_node(node).await.map_err(error::store)?;
        }
        let bmc_password = self.bmc_password(node, stored.secret.as_deref())?;
        let mut bmc_next_password = self.bmc_next_password(node, stored.next_secret.as_deref())?;
        if let (Another::Rotates { user, password }, Some(bmc), true) =
            (another, &mut stored.node.bmc, bmc_next_password.is_empty())
        {
            bmc_next_password = password;
            bmc.next_user = user;
        }
        let bmc_kg = self.bmc_key(node, stored.kg_secret.as_deref())?;
        let rack: Rack = self.store.get(&stored.node.rack).await.map_err(error::store)?;
        let flavor = match flavor {
            "" => None,
            name => {
                check::name("flavor", Collection::Flavors, name)?;
                Some(self.store.get::<Flavor>(name).await.map_err(error::store)?)
            }
        };
        let ports = self.store.ports_of(node).await.map_err(error::store)?;
        Ok(Dispatch {
            node: Some(stored.node),
            ports,
            bmc_password,
            bmc_next_password,
            bmc_kg,
            rack_address: rack.address,
            flavor,
        })
    }
}

fn answer(node: farrier_proto::inventory::Node) -> TransitionNodeResponse {
    TransitionNodeResponse { fence: node.fence, node: Some(node) }
}

fn detail(request: &TransitionNodeRequest) -> String {
    if request.bmc_credentials_rotated && request.error.is_empty() {
        return "the default password of its BMC is replaced".to_owned();
    }
    match (request.instance.as_str(), request.error.as_str()) {
        ("", error) => error.to_owned(),
        (instance, "") => format!("for {instance}"),
        (instance, error) => format!("for {instance}: {error}"),
    }
}
