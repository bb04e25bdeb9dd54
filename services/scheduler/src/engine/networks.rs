//! Which racks have the network that an instance asks for: asked of the racks themselves, before a node is taken.

use super::Engine;
use farrier_model::placement::{Placement, Rejection};
use farrier_proto::inventory::{GetRackRequest, Node};
use farrier_proto::rack::{GetRackStatusRequest, SegmentRole};
use std::collections::HashMap;
use std::time::Duration;

/// How long a rack may take to say what networks it has: the node is not taken yet, somebody waits.
const ASK: Duration = Duration::from_secs(5);

/// One request's questions: each rack is asked once.
pub(super) struct Networks<'a> {
    wanted: &'a str,
    /// Tenant networks of each rack; none: it did not say.
    known: HashMap<String, Option<Vec<String>>>,
}

impl<'a> Networks<'a> {
    /// `wanted`: the name of a network; empty: whatever the rack gives.
    pub(super) fn new(wanted: &'a str) -> Self {
        Self { wanted, known: HashMap::new() }
    }

    /// Why a node of this rack cannot be on the network. A rack that is away says nothing against it: it will be
    /// waited for, and judges for itself.
    pub(super) async fn refuse(&mut self, engine: &Engine, rack: &str) -> Option<String> {
        if self.wanted.is_empty() {
            return None;
        }
        if !self.known.contains_key(rack) {
            let told = tokio::time::timeout(ASK, ask(engine, rack)).await.ok().flatten();
            self.known.insert(rack.to_owned(), told);
        }
        let known = self.known.get(rack)?.as_ref()?;
        (!known.iter().any(|name| name == self.wanted)).then(|| {
            let has = if known.is_empty() { "none for instances".to_owned() } else { known.join(", ") };
            format!("network: asked for {}, {rack} has {has}", self.wanted)
        })
    }

    /// The same placement with the nodes before the first that can be on the network rejected.
    pub(super) async fn first(
        &mut self,
        engine: &Engine,
        mut placed: Placement,
        nodes: &[Node],
    ) -> Placement {
        if self.wanted.is_empty() {
            return placed;
        }
        let racks: HashMap<&str, &str> = nodes.iter().map(|n| (n.name.as_str(), n.rack.as_str())).collect();
        let mut fits = std::mem::take(&mut placed.fits).into_iter();
        for node in fits.by_ref() {
            let rack = racks.get(node.as_str()).copied().unwrap_or_default();
            match self.refuse(engine, rack).await {
                Some(reason) => placed.rejections.push(Rejection { node, reason }),
                None => {
                    placed.fits.push(node);
                    break;
                }
            }
        }
        placed.fits.extend(fits);
        placed
    }
}

/// Tenant networks of a rack, in its order.
async fn ask(engine: &Engine, rack: &str) -> Option<Vec<String>> {
    let mut registry = engine.clients.racks.clone();
    let address =
        registry.get_rack(GetRackRequest { name: rack.to_owned() }).await.ok()?.into_inner().address;
    let mut rackd = engine.clients.rack(rack, &address).ok()?;
    let status = rackd.get_rack_status(GetRackStatusRequest {}).await.ok()?.into_inner();
    // An older rackd does not say what its segments are for.
    if status.segments.iter().any(|segment| segment.role() == SegmentRole::Unspecified) {
        return None;
    }
    let tenants = status.segments.into_iter().filter(|segment| segment.role() == SegmentRole::Tenant);
    Some(tenants.map(|segment| segment.name).collect())
}
