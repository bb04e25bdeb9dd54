use super::{Resource, common, label_matches, row};
use farrier_proto::inventory::Flavor;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{Condition, Set};
use std::collections::HashMap;

/// What requests need of a machine.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "flavor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uid: String,
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub body: Vec<u8>,
    pub architecture: String,
    pub resource_class: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Resource for Flavor {
    common!(());

    fn row(&self, revision: i64, (): &()) -> ActiveModel {
        row!(
            self,
            revision,
            create_time {
                architecture: Set(self.architecture.clone()),
                resource_class: Set(self.resource_class.clone()),
            }
        )
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        match field {
            "architecture" => Some(Column::Architecture.eq(value).into_condition()),
            "resource_class" => Some(Column::ResourceClass.eq(value).into_condition()),
            _ => label_matches(Column::Name, field, value),
        }
    }

    fn labels(&self) -> Option<&HashMap<String, String>> {
        Some(&self.labels)
    }
}
