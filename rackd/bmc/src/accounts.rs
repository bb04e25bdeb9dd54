//! Capability: the account that Farrier uses.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use farrier_ipmi::Secret;

use crate::{Bmc, BmcError, Capability, Deadline};

/// Changes an account of a BMC.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Gives the account that this handle logs in with another password, in place: no other account is needed for it, and
    /// the old password ends with it. Idempotent. Whoever gets an error that does not say otherwise
    /// ([`BmcError::was_not_begun`]) does not know which of the two is good now. The handle has the old one still. A BMC that is
    /// slow needs the time for it: the account is looked for, and that may be an answer for each that there is.
    async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError>;

    /// Logs in anew with the password that this handle has: a session that is open proves nothing of it.
    async fn prove_password(&self, deadline: Deadline) -> Result<(), BmcError>;

    /// Whether the BMC has an account of this name, enabled or not.
    async fn has_account(&self, user: &str, deadline: Deadline) -> Result<bool, BmcError>;

    /// Makes an account of this name with this password and the rights of an administrator; one that is there already gets
    /// both. Idempotent. Whoever gets an error does not know how much of it there is: see [`Accounts::delete_account`].
    async fn create_account(&self, user: &str, password: &Secret, deadline: Deadline)
    -> Result<(), BmcError>;

    /// Takes an account away, which must not be the one that this handle logs in with. Idempotent.
    async fn delete_account(&self, user: &str, deadline: Deadline) -> Result<Removed, BmcError>;
}

/// What has become of an account that was to be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// There is none of that name.
    Gone,
    /// The BMC keeps it, and it lets nobody in.
    Disabled,
}

/// What a driver says was to be so, where the BMC has no account of that name: nothing was sent.
pub(crate) const NO_ACCOUNT: &str = "this login";

/// Until when a password is to be written that all the time up to `deadline` may be spent on looking for the account of: as long as
/// another command has, so that one who waits for the answer in vain knows soon.
pub(crate) fn write_by(deadline: Deadline) -> Deadline {
    deadline.min(Deadline::after(WRITE))
}

/// Some six answers of five seconds.
const WRITE: Duration = Duration::from_secs(30);

impl Bmc {
    /// Adds the accounts.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Arc<dyn Accounts>) -> Self {
        self.accounts = Some((self.driver(), accounts));
        self
    }

    /// See [`Accounts::set_password`].
    pub async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::Accounts, |bmc| async move {
            bmc.give(&bmc.accounts, Capability::Accounts)?.set_password(new, deadline).await
        })
        .await
    }

    /// See [`Accounts::prove_password`].
    pub async fn prove_password(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::Accounts, |bmc| async move {
            bmc.give(&bmc.accounts, Capability::Accounts)?.prove_password(deadline).await
        })
        .await
    }

    /// See [`Accounts::has_account`].
    pub async fn has_account(&self, user: &str, deadline: Deadline) -> Result<bool, BmcError> {
        self.either(Capability::Accounts, |bmc| async move {
            bmc.give(&bmc.accounts, Capability::Accounts)?.has_account(user, deadline).await
        })
        .await
    }

    /// See [`Accounts::create_account`].
    pub async fn create_account(
        &self,
        user: &str,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        self.either(Capability::Accounts, |bmc| async move {
            bmc.give(&bmc.accounts, Capability::Accounts)?.create_account(user, password, deadline).await
        })
        .await
    }

    /// See [`Accounts::delete_account`].
    pub async fn delete_account(&self, user: &str, deadline: Deadline) -> Result<Removed, BmcError> {
        self.either(Capability::Accounts, |bmc| async move {
            bmc.give(&bmc.accounts, Capability::Accounts)?.delete_account(user, deadline).await
        })
        .await
    }
}
