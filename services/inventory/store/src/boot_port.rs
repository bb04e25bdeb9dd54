//! The ports that a rack's machines boot from.

use crate::entity::{node, port};
use crate::{Store, StoreError};
use farrier_proto::inventory::Port;
use prost::Message as _;
use sea_orm::sea_query::Query;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};

impl Store {
    /// Ports of the nodes of `rack` after `after`, by name: those that boot from the network and the others.
    pub async fn ports_of_rack(
        &self,
        rack: &str,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Port>, StoreError> {
        let mut nodes = Query::select();
        nodes.column(node::Column::Name).from(node::Entity).cond_where(node::Column::Rack.eq(rack));
        let mut select = port::Entity::find()
            .select_only()
            .column(port::Column::Body)
            .filter(port::Column::Node.in_subquery(nodes));
        if let Some(after) = after {
            select = select.filter(port::Column::Name.gt(after));
        }
        let bodies: Vec<Vec<u8>> =
            select.order_by_asc(port::Column::Name).limit(limit).into_tuple().all(self.db.conn()).await?;
        bodies.iter().map(|body| Ok(Port::decode(body.as_slice())?)).collect()
    }
}
