use crate::entity::address;
use crate::{Journal, JournalError};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use std::net::Ipv4Addr;

impl Journal {
    /// The address of `mac` in `segment`: the one it has, else the first free one of `first..=last`.
    pub async fn address(
        &self,
        segment: &str,
        mac: &str,
        first: Ipv4Addr,
        last: Ipv4Addr,
    ) -> Result<Ipv4Addr, JournalError> {
        let write = self.db.begin().await?;
        let taken = address::Entity::find()
            .filter(address::Column::Segment.eq(segment))
            .order_by_asc(address::Column::Address)
            .all(write.conn())
            .await?;
        let range = u32::from(first)..=u32::from(last);
        if let Some(row) = taken.iter().find(|row| row.mac == mac)
            && let Some(ip) = u32::try_from(row.address).ok().filter(|ip| range.contains(ip))
        {
            return Ok(Ipv4Addr::from(ip));
        }
        let free = range.clone().find(|ip| !taken.iter().any(|row| row.address == i64::from(*ip)));
        let Some(ip) = free else {
            let size = u32::try_from(range.count()).unwrap_or(u32::MAX);
            return Err(JournalError::PoolExhausted { segment: segment.to_owned(), size });
        };
        // A machine that moved out of the pool (it was made smaller) gives its old address back.
        address::Entity::delete_many()
            .filter(address::Column::Segment.eq(segment))
            .filter(address::Column::Mac.eq(mac))
            .exec(write.conn())
            .await?;
        address::Entity::insert(address::ActiveModel {
            segment: Set(segment.to_owned()),
            address: Set(i64::from(ip)),
            mac: Set(mac.to_owned()),
        })
        .exec(write.conn())
        .await?;
        write.commit().await?;
        Ok(Ipv4Addr::from(ip))
    }
}
