//! One-time tokens of racks.

use crate::entity::join_token;
use crate::{Store, StoreError, event};
use farrier_proto::inventory::Event;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, Set, SqlErr};

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the token, hexadecimal.
    pub digest: String,
    /// `racks/{rack}`
    pub rack: String,
    /// Milliseconds since the epoch.
    pub expires_ms: i64,
}

/// What became of a token that somebody showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// It admits this rack.
    Rack(String),
    Unknown,
    /// Another key used it.
    Used,
    Expired,
}

impl Store {
    /// Keeps a token.
    pub async fn create_join_token(&self, token: JoinToken, event: Event) -> Result<(), StoreError> {
        let write = self.db.begin().await?;
        let name = token.rack.clone();
        let row = join_token::ActiveModel {
            digest: Set(token.digest),
            rack: Set(token.rack),
            expires_ms: Set(token.expires_ms),
            key_digest: Set(None),
            used_ms: Set(None),
        };
        join_token::Entity::insert(row).exec_without_returning(write.conn()).await.map_err(|error| {
            match error.sql_err() {
                Some(SqlErr::ForeignKeyConstraintViolation(_)) => StoreError::NotFound { name },
                _ => error.into(),
            }
        })?;
        event::record(write.conn(), vec![event]).await?;
        Ok(write.commit().await?)
    }

    /// Uses a token for one key; the same key may use it again. `event` is written at the first use.
    pub async fn redeem_join_token(
        &self,
        digest: &str,
        key_digest: &[u8],
        now_ms: i64,
        event: impl FnOnce(&str) -> Event + Send,
    ) -> Result<Redeemed, StoreError> {
        let write = self.db.begin().await?;
        let conn = write.conn();
        // One statement decides the race of two keys; the rest only tells the loser why.
        let used = join_token::Entity::update_many()
            .col_expr(join_token::Column::KeyDigest, Expr::value(key_digest.to_vec()))
            .col_expr(join_token::Column::UsedMs, Expr::value(now_ms))
            .filter(join_token::Column::Digest.eq(digest))
            .filter(join_token::Column::KeyDigest.is_null())
            .filter(join_token::Column::ExpiresMs.gt(now_ms))
            .exec(conn)
            .await?;
        let Some(row) = join_token::Entity::find_by_id(digest.to_owned()).one(conn).await? else {
            return Ok(Redeemed::Unknown);
        };
        if used.rows_affected > 0 {
            event::record(conn, vec![event(&row.rack)]).await?;
            write.commit().await?;
            return Ok(Redeemed::Rack(row.rack));
        }
        Ok(match row.key_digest {
            Some(key) if key == key_digest && row.expires_ms > now_ms => Redeemed::Rack(row.rack),
            Some(key) if key != key_digest => Redeemed::Used,
            _ => Redeemed::Expired,
        })
    }
}
