//! The account's password (DSP0268: AccountService, ManagerAccount).

use async_trait::async_trait;
use farrier_ipmi::Secret;
use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc};
use super::link::Link;
use crate::accounts::NO_ACCOUNT;
use crate::actor::Call;
use crate::{Accounts, BmcError, Capability, Deadline};

#[async_trait]
impl Accounts for RedfishBmc {
    async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError> {
        let new = new.clone();
        self.call(deadline, move |link, call| Box::pin(link.set_password(call, new))).await
    }

    async fn prove_password(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move {
                link.log_out().await;
                link.power(call).await.map(drop)
            })
        })
        .await
    }
}

impl Link {
    async fn set_password(&mut self, call: &mut Call, new: Secret) -> Result<(), BmcError> {
        let (path, account) = self.own_account(call).await?;
        let password = String::from_utf8_lossy(new.expose()).into_owned();
        let body = json!({ "Password": password });
        let (ask, answer) = self.patch(call, &path, &body, account.etag).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(&ask, &answer)) }
    }

    /// The account that this session is of.
    async fn own_account(&mut self, call: &mut Call) -> Result<(Path, Document), BmcError> {
        match self.find_account(call).await {
            // It shows nothing but the account itself, and says where that is.
            Err(error @ BmcError::PasswordChangeRequired { .. }) => {
                let path = self.to_change.clone().ok_or(error)?;
                let account = self.get(call, &path).await?;
                let seen = account.text("UserName");
                if seen.as_deref().is_some_and(|name| name != self.address.user) {
                    return Err(self.no_account(format!("{seen:?}")));
                }
                Ok((path, account))
            }
            found => found,
        }
    }

    async fn find_account(&mut self, call: &mut Call) -> Result<(Path, Document), BmcError> {
        let unsupported = BmcError::Unsupported { driver: DRIVER, capability: Capability::Accounts.as_str() };
        let Some(service) = self.root(call).await?.accounts.clone() else { return Err(unsupported) };
        let accounts = self.get(call, &service).await?.link("Accounts").ok_or(unsupported)?;
        let most = self.tuning.max_members;
        let members = self.get(call, &accounts).await?.links("Members", most);
        let seen = members.len();
        for path in members {
            // Some BMCs list slots that nobody has, and accounts that not everybody may read.
            let account = match self.get(call, &path).await {
                Ok(account) => account,
                Err(BmcError::Http { status: 403 | 404, .. }) => continue,
                Err(error) => return Err(error),
            };
            if account.text("UserName").as_deref() == Some(self.address.user.as_str()) {
                return Ok((path, account));
            }
        }
        Err(self.no_account(format!("{seen} others")))
    }

    fn no_account(&self, seen: String) -> BmcError {
        let expected = format!("an account named {:?}", self.address.user);
        BmcError::NotApplied { addr: self.address.addr, what: NO_ACCOUNT, expected, seen }
    }
}
