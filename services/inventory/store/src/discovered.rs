//! A discovered machine becomes a node.

use crate::entity::discovered;
use crate::resource::insert;
use crate::{NodeExtra, Store, StoreError, event};
use farrier_proto::inventory::{Event, Node, Port};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

impl Store {
    /// Makes the node and its ports, and takes the machine away. All or nothing.
    pub async fn accept(
        &self,
        machine: &str,
        node: Node,
        extra: &NodeExtra,
        ports: Vec<Port>,
        events: Vec<Event>,
    ) -> Result<Node, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        let gone = discovered::Entity::delete_many().filter(discovered::Column::Name.eq(machine));
        if gone.exec(conn).await?.rows_affected == 0 {
            return Err(StoreError::NotFound { name: machine.to_owned() });
        }
        let node = insert(conn, node, extra).await?;
        for port in ports {
            insert(conn, port, &()).await?;
        }
        event::record(conn, events).await?;
        write.commit().await?;
        Ok(node)
    }
}
