//! Accounts and their passwords (DSP0268: AccountService, ManagerAccount).

use std::sync::Arc;

use async_trait::async_trait;
use farrier_ipmi::Secret;
use http::{StatusCode, header};
use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc};
use super::link::{Ask, Link};
use crate::accounts::{NO_ACCOUNT, write_by};
use crate::actor::Call;
use crate::{Accounts, BmcError, Capability, Deadline, Removed};

#[async_trait]
impl Accounts for RedfishBmc {
    async fn set_password(&self, new: &Secret, deadline: Deadline) -> Result<(), BmcError> {
        let new = new.clone();
        let found = self.call(deadline, |link, call| Box::pin(link.own_account(call))).await;
        let found = found.map_err(BmcError::not_found)?;
        self.call(write_by(deadline), move |link, call| {
            Box::pin(async move {
                let (logins, addr) = (Arc::clone(&link.logins), link.address.addr);
                let account = (link.address.user.clone(), new.clone());
                logins.forgive(addr, &account);
                let set = link.set_password(call, found, new).await;
                // Also where the answer is lost, and also what others tried meanwhile.
                logins.forgive(addr, &account);
                set
            })
        })
        .await
    }

    async fn prove_password(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move {
                link.give_up_session().await;
                match link.power(call).await {
                    // It lets the account in, if only to change the password.
                    Ok(_) | Err(BmcError::PasswordChangeRequired { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            })
        })
        .await
    }

    async fn has_account(&self, user: &str, deadline: Deadline) -> Result<bool, BmcError> {
        let user = user.to_owned();
        self.call(deadline, move |link, call| {
            Box::pin(async move { Ok(link.accounts(call, Some(&user)).await?.search(&user)?.is_some()) })
        })
        .await
    }

    async fn create_account(
        &self,
        user: &str,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        let (user, password) = (user.to_owned(), password.clone());
        // Also ours, whose rights it gets.
        let known = self.call(deadline, |link, call| Box::pin(link.accounts(call, None))).await;
        let known = known.map_err(BmcError::not_found)?;
        self.call(deadline, move |link, call| {
            Box::pin(async move {
                let (logins, addr) = (Arc::clone(&link.logins), link.address.addr);
                let account = (user.clone(), password.clone());
                logins.forgive(addr, &account);
                let made = link.create_account(call, known, user, password).await;
                logins.forgive(addr, &account);
                made
            })
        })
        .await
    }

    async fn delete_account(&self, user: &str, deadline: Deadline) -> Result<Removed, BmcError> {
        let user = user.to_owned();
        self.call(deadline, move |link, call| Box::pin(link.delete_account(call, user))).await
    }
}

/// What a BMC tells of its accounts.
struct Known {
    collection: Path,
    accounts: Vec<(Path, Document)>,
    /// Why one of them could not be read just now: it may be anybody's.
    unread: Option<BmcError>,
    /// Why one of them can never be read: another one's, for the BMC lets us in with ours.
    broken: Option<BmcError>,
}

impl Known {
    fn of(&self, user: &str) -> Option<&(Path, Document)> {
        self.accounts.iter().find(|(_, account)| account.text("UserName").as_deref() == Some(user))
    }

    /// The same, of somebody whose account may be the one that cannot be read just now.
    fn search(&self, user: &str) -> Result<Option<&(Path, Document)>, BmcError> {
        match (self.of(user), &self.unread) {
            (None, Some(error)) => Err(error.clone()),
            (found, _) => Ok(found),
        }
    }
}

impl Link {
    /// A new member where the BMC makes some; else the first of its places that nobody has and that it gives away (Dell has
    /// sixteen, which are always there).
    async fn create_account(
        &mut self,
        call: &mut Call,
        known: Known,
        user: String,
        password: Secret,
    ) -> Result<(), BmcError> {
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        // The role that proved enough for everything so far.
        let own = known.of(&self.address.user).map(|(_, own)| own.clone());
        let role = own.as_ref().and_then(|own| own.text("RoleId"));
        let role = role.unwrap_or_else(|| "Administrator".to_owned());
        match self.make_account(call, &known, &user, &password, &role).await? {
            Some(new) => self.open_ways(call, &new, &role, own.as_ref()).await,
            None => Ok(()),
        }
    }

