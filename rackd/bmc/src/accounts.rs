//! Capability: the account that Farrier uses.

use async_trait::async_trait;
use farrier_ipmi::Secret;

use crate::{BmcError, Deadline};

/// Changes an account of a BMC.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Gives the account that this handle logs in with another password, in place: no other account is needed for it, and
    /// the old password ends with it. Idempotent. Whoever gets an error does not know which of the two is good now. The
    /// handle has the old one still.
    async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError>;

    /// Logs in anew with the password that this handle has: a session that is open proves nothing of it.
    async fn prove_password(&self, deadline: Deadline) -> Result<(), BmcError>;
}

/// What a driver says was to be so, where the BMC has no account of that name: nothing was sent.
pub(crate) const NO_ACCOUNT: &str = "this login";
