//! The nodes that a machine may be: by its system's UUID and serial number, and by name.

use crate::entity::node;
use crate::{MachineKeys, Store, StoreError, SystemKeys};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

/// A node, and what its machine is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNode {
    pub name: String,
    pub rack: String,
    pub system: SystemKeys,
}

impl Store {
    /// Another node whose BMC's place begins so: who is reached at the same address.
    pub async fn node_at(&self, place: &str, but: &str) -> Result<Option<String>, StoreError> {
        let rows: Vec<(String, Option<String>)> = node::Entity::find()
            .select_only()
            .columns([node::Column::Name, node::Column::BmcPlace])
            .filter(node::Column::BmcPlace.starts_with(place))
            .filter(node::Column::Name.ne(but))
            .order_by_asc(node::Column::Name)
            .into_tuple()
            .all(self.db.conn())
            .await?;
        // To the database some letters stand for any.
        let is_there =
            |(_, at): &(String, Option<String>)| at.as_deref().is_some_and(|at| at.starts_with(place));
        Ok(rows.into_iter().find(is_there).map(|(name, _)| name))
    }

    /// Nodes whose machines say one of the keys, and those of these names, by name; at most so many.
    pub async fn nodes_like(
        &self,
        names: &[String],
        keys: &MachineKeys,
        most: u64,
    ) -> Result<Vec<KnownNode>, StoreError> {
        let any = Condition::any()
            .add(node::Column::Name.is_in(names.iter().map(String::as_str)))
            .add_option(keys.uuid.as_deref().map(|uuid| node::Column::SystemUuid.eq(uuid)))
            .add_option(keys.serial.as_deref().map(|serial| node::Column::SystemSerial.eq(serial)));
        let rows: Vec<(String, String, Option<String>, Option<String>)> = node::Entity::find()
            .select_only()
            .columns([
                node::Column::Name,
                node::Column::Rack,
                node::Column::SystemUuid,
                node::Column::SystemSerial,
            ])
            .filter(any)
            .order_by_asc(node::Column::Name)
            .limit(most)
            .into_tuple()
            .all(self.db.conn())
            .await?;
        let known =
            |(name, rack, uuid, serial)| KnownNode { name, rack, system: SystemKeys { uuid, serial } };
        Ok(rows.into_iter().map(known).collect())
    }
}
