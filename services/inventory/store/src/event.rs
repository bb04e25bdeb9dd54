//! History. **Invariant:** sequences grow by one, without gaps, in the order of commits, so that a reader
//! who asks for what came after the last one it saw misses nothing.

use crate::entity::{counter, event, millis, timestamp};
use crate::{Store, StoreError};
use farrier_proto::inventory::Event;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Set,
};

/// A page of history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Field and value; all must match.
    pub terms: Vec<(String, String)>,
    /// Only what lies beyond this sequence, in the direction of reading.
    pub after: Option<i64>,
    /// Newest first.
    pub descending: bool,
    /// Rows at most.
    pub limit: u64,
}

impl Store {
    /// A page of history, by sequence.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let mut select = event::Entity::find();
        for (field, value) in &query.terms {
            let column = match field.as_str() {
                "resource" => event::Column::Resource,
                "operation" => event::Column::Operation,
                "actor" => event::Column::Actor,
                "action" => event::Column::Action,
                _ => return Err(StoreError::UnknownField { field: field.clone() }),
            };
            select = select.filter(column.eq(value.as_str()));
        }
        let sequence = event::Column::Sequence;
        select = match (query.after, query.descending) {
            (Some(after), true) => select.filter(sequence.lt(after)),
            (Some(after), false) => select.filter(sequence.gt(after)),
            (None, _) => select,
        };
        select =
            if query.descending { select.order_by_desc(sequence) } else { select.order_by_asc(sequence) };
        let rows = select.limit(query.limit).all(self.db.conn()).await?;
        Ok(rows.into_iter().map(message).collect())
    }
}

impl Store {
    /// What was seen and changes nothing else.
    pub async fn record_events(&self, events: Vec<Event>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let write = self.db.begin().await?;
        record(write.conn(), events).await?;
        Ok(write.commit().await?)
    }
}

impl Store {
    /// What was seen, unless the same was said of its resource before and none of `about` was made or deleted since: a report that
    /// comes again is no news, also after a restart. Whether it was written.
    pub async fn record_news(&self, news: Event, about: &[String]) -> Result<bool, StoreError> {
        let write = self.db.begin().await?;
        alone(write.conn()).await?;
        let said = event::Entity::find()
            .filter(event::Column::Resource.eq(&*news.resource))
            .filter(event::Column::Action.eq(&*news.action))
            .filter(event::Column::Detail.eq(&*news.detail))
            .order_by_desc(event::Column::Sequence)
            .one(write.conn())
            .await?;
        if let Some(said) = said {
            let changed = event::Entity::find()
                .filter(event::Column::Resource.is_in(about))
                .filter(event::Column::Action.is_in(["create", "delete"]))
                .filter(event::Column::Sequence.gt(said.sequence));
            if changed.one(write.conn()).await?.is_none() {
                return Ok(false);
            }
        }
        record(write.conn(), vec![news]).await?;
        write.commit().await?;
        Ok(true)
    }
}

impl Store {
    /// What happened, unless it was recorded of its resource since `since_ms` (Unix milliseconds) already, in whatever words.
    /// Whether it was written.
    pub async fn record_once(&self, news: Event, since_ms: i64) -> Result<bool, StoreError> {
        let write = self.db.begin().await?;
        alone(write.conn()).await?;
        let said = event::Entity::find()
            .filter(event::Column::Resource.eq(&*news.resource))
            .filter(event::Column::Action.eq(&*news.action))
            .filter(event::Column::TimeMs.gte(since_ms));
        if said.one(write.conn()).await?.is_some() {
            return Ok(false);
        }
        record(write.conn(), vec![news]).await?;
        write.commit().await?;
        Ok(true)
    }
}

/// Whoever records the same at this moment waits here, and then finds it.
async fn alone(conn: &DatabaseTransaction) -> Result<(), StoreError> {
    counter::Entity::update_many()
        .col_expr(counter::Column::Value, Expr::col(counter::Column::Value))
        .filter(counter::Column::Name.eq("event"))
        .exec(conn)
        .await?;
    Ok(())
}

/// Writes events as the last thing of a transaction: it holds the counter until the commit.
pub(crate) async fn record(conn: &DatabaseTransaction, events: Vec<Event>) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let counted = counter::Entity::update_many()
        .col_expr(counter::Column::Value, Expr::col(counter::Column::Value).add(count))
        .filter(counter::Column::Name.eq("event"))
        .exec_with_returning(conn)
        .await?;
    let last = counted.first().ok_or_else(|| DbErr::RecordNotFound("the event counter".to_owned()))?.value;
    let rows = events.into_iter().zip(last.saturating_sub(count).saturating_add(1)..).map(|(e, sequence)| {
        event::ActiveModel {
            sequence: Set(sequence),
            time_ms: Set(millis(e.time.as_ref())),
            actor: Set(e.actor),
            resource: Set(e.resource),
            action: Set(e.action),
            before: Set(e.before),
            after: Set(e.after),
            operation: Set(e.operation),
            detail: Set(e.detail),
        }
    });
    event::Entity::insert_many(rows).exec_without_returning(conn).await?;
    Ok(())
}

fn message(row: event::Model) -> Event {
    Event {
        sequence: row.sequence,
        time: Some(timestamp(row.time_ms)),
        actor: row.actor,
        resource: row.resource,
        action: row.action,
        before: row.before,
        after: row.after,
        operation: row.operation,
        detail: row.detail,
    }
}
