//! Reading and writing images: each function is one transaction.

use crate::entity::{ActiveModel, Column, Entity, Model};
use crate::hold::{self, Holder};
use crate::migration::Migrations;
use crate::reservation::admits;
use farrier_db::{Db, is_duplicate};
use farrier_model::{Collection, parse_name};
use farrier_proto::images::Image;
use prost::Message as _;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use std::collections::HashSet;

/// The images of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) db: Db,
}

/// An image as stored. `name`, `uid`, `owner`, `etag`, `create_time` and the digests of `image` are whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub image: Image,
    /// Request id of the upload that made it; empty: none was given.
    pub request_id: String,
}

/// Which images a list shows. Terms that are not set match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this project's images and everybody's; `None`: all projects.
    pub visible_to: Option<String>,
    /// `images/{image}`
    pub name: Option<String>,
    pub owner: Option<String>,
    pub sha256: Option<String>,
    pub architecture: Option<String>,
}

/// What a deletion left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    pub manifest_sha256: String,
    /// No image refers to that disk any more.
    pub last: bool,
}

/// The database does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database error")]
    Database(#[from] DbErr),
    #[error("the row of image {name} cannot be read")]
    Row {
        name: String,
        #[source]
        source: prost::DecodeError,
    },
    #[error("not an image name: {0}")]
    Name(#[from] farrier_model::NameError),
}

/// Why an image was not inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    #[error("{} exists", .0.image.name)]
    Taken(Box<Stored>),
    /// Kept for another upload, or no longer kept for this one.
    #[error("the name's reservation is not of this upload")]
    Reservation,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an image was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("no such image")]
    NotFound,
    #[error("the image changed")]
    Stale,
    #[error("instances need it")]
    InUse(Vec<Holder>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Opens `sqlite://PATH` or `postgres://…` and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Db::open::<Migrations>(url).await? })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.db.ping().await?)
    }

    /// Adds an image whose `name`, `uid`, `owner`, digests and `create_time` are filled in. `reserved`: under the
    /// reservation of the operation `request_id`; otherwise the name must not be reserved.
    pub async fn insert(
        &self,
        image: &Image,
        request_id: &str,
        reserved: bool,
    ) -> Result<Stored, InsertError> {
        let id = parse_name(Collection::Images, &image.name).map_err(StoreError::from)?.to_owned();
        let row = Model {
            name: id.clone(),
            uid: image.uid.clone(),
            owner: image.owner.clone(),
            revision: 1,
            created_ms: image.create_time.as_ref().map_or(0, millis),
            sha256: image.sha256.clone(),
            architecture: image.architecture.clone(),
            manifest_sha256: image.manifest_sha256.clone(),
            request_id: request_id.to_owned(),
            body: image.encode_to_vec(),
        };
        let write = self.db.begin().await.map_err(StoreError::from)?;
        let now = image.create_time.as_ref().map_or(0, millis);
        let operation = reserved.then_some(request_id);
        if !admits(write.conn(), &id, operation, now).await.map_err(StoreError::from)? {
            return Err(InsertError::Reservation);
        }
        match Entity::insert(active(row.clone())).exec_without_returning(write.conn()).await {
            Ok(_) => {
                write.commit().await.map_err(StoreError::from)?;
                Ok(stored(row)?)
            }
            Err(error) if is_duplicate(&error) => {
                drop(write);
                match self.find(&id).await? {
                    Some(existing) => Err(InsertError::Taken(Box::new(existing))),
                    // Deleted in between, or another column clashed.
                    None => Err(StoreError::from(error).into()),
                }
            }
            Err(error) => Err(StoreError::from(error).into()),
        }
    }

    /// The image with this name (`images/{image}`).
    pub async fn image(&self, name: &str) -> Result<Option<Stored>, StoreError> {
        self.find(parse_name(Collection::Images, name)?).await
    }

    /// Images by name, those after `after` (`images/{image}`), at most `limit`.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut query = Entity::find();
        if let Some(project) = &filter.visible_to {
            query = query.filter(Column::Owner.is_in(["", project.as_str()]));
        }
        if let Some(name) = &filter.name {
            // What is no image name names no image.
            let id = parse_name(Collection::Images, name).unwrap_or_default();
            query = query.filter(Column::Name.eq(id));
        }
        let exact = [
            (Column::Owner, &filter.owner),
            (Column::Sha256, &filter.sha256),
            (Column::Architecture, &filter.architecture),
        ];
        for (column, value) in exact {
            if let Some(value) = value {
                query = query.filter(column.eq(value.as_str()));
            }
        }
        if let Some(after) = after {
            query = query.filter(Column::Name.gt(parse_name(Collection::Images, after)?));
        }
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let rows = query
            .order_by_asc(Column::Name)
            .limit(limit)
            .all(self.db.conn())
            .await
            .map_err(StoreError::from)?;
        rows.into_iter().map(stored).collect()
    }

    /// Deletes an image; an empty etag means whatever revision there is.
    pub async fn delete(&self, name: &str, etag: &str) -> Result<Deleted, DeleteError> {
        let id = parse_name(Collection::Images, name).map_err(StoreError::from)?;
        let db = |error: DbErr| DeleteError::Store(error.into());
        let write = self.db.begin().await.map_err(db)?;
        let Some(row) = Entity::find_by_id(id).lock_exclusive().one(write.conn()).await.map_err(db)? else {
            return Err(DeleteError::NotFound);
        };
        if !etag.is_empty() && etag != self::etag(&row) {
            return Err(DeleteError::Stale);
        }
        let holders = hold::of(write.conn(), id).await.map_err(db)?;
        if !holders.is_empty() {
            return Err(DeleteError::InUse(holders));
        }
        let gone = Entity::delete_many()
            .filter(Column::Name.eq(id))
            .filter(Column::Uid.eq(row.uid.as_str()))
            .filter(Column::Revision.eq(row.revision))
            .exec(write.conn())
            .await
            .map_err(db)?;
        if gone.rows_affected == 0 {
            return Err(DeleteError::NotFound);
        }
        let others = Entity::find()
            .filter(Column::ManifestSha256.eq(row.manifest_sha256.as_str()))
            .count(write.conn())
            .await
            .map_err(db)?;
        write.commit().await.map_err(db)?;
        Ok(Deleted { manifest_sha256: row.manifest_sha256, last: others == 0 })
    }

    /// Every disk that an image refers to.
    pub async fn manifests(&self) -> Result<HashSet<String>, StoreError> {
        let all: Vec<String> = Entity::find()
            .select_only()
            .column(Column::ManifestSha256)
            .distinct()
            .into_tuple()
            .all(self.db.conn())
            .await?;
        Ok(all.into_iter().collect())
    }

    async fn find(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        Entity::find_by_id(id).one(self.db.conn()).await?.map(stored).transpose()
    }
}

fn stored(row: Model) -> Result<Stored, StoreError> {
    let mut image = Image::decode(row.body.as_slice())
        .map_err(|source| StoreError::Row { name: row.name.clone(), source })?;
    image.name = Collection::Images.name(&row.name);
    image.etag = etag(&row);
    image.uid = row.uid;
    image.owner = row.owner;
    image.sha256 = row.sha256;
    image.architecture = row.architecture;
    image.manifest_sha256 = row.manifest_sha256;
    image.used_by.clear();
    Ok(Stored { image, request_id: row.request_id })
}

/// The uid is part of it: an image deleted and made again under its name starts at revision 1 too.
fn etag(row: &Model) -> String {
    format!("{}.{}", row.uid, row.revision)
}

fn active(row: Model) -> ActiveModel {
    ActiveModel {
        name: Set(row.name),
        uid: Set(row.uid),
        owner: Set(row.owner),
        revision: Set(row.revision),
        created_ms: Set(row.created_ms),
        sha256: Set(row.sha256),
        architecture: Set(row.architecture),
        manifest_sha256: Set(row.manifest_sha256),
        request_id: Set(row.request_id),
        body: Set(row.body),
    }
}

fn millis(t: &prost_types::Timestamp) -> i64 {
    t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000)
}
