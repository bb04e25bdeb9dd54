//! UEFI Secure Boot in the words of Redfish (DSP0268 SecureBoot).

use async_trait::async_trait;
use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc};
use super::link::{Ask, Link};
use crate::actor::Call;
use crate::{BmcError, Capability, Deadline, KeyReset, SecureBoot, SecureBootKeys, SecureBootState};

#[async_trait]
impl SecureBoot for RedfishBmc {
    async fn secure_boot(&self, deadline: Deadline) -> Result<SecureBootState, BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move { link.secure_boot(call).await.map(|(_, _, state)| state) })
        })
        .await
    }

    async fn set_secure_boot(&self, enabled: bool, deadline: Deadline) -> Result<SecureBootState, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_secure_boot(call, enabled))).await
    }

    async fn secure_boot_keys(&self, deadline: Deadline) -> Result<SecureBootKeys, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.secure_boot_keys(call))).await
    }

    async fn reset_secure_boot_keys(
        &self,
        to: KeyReset,
        deadline: Deadline,
    ) -> Result<SecureBootKeys, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.reset_secure_boot_keys(call, to))).await
    }
}

impl Link {
    pub(super) async fn secure_boot_resource(
        &mut self,
        call: &mut Call,
    ) -> Result<(Path, Document), BmcError> {
        let unsupported =
            BmcError::Unsupported { driver: DRIVER, capability: Capability::SecureBoot.as_str() };
        let (_, system) = self.system(call).await?;
        let path = system.link("SecureBoot").ok_or(unsupported)?;
        let document = self.get(call, &path).await?;
        Ok((path, document))
    }

    async fn secure_boot(&mut self, call: &mut Call) -> Result<(Path, Document, SecureBootState), BmcError> {
        let (path, document) = self.secure_boot_resource(call).await?;
        let Some(state) = read(&document) else {
            let seen = document.at("SecureBootEnable").map_or("none".to_owned(), ToString::to_string);
            return Err(self.bad_answer(&Ask::get(&path), "SecureBootEnable as true or false", &seen));
        };
        Ok((path, document, state))
    }

    async fn set_secure_boot(&mut self, call: &mut Call, enabled: bool) -> Result<SecureBootState, BmcError> {
        let (path, document, before) = self.secure_boot(call).await?;
        if before.enabled == enabled {
            return Ok(before);
        }
        let body = json!({ "SecureBootEnable": enabled });
        let (ask, answer) = self.patch(call, &path, &body, document.etag).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        let mut attempt = 0;
        loop {
            let (_, _, state) = self.secure_boot(call).await?;
            if state.enabled == enabled {
                return Ok(state);
            }
            // Several BMCs answer before they have stored it.
            let pause = self.tuning.busy(attempt);
            attempt += 1;
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                let word = |on: bool| if on { "enabled" } else { "disabled" };
                return Err(BmcError::NotApplied {
                    addr: self.address.addr,
                    what: "Secure Boot",
                    expected: word(enabled).to_owned(),
                    seen: word(state.enabled).to_owned(),
                });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn read(document: &Document) -> Option<SecureBootState> {
    Some(SecureBootState {
        enabled: document.at("SecureBootEnable")?.as_bool()?,
        current: match document.text("SecureBootCurrentBoot").as_deref() {
            Some("Enabled") => Some(true),
            Some("Disabled") => Some(false),
            _ => None,
        },
        mode: document.text("SecureBootMode").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bmc_does_not_say_is_not_made_up() {
        let told = |text: &str| read(&Document::parse(text.as_bytes(), None).unwrap());
        let whole = r#"{"SecureBootEnable": true, "SecureBootCurrentBoot": "Disabled", "SecureBootMode": "UserMode"}"#;
        let state = SecureBootState { enabled: true, current: Some(false), mode: "UserMode".to_owned() };
        assert_eq!(told(whole), Some(state));
        let bare = SecureBootState { enabled: false, current: None, mode: String::new() };
        assert_eq!(told(r#"{"SecureBootEnable": false}"#), Some(bare));
        assert_eq!((told("{}"), told(r#"{"SecureBootEnable": null}"#)), (None, None));
    }
}
