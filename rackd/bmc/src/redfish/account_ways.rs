//! By which ways an account is let in. Its role says what it may do over Redfish, and on some BMCs nothing of IPMI, and so of the
//! serial console: Dell keeps that among the attributes of the BMC, where a new user has none of it; the standard has
//! `AccountTypes` (DSP0268 ManagerAccount, since 1.4).

use serde_json::json;

use super::document::{Document, Path};
use super::http::Answer;
use super::link::{Ask, Link};
use crate::BmcError;
use crate::actor::Call;

impl Link {
    /// Lets a new account in by the ways that ours has. A BMC that refuses is no failure: whether it lets the account in is for
    /// whoever logs in to find out.
    pub(super) async fn open_ways(
        &mut self,
        call: &mut Call,
        new: &Path,
        role: &str,
        own: Option<&Document>,
    ) -> Result<(), BmcError> {
        match self.vendor(call).await?.user_attributes {
            [] => self.set_account_types(call, new, own).await,
            places => self.set_user_attributes(call, new, role, places).await,
        }
    }

    async fn set_user_attributes(
        &mut self,
        call: &mut Call,
        new: &Path,
        role: &str,
        places: &[&str],
    ) -> Result<(), BmcError> {
        let level = LEVELS.iter().find(|(known, _)| *known == role).map(|(_, level)| *level);
        let number =
            new.as_str().trim_end_matches('/').rsplit('/').next().and_then(|id| id.parse::<u8>().ok());
        let (Some(level), Some(number)) = (level, number) else { return Ok(()) };
        let (_, system) = self.system(call).await?;
        let Some((manager, _)) = self.manager(call, &system).await? else { return Ok(()) };
        let (privilege, console) =
            (format!("Users.{number}.IpmiLanPrivilege"), format!("Users.{number}.SolEnable"));
        let body = json!({ "Attributes": { privilege: level, console: "Enabled" } });
        for place in places.iter().filter_map(|place| manager.member(place)) {
            let (ask, answer) = self.patch(call, &place, &body, None).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            self.not_now(&ask, &answer)?;
            let status = answer.status.as_u16();
            tracing::info!(bmc.addr = %self.address.addr, status, place = place.as_str(), "no rights over IPMI set");
        }
        Ok(())
    }

    /// A BMC that is busy is asked again: without its rights the account would be taken for one that can have none.
    fn not_now(&self, ask: &Ask, answer: &Answer) -> Result<(), BmcError> {
        let refused = self.refused(ask, answer);
        if refused.is_transient() { Err(refused) } else { Ok(()) }
    }

    async fn set_account_types(
        &mut self,
        call: &mut Call,
        new: &Path,
        own: Option<&Document>,
    ) -> Result<(), BmcError> {
        let ours = own.map(|own| own.words(TYPES)).unwrap_or_default();
        if !ours.iter().any(|word| word == "IPMI") {
            return Ok(());
        }
        let account = self.get(call, new).await?;
        let has = account.words(TYPES);
        if ours.iter().all(|word| has.contains(word)) {
            return Ok(());
        }
        let (ask, answer) = self.patch(call, new, &json!({ TYPES: ours }), account.etag).await?;
        if !answer.status.is_success() {
            self.not_now(&ask, &answer)?;
            let status = answer.status.as_u16();
            tracing::info!(bmc.addr = %self.address.addr, status, "the account gets no other types");
        }
        Ok(())
    }
}

const TYPES: &str = "AccountTypes";

/// Roles of Redfish (DSP0266, predefined roles), and Dell's words for the levels of IPMI that they are.
const LEVELS: &[(&str, &str)] =
    &[("Administrator", "Administrator"), ("Operator", "Operator"), ("ReadOnly", "User")];

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::scripted;
    use crate::{Deadline, Secret};

    #[tokio::test(start_paused = true)]
    async fn a_new_account_gets_the_types_that_ours_has_and_it_lacks() {
        for (ours, its, patched) in [
            (r#"["Redfish", "IPMI"]"#, r#"["Redfish"]"#, true),
            (r#"["Redfish", "IPMI"]"#, r#"["IPMI", "Redfish"]"#, false),
            // Without IPMI ours can do what every account of Redfish can.
            (r#"["Redfish"]"#, "null", false),
            ("null", "null", false),
        ] {
            let asked: Arc<Mutex<Vec<String>>> = Arc::default();
            let told = Arc::clone(&asked);
            let hub = scripted::hub(move |request| {
                told.lock().unwrap().push(request.to_owned());
                let account = |name, types| format!(r#"{{"UserName": "{name}", "AccountTypes": {types}}}"#);
                Some(match request {
                    "GET /redfish/v1/" => {
                        let root = r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "AccountService": {"@odata.id": "/AS"}}"#;
                        (200, root.to_owned())
                    }
                    "GET /AS" => (200, r#"{"Accounts": {"@odata.id": "/A"}}"#.to_owned()),
                    "GET /A" => (200, r#"{"Members": [{"@odata.id": "/A/1"}]}"#.to_owned()),
                    "GET /A/1" => (200, account("u", ours)),
                    // Where a scripted BMC says that it is.
                    "POST /A" => (201, "{}".to_owned()),
                    "GET /X/1" => (200, account("new", its)),
                    "PATCH /X/1" => (200, "{}".to_owned()),
                    _ => (404, "{}".to_owned()),
                })
            });
            let soon = Deadline::after(Duration::from_secs(30));
            hub.bmc(scripted::address()).create_account("new", &Secret::new("hunter3"), soon).await.unwrap();
            assert_eq!(asked.lock().unwrap().iter().any(|one| one == "PATCH /X/1"), patched, "{ours} {its}");
            hub.shutdown().await;
        }
    }
}
