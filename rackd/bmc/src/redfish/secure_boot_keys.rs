//! Keys of Secure Boot (DSP0268 SecureBoot, SecureBootDatabase): counted, and replaced all at once.

use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, optional};
use super::link::{Ask, Link};
use crate::actor::Call;
use crate::{BmcError, KeyDatabase, KeyReset, SecureBootKeys};

const ACTION: &str = "Actions/#SecureBoot.ResetKeys";

impl Link {
    pub(super) async fn secure_boot_keys(&mut self, call: &mut Call) -> Result<SecureBootKeys, BmcError> {
        let (_, document) = self.secure_boot_resource(call).await?;
        let mode = document.text("SecureBootMode").unwrap_or_default();
        let mut keys = SecureBootKeys { mode, ..SecureBootKeys::default() };
        let Some(all) = document.link("SecureBootDatabases") else {
            keys.warnings.push("there are no SecureBootDatabases".to_owned());
            return Ok(keys);
        };
        let list = optional(self.get(call, &all).await, &mut keys.warnings, all.as_str())?;
        for path in list.map(|list| list.links("Members", self.tuning.max_members)).unwrap_or_default() {
            let database = optional(self.get(call, &path).await, &mut keys.warnings, path.as_str())?;
            let Some(database) = database else { continue };
            let id = database.text("DatabaseId").or_else(|| database.text("Id")).unwrap_or_default();
            let certificates = self.count(call, database.link("Certificates"), &mut keys.warnings).await?;
            let signatures = self.count(call, database.link("Signatures"), &mut keys.warnings).await?;
            keys.databases.push(KeyDatabase { id, certificates, signatures });
        }
        Ok(keys)
    }

    async fn count(
        &mut self,
        call: &mut Call,
        list: Option<Path>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<u64>, BmcError> {
        let Some(path) = list else { return Ok(None) };
        let list = optional(self.get(call, &path).await, warnings, path.as_str())?;
        Ok(list.and_then(|list| {
            let members = || list.at("Members").and_then(|all| all.as_array()).map(|all| all.len() as u64);
            list.number("Members@odata.count").or_else(members)
        }))
    }

    pub(super) async fn reset_secure_boot_keys(
        &mut self,
        call: &mut Call,
        to: KeyReset,
    ) -> Result<SecureBootKeys, BmcError> {
        let (path, document) = self.secure_boot_resource(call).await?;
        let (target, kind) = self.key_reset(&path, &document, to)?;
        // It names a state: twice is the same as once.
        let ask = Ask::post(&target, json!({ "ResetKeysType": kind }));
        let answer = self.send(call, &ask).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        self.secure_boot_keys(call).await
    }

    /// Where to ask for it, and by which word.
    fn key_reset(
        &self,
        path: &Path,
        document: &Document,
        to: KeyReset,
    ) -> Result<(Path, &'static str), BmcError> {
        let kind = match to {
            KeyReset::Default => "ResetAllKeysToDefault",
            KeyReset::DeleteAll => "DeleteAllKeys",
        };
        let absent = BmcError::Unsupported { driver: DRIVER, capability: "change of Secure Boot's keys" };
        let action = document.at(ACTION).ok_or(absent)?;
        let offered = document.words(&format!("{ACTION}/ResetKeysType@Redfish.AllowableValues"));
        if !offered.is_empty() && !offered.iter().any(|one| one == kind) {
            let (wanted, expected) = ("this change of Secure Boot's keys", vec![kind]);
            return Err(BmcError::NotOffered { addr: self.address.addr, wanted, expected, offered });
        }
        let target = action.get("target").and_then(|target| Path::of(target.as_str()?));
        let target = target.or_else(|| path.member("Actions/SecureBoot.ResetKeys"));
        Ok((target.unwrap_or_else(|| path.clone()), kind))
    }
}
