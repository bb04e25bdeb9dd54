use crate::entity::{fence, task};
use crate::{Journal, JournalError};
use farrier_proto::rack::{Task, TaskState};
use prost::Message as _;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

/// A task and what rackd keeps with it, sealed.
#[derive(Debug, Clone)]
pub struct Record {
    pub task: Task,
    pub sealed: Vec<u8>,
}

/// Answer to [`Journal::accept`].
#[derive(Debug, Clone)]
pub enum Accepted {
    /// Journaled now: start it.
    New(Record),
    /// It was here already: the caller asks again.
    Known(Record),
}

impl Journal {
    /// Journals a task before anybody is told that it is accepted. The same id again is [`Accepted::Known`];
    /// a fencing token below the node's highest is refused and changes nothing, and so is a second task for the
    /// owner whose first still runs.
    pub async fn accept(&self, mut record: Record) -> Result<Accepted, JournalError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        if let Some(row) = task::Entity::find_by_id(&record.task.id).one(conn).await? {
            let known = read(row)?;
            if known.task.node != record.task.node || known.task.fence != record.task.fence {
                return Err(JournalError::Differs { id: record.task.id });
            }
            return Ok(Accepted::Known(known));
        }
        let (node, given) = (record.task.node.clone(), record.task.fence);
        match fence::Entity::find_by_id(&node).one(conn).await? {
            Some(row) if row.fence > given => {
                return Err(JournalError::StaleFence { node, seen: row.fence, given });
            }
            Some(row) => {
                if let Some(task) = running_with(conn, &node, given).await? {
                    return Err(JournalError::Busy { node, task });
                }
                fence::Entity::update_many()
                    .col_expr(fence::Column::Fence, Expr::value(given))
                    .filter(fence::Column::Node.eq(row.node))
                    .exec(conn)
                    .await?;
            }
            None => {
                fence::Entity::insert(fence::ActiveModel { node: Set(node), fence: Set(given) })
                    .exec(conn)
                    .await?;
            }
        }
        record.task.sequence = next_sequence(conn).await?;
        task::Entity::insert(task::ActiveModel {
            id: Set(record.task.id.clone()),
            node: Set(record.task.node.clone()),
            sequence: Set(record.task.sequence),
            unfinished: Set(true),
            body: Set(record.task.encode_to_vec()),
            sealed: Set(record.sealed.clone()),
        })
        .exec(conn)
        .await?;
        write.commit().await?;
        self.latest.send_replace(record.task.sequence);
        Ok(Accepted::New(record))
    }

    /// Writes a task's change and gives it the next sequence. Its executor is the only writer.
    pub async fn save(&self, task: &mut Task, sealed: Option<&[u8]>) -> Result<(), JournalError> {
        let write = self.db.begin().await?;
        task.sequence = next_sequence(write.conn()).await?;
        let unfinished = task.state() == TaskState::Running;
        let mut update = task::Entity::update_many()
            .col_expr(task::Column::Sequence, Expr::value(task.sequence))
            .col_expr(task::Column::Unfinished, Expr::value(unfinished))
            .col_expr(task::Column::Body, Expr::value(task.encode_to_vec()));
        if let Some(sealed) = sealed {
            update = update.col_expr(task::Column::Sealed, Expr::value(sealed.to_vec()));
        }
        let done = update.filter(task::Column::Id.eq(&task.id)).exec(write.conn()).await?;
        if done.rows_affected == 0 {
            return Err(JournalError::Unknown { id: task.id.clone() });
        }
        write.commit().await?;
        self.latest.send_replace(task.sequence);
        Ok(())
    }

    /// One task.
    pub async fn get(&self, id: &str) -> Result<Option<Record>, JournalError> {
        task::Entity::find_by_id(id).one(self.db.conn()).await?.map(read).transpose()
    }

    /// Tasks to resume after a start, a node's older owners before its newer.
    pub async fn unfinished(&self) -> Result<Vec<Record>, JournalError> {
        let rows = task::Entity::find()
            .filter(task::Column::Unfinished.eq(true))
            .order_by_asc(task::Column::Sequence)
            .all(self.db.conn())
            .await?;
        let mut records = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        records.sort_by_key(|record| record.task.fence);
        Ok(records)
    }

    /// Every task of a node, the newest owner's last change first.
    pub async fn of_node(&self, node: &str) -> Result<Vec<Record>, JournalError> {
        let rows = task::Entity::find()
            .filter(task::Column::Node.eq(node))
            .order_by_desc(task::Column::Sequence)
            .all(self.db.conn())
            .await?;
        let mut records = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        records.sort_by_key(|record| std::cmp::Reverse(record.task.fence));
        Ok(records)
    }

    /// Nodes that have ever had a task here.
    pub async fn nodes(&self) -> Result<Vec<String>, JournalError> {
        let rows = fence::Entity::find().order_by_asc(fence::Column::Node).all(self.db.conn()).await?;
        Ok(rows.into_iter().map(|row| row.node).collect())
    }

    /// Forgets ended tasks.
    pub async fn forget(&self, ids: &[String]) -> Result<(), JournalError> {
        let write = self.db.begin().await?;
        task::Entity::delete_many()
            .filter(task::Column::Unfinished.eq(false))
            .filter(task::Column::Id.is_in(ids.iter().map(String::as_str)))
            .exec(write.conn())
            .await?;
        write.commit().await?;
        Ok(())
    }

    /// Tasks changed after `sequence`, in the order of their changes.
    pub async fn since(&self, sequence: i64, limit: u64) -> Result<Vec<Task>, JournalError> {
        let rows = task::Entity::find()
            .filter(task::Column::Sequence.gt(sequence))
            .order_by_asc(task::Column::Sequence)
            .limit(limit)
            .all(self.db.conn())
            .await?;
        rows.into_iter().map(|row| Ok(read(row)?.task)).collect()
    }

    /// Tasks by id, after `after`.
    pub async fn list(
        &self,
        after: Option<&str>,
        unfinished: bool,
        limit: u64,
    ) -> Result<Vec<Task>, JournalError> {
        let mut query = task::Entity::find().order_by_asc(task::Column::Id).limit(limit);
        if let Some(after) = after {
            query = query.filter(task::Column::Id.gt(after));
        }
        if unfinished {
            query = query.filter(task::Column::Unfinished.eq(true));
        }
        query.all(self.db.conn()).await?.into_iter().map(|row| Ok(read(row)?.task)).collect()
    }

    pub(crate) async fn last_sequence(&self) -> Result<i64, JournalError> {
        Ok(next_sequence(self.db.conn()).await? - 1)
    }
}

/// A running task of the node's owner `fence`.
async fn running_with(
    conn: &impl ConnectionTrait,
    node: &str,
    fence: i64,
) -> Result<Option<String>, JournalError> {
    let rows = task::Entity::find()
        .filter(task::Column::Node.eq(node))
        .filter(task::Column::Unfinished.eq(true))
        .all(conn)
        .await?;
    for row in rows {
        let task = read(row)?.task;
        if task.fence == fence {
            return Ok(Some(task.id));
        }
    }
    Ok(None)
}

fn read(row: task::Model) -> Result<Record, JournalError> {
    let mut task = Task::decode(row.body.as_slice())?;
    task.sequence = row.sequence;
    Ok(Record { task, sealed: row.sealed })
}

async fn next_sequence(conn: &impl ConnectionTrait) -> Result<i64, JournalError> {
    let last: Option<Option<i64>> = task::Entity::find()
        .select_only()
        .column_as(task::Column::Sequence.max(), "last")
        .into_tuple()
        .one(conn)
        .await?;
    Ok(last.flatten().unwrap_or(0) + 1)
}
