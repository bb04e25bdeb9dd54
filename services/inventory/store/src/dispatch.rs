//! What the scheduler reads and moves.

use crate::entity::{node, port, rack};
use crate::event;
use crate::resource::{Resource as _, replace};
use crate::{NodeExtra, Secrets, Store, StoreError, SystemKeys};
use farrier_proto::inventory::{Event, Node, Port};
use prost::Message as _;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};

/// The last transition of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    pub operation: String,
    pub event: String,
}

/// A node with what its message does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub node: Node,
    /// BMC password, sealed.
    pub secret: Option<Vec<u8>>,
    /// The one that a rotation gives to the BMC, sealed.
    pub next_secret: Option<Vec<u8>>,
    /// The BMC's own key, sealed.
    pub kg_secret: Option<Vec<u8>>,
    pub applied: Applied,
}

/// A node moves.
#[derive(Debug, Clone)]
pub struct Transition {
    /// As it shall be.
    pub node: Node,
    /// Revision that was read.
    pub revision: i64,
    pub applied: Applied,
    pub secrets: Secrets,
    /// Others that the same account opens, and what becomes of them.
    pub shared: Vec<Shared>,
    /// What its machine is known by, where it was inspected.
    pub system: Option<SystemKeys>,
    /// Interfaces that were found; those whose address is known already are left alone.
    pub ports: Vec<Port>,
    pub event: Event,
}

/// Another system of the same BMC, written with the one that moves or not at all.
#[derive(Debug, Clone)]
pub struct Shared {
    /// As it shall be.
    pub node: Node,
    /// Revision that was read.
    pub revision: i64,
    pub secrets: Secrets,
    /// None: it is written so that nobody else writes it meanwhile.
    pub event: Option<Event>,
}

/// What placement looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    /// Every node.
    pub nodes: Vec<Node>,
    /// `sites/{site}` by `racks/{rack}`.
    pub rack_sites: Vec<(String, String)>,
    /// Names of nodes with a port that may boot from the network, in order.
    pub bootable_nodes: Vec<String>,
}

impl Store {
    /// Any node's sealed password, to try a key on.
    pub async fn a_secret(&self) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        let row = node::Entity::find()
            .select_only()
            .columns([node::Column::Name, node::Column::BmcSecret])
            .filter(node::Column::BmcSecret.is_not_null())
            .into_tuple::<(String, Vec<u8>)>()
            .one(self.db.conn())
            .await?;
        Ok(row)
    }

    /// A node with its sealed password and last transition.
    pub async fn stored_node(&self, name: &str) -> Result<Stored, StoreError> {
        let row = node::Entity::find()
            .select_only()
            .columns([
                node::Column::Body,
                node::Column::BmcSecret,
                node::Column::BmcNextSecret,
                node::Column::BmcKgSecret,
                node::Column::AppliedOperation,
                node::Column::AppliedEvent,
            ])
            .filter(node::Column::Name.eq(name))
            .into_tuple::<(Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, String, String)>()
            .one(self.db.conn())
            .await?;
        let (body, secret, next_secret, kg_secret, operation, event) =
            row.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
        let node = Node::decode(body.as_slice())?;
        Ok(Stored { node, secret, next_secret, kg_secret, applied: Applied { operation, event } })
    }

    /// All systems of one BMC, by what their places begin with.
    pub async fn nodes_at(&self, place: &str) -> Result<Vec<Node>, StoreError> {
        let rows: Vec<(Vec<u8>, String)> = node::Entity::find()
            .select_only()
            .columns([node::Column::Body, node::Column::BmcPlace])
            .filter(node::Column::BmcPlace.starts_with(place))
            .order_by_asc(node::Column::Name)
            .into_tuple()
            .all(self.db.conn())
            .await?;
        // Of LIKE a `_` is any letter.
        let is_there = |(_, at): &&(Vec<u8>, String)| at.starts_with(place);
        rows.iter().filter(is_there).map(|(body, _)| Ok(Node::decode(body.as_slice())?)).collect()
    }

    /// Every node with what placement looks at.
    pub async fn candidates(&self) -> Result<Candidates, StoreError> {
        let conn = self.db.conn();
        let rack_sites = rack::Entity::find()
            .select_only()
            .columns([rack::Column::Name, rack::Column::Site])
            .into_tuple()
            .all(conn)
            .await?;
        let bodies: Vec<Vec<u8>> = node::Entity::find()
            .select_only()
            .column(node::Column::Body)
            .order_by_asc(node::Column::Name)
            .into_tuple()
            .all(conn)
            .await?;
        let mut nodes: Vec<Node> =
            bodies.iter().map(|b| Node::decode(b.as_slice())).collect::<Result<_, _>>()?;
        let mut troubled = self.bmcs_in_trouble().await?;
        for node in &mut nodes {
            node.observation = troubled.remove(&node.name);
        }
        let bodies: Vec<Vec<u8>> = port::Entity::find()
            .select_only()
            .column(port::Column::Body)
            .order_by_asc(port::Column::Node)
            .into_tuple()
            .all(conn)
            .await?;
        let mut bootable_nodes = Vec::new();
        for body in &bodies {
            let port = Port::decode(body.as_slice())?;
            if port.pxe_enabled {
                bootable_nodes.push(port.node);
            }
        }
        bootable_nodes.dedup();
        Ok(Candidates { nodes, rack_sites, bootable_nodes })
    }

    /// Every interface of a node, by name.
    pub async fn ports_of(&self, node: &str) -> Result<Vec<Port>, StoreError> {
        let bodies: Vec<Vec<u8>> = port::Entity::find()
            .select_only()
            .column(port::Column::Body)
            .filter(port::Column::Node.eq(node))
            .order_by_asc(port::Column::Name)
            .into_tuple()
            .all(self.db.conn())
            .await?;
        bodies.iter().map(|b| Ok(Port::decode(b.as_slice())?)).collect()
    }

    /// Moves a node if it still has the revision that was read. One of many racing callers succeeds.
    pub async fn transition(&self, transition: Transition) -> Result<Node, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        let (secrets, applied) = (transition.secrets, Some(transition.applied));
        let extra = NodeExtra { secrets, applied, system: transition.system, ..NodeExtra::default() };
        let node = replace(conn, transition.node, transition.revision, &extra).await?;
        let mut events = vec![transition.event];
        for Shared { node, revision, secrets, event } in transition.shared {
            replace(conn, node, revision, &NodeExtra { secrets, ..NodeExtra::default() }).await?;
            events.extend(event);
        }
        for mut port in transition.ports {
            *port.etag_mut() = "1".to_owned();
            let inserted = port::Entity::insert(port.row(1, &()))
                .on_conflict(OnConflict::column(port::Column::Name).do_nothing().to_owned())
                .exec_without_returning(conn)
                .await;
            if matches!(inserted, Ok(rows) if rows > 0) {
                if let Some(cause) = events.first().cloned() {
                    events.push(Event {
                        resource: port.name,
                        action: "create".to_owned(),
                        before: String::new(),
                        after: String::new(),
                        detail: format!("found by inspecting {}", node.name),
                        ..cause
                    });
                }
            } else if let Err(error) = inserted
                && !matches!(error, sea_orm::DbErr::RecordNotInserted)
            {
                return Err(error.into());
            }
        }
        event::record(conn, events).await?;
        write.commit().await?;
        Ok(node)
    }
}
