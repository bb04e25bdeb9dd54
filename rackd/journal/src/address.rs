use crate::entity::address;
use crate::{Journal, JournalError};
use sea_orm::ActiveValue::Set;
use sea_orm::ExprTrait as _;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

impl Journal {
    /// Who has an address in `segment`, by MAC.
    pub async fn addresses(&self, segment: &str) -> Result<HashMap<String, Ipv4Addr>, JournalError> {
        let rows =
            address::Entity::find().filter(address::Column::Segment.eq(segment)).all(self.db.conn()).await?;
        let known = rows
            .into_iter()
            .filter_map(|row| Some((row.mac, Ipv4Addr::from(u32::try_from(row.address).ok()?))));
        Ok(known.collect())
    }

    /// Writes down who had which address in `segment`, as another record of it says: what was lost here. A port that has an
    /// address here, and an address that another port has, stay as they are.
    pub async fn restore(&self, segment: &str, had: &[(String, Ipv4Addr)]) -> Result<(), JournalError> {
        let write = self.db.begin().await?;
        let taken =
            address::Entity::find().filter(address::Column::Segment.eq(segment)).all(write.conn()).await?;
        let mut macs: HashSet<String> = taken.iter().map(|row| row.mac.clone()).collect();
        let mut addresses: HashSet<i64> = taken.iter().map(|row| row.address).collect();
        for (mac, ip) in had {
            let ip = i64::from(u32::from(*ip));
            if macs.contains(mac) || !addresses.insert(ip) {
                continue;
            }
            macs.insert(mac.clone());
            address::Entity::insert(address::ActiveModel {
                segment: Set(segment.to_owned()),
                address: Set(ip),
                mac: Set(mac.clone()),
            })
            .exec(write.conn())
            .await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// The address of `mac` in `segment`: the one it has, else a free one of `first..=last`. The search starts
    /// where the last two bytes of the MAC point, so that a rack whose journal was lost mostly gives out the
    /// same addresses again. When none is free, one of a machine that is not `in_use` is taken over. One that is `leased`
    /// to another machine is neither, whatever is known of that machine: it answers for its address as long as its lease runs.
    pub async fn address(
        &self,
        segment: &str,
        mac: &str,
        first: Ipv4Addr,
        last: Ipv4Addr,
        in_use: impl Fn(&str) -> bool,
        leased: impl Fn(Ipv4Addr) -> bool,
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
        let size = u32::from(last).saturating_sub(u32::from(first)).saturating_add(1);
        let start = preferred(mac) % size;
        let free = (0..size).map(|i| u32::from(first) + (start + i) % size).find(|ip| {
            !taken.iter().any(|row| row.address == i64::from(*ip)) && !leased(Ipv4Addr::from(*ip))
        });
        let left = || {
            let mut rows = taken.iter().filter(|row| !in_use(&row.mac));
            let usable = |ip: &u32| range.contains(ip) && !leased(Ipv4Addr::from(*ip));
            rows.find_map(|row| u32::try_from(row.address).ok().filter(usable))
        };
        let Some(ip) = free.or_else(left) else {
            return Err(JournalError::PoolExhausted { segment: segment.to_owned(), size });
        };
        // A machine that moved out of the pool (it was made smaller) gives its old address back.
        let old = address::Column::Mac.eq(mac).or(address::Column::Address.eq(i64::from(ip)));
        address::Entity::delete_many()
            .filter(address::Column::Segment.eq(segment))
            .filter(old)
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

/// The last two bytes of a MAC address as a number.
fn preferred(mac: &str) -> u32 {
    let digits: String = mac.chars().filter(char::is_ascii_hexdigit).collect();
    digits.get(digits.len().saturating_sub(4)..).and_then(|d| u32::from_str_radix(d, 16).ok()).unwrap_or(0)
}
