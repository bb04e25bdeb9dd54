//! Who needs an image's bytes: a row an instance. An image that somebody holds is not deleted.

use crate::entity::hold::{ActiveModel, Column, Entity};
use crate::{Store, StoreError};
use farrier_model::{Collection, parse_name};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

/// An instance that needs an image's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `instances/{instance}`
    pub instance: String,
    /// Its project.
    pub owner: String,
}

/// Why an image is not held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error("no such image")]
    NotFound,
    #[error("the image has another manifest")]
    Changed,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Keeps `images/{image}` as it is for an instance; what that held before it lets go of.
    pub async fn hold(&self, name: &str, manifest_sha256: &str, holder: &Holder) -> Result<(), HoldError> {
        let id = parse_name(Collection::Images, name).map_err(StoreError::from)?;
        let db = |error: DbErr| HoldError::Store(error.into());
        let write = self.db.begin().await.map_err(db)?;
        let conn = write.conn();
        // Locked: a deletion meanwhile waits for the hold and sees it, or this finds no image.
        let image = crate::entity::Entity::find_by_id(id).lock_exclusive().one(conn).await.map_err(db)?;
        let image = image.ok_or(HoldError::NotFound)?;
        if image.manifest_sha256 != manifest_sha256 {
            return Err(HoldError::Changed);
        }
        Entity::delete_by_id(&holder.instance).exec(conn).await.map_err(db)?;
        let row = ActiveModel {
            instance: Set(holder.instance.clone()),
            image: Set(id.to_owned()),
            owner: Set(holder.owner.clone()),
        };
        Entity::insert(row).exec_without_returning(conn).await.map_err(db)?;
        write.commit().await.map_err(db)
    }

    /// An instance needs no image any more.
    pub async fn drop_hold(&self, instance: &str) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        Entity::delete_by_id(instance).exec(write.conn()).await?;
        Ok(write.commit().await?)
    }

    /// Who needs these images (`images/{image}`), each with the image, in the order of the instances' names.
    pub async fn holders(&self, names: &[&str]) -> Result<Vec<(String, Holder)>, StoreError> {
        let ids: Vec<&str> =
            names.iter().map(|name| parse_name(Collection::Images, name)).collect::<Result<_, _>>()?;
        let query = Entity::find().filter(Column::Image.is_in(ids)).order_by_asc(Column::Instance);
        let rows = query.all(self.db.conn()).await?;
        let holder = |row: crate::entity::hold::Model| {
            let holder = Holder { instance: row.instance, owner: row.owner };
            (Collection::Images.name(&row.image), holder)
        };
        Ok(rows.into_iter().map(holder).collect())
    }
}

/// Who needs the image with this id.
pub(crate) async fn of(conn: &impl ConnectionTrait, id: &str) -> Result<Vec<Holder>, DbErr> {
    let query = Entity::find().filter(Column::Image.eq(id)).order_by_asc(Column::Instance);
    let rows = query.all(conn).await?;
    Ok(rows.into_iter().map(|row| Holder { instance: row.instance, owner: row.owner }).collect())
}
