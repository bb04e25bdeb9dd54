use super::{Resource, common, row};
use farrier_proto::inventory::DiscoveredMachine;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{Condition, Set};

/// What a machine is looked for by: columns of their own, and a table for its interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineKeys {
    pub uuid: Option<String>,
    pub serial: Option<String>,
    pub macs: Vec<String>,
}

/// Machines that are no nodes.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "discovered")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uid: String,
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub body: Vec<u8>,
    pub rack: String,
    pub uuid: Option<String>,
    pub serial: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Resource for DiscoveredMachine {
    common!(MachineKeys);

    fn row(&self, revision: i64, keys: &MachineKeys) -> ActiveModel {
        row!(
            self,
            revision,
            seen_time {
                rack: Set(self.rack.clone()),
                uuid: Set(keys.uuid.clone()),
                serial: Set(keys.serial.clone()),
            }
        )
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        (field == "rack").then(|| Column::Rack.eq(value).into_condition())
    }
}
