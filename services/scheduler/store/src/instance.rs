use crate::entity::instance;
use crate::{Store, StoreError};
use farrier_proto::scheduler::Instance;
use prost::Message as _;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, ExprTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

/// What a list of instances is limited to.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    pub state: Option<i32>,
    pub placed_node: Option<String>,
    pub owner: Option<String>,
    /// Only these projects' and everybody's; `None`: all.
    pub visible_to: Option<String>,
}

impl Store {
    pub async fn instance(&self, name: &str) -> Result<Instance, StoreError> {
        find(self.db.conn(), name).await?.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
    }

    /// Instances by name, after `after`, one more than `limit`.
    pub async fn instances(
        &self,
        filter: &InstanceFilter,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Instance>, StoreError> {
        let mut query = instance::Entity::find().order_by_asc(instance::Column::Name).limit(limit);
        if let Some(after) = after {
            query = query.filter(instance::Column::Name.gt(after));
        }
        if let Some(state) = filter.state {
            query = query.filter(instance::Column::State.eq(state));
        }
        if let Some(node) = &filter.placed_node {
            query = query.filter(instance::Column::PlacedNode.eq(node));
        }
        if let Some(owner) = &filter.owner {
            query = query.filter(instance::Column::Owner.eq(owner));
        }
        if let Some(project) = &filter.visible_to {
            query = query.filter(instance::Column::Owner.is_in([project.as_str(), ""]));
        }
        query.all(self.db.conn()).await?.into_iter().map(read).collect()
    }
}

pub(crate) async fn find(conn: &impl ConnectionTrait, name: &str) -> Result<Option<Instance>, StoreError> {
    instance::Entity::find_by_id(name).one(conn).await?.map(read).transpose()
}

pub(crate) async fn insert(conn: &impl ConnectionTrait, new: &Instance) -> Result<(), StoreError> {
    let row = instance::ActiveModel {
        name: Set(new.name.clone()),
        owner: Set(new.owner.clone()),
        state: Set(new.state),
        placed_node: Set(new.placed_node.clone()),
        revision: Set(1),
        body: Set(new.encode_to_vec()),
    };
    match instance::Entity::insert(row).exec_without_returning(conn).await {
        Ok(_) => Ok(()),
        Err(error) if farrier_db::is_duplicate(&error) => {
            Err(StoreError::NameTaken { name: new.name.clone() })
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn update(conn: &impl ConnectionTrait, changed: &Instance) -> Result<(), StoreError> {
    instance::Entity::update_many()
        .col_expr(instance::Column::State, Expr::value(changed.state))
        .col_expr(instance::Column::PlacedNode, Expr::value(changed.placed_node.clone()))
        .col_expr(instance::Column::Revision, Expr::col(instance::Column::Revision).add(1))
        .col_expr(instance::Column::Body, Expr::value(changed.encode_to_vec()))
        .filter(instance::Column::Name.eq(&changed.name))
        .exec(conn)
        .await?;
    Ok(())
}

pub(crate) async fn remove(conn: &impl ConnectionTrait, name: &str) -> Result<(), StoreError> {
    instance::Entity::delete_by_id(name).exec(conn).await?;
    Ok(())
}

fn read(row: instance::Model) -> Result<Instance, StoreError> {
    let mut instance = Instance::decode(row.body.as_slice())?;
    instance.etag = row.revision.to_string();
    Ok(instance)
}
