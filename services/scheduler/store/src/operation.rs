use crate::entity::{operation, request};
use crate::{Store, StoreError, instance};
use farrier_proto::rack::TaskSpec;
use farrier_proto::scheduler::{Instance, Operation, OperationPhase};
use prost::Message as _;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Condition, Expr};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, ExprTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

/// An operation and what only the scheduler knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRow {
    pub operation: Operation,
    pub owner: String,
    /// What the rack shall do, without the machine and without user data.
    pub work: TaskSpec,
    /// The user data, sealed by the caller. Forgotten when the operation is done.
    pub sealed: Option<Vec<u8>>,
    /// Why it is to stop; empty: it is not.
    pub cancel: String,
}

/// An operation to store.
#[derive(Debug, Clone)]
pub struct NewOperation {
    pub row: OperationRow,
    /// Id of the request and a digest of its content; the same again gets the same operation.
    pub request: Option<(String, Vec<u8>)>,
    /// A new instance, stored with it.
    pub create: Option<Instance>,
}

/// What a list of operations is limited to.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    pub done: Option<bool>,
    pub target: Option<String>,
    pub node: Option<String>,
    pub kind: Option<i32>,
    /// Only this project's; `None`: all.
    pub visible_to: Option<String>,
}

/// What becomes of the instance together with an operation's change.
enum InstanceChange {
    Keep,
    Write(Box<Instance>),
    Remove(String),
}

impl Store {
    /// Stores an operation, its request id and its new instance together. Returns the stored one, or the
    /// one that the same request made before.
    pub async fn create(&self, new: NewOperation) -> Result<Operation, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        if let Some((id, content)) = &new.request {
            if let Some(known) = answered(conn, id, content).await? {
                return Ok(known);
            }
            insert_request(conn, id, content, &new.row.operation.name).await?;
        }
        if let Some(instance) = &new.create {
            instance::insert(conn, instance).await?;
        }
        let op = &new.row.operation;
        let row = operation::ActiveModel {
            name: Set(op.name.clone()),
            owner: Set(new.row.owner.clone()),
            kind: Set(op.r#type),
            phase: Set(op.phase),
            done: Set(op.done),
            target: Set(op.target.clone()),
            node: Set(op.node.clone()),
            rack: Set(op.rack.clone()),
            cancel: Set(new.row.cancel.clone()),
            work: Set(new.row.work.encode_to_vec()),
            sealed: Set(new.row.sealed.clone()),
            revision: Set(1),
            body: Set(op.encode_to_vec()),
        };
        operation::Entity::insert(row).exec_without_returning(conn).await?;
        write.commit().await?;
        self.nudge();
        Ok(new.row.operation)
    }

