use crate::entity::cursor;
use crate::{Store, StoreError};
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait as _;
use sea_orm::sea_query::OnConflict;

impl Store {
    /// How far a rack's reports were read.
    pub async fn cursor(&self, rack: &str) -> Result<i64, StoreError> {
        Ok(cursor::Entity::find_by_id(rack).one(self.db.conn()).await?.map_or(0, |row| row.sequence))
    }

    /// Remembers it. Written after the reports it covers: a crash between reads some again, harmlessly.
    pub async fn set_cursor(&self, rack: &str, sequence: i64) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        cursor::Entity::insert(cursor::ActiveModel { rack: Set(rack.to_owned()), sequence: Set(sequence) })
            .on_conflict(
                OnConflict::column(cursor::Column::Rack).update_column(cursor::Column::Sequence).to_owned(),
            )
            .exec_without_returning(write.conn())
            .await?;
        Ok(write.commit().await?)
    }
}
