//! Names kept for images that racks make of disks. One row a reservation; it goes when its operation ends.

use crate::entity::reservation::{ActiveModel, Column, Entity, Model};
use crate::{Store, StoreError, Stored};
use farrier_model::{Collection, parse_name};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

/// A name that one rack may upload to, and what the image will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// `images/{image}`
    pub image: String,
    pub owner: String,
    pub description: String,
    pub architecture: String,
    /// `racks/{rack}`
    pub rack: String,
    /// `operations/{operation}`; also the request id of the upload.
    pub operation: String,
    /// Forgotten by a scheduler that lost its database, it ends by itself. Milliseconds since 1970.
    pub expires_ms: i64,
}

/// Why a name was not reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error("there is such an image or reservation")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Reserves a name, or renews the reservation of the same operation.
    pub async fn reserve(&self, wanted: &Reservation, now_ms: i64) -> Result<(), ReserveError> {
        let id = parse_name(Collection::Images, &wanted.image).map_err(StoreError::from)?;
        let db = |error: DbErr| ReserveError::Store(error.into());
        let write = self.db.begin().await.map_err(db)?;
        let conn = write.conn();
        // One that this very operation has uploaded is what the reservation was for.
        let image = crate::entity::Entity::find_by_id(id).one(conn).await.map_err(db)?;
        if image.is_some_and(|image| image.request_id != wanted.operation) {
            return Err(ReserveError::Taken);
        }
        if let Some(row) = Entity::find_by_id(id).one(conn).await.map_err(db)? {
            if row.operation != wanted.operation && row.expires_ms > now_ms {
                return Err(ReserveError::Taken);
            }
            Entity::delete_by_id(id).exec(conn).await.map_err(db)?;
        }
        let row = ActiveModel {
            name: Set(id.to_owned()),
            owner: Set(wanted.owner.clone()),
            description: Set(wanted.description.clone()),
            architecture: Set(wanted.architecture.clone()),
            rack: Set(wanted.rack.clone()),
            operation: Set(wanted.operation.clone()),
            expires_ms: Set(wanted.expires_ms),
        };
        match Entity::insert(row).exec_without_returning(conn).await {
            Ok(_) => Ok(write.commit().await.map_err(db)?),
            // Another replica was quicker.
            Err(error) if farrier_db::is_duplicate(&error) => Err(ReserveError::Taken),
            Err(error) => Err(db(error)),
        }
    }

    /// The reservation of a name, if it is reserved now.
    pub async fn reservation(&self, name: &str, now_ms: i64) -> Result<Option<Reservation>, StoreError> {
        let id = parse_name(Collection::Images, name)?;
        let row = Entity::find_by_id(id).one(self.db.conn()).await?;
        Ok(row.filter(|row| row.expires_ms > now_ms).map(read))
    }

    /// Ends a reservation. Returns the image that was uploaded under it.
    pub async fn release(&self, name: &str, operation: &str) -> Result<Option<Stored>, StoreError> {
        let id = parse_name(Collection::Images, name)?;
        let write = self.db.begin().await?;
        Entity::delete_many()
            .filter(Column::Name.eq(id))
            .filter(Column::Operation.eq(operation))
            .exec(write.conn())
            .await?;
        write.commit().await?;
        // After the commit nothing can be uploaded any more: what is not here now never will be.
        Ok(self.image(name).await?.filter(|stored| stored.request_id == operation))
    }
}

/// Whether a name is free for an upload: of the reservation's operation, or, where there is none, of anybody.
pub(crate) async fn admits(
    conn: &impl ConnectionTrait,
    id: &str,
    operation: Option<&str>,
    now_ms: i64,
) -> Result<bool, DbErr> {
    // Locked: a reservation that is ended meanwhile waits for this upload, or this upload for its end.
    let reserved = Entity::find_by_id(id).lock_exclusive().one(conn).await?;
    let reserved = reserved.filter(|row| row.expires_ms > now_ms);
    Ok(reserved.as_ref().map(|row| row.operation.as_str()) == operation)
}

fn read(row: Model) -> Reservation {
    Reservation {
        image: Collection::Images.name(&row.name),
        owner: row.owner,
        description: row.description,
        architecture: row.architecture,
        rack: row.rack,
        operation: row.operation,
        expires_ms: row.expires_ms,
    }
}
