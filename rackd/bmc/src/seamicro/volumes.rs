//! Disks that the chassis lends its servers.

use async_trait::async_trait;
use http::StatusCode;
use serde_json::json;

use super::driver::SeaMicro;
use super::link::{Ask, Link};
use super::words;
use crate::actor::Call;
use crate::{BmcError, Deadline, StoragePool, Volumes};

#[async_trait]
impl Volumes for SeaMicro {
    async fn storage_pools(&self, deadline: Deadline) -> Result<Vec<StoragePool>, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.pools(call))).await
    }

    async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        size_gb: u64,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        let id = format!("{pool}/{name}");
        self.call(deadline, move |link, call| Box::pin(link.create_volume(call, id, size_gb))).await
    }

    async fn root_volume(&self, deadline: Deadline) -> Result<Option<String>, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.root_volume(call))).await
    }

    async fn set_root_volume(&self, volume: Option<&str>, deadline: Deadline) -> Result<(), BmcError> {
        let volume = volume.map(str::to_owned);
        self.call(deadline, move |link, call| Box::pin(link.set_root_volume(call, volume))).await
    }
}

impl Link {
    async fn pools(&mut self, call: &mut Call) -> Result<Vec<StoragePool>, BmcError> {
        let pools = self.get(call, "/storage/pools").await?;
        let pool = |(id, pool): (&String, &serde_json::Value)| {
            let free = pool.get("freeSize");
            let free = free.and_then(|free| free.as_f64().or_else(|| free.as_str()?.trim().parse().ok()));
            // Whole GB, and what is negative or absurd is not said.
            let free_gb = free.filter(|gb| (0.0..1e12).contains(gb)).map(|gb| gb as u64);
            StoragePool { id: id.clone(), free_gb }
        };
        let all = pools.members().filter(|(id, _)| words::is_id(id, 2));
        Ok(all.take(self.tuning.max_members).map(pool).collect())
    }

    async fn create_volume(&mut self, call: &mut Call, id: String, size_gb: u64) -> Result<String, BmcError> {
        self.check(&id, 3)?;
        let path = format!("/storage/volumes/{id}");
        if self.has_volume(call, &path).await? {
            return Ok(id);
        }
        let ask = Ask::put(path.as_str(), json!({ "action": "create", "volume-size": size_gb.to_string() }));
        let answer = self.change(call, &ask).await?;
        match words::made(&answer.body) {
            Some(made) if made == id => Ok(id),
            other => {
                let seen = other.unwrap_or_else(|| answer.describe());
                Err(self.bad_answer(&ask, "the id of the volume that was to be made", &seen))
            }
        }
    }

    /// A volume that is not there is told by 404, or is one of size 0.
    async fn has_volume(&mut self, call: &mut Call, path: &str) -> Result<bool, BmcError> {
        let ask = Ask::get(path);
        let answer = self.send(call, &ask).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let size = self.document(&ask, &answer)?;
        let size = size.at("actualSize");
        Ok(size.is_some_and(|size| size.as_f64().or_else(|| size.as_str()?.parse().ok()) != Some(0.0)))
    }

    async fn root_volume(&mut self, call: &mut Call) -> Result<Option<String>, BmcError> {
        let server = self.server(call).await?;
        Ok(server.text("vdisk/0"))
    }

    async fn set_root_volume(&mut self, call: &mut Call, wanted: Option<String>) -> Result<(), BmcError> {
        if let Some(volume) = &wanted {
            self.check(volume, 3)?;
        }
        let path = self.of_server("/vdisk/0");
        let mut attempt = 0;
        loop {
            let seen = self.root_volume(call).await?;
            if seen == wanted {
                return Ok(());
            }
            let pause = self.tuning.busy(attempt);
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                return Err(BmcError::NotApplied {
                    addr: self.address.addr,
                    what: "the root volume",
                    expected: wanted.unwrap_or_else(|| "none".to_owned()),
                    seen: seen.unwrap_or_else(|| "none".to_owned()),
                });
            }
            if attempt > 0 {
                tokio::time::sleep(pause).await;
            }
            attempt += 1;
            // Where there is one already, it goes first.
            if seen.is_some() {
                self.change(call, &Ask::delete(path.as_str())).await?;
            }
            if let Some(volume) = &wanted {
                self.change(call, &Ask::put(path.as_str(), json!({ "value": volume }))).await?;
            }
        }
    }

    fn check(&self, id: &str, parts: usize) -> Result<(), BmcError> {
        if words::is_id(id, parts) {
            return Ok(());
        }
        let expected = vec!["card/pool/volume, of letters, digits, '-', '_' and '.'"];
        let (addr, offered) = (self.address.addr, vec![id.chars().take(64).collect()]);
        Err(BmcError::NotOffered { addr, wanted: "a volume of this name", expected, offered })
    }
}
