use super::{Resource, common, label_matches, row};
use farrier_proto::inventory::Site;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, Set};
use std::collections::HashMap;

/// Places that have racks.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "site")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uid: String,
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Resource for Site {
    common!(());

    fn row(&self, revision: i64, (): &()) -> ActiveModel {
        row!(self, revision, update_time {})
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        label_matches(Column::Name, field, value)
    }

    fn labels(&self) -> Option<&HashMap<String, String>> {
        Some(&self.labels)
    }
}
