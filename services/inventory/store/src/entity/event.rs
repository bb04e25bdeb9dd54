use sea_orm::entity::prelude::*;

/// History; rows are never changed.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub time_ms: i64,
    pub actor: String,
    pub resource: String,
    pub action: String,
    pub before: String,
    pub after: String,
    pub operation: String,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