    /// Any operation's sealed user data, to try a key on.
    pub async fn a_secret(&self) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        let row = operation::Entity::find()
            .select_only()
            .columns([operation::Column::Name, operation::Column::Sealed])
            .filter(operation::Column::Sealed.is_not_null())
            .into_tuple::<(String, Vec<u8>)>()
            .one(self.db.conn())
            .await?;
        Ok(row)
    }

    /// What the same request got before, if it came before.
    pub async fn answered(&self, id: &str, content: &[u8]) -> Result<Option<Operation>, StoreError> {
        answered(self.db.conn(), id, content).await
    }

    /// Remembers that a request was answered with an operation that was there already.
    pub async fn remember(&self, id: &str, content: &[u8], operation: &str) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        if answered(write.conn(), id, content).await?.is_none() {
            insert_request(write.conn(), id, content, operation).await?;
        }
        Ok(write.commit().await?)
    }

    pub async fn operation(&self, name: &str) -> Result<OperationRow, StoreError> {
        find(self.db.conn(), name).await
    }

    /// Operations by name (their age), after `after`.
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<OperationRow>, StoreError> {
        let mut query = operation::Entity::find().order_by_asc(operation::Column::Name).limit(limit);
        if let Some(after) = after {
            query = query.filter(operation::Column::Name.gt(after));
        }
        if let Some(done) = filter.done {
            query = query.filter(operation::Column::Done.eq(done));
        }
        if let Some(target) = &filter.target {
            query = query.filter(operation::Column::Target.eq(target));
        }
        if let Some(node) = &filter.node {
            query = query.filter(operation::Column::Node.eq(node));
        }
        if let Some(kind) = filter.kind {
            query = query.filter(operation::Column::Kind.eq(kind));
        }
        if let Some(project) = &filter.visible_to {
            query = query.filter(operation::Column::Owner.eq(project));
        }
        query.all(self.db.conn()).await?.into_iter().map(read).collect()
    }

    /// Names of what is not done, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<String>, StoreError> {
        let rows = operation::Entity::find()
            .select_only()
            .column(operation::Column::Name)
            .filter(operation::Column::Done.eq(false))
            .order_by_asc(operation::Column::Name)
            .into_tuple::<String>()
            .all(self.db.conn())
            .await?;
        Ok(rows)
    }

    /// The oldest unfinished operation before `name` on the same node or for the same target: work on one
    /// thing is done in order.
    pub async fn ahead_of(&self, name: &str, node: &str, target: &str) -> Result<Option<String>, StoreError> {
        let mut same = Condition::any().add(operation::Column::Target.eq(target));
        if !node.is_empty() {
            same = same.add(operation::Column::Node.eq(node));
        }
        let row = operation::Entity::find()
            .filter(operation::Column::Done.eq(false))
            .filter(operation::Column::Name.lt(name))
            .filter(same)
            .order_by_asc(operation::Column::Name)
            .limit(1)
            .one(self.db.conn())
            .await?;
        Ok(row.map(|row| row.name))
    }

    /// Unfinished operations whose task a rack has or should have.
    pub async fn running_at(&self, rack: &str) -> Result<Vec<OperationRow>, StoreError> {
        let rows = operation::Entity::find()
            .filter(operation::Column::Done.eq(false))
            .filter(operation::Column::Rack.eq(rack))
            .filter(operation::Column::Phase.eq(i32::from(OperationPhase::Running)))
            .order_by_asc(operation::Column::Name)
            .all(self.db.conn())
            .await?;
        rows.into_iter().map(read).collect()
    }

    /// Changes an operation that is not done. `None` when it is done: nothing changes it any more.
    pub async fn edit(
        &self,
        name: &str,
        change: impl FnOnce(&mut OperationRow) + Send,
    ) -> Result<Option<OperationRow>, StoreError> {
        self.edit_with(name, |row, _| {
            change(row);
            InstanceChange::Keep
        })
        .await
    }

    /// Changes an operation that is not done together with its instance, if the instance is still there.
    pub async fn edit_with_instance(
        &self,
        name: &str,
        change: impl FnOnce(&mut OperationRow, &mut Instance) + Send,
    ) -> Result<Option<OperationRow>, StoreError> {
        self.edit_with(name, |row, instance| match instance {
            Some(mut instance) => {
                change(row, &mut instance);
                InstanceChange::Write(Box::new(instance))
            }
            None => {
                change(row, &mut Instance::default());
                InstanceChange::Keep
            }
        })
        .await
    }

    /// Changes an operation that is not done, and removes its instance.
    pub async fn edit_removing_instance(
        &self,
        name: &str,
        change: impl FnOnce(&mut OperationRow) + Send,
    ) -> Result<Option<OperationRow>, StoreError> {
        self.edit_with(name, |row, instance| {
            change(row);
            instance.map_or(InstanceChange::Keep, |i| InstanceChange::Remove(i.name))
        })
        .await
    }

    async fn edit_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut OperationRow, Option<Instance>) -> InstanceChange + Send,
    ) -> Result<Option<OperationRow>, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        let mut row = find_locked(conn, name).await?;
        if row.operation.done {
            return Ok(None);
        }
        let instance = if row.operation.target.starts_with("instances/") {
            instance::find(conn, &row.operation.target).await?
        } else {
            None
        };
        match change(&mut row, instance) {
            InstanceChange::Keep => {}
            InstanceChange::Write(instance) => instance::update(conn, &instance).await?,
            InstanceChange::Remove(name) => instance::remove(conn, &name).await?,
        }
        let op = &row.operation;
        let mut update = operation::Entity::update_many();
        if op.done {
            update = update.col_expr(operation::Column::Sealed, Expr::value(None::<Vec<u8>>));
        }
        update
            .col_expr(operation::Column::Phase, Expr::value(op.phase))
            .col_expr(operation::Column::Done, Expr::value(op.done))
            .col_expr(operation::Column::Node, Expr::value(op.node.clone()))
            .col_expr(operation::Column::Rack, Expr::value(op.rack.clone()))
            .col_expr(operation::Column::Cancel, Expr::value(row.cancel.clone()))
            .col_expr(operation::Column::Revision, Expr::col(operation::Column::Revision).add(1))
            .col_expr(operation::Column::Body, Expr::value(op.encode_to_vec()))
            .filter(operation::Column::Name.eq(name))
            .exec(conn)
            .await?;
        write.commit().await?;
        self.nudge();
        Ok(Some(row))
    }
}

async fn answered(
    conn: &impl ConnectionTrait,
    id: &str,
    content: &[u8],
) -> Result<Option<Operation>, StoreError> {
    let Some(known) = request::Entity::find_by_id(id).one(conn).await? else { return Ok(None) };
    if known.content != content {
        return Err(StoreError::RequestIdReused { id: id.to_owned() });
    }
    Ok(Some(find(conn, &known.operation).await?.operation))
}

async fn insert_request(
    conn: &impl ConnectionTrait,
    id: &str,
    content: &[u8],
    operation: &str,
) -> Result<(), StoreError> {
    let row = request::ActiveModel {
        id: Set(id.to_owned()),
        content: Set(content.to_vec()),
        operation: Set(operation.to_owned()),
    };
    request::Entity::insert(row).exec_without_returning(conn).await?;
    Ok(())
}

async fn find(conn: &impl ConnectionTrait, name: &str) -> Result<OperationRow, StoreError> {
    let row = operation::Entity::find_by_id(name).one(conn).await?;
    row.map(read).transpose()?.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
}

/// As [`find`], keeping other writers off the row (PostgreSQL; SQLite has one writer anyway).
async fn find_locked(conn: &impl ConnectionTrait, name: &str) -> Result<OperationRow, StoreError> {
    let row = operation::Entity::find_by_id(name).lock_exclusive().one(conn).await?;
    row.map(read).transpose()?.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
}

fn read(row: operation::Model) -> Result<OperationRow, StoreError> {
    let mut operation = Operation::decode(row.body.as_slice())?;
    operation.etag = row.revision.to_string();
    Ok(OperationRow {
        operation,
        owner: row.owner,
        work: TaskSpec::decode(row.work.as_slice())?,
        sealed: row.sealed,
        cancel: row.cancel,
    })
}
