use crate::entity::home;
use crate::{Journal, JournalError};
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait as _;
use std::collections::HashMap;

impl Journal {
    /// In which segment each port asked last, by MAC.
    pub async fn homes(&self) -> Result<HashMap<String, String>, JournalError> {
        let rows = home::Entity::find().all(self.db.conn()).await?;
        Ok(rows.into_iter().map(|row| (row.mac, row.segment)).collect())
    }

    /// A port is in `segment` from now on.
    pub async fn set_home(&self, mac: &str, segment: &str) -> Result<(), JournalError> {
        let write = self.db.begin().await?;
        home::Entity::delete_by_id(mac).exec(write.conn()).await?;
        let row = home::ActiveModel { mac: Set(mac.to_owned()), segment: Set(segment.to_owned()) };
        home::Entity::insert(row).exec(write.conn()).await?;
        Ok(write.commit().await?)
    }
}
