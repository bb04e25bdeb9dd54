//! The nodes that a machine may be: by its system's UUID and serial number, and by name.

use crate::entity::node;
use crate::{MachineKeys, Store, StoreError, SystemKeys};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

/// A node, and what its machine is known by, but for its BMC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNode {
    pub name: String,
    pub rack: String,
    pub system: SystemKeys,
}

impl Store {
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
        let known = |(name, rack, uuid, serial)| KnownNode {
            name,
            rack,
            system: SystemKeys { uuid, serial, bmc: None },
        };
        Ok(rows.into_iter().map(known).collect())
    }
}
