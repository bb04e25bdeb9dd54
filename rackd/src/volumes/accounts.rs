//! Who may log in to a volume: an account for each boot.
//!
//! The boot script has the newest. Its first login ends the account before it, sessions included, and makes the one of
//! the next boot: what an earlier script said opens nothing any more. A running system keeps its own, also over a
//! restart of rackd.

use super::{Access, Turn, VOLUME, VolumeError, Volumes, elsewhere, io_error, label, sync_dir, write_synced};
use crate::secrets::random_chap_secret;
use farrier_block::{Chap, Credentials, Secret};
use farrier_runtime::vault::Vault;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use zeroize::{Zeroize as _, Zeroizing};

/// A boot's.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    number: u64,
    pub(crate) secret: String,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Of one task's volume, oldest first: the running system's, if there is one, and the next boot's.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Accounts {
    /// Another task's machine has accounts of its own.
    task: String,
    accounts: Vec<Account>,
}

impl Account {
    /// CHAP name.
    pub(crate) fn user(&self) -> String {
        format!("boot-{}", self.number)
    }

    fn chap(&self) -> Chap {
        let secret = Secret::new(self.secret.as_bytes());
        Chap { initiator: Credentials { user: self.user(), secret }, target: None }
    }
}

impl Accounts {
    fn new(task: &str) -> Self {
        let mut accounts = Self { task: task.to_owned(), accounts: Vec::new() };
        accounts.add();
        accounts
    }

    fn add(&mut self) {
        let number = self.accounts.last().map_or(1, |last| last.number.saturating_add(1));
        self.accounts.push(Account { number, secret: random_chap_secret() });
    }

    /// Somebody logged in as `user`. False: nothing changes by that.
    fn used(&mut self, user: &str) -> bool {
        let Some(at) = self.accounts.iter().position(|account| account.user() == user) else { return false };
        let newest = at + 1 == self.accounts.len();
        if newest {
            self.add();
        }
        self.accounts.drain(..at);
        newest || at > 0
    }

    pub(super) fn chap(&self) -> Vec<Chap> {
        self.accounts.iter().map(Account::chap).collect()
    }

    fn open(vault: &Vault, path: &Path, instance: &str) -> Result<Option<Self>, VolumeError> {
        let sealed = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            sealed => sealed.map_err(io_error("reading", path))?,
        };
        let opened = vault.open(&context(instance), &sealed).map_err(io::Error::other);
        let accounts = opened.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
        accounts.map(Some).map_err(io_error("opening", path))
    }

    fn keep(&self, vault: &Vault, path: &Path, instance: &str) -> Result<(), VolumeError> {
        let bytes = serde_json::to_vec(self).map(Zeroizing::new).map_err(io::Error::other);
        let sealed = bytes.and_then(|bytes| vault.seal(&context(instance), &bytes).map_err(io::Error::other));
        write_synced(path, &sealed.map_err(io_error("sealing", path))?)
    }
}

impl Volumes {
    /// Those of a volume that `task` offers; made when it has none. `turn`: the volume's, given back, and held as long as
    /// anything is written, whoever waits for it.
    pub(super) async fn accounts(
        &self,
        turn: Turn,
        instance: &str,
        task: &str,
    ) -> Result<(Turn, Accounts), VolumeError> {
        let (path, dir, vault) = (self.files(instance).accounts, self.dir.clone(), self.vault.clone());
        let (instance, task) = (label(instance).to_owned(), task.to_owned());
        let accounts = self.disk.with(turn, move |_| {
            let known = Accounts::open(&vault, &path, &instance)?;
            if let Some(accounts) = known.filter(|known| known.task == task) {
                return Ok(accounts);
            }
            let accounts = Accounts::new(&task);
            accounts.keep(&vault, &path, &instance)?;
            sync_dir(&dir).map(|()| accounts)
        });
        accounts.await
    }

    /// How a node's next boot reaches an instance's volume, which `task` offers.
    pub(crate) async fn next_boot(
        &self,
        instance: &str,
        node: &str,
        task: &str,
    ) -> Result<(Access, Account), VolumeError> {
        let (turn, record) = self.record(instance).await?;
        if !record.is_offered_by(node, task) {
            return Err(elsewhere(&record, node));
        }
        let (_turn, accounts) = self.accounts(turn, instance, task).await?;
        let newest = accounts.accounts.last().cloned();
        let access = self.access(VOLUME, instance, node);
        newest
            .map(|account| (access, account))
            .ok_or_else(|| VolumeError::NotOffered { instance: instance.to_owned() })
    }

    /// Somebody has logged in to a target. A boot's first login ends what the boot before it had. Returns what the next
    /// boot is to have.
    pub(crate) async fn logged_in(&self, target: &str, user: &str) -> Result<Option<Account>, VolumeError> {
        let prefix = self.access(VOLUME, "", "").target;
        let instance = target.strip_prefix(&prefix).filter(|instance| farrier_model::is_label(instance));
        let Some(instance) = instance else { return Ok(None) };
        let (turn, record) = self.record(instance).await?;
        let task = record.task;
        // Between two machines: the login was before that, and its session is over.
        if task.is_empty() {
            return Ok(None);
        }
        let (turn, mut accounts) = self.accounts(turn, instance, &task).await?;
        if !accounts.used(user) {
            return Ok(accounts.accounts.last().cloned());
        }
        let (chap, next) = (accounts.chap(), accounts.accounts.last().cloned());
        let (path, vault, name) = (self.files(instance).accounts, self.vault.clone(), instance.to_owned());
        let dir = self.dir.clone();
        let kept = self.disk.with(turn, move |_| {
            accounts.keep(&vault, &path, &name)?;
            sync_dir(&dir)
        });
        // Until the target has them too.
        let _turn = kept.await?;
        self.targets.set_accounts(target, chap)?;
        Ok(next)
    }
}

fn context(instance: &str) -> String {
    format!("volumes/{instance}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boots_first_login_ends_the_boot_before_it() {
        let mut accounts = Accounts::new("t1");
        let users = |accounts: &Accounts| accounts.accounts.iter().map(Account::user).collect::<Vec<_>>();
        assert_eq!(users(&accounts), ["boot-1"]);
        assert!(accounts.used("boot-1"));
        assert_eq!(users(&accounts), ["boot-1", "boot-2"]);
        assert!(!accounts.used("boot-1"), "the running system logs in again");
        assert!(!accounts.used("boot-7"));
        assert!(accounts.used("boot-2"));
        assert_eq!(users(&accounts), ["boot-2", "boot-3"]);
        assert!(!accounts.used("boot-1"));
        let secrets: Vec<_> = accounts.accounts.iter().map(|account| account.secret.as_str()).collect();
        assert!(secrets[0] != secrets[1] && secrets[0].len() == 32);
    }
}
