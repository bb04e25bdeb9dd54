use super::{Resource, common, label_matches, row};
use farrier_proto::inventory::Rack;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{Condition, Set};
use std::collections::HashMap;

/// Racks, each run by one rackd.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rack")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uid: String,
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub body: Vec<u8>,
    pub site: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Resource for Rack {
    common!(());

    fn row(&self, revision: i64, (): &()) -> ActiveModel {
        row!(self, revision, update_time { site: Set(self.site.clone()) })
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        match field {
            "site" => Some(Column::Site.eq(value).into_condition()),
            _ => label_matches(Column::Name, field, value),
        }
    }

    fn labels(&self) -> Option<&HashMap<String, String>> {
        Some(&self.labels)
    }
}
