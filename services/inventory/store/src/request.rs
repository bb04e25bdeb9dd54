//! Request ids (AIP-155): the same request again gets the first answer.

use crate::StoreError;
use crate::entity::{millis, request};
use farrier_db::is_duplicate;
use prost_types::Timestamp;
use sea_orm::{DatabaseTransaction, EntityTrait as _, Set};

/// A request that its caller gave an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    pub id: String,
    /// Method name.
    pub method: String,
    /// Digest of its content, sealed by the caller.
    pub digest: Vec<u8>,
}

/// The request that used this id, and the resource that answered it.
pub(crate) async fn find(
    conn: &DatabaseTransaction,
    id: &str,
) -> Result<Option<(RequestRecord, String)>, StoreError> {
    let row = request::Entity::find_by_id(id.to_owned()).one(conn).await?;
    Ok(row.map(|r| (RequestRecord { id: r.id, method: r.method, digest: r.digest }, r.resource)))
}

/// Fails as [`StoreError::Conflict`] when another transaction took the id just now: try again.
pub(crate) async fn insert(
    conn: &DatabaseTransaction,
    record: &RequestRecord,
    resource: &str,
    now: Option<&Timestamp>,
) -> Result<(), StoreError> {
    let row = request::ActiveModel {
        id: Set(record.id.clone()),
        method: Set(record.method.clone()),
        digest: Set(record.digest.clone()),
        resource: Set(resource.to_owned()),
        created_ms: Set(millis(now)),
    };
    match request::Entity::insert(row).exec_without_returning(conn).await {
        Ok(_) => Ok(()),
        Err(error) if is_duplicate(&error) => Err(StoreError::Conflict { name: resource.to_owned() }),
        Err(error) => Err(error.into()),
    }
}
