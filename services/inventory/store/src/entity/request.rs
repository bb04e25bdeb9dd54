use sea_orm::entity::prelude::*;

/// Requests that were answered, by the id that their caller chose.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "request")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub method: String,
    /// Sealed by the caller: a request may hold a password.
    pub digest: Vec<u8>,
    pub resource: String,
    pub created_ms: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
