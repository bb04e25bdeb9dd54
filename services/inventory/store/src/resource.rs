//! Reading and writing resources, the same for every noun.

use crate::entity::label;
use crate::request::RequestRecord;
use crate::{Store, StoreError, event, request};
use farrier_proto::inventory::Event;
use prost::Message;
use sea_orm::sea_query::{IntoCondition as _, Query as Sql};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Set, SqlErr,
};
use std::collections::HashMap;

/// A message that is stored as a row. Implemented in this crate only.
pub trait Resource: Message + Default + Clone + Send + Sync + 'static {
    /// Its table.
    type Table: EntityTrait;
    /// What its row has beside the message.
    type Extra: Default + Clone + Send + Sync;
    /// Its key.
    const NAME: <Self::Table as EntityTrait>::Column;
    /// Grows by one with each write.
    const REVISION: <Self::Table as EntityTrait>::Column;
    /// The message.
    const BODY: <Self::Table as EntityTrait>::Column;

    /// Resource name.
    fn name(&self) -> &str;
    /// The revision as callers see it.
    fn etag_mut(&mut self) -> &mut String;
    /// Labels that lists search by.
    fn labels(&self) -> Option<&HashMap<String, String>> {
        None
    }
    /// The row for this message.
    fn row(&self, revision: i64, extra: &Self::Extra) -> <Self::Table as EntityTrait>::ActiveModel;
    /// Rows whose `field` has `value`; none: lists cannot be searched by it.
    fn matches(field: &str, value: &str) -> Option<Condition>;
    /// Rows that this one cannot be beside, other than by its name.
    fn rivals(_extra: &Self::Extra) -> Option<Condition> {
        None
    }
    /// Rows that a project sees.
    fn visible(_project: &str) -> Condition {
        Condition::all()
    }
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Field and value; all must match.
    pub terms: Vec<(String, String)>,
    /// Only what this project sees.
    pub project: Option<String>,
    /// Only names after this one.
    pub after: Option<String>,
    /// Rows at most.
    pub limit: u64,
}

/// A resource to make.
#[derive(Debug, Clone)]
pub struct New<R: Resource> {
    pub resource: R,
    pub extra: R::Extra,
    pub event: Event,
    /// Kept so that the same request again gets the same answer.
    pub request: Option<RequestRecord>,
    /// Do everything, then undo it: whether it could be made.
    pub dry: bool,
}

/// How a creation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Created<R> {
    /// Made now.
    New(R),
    /// The request id was used before: for that request, which made the resource of this name.
    Repeated { request: RequestRecord, name: String },
}

impl Store {
    /// One resource.
    pub async fn get<R: Resource>(&self, name: &str) -> Result<R, StoreError> {
        get(self.db.conn(), name).await
    }

    /// A page of resources, by name.
    pub async fn list<R: Resource>(&self, query: &Query) -> Result<Vec<R>, StoreError> {
        let mut select = R::Table::find().select_only().column(R::BODY);
        for (field, value) in &query.terms {
            let condition =
                R::matches(field, value).ok_or_else(|| StoreError::UnknownField { field: field.clone() })?;
            select = select.filter(condition);
        }
        if let Some(project) = &query.project {
            select = select.filter(R::visible(project));
        }
        if let Some(after) = &query.after {
            select = select.filter(R::NAME.gt(after.as_str()));
        }
        let rows: Vec<Vec<u8>> =
            select.order_by_asc(R::NAME).limit(query.limit).into_tuple().all(self.db.conn()).await?;
        rows.iter().map(|body| Ok(R::decode(body.as_slice())?)).collect()
    }

    /// Makes a resource, once per request id.
    pub async fn create<R: Resource>(&self, new: New<R>) -> Result<Created<R>, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        if let Some(record) = &new.request {
            if let Some((request, name)) = request::find(conn, &record.id).await? {
                return Ok(Created::Repeated { request, name });
            }
            request::insert(conn, record, new.resource.name(), new.event.time.as_ref()).await?;
        }
        let resource = insert(conn, new.resource, &new.extra).await?;
        event::record(conn, vec![new.event]).await?;
        if !new.dry {
            write.commit().await?;
        }
        Ok(Created::New(resource))
    }

    /// Writes a resource if it still has the revision that the caller read.
    pub async fn replace<R: Resource>(
        &self,
        resource: R,
        revision: i64,
        extra: &R::Extra,
        event: Event,
    ) -> Result<R, StoreError> {
        let write = self.db.begin().await?;
        let resource = replace(write.conn(), resource, revision, extra).await?;
        event::record(write.conn(), vec![event]).await?;
        write.commit().await?;
        Ok(resource)
    }

    /// Deletes a resource, if it still has this revision where one is given.
    pub async fn delete<R: Resource>(
        &self,
        name: &str,
        revision: Option<i64>,
        event: Event,
    ) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        let mut delete = R::Table::delete_many().filter(R::NAME.eq(name));
        if let Some(revision) = revision {
            delete = delete.filter(R::REVISION.eq(revision));
        }
        let deleted = delete.exec(conn).await.map_err(|error| match error.sql_err() {
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => StoreError::InUse { name: name.to_owned() },
            _ => error.into(),
        })?;
        if deleted.rows_affected == 0 {
            return Err(missed::<R>(conn, name).await?);
        }
        label::Entity::delete_many().filter(label::Column::Resource.eq(name)).exec(conn).await?;
        event::record(conn, vec![event]).await?;
        Ok(write.commit().await?)
    }
}

