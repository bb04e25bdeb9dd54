//! What racks look at, and what they see.

use crate::entity::{node, observation};
use crate::{Store, StoreError, event};
use farrier_proto::inventory::{Event, Node, Observation};
use prost::Message as _;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    Select, Set,
};
use std::collections::HashMap;

/// A node that a rack may look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Watchable {
    pub node: Node,
    /// BMC password, sealed.
    pub secret: Option<Vec<u8>>,
    /// The one that a rotation gives to the BMC, sealed.
    pub next_secret: Option<Vec<u8>>,
    /// The BMC's own key, sealed.
    pub kg_secret: Option<Vec<u8>>,
}

impl Store {
    /// Nodes of `rack` out of maintenance and in none of `states`, after `after`, by name.
    pub async fn watchable(
        &self,
        rack: &str,
        states: &[&str],
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Watchable>, StoreError> {
        let mut select = rows()
            .filter(node::Column::Rack.eq(rack))
            .filter(node::Column::Maintenance.eq(false))
            .filter(node::Column::State.is_not_in(states.iter().copied()));
        if let Some(after) = after {
            select = select.filter(node::Column::Name.gt(after));
        }
        read(select.order_by_asc(node::Column::Name).limit(limit), self.db.conn()).await
    }

    /// Nodes of `rack`, or of all, whose BMC is about to get another password, or may have got it, by name: whatever their state,
    /// in maintenance too.
    pub async fn rotating(&self, rack: Option<&str>) -> Result<Vec<Watchable>, StoreError> {
        let mut select = rows().filter(node::Column::BmcNextSecret.is_not_null());
        if let Some(rack) = rack {
            select = select.filter(node::Column::Rack.eq(rack));
        }
        read(select.order_by_asc(node::Column::Name), self.db.conn()).await
    }

    /// What was seen of these nodes, by name.
    pub async fn observations(&self, nodes: &[String]) -> Result<HashMap<String, Observation>, StoreError> {
        observations(self.db.conn(), nodes).await
    }

    /// What was seen of the nodes whose BMC was in trouble when it was last asked, by name.
    pub(crate) async fn bmcs_in_trouble(&self) -> Result<HashMap<String, Observation>, StoreError> {
        let rows = observation::Entity::find().all(self.db.conn()).await?;
        let mut troubled = HashMap::new();
        for row in rows {
            let observation = Observation::decode(row.body.as_slice())?;
            if !observation.bmc_problem.is_empty() {
                troubled.insert(row.node, observation);
            }
        }
        Ok(troubled)
    }

    /// Nodes out of maintenance whose power was last seen otherwise than Farrier left it, by name. What racks see is small:
    /// the nodes themselves are read only where it matters.
    pub async fn power_differing(&self) -> Result<Vec<(Node, Observation)>, StoreError> {
        let rows = observation::Entity::find().all(self.db.conn()).await?;
        let mut seen = HashMap::new();
        for row in rows {
            let observation = Observation::decode(row.body.as_slice())?;
            if observation.power_differs {
                seen.insert(row.node, observation);
            }
        }
        let mut names: Vec<String> = seen.keys().cloned().collect();
        names.sort_unstable();
        let mut differing = Vec::new();
        for names in names.chunks(AT_ONCE) {
            let bodies: Vec<Vec<u8>> = node::Entity::find()
                .select_only()
                .column(node::Column::Body)
                .filter(node::Column::Name.is_in(names))
                .filter(node::Column::Maintenance.eq(false))
                .order_by_asc(node::Column::Name)
                .into_tuple()
                .all(self.db.conn())
                .await?;
            for body in bodies {
                let node = Node::decode(body.as_slice())?;
                if let Some(observation) = seen.remove(&node.name) {
                    differing.push((node, observation));
                }
            }
        }
        Ok(differing)
    }

    /// Writes down what `rack` saw of some of its nodes. `judge` has each node that is the rack's, and what was seen of
    /// it before, and says what is to be kept and what happened.
    pub async fn observe(
        &self,
        rack: &str,
        nodes: &[String],
        mut judge: impl FnMut(&Node, Option<&Observation>) -> Option<(Observation, Vec<Event>)> + Send,
    ) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        let bodies: Vec<Vec<u8>> = node::Entity::find()
            .select_only()
            .column(node::Column::Body)
            .filter(node::Column::Name.is_in(nodes))
            .filter(node::Column::Rack.eq(rack))
            .order_by_asc(node::Column::Name)
            .into_tuple()
            .all(conn)
            .await?;
        let before = observations(conn, nodes).await?;
        let (mut rows, mut events) = (Vec::new(), Vec::new());
        for body in &bodies {
            let node = Node::decode(body.as_slice())?;
            if let Some((seen, happened)) = judge(&node, before.get(&node.name)) {
                let row = observation::ActiveModel { node: Set(node.name), body: Set(seen.encode_to_vec()) };
                rows.push(row);
                events.extend(happened);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let newer =
            OnConflict::column(observation::Column::Node).update_column(observation::Column::Body).to_owned();
        observation::Entity::insert_many(rows).on_conflict(newer).exec_without_returning(conn).await?;
        if !events.is_empty() {
            event::record(conn, events).await?;
        }
        Ok(write.commit().await?)
    }
}

/// Nodes with what opens their BMC.
fn rows() -> Select<node::Entity> {
    node::Entity::find().select_only().columns([
        node::Column::Body,
        node::Column::BmcSecret,
        node::Column::BmcNextSecret,
        node::Column::BmcKgSecret,
    ])
}

async fn read(
    select: Select<node::Entity>,
    conn: &impl ConnectionTrait,
) -> Result<Vec<Watchable>, StoreError> {
    type Row = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);
    let rows: Vec<Row> = select.into_tuple().all(conn).await?;
    let read = |(body, secret, next_secret, kg_secret): Row| {
        Ok(Watchable { node: Node::decode(body.as_slice())?, secret, next_secret, kg_secret })
    };
    rows.into_iter().map(read).collect()
}

/// Nodes of one statement.
const AT_ONCE: usize = 500;

async fn observations(
    conn: &impl ConnectionTrait,
    nodes: &[String],
) -> Result<HashMap<String, Observation>, StoreError> {
    let rows = observation::Entity::find().filter(observation::Column::Node.is_in(nodes)).all(conn).await?;
    rows.into_iter().map(|row| Ok((row.node, Observation::decode(row.body.as_slice())?))).collect()
}