    /// Where it is; `None`: the BMC does not say.
    async fn make_account(
        &mut self,
        call: &mut Call,
        known: &Known,
        user: &str,
        password: &str,
        role: &str,
    ) -> Result<Option<Path>, BmcError> {
        let whole = json!({ "UserName": user, "Password": password, "RoleId": role, "Enabled": true });
        if let Some((path, account)) = known.search(user).map_err(BmcError::not_found)? {
            let body = json!({ "Password": password, "RoleId": role, "Enabled": true });
            let (ask, answer) = self.patch(call, path, &body, account.etag.clone()).await?;
            let done = answer.status.is_success();
            return if done { Ok(Some(path.clone())) } else { Err(self.refused(&ask, &answer)) };
        }
        let ask = Ask::post(&known.collection, whole.clone());
        let answer = self.send(call, &ask).await?;
        if answer.status.is_success() {
            let said = answer.header(&header::LOCATION).and_then(|there| self.address.same_origin(there));
            return Ok(match said {
                Some(path) => Some(path),
                None => self.accounts(call, Some(user)).await?.of(user).map(|(path, _)| path.clone()),
            });
        }
        let mut refused = self.refused(&ask, &answer);
        // Sent twice by a bad network, the first was obeyed.
        if refused.is_transient() || self.accounts(call, Some(user)).await?.of(user).is_some() {
            return Err(refused);
        }
        let places = known.accounts.iter().filter(|(_, account)| account.text("UserName").is_none());
        for (path, account) in places.take(PLACES) {
            let (ask, answer) = self.patch(call, path, &whole, account.etag.clone()).await?;
            if answer.status.is_success() {
                return Ok(Some(path.clone()));
            }
            refused = self.refused(&ask, &answer);
        }
        Err(refused)
    }

    /// As a member, or where it has a place of its own, by emptying that.
    async fn delete_account(&mut self, call: &mut Call, user: String) -> Result<Removed, BmcError> {
        let known = self.accounts(call, Some(&user)).await?;
        let Some((path, account)) = known.search(&user)? else { return Ok(Removed::Gone) };
        let ask = Ask::delete(path);
        let answer = self.send(call, &ask).await?;
        let refused = self.refused(&ask, &answer);
        if !answer.status.is_success() {
            if refused.is_transient() {
                return Err(refused);
            }
            // It may answer the repetition of one that was obeyed.
            if answer.status == StatusCode::NOT_FOUND
                && self.accounts(call, Some(&user)).await?.of(&user).is_none()
            {
                return Ok(Removed::Gone);
            }
            let (_, out) = self.patch(call, path, &json!({ "Enabled": false }), account.etag.clone()).await?;
            let (_, emptied) = self.patch(call, path, &json!({ "UserName": "" }), None).await?;
            if !out.status.is_success() && !emptied.status.is_success() {
                return Err(refused);
            }
        }
        match self.accounts(call, Some(&user)).await?.of(&user) {
            None => Ok(Removed::Gone),
            Some((_, left)) if left.at("Enabled").and_then(serde_json::Value::as_bool) == Some(false) => {
                Ok(Removed::Disabled)
            }
            Some(_) => Err(BmcError::NotApplied {
                addr: self.address.addr,
                what: "the end of an account",
                expected: format!("{user:?} to be gone, or disabled"),
                seen: "it is enabled".to_owned(),
            }),
        }
    }

