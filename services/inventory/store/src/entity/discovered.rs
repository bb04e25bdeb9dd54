use super::{Resource, common, row};
use farrier_proto::inventory::DiscoveredMachine;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{Condition, Set};

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
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Resource for DiscoveredMachine {
    common!(());

    fn row(&self, revision: i64, (): &()) -> ActiveModel {
        row!(self, revision, seen_time { rack: Set(self.rack.clone()) })
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        (field == "rack").then(|| Column::Rack.eq(value).into_condition())
    }
}
