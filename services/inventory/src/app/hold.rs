//! Work that moves no state: power. The node is its operation's meanwhile, as it is while its state moves.

use super::dispatch::TRIES;
use super::observe::power_word;
use super::shared_account::user_of;
use super::transition::{holder, refused};
use super::{App, check, error, fence, rotation};
use farrier_inventory_store::{Applied, Secrets, StoreError, Stored, Transition};
use farrier_model::Collection;
use farrier_proto::inventory::{
    Event, HoldNodeRequest, HoldNodeResponse, Node, PowerPolicy, ReleaseNodeRequest, ReleaseNodeResponse,
};
use farrier_proto::types::PowerState;
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, invalid, stale_etag};
use farrier_runtime::{crash, time};
use tonic::Status;

impl App {
    pub(crate) async fn hold(
        &self,
        caller: &Caller,
        request: HoldNodeRequest,
    ) -> Result<HoldNodeResponse, Status> {
        let HoldNodeRequest {
            node,
            operation,
            action,
            actor,
            rotates_bmc_credentials,
            expected_fence,
            keeps_power,
            bmc_new_user,
        } = request;
        check::text("action", &action)?;
        if action.is_empty() {
            return Err(invalid("action", "expected what the node is held for"));
        }
        let node = self
            .write(&node, &operation, HOLD, |node, next| {
                holder(node, &operation, false)?;
                still(node, expected_fence, keeps_power)?;
                let secrets = match rotates_bmc_credentials {
                    true => rotation::begin(node, next, &bmc_new_user, &self.vault)?,
                    false => Secrets::default(),
                };
                node.operation.clone_from(&operation);
                node.fence = fence::next(node.fence, time::now());
                let event = Event { actor: who(caller, &actor), action: action.clone(), ..Event::default() };
                Ok((event, secrets))
            })
            .await?;
        Ok(HoldNodeResponse { fence: node.fence, node: Some(node) })
    }

    pub(crate) async fn release(
        &self,
        caller: &Caller,
        request: ReleaseNodeRequest,
    ) -> Result<ReleaseNodeResponse, Status> {
        let power = request.power_state();
        let ReleaseNodeRequest {
            node,
            operation,
            error,
            actor,
            bmc_credentials_rotated: rotated,
            bmc_credentials_refused: refused,
            bmc_account_proven: proven,
            ..
        } = request;
        let node = self
            .write(&node, &operation, RELEASE, |node, next| {
                holder(node, &operation, true)?;
                let secrets = match (rotated, refused) {
                    (true, _) => rotation::settle(node, next, &proven, &self.vault)?,
                    (false, true) => rotation::forget(node),
                    (false, false) => Secrets::default(),
                };
                node.operation.clear();
                let before = node.power_state();
                if power != PowerState::Unspecified {
                    node.set_power_state(power);
                }
                let event = Event {
                    actor: who(caller, &actor),
                    action: if error.is_empty() { "done" } else { "fail" }.to_owned(),
                    before: power_word(before),
                    after: power_word(node.power_state()),
                    detail: error.clone(),
                    ..Event::default()
                };
                Ok((event, secrets))
            })
            .await?;
        Ok(ReleaseNodeResponse { node: Some(node) })
    }

    /// Changes a node by compare-and-set, once for an operation and step. `change` also has the sealed password that a
    /// rotation gives to the BMC.
    async fn write(
        &self,
        name: &str,
        operation: &str,
        step: &str,
        change: impl Fn(&mut Node, Option<&[u8]>) -> Result<(Event, Secrets), Status>,
    ) -> Result<Node, Status> {
        check::name("node", Collection::Nodes, name)?;
        check::name("operation", Collection::Operations, operation)?;
        let applied = Applied { operation: operation.to_owned(), event: step.to_owned() };
        for _ in 0..TRIES {
            let Stored { mut node, applied: last, next_secret, .. } =
                self.store.stored_node(name).await.map_err(error::store)?;
            if last == applied {
                return Ok(node);
            }
            let revision = node.etag.parse().map_err(|_| internal("a node without a revision"))?;
            let now = time::now();
            let user = user_of(&node);
            let (event, secrets) = change(&mut node, next_secret.as_deref())?;
            let shared = self.shared_account(&node, &user, &secrets, operation).await?;
            let event = Event {
                time: Some(now),
                resource: name.to_owned(),
                operation: operation.to_owned(),
                ..event
            };
            node.update_time = Some(now);
            let applied = applied.clone();
            let system = None;
            let write =
                Transition { node, revision, applied, secrets, shared, system, ports: Vec::new(), event };
            crash::point(step, "before");
            match self.store.transition(write).await {
                Ok(node) => {
                    crash::point(step, "after");
                    return Ok(node);
                }
                // Somebody else wrote the node: whether this may still happen is decided anew.
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => return Err(error::store(other)),
            }
        }
        Err(stale_etag(name, None))
    }
}

/// Whether the node is still as it was when the work was asked for.
fn still(node: &Node, expected_fence: i64, keeps_power: bool) -> Result<(), Status> {
    if expected_fence != 0 && node.fence != expected_fence {
        let why = format!("other work had {} since this was asked for: look at it, and ask again", node.name);
        return Err(refused(node, why));
    }
    if keeps_power && (node.maintenance || node.power_policy() != PowerPolicy::Keep) {
        return Err(refused(node, format!("the power of {} is not Farrier's to keep any more", node.name)));
    }
    Ok(())
}

/// What the last transition of a held node is called. Not words of the life cycle: they move no state.
const HOLD: &str = "hold";
const RELEASE: &str = "release";

fn who(caller: &Caller, actor: &str) -> String {
    if actor.is_empty() { caller.actor() } else { actor.to_owned() }
}
