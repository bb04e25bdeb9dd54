use sea_orm::entity::prelude::*;

/// One-time tokens of racks, as digests.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "join_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
    pub rack: String,
    pub expires_ms: i64,
    /// SHA-256 of the public key that used it.
    pub key_digest: Option<Vec<u8>>,
    pub used_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
