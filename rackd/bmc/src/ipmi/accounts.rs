//! The account's password (IPMI 2.0 section 22.30).

use async_trait::async_trait;
use farrier_ipmi::Secret;
use farrier_ipmi::command::GetChassisStatus;
use farrier_ipmi::command::user::{GetUserAccess, GetUserName, MAX_USER_ID, SetUserPassword};

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::{Accounts, BmcError, Deadline};

#[async_trait]
impl Accounts for IpmiBmc {
    async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError> {
        let new = new.clone();
        self.call(deadline, move |link, call| Box::pin(link.set_password(call, new))).await
    }

    async fn prove_password(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move {
                link.close().await;
                link.command(call, GetChassisStatus).await.map(drop)
            })
        })
        .await
    }
}

impl Link {
    async fn set_password(&mut self, call: &mut Call, new: Secret) -> Result<(), BmcError> {
        let user = self.own_user(call).await?;
        let command = SetUserPassword::new(user, new)
            .ok_or(BmcError::Unsupported { driver: "ipmi", capability: "passwords of more than 20 bytes" })?;
        self.command(call, command).await
    }

    /// The id of the user that this session is of: names are looked for, since no command tells it.
    async fn own_user(&mut self, call: &mut Call) -> Result<u8, BmcError> {
        let wanted = self.address.user.clone().into_bytes();
        // Any user's access tells how many there may be.
        let most = self.command(call, GetUserAccess(FIRST)).await?.max_users.clamp(FIRST, MAX_USER_ID);
        for user in FIRST..=most {
            match self.command(call, GetUserName(user)).await {
                Ok(name) if name == wanted => return Ok(user),
                Ok(_) => {}
                // An id that nobody has.
                Err(BmcError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(BmcError::NotApplied {
            addr: self.address.addr,
            what: crate::accounts::NO_ACCOUNT,
            expected: format!("a user named {:?} among its {most}", self.address.user),
            seen: "none".to_owned(),
        })
    }
}

/// The null user, where a BMC has one.
const FIRST: u8 = 1;
