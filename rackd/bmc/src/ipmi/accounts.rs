//! Accounts and their passwords (IPMI 2.0 sections 22.26 to 22.30).

use async_trait::async_trait;
use farrier_ipmi::Secret;
use farrier_ipmi::command::GetChassisStatus;
use farrier_ipmi::command::user::{
    EnableSol, EnableUser, GetUserAccess, GetUserName, MAX_USER_ID, SetUserAccess, SetUserName,
    SetUserPassword,
};

use super::driver::IpmiBmc;
use super::link::Link;
use crate::accounts::write_by;
use crate::actor::Call;
use crate::{Accounts, BmcError, Deadline, Removed};

#[async_trait]
impl Accounts for IpmiBmc {
    async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError> {
        let unfit = BmcError::Unsupported { driver: "ipmi", capability: "passwords of more than 20 bytes" };
        let found = self.call(deadline, |link, call| Box::pin(link.own_user(call))).await;
        let set = SetUserPassword::new(found.map_err(BmcError::not_found)?, new.clone()).ok_or(unfit)?;
        self.call(write_by(deadline), move |link, call| Box::pin(link.command(call, set))).await
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

    async fn has_account(&self, user: &str, deadline: Deadline) -> Result<bool, BmcError> {
        let user = user.to_owned();
        self.call(deadline, move |link, call| {
            Box::pin(async move { Ok(link.users(call, Some(&user)).await?.of(&user).is_some()) })
        })
        .await
    }

    async fn create_account(
        &self,
        user: &str,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        let (user, password, wanted) = (user.to_owned(), password.clone(), user.to_owned());
        let users = self
            .call(deadline, move |link, call| Box::pin(async move { link.users(call, Some(&wanted)).await }));
        let users = users.await.map_err(BmcError::not_found)?;
        self.call(deadline, move |link, call| Box::pin(link.create_account(call, users, user, password)))
            .await
    }

    async fn delete_account(&self, user: &str, deadline: Deadline) -> Result<Removed, BmcError> {
        let user = user.to_owned();
        self.call(deadline, move |link, call| Box::pin(link.delete_account(call, user))).await
    }
}

/// Who is where.
struct Users {
    /// Places that there are.
    most: u8,
    /// Names by id.
    names: Vec<(u8, Vec<u8>)>,
    /// Ids that the BMC refuses to speak of: nobody has them, or the BMC keeps them for itself.
    refused: Vec<u8>,
}

impl Users {
    fn of(&self, name: &str) -> Option<u8> {
        self.names.iter().find(|(_, seen)| seen == name.as_bytes()).map(|(id, _)| *id)
    }

    /// Places for one more, those first that are nobody's for sure; the first of all is the null user's.
    fn free(&self) -> impl Iterator<Item = u8> {
        let empty = self.names.iter().filter(|(_, name)| name.is_empty()).map(|(id, _)| *id);
        empty.chain(self.refused.iter().copied()).filter(|id| *id > FIRST)
    }
}

impl Link {
    /// All, or up to one of this name: a place may cost a slow BMC five seconds.
    async fn users(&mut self, call: &mut Call, upto: Option<&str>) -> Result<Users, BmcError> {
        // Any user's access tells how many there may be.
        let most = self.command(call, GetUserAccess(FIRST)).await?.max_users.clamp(FIRST, MAX_USER_ID);
        let mut users = Users { most, names: Vec::new(), refused: Vec::new() };
        for user in FIRST..=most {
            match self.command(call, GetUserName(user)).await {
                Ok(name) => {
                    let is_it = upto.is_some_and(|upto| name == upto.as_bytes());
                    users.names.push((user, name));
                    if is_it {
                        break;
                    }
                }
                // A BMC that is busy says nothing of whose the id is.
                Err(BmcError::Refused { code, .. }) if !code.is_transient() => users.refused.push(user),
                Err(error) => return Err(error),
            }
        }
        Ok(users)
    }