    async fn set_password(
        &mut self,
        call: &mut Call,
        (path, account): (Path, Document),
        new: Secret,
    ) -> Result<(), BmcError> {
        let password = String::from_utf8_lossy(new.expose()).into_owned();
        let body = json!({ "Password": password });
        let (ask, answer) = self.patch(call, &path, &body, account.etag).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(&ask, &answer)) }
    }

    /// The account that this session is of.
    async fn own_account(&mut self, call: &mut Call) -> Result<(Path, Document), BmcError> {
        let user = self.address.user.clone();
        match self.accounts(call, Some(&user)).await {
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
            Err(error) => Err(error),
            Ok(known) => {
                let others = known.accounts.len();
                // One of those that cannot be read is ours.
                let error = known.unread.clone().or(known.broken.clone());
                let own = known.of(&self.address.user).cloned();
                own.ok_or_else(|| error.unwrap_or_else(|| self.no_account(format!("{others} others"))))
            }
        }
    }

    fn no_account(&self, seen: String) -> BmcError {
        let expected = format!("an account named {:?}", self.address.user);
        BmcError::NotApplied { addr: self.address.addr, what: NO_ACCOUNT, expected, seen }
    }

    /// All, or up to one of this name: a slow BMC has sixteen places of five seconds each.
    async fn accounts(&mut self, call: &mut Call, upto: Option<&str>) -> Result<Known, BmcError> {
        let unsupported = BmcError::Unsupported { driver: DRIVER, capability: Capability::Accounts.as_str() };
        let Some(service) = self.root(call).await?.accounts.clone() else { return Err(unsupported) };
        let collection = self.get(call, &service).await?.link("Accounts").ok_or(unsupported)?;
        let most = self.tuning.max_members;
        let members = self.get(call, &collection).await?.links("Members", most);
        let (mut accounts, mut unread, mut broken) = (Vec::new(), None, None);
        for path in members {
            match self.get(call, &path).await {
                Ok(account) => {
                    let is_it = upto.is_some() && account.text("UserName").as_deref() == upto;
                    accounts.push((path, account));
                    if is_it {
                        break;
                    }
                }
                // Some BMCs list slots that nobody has, and accounts that not everybody may read.
                Err(BmcError::Http { status: 403 | 404, .. }) => {}
                Err(error @ BmcError::Http { .. }) if error.is_transient() => unread = Some(error),
                Err(error @ (BmcError::Http { .. } | BmcError::BadAnswer { .. })) => broken = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok(Known { collection, accounts, unread, broken })
    }
}

/// Places that are tried: Dell keeps the first for itself.
const PLACES: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::super::scripted;
    use super::*;

    /// A BMC whose places are always there, as Dell's: nothing is posted or deleted, the first two are its own, and the fourth
    /// loses its name by the second change.
    fn places(asked: Arc<Mutex<Vec<String>>>, has: &'static str) -> impl Fn(&str) -> Option<(u16, String)> {
        let root = r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "AccountService": {"@odata.id": "/AS"}}"#;
        move |request| {
            let (mut asked, ok) = (asked.lock().unwrap(), |text: &str| Some((200, text.to_owned())));
            let changes = |asked: &[String]| asked.iter().filter(|one| *one == "PATCH /A/4").count();
            let named = |name: &str| {
                format!(r#"{{"UserName": "{name}", "RoleId": "Administrator", "Enabled": true}}"#)
            };
            if request.starts_with("PATCH") || request.starts_with("DELETE") || request == "POST /A" {
                asked.push(request.to_owned());
            }
            match request {
                "GET /redfish/v1/" => ok(root),
                "GET /AS" => ok(r#"{"Accounts": {"@odata.id": "/A"}}"#),
                "GET /A" => {
                    ok(r#"{"Members": [{"@odata.id": "/A/1"}, {"@odata.id": "/A/2"}, {"@odata.id": "/A/3"},
                    {"@odata.id": "/A/4"}]}"#)
                }
                "GET /A/1" => ok(&named("")),
                "GET /A/2" => ok(&named("u")),
                "GET /A/3" => ok(&named("")),
                "GET /A/4" if changes(&asked) >= 2 => ok(&named("")),
                "GET /A/4" => ok(&named(has)),
                "PATCH /A/3" | "PATCH /A/4" => ok("{}"),
                "POST /A" | "DELETE /A/4" => Some((405, "{}".to_owned())),
                "PATCH /A/1" => Some((400, "{}".to_owned())),
                _ => Some((404, "{}".to_owned())),
            }
        }
    }

    #[tokio::test]
    async fn where_places_are_always_there_one_is_filled_and_emptied() {
        let soon = || Deadline::after(Duration::from_secs(30));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let hub = scripted::hub(places(Arc::clone(&asked), "old"));
        let bmc = hub.bmc(scripted::address());
        assert_eq!(bmc.has_account("old", soon()).await, Ok(true));
        bmc.create_account("new", &Secret::new("hunter3"), soon()).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), ["POST /A", "PATCH /A/1", "PATCH /A/3"]);
        assert_eq!(bmc.delete_account("old", soon()).await, Ok(Removed::Gone));
        assert_eq!(asked.lock().unwrap()[3..], ["DELETE /A/4", "PATCH /A/4", "PATCH /A/4"]);
        assert_eq!(bmc.delete_account("old", soon()).await, Ok(Removed::Gone), "it is idempotent");
    }

    /// The first answer to DELETE got lost, and the second says that there is no such account.
    #[tokio::test]
    async fn an_account_that_was_deleted_by_the_first_of_two_requests_is_gone() {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&asked);
        let hub = scripted::hub(move |request| {
            let mut told = told.lock().unwrap();
            if !request.starts_with("GET") {
                told.push(request.to_owned());
            }
            let ok = |text: &str| Some((200, text.to_owned()));
            match request {
                "GET /redfish/v1/" => ok(
                    r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "AccountService": {"@odata.id": "/AS"}}"#,
                ),
                "GET /AS" => ok(r#"{"Accounts": {"@odata.id": "/A"}}"#),
                "GET /A" if told.is_empty() => ok(r#"{"Members": [{"@odata.id": "/A/1"}]}"#),
                "GET /A" => ok(r#"{"Members": []}"#),
                "GET /A/1" => ok(r#"{"UserName": "old", "RoleId": "Administrator", "Enabled": true}"#),
                _ => Some((404, "{}".to_owned())),
            }
        });
        let bmc = hub.bmc(scripted::address());
        let soon = Deadline::after(Duration::from_secs(30));
        assert_eq!(bmc.delete_account("old", soon).await, Ok(Removed::Gone));
        assert_eq!(*asked.lock().unwrap(), ["DELETE /A/1"]);
        hub.shutdown().await;
    }

    /// With accounts `a`, `u` (ours) and `z`, of which nobody can read one.
    #[tokio::test(start_paused = true)]
    async fn a_password_is_not_perhaps_changed_where_the_account_was_not_found() {
        for (broken, set, asked_for) in [
            ("GET /AS", None, 0),
            ("GET /A", None, 0),
            // Not ours, and one that is not asked for any more.
            ("GET /A/1", Some(()), 1),
            ("GET /A/3", Some(()), 1),
            // Perhaps ours.
            ("GET /A/2", None, 0),
        ] {
            let asked: Arc<Mutex<Vec<String>>> = Arc::default();
            let told = Arc::clone(&asked);
            let hub = scripted::hub(move |request| {
                told.lock().unwrap().push(request.to_owned());
                let ok = |text: &str| Some((200, text.to_owned()));
                match request {
                    _ if request == broken => Some((503, "{}".to_owned())),
                    "GET /redfish/v1/" => ok(
                        r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "AccountService": {"@odata.id": "/AS"}}"#,
                    ),
                    "GET /AS" => ok(r#"{"Accounts": {"@odata.id": "/A"}}"#),
                    "GET /A" => ok(
                        r#"{"Members": [{"@odata.id": "/A/1"}, {"@odata.id": "/A/2"}, {"@odata.id": "/A/3"}]}"#,
                    ),
                    "GET /A/1" => ok(r#"{"UserName": "a"}"#),
                    "GET /A/2" => ok(r#"{"UserName": "u"}"#),
                    "GET /A/3" => ok(r#"{"UserName": "z"}"#),
                    "PATCH /A/2" => ok("{}"),
                    _ => Some((404, "{}".to_owned())),
                }
            });
            let soon = Deadline::after(Duration::from_secs(60));
            let seen = hub.bmc(scripted::address()).set_password(&Secret::new("hunter3"), soon).await;
            assert_eq!(seen.as_ref().ok().copied(), set, "{broken}: {seen:?}");
            if let Err(error) = &seen {
                assert!(error.was_not_begun() && error.is_transient(), "{broken}: {error}");
            }
            let asked = asked.lock().unwrap().clone();
            assert_eq!(asked.iter().filter(|one| one.starts_with("PATCH")).count(), asked_for, "{broken}");
            assert!(!asked.iter().any(|one| one == "GET /A/3") || set.is_none(), "read on: {asked:?}");
            hub.shutdown().await;
        }
    }

    /// As a BMC with the password of its label (DSP0266, "password change required").
    #[tokio::test]
    async fn an_account_that_may_only_change_its_password_is_let_in() {
        let hub = scripted::hub(|request| {
            Some(match request {
                "GET /redfish/v1/" => (200, scripted::ROOT.to_owned()),
                _ => (
                    403,
                    r#"{"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.5.0.PasswordChangeRequired", "MessageArgs": ["/A/1"]}]}}"#
                        .to_owned(),
                ),
            })
        });
        let bmc = hub.bmc(scripted::address());
        let soon = Deadline::after(Duration::from_secs(30));
        assert_eq!(bmc.prove_password(soon).await, Ok(()));
        let seen = bmc.power_status(soon).await;
        assert!(matches!(seen, Err(BmcError::PasswordChangeRequired { .. })), "{seen:?}");
        hub.shutdown().await;
    }
}
