//! The plan for discovered machines: one row that is sealed by the caller.

use crate::entity::discovery_plan;
use crate::{Store, StoreError, event};
use farrier_proto::inventory::Event;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, Set, SqlErr};

impl Store {
    /// The plan and its revision; 0 and nothing, where there never was one.
    pub async fn discovery_plan(&self) -> Result<(i64, Vec<u8>), StoreError> {
        let row = discovery_plan::Entity::find_by_id(NAME).one(self.db.conn()).await?;
        Ok(row.map_or_else(Default::default, |row| (row.revision, row.sealed)))
    }

    /// Writes the plan if it still has this revision, and returns the new one.
    pub async fn write_discovery_plan(
        &self,
        revision: i64,
        sealed: Vec<u8>,
        happened: Event,
    ) -> Result<i64, StoreError> {
        let write = self.db.begin().await?;
        let next = revision.saturating_add(1);
        let row = discovery_plan::ActiveModel {
            name: Set(NAME.to_owned()),
            revision: Set(next),
            sealed: Set(sealed),
        };
        let conflict = || StoreError::Conflict { name: NAME.to_owned() };
        if revision == 0 {
            let insert = discovery_plan::Entity::insert(row).exec_without_returning(write.conn()).await;
            insert.map_err(|error| match error.sql_err() {
                Some(SqlErr::UniqueConstraintViolation(_)) => conflict(),
                _ => error.into(),
            })?;
        } else {
            let update = discovery_plan::Entity::update_many()
                .set(row)
                .filter(discovery_plan::Column::Name.eq(NAME))
                .filter(discovery_plan::Column::Revision.eq(revision));
            if update.exec(write.conn()).await?.rows_affected == 0 {
                return Err(conflict());
            }
        }
        event::record(write.conn(), vec![happened]).await?;
        write.commit().await?;
        Ok(next)
    }
}

/// The only one there is.
const NAME: &str = "discoveryPlan";
