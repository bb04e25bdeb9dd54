use super::{Resource, common, row};
use farrier_proto::inventory::{Node, Port};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{IntoCondition as _, Query};
use sea_orm::{Condition, Set};

/// Network interfaces of nodes.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "port")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uid: String,
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub body: Vec<u8>,
    pub node: String,
    pub mac_address: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Resource for Port {
    common!(());

    fn row(&self, revision: i64, (): &()) -> ActiveModel {
        row!(
            self,
            revision,
            create_time { node: Set(self.node.clone()), mac_address: Set(self.mac_address.clone()) }
        )
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        match field {
            "node" => Some(Column::Node.eq(value).into_condition()),
            "mac_address" => Some(Column::MacAddress.eq(value).into_condition()),
            _ => None,
        }
    }

    fn visible(project: &str) -> Condition {
        let mut nodes = Query::select();
        nodes.column(super::node::Column::Name).from(super::node::Entity).cond_where(Node::visible(project));
        Column::Node.in_subquery(nodes).into_condition()
    }
}
