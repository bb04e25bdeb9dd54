//! By which ways an account is let in. Its role says what it may do over Redfish, and on some BMCs nothing of IPMI, and so of the
//! serial console: Dell keeps that among the attributes of the BMC, where a new user has none of it; the standard has
//! `AccountTypes` (DSP0268 ManagerAccount, since 1.4).

use serde_json::json;

use super::document::{Document, Path};
use super::link::Link;
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
        let number = new.as_str().trim_end_matches('/').rsplit('/').next().and_then(|id| id.parse::<u8>().ok());
        let (Some(level), Some(number)) = (level, number) else { return Ok(()) };
        let (_, system) = self.system(call).await?;
        let Some((manager, _)) = self.manager(call, &system).await? else { return Ok(()) };
        let (privilege, console) =
            (format!("Users.{number}.IpmiLanPrivilege"), format!("Users.{number}.SolEnable"));
        let body = json!({ "Attributes": { privilege: level, console: "Enabled" } });
        for place in places.iter().filter_map(|place| manager.member(place)) {
            let (_, answer) = self.patch(call, &place, &body, None).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            let status = answer.status.as_u16();
            tracing::info!(bmc.addr = %self.address.addr, status, place = place.as_str(), "no rights over IPMI set");
        }
        Ok(())
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
        let (_, answer) = self.patch(call, new, &json!({ TYPES: ours }), account.etag).await?;
        if !answer.status.is_success() {
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