pub(crate) async fn get<R: Resource>(conn: &impl ConnectionTrait, name: &str) -> Result<R, StoreError> {
    let body: Option<Vec<u8>> = R::Table::find()
        .select_only()
        .column(R::BODY)
        .filter(R::NAME.eq(name))
        .into_tuple()
        .one(conn)
        .await?;
    let body = body.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
    Ok(R::decode(body.as_slice())?)
}

pub(crate) async fn insert<R: Resource>(
    conn: &DatabaseTransaction,
    mut resource: R,
    extra: &R::Extra,
) -> Result<R, StoreError> {
    *resource.etag_mut() = FIRST.to_string();
    no_rival::<R>(conn, resource.name(), extra).await?;
    let name = resource.name().to_owned();
    R::Table::insert(resource.row(FIRST, extra)).exec_without_returning(conn).await.map_err(|error| {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => StoreError::Taken { name },
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => StoreError::NoParent { name },
            _ => error.into(),
        }
    })?;
    write_labels(conn, &resource).await?;
    Ok(resource)
}

pub(crate) async fn replace<R: Resource>(
    conn: &DatabaseTransaction,
    mut resource: R,
    revision: i64,
    extra: &R::Extra,
) -> Result<R, StoreError> {
    let next = revision.saturating_add(1);
    no_rival::<R>(conn, resource.name(), extra).await?;
    *resource.etag_mut() = next.to_string();
    let updated = R::Table::update_many()
        .set(resource.row(next, extra))
        .filter(R::NAME.eq(resource.name()))
        .filter(R::REVISION.eq(revision))
        .exec(conn)
        .await
        .map_err(|error| match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => {
                StoreError::Taken { name: resource.name().to_owned() }
            }
            _ => error.into(),
        })?;
    if updated.rows_affected == 0 {
        return Err(missed::<R>(conn, resource.name()).await?);
    }
    write_labels(conn, &resource).await?;
    Ok(resource)
}

/// Tells who has it already, which a violated index does not; whoever comes in between meets the index.
async fn no_rival<R: Resource>(
    conn: &DatabaseTransaction,
    name: &str,
    extra: &R::Extra,
) -> Result<(), StoreError> {
    let Some(rivals) = R::rivals(extra) else { return Ok(()) };
    let select = R::Table::find().select_only().column(R::NAME).filter(rivals).filter(R::NAME.ne(name));
    match select.into_tuple::<String>().one(conn).await? {
        Some(other) => Err(StoreError::Rival { name: name.to_owned(), other }),
        None => Ok(()),
    }
}

/// Why a compare-and-set touched no row.
async fn missed<R: Resource>(conn: &DatabaseTransaction, name: &str) -> Result<StoreError, StoreError> {
    match get::<R>(conn, name).await {
        Ok(_) => Ok(StoreError::Conflict { name: name.to_owned() }),
        Err(StoreError::NotFound { name }) => Ok(StoreError::NotFound { name }),
        Err(error) => Err(error),
    }
}

/// Revision of a row that was just made.
const FIRST: i64 = 1;

async fn write_labels<R: Resource>(conn: &DatabaseTransaction, resource: &R) -> Result<(), StoreError> {
    let Some(labels) = resource.labels() else { return Ok(()) };
    label::Entity::delete_many().filter(label::Column::Resource.eq(resource.name())).exec(conn).await?;
    if labels.is_empty() {
        return Ok(());
    }
    let rows = labels.iter().map(|(key, value)| label::ActiveModel {
        resource: Set(resource.name().to_owned()),
        key: Set(key.clone()),
        value: Set(value.clone()),
    });
    label::Entity::insert_many(rows).exec_without_returning(conn).await?;
    Ok(())
}

/// `labels.KEY` = `value`.
pub(crate) fn label_matches(name: impl ColumnTrait, field: &str, value: &str) -> Option<Condition> {
    let key = field.strip_prefix("labels.")?;
    let mut resources = Sql::select();
    resources
        .column(label::Column::Resource)
        .from(label::Entity)
        .and_where(label::Column::Key.eq(key))
        .and_where(label::Column::Value.eq(value));
    Some(name.in_subquery(resources).into_condition())
}