    /// Name, password, rights, and only then lets the user in.
    async fn create_account(
        &mut self,
        call: &mut Call,
        users: Users,
        user: String,
        password: Secret,
    ) -> Result<(), BmcError> {
        let unfit = |capability| BmcError::Unsupported { driver: "ipmi", capability };
        let id = match users.of(&user) {
            Some(id) => id,
            None => self.take_place(call, &users, &user).await?,
        };
        let password = SetUserPassword::new(id, password).ok_or(unfit("passwords of more than 20 bytes"))?;
        self.command(call, password).await?;
        self.command(call, SetUserAccess { user: id, privilege: ADMINISTRATOR, messaging: true }).await?;
        match self.command(call, EnableSol(id)).await {
            // Its console may need it, and many BMCs let every administrator have it.
            Ok(()) | Err(BmcError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        self.command(call, EnableUser { user: id, enabled: true }).await?;
        let privilege = self.command(call, GetUserAccess(id)).await?.privilege;
        if privilege == ADMINISTRATOR {
            return Ok(());
        }
        Err(BmcError::NotApplied {
            addr: self.address.addr,
            what: "the rights of an account",
            expected: "administrator (4)".to_owned(),
            seen: privilege.to_string(),
        })
    }

    /// Gives the first place that may have it the name: many BMCs have some that they keep for themselves.
    async fn take_place(&mut self, call: &mut Call, users: &Users, user: &str) -> Result<u8, BmcError> {
        let long = BmcError::Unsupported { driver: "ipmi", capability: "names of more than 16 bytes" };
        let free: Vec<u8> = users.free().collect();
        for id in free {
            let name = SetUserName::new(id, user).ok_or_else(|| long.clone())?;
            match self.command(call, name).await {
                Ok(()) if self.command(call, GetUserName(id)).await? == user.as_bytes() => return Ok(id),
                Ok(()) | Err(BmcError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(BmcError::NoAccountSlot { addr: self.address.addr, slots: usize::from(users.most) })
    }

    /// Out first, then without rights, then without a name: some BMCs keep a name for ever.
    async fn delete_account(&mut self, call: &mut Call, user: String) -> Result<Removed, BmcError> {
        let Some(id) = self.users(call, Some(&user)).await?.of(&user) else { return Ok(Removed::Gone) };
        let out = self.command(call, EnableUser { user: id, enabled: false }).await;
        let access = SetUserAccess { user: id, privilege: NO_ACCESS, messaging: false };
        let without = self.command(call, access).await;
        if let (Err(error), Err(_)) = (out, without) {
            return Err(error);
        }
        if let Some(none) = SetUserName::new(id, "") {
            match self.command(call, none).await {
                Ok(()) | Err(BmcError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // By its place: where the BMC has let the name go, that one has none, or refuses to speak of it.
        let is_left = match self.command(call, GetUserName(id)).await {
            Ok(name) => name == user.as_bytes(),
            Err(BmcError::Refused { code, .. }) if !code.is_transient() => false,
            Err(error) => return Err(error),
        };
        Ok(if is_left { Removed::Disabled } else { Removed::Gone })
    }

    /// The id of the user that this session is of: names are looked for, since no command tells it.
    async fn own_user(&mut self, call: &mut Call) -> Result<u8, BmcError> {
        let own = self.address.user.clone();
        let users = self.users(call, Some(&own)).await?;
        users.of(&own).ok_or_else(|| BmcError::NotApplied {
            addr: self.address.addr,
            what: crate::accounts::NO_ACCOUNT,
            expected: format!("a user named {:?} among its {}", self.address.user, users.most),
            seen: "none".to_owned(),
        })
    }
}

/// The null user, where a BMC has one.
const FIRST: u8 = 1;
const ADMINISTRATOR: u8 = 4;
const NO_ACCESS: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_the_bmc_refuses_to_speak_of_is_taken_last_and_the_null_users_never() {
        let names = vec![(1, Vec::new()), (2, b"admin".to_vec()), (4, Vec::new())];
        let users = Users { most: 5, names, refused: vec![3, 5] };
        assert_eq!(users.free().collect::<Vec<_>>(), [4, 3, 5]);
        assert_eq!(users.of("admin"), Some(2));
    }
}
