//! The boot mode: a vendor's setting of the BIOS (DSP0268 Bios), and where there is none, the mode beside the boot override
//! (DSP0268 ComputerSystem, `BootSourceOverrideMode`), which is what sushy and so Ironic set.

use async_trait::async_trait;
use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::link::Link;
use super::vendor::ModeSetting;
use crate::actor::Call;
use crate::{BiosSetting, BmcError, BootMode, BootModeSetting, BootModeState, Capability, Deadline};

#[async_trait]
impl BootModeSetting for RedfishBmc {
    async fn boot_mode(&self, deadline: Deadline) -> Result<BootModeState, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.boot_mode(call))).await
    }

    async fn set_boot_mode(&self, mode: BootMode, deadline: Deadline) -> Result<BootModeState, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_boot_mode(call, mode))).await
    }
}

const BOTH: [BootMode; 2] = [BootMode::Uefi, BootMode::Bios];

/// Of a system that says it beside its boot override.
struct Beside {
    now: Option<BootMode>,
    later: Option<BootMode>,
    /// Where a change is written.
    write: (Path, Document),
    settable: Vec<BootMode>,
}

impl Link {
    async fn boot_mode(&mut self, call: &mut Call) -> Result<BootModeState, BmcError> {
        match self.mode_setting(call).await? {
            Some((known, setting)) => Ok(by_setting(known, &setting)),
            None => Ok(self.mode_beside(call).await?.told()),
        }
    }

    async fn set_boot_mode(&mut self, call: &mut Call, mode: BootMode) -> Result<BootModeState, BmcError> {
        let Some((known, _)) = self.mode_setting(call).await? else {
            return self.set_mode_beside(call, mode).await;
        };
        let change = (known.name.to_owned(), known.word(mode).to_owned());
        let set = self.set_bios(call, vec![change]).await?;
        let setting = set.settings.iter().find(|setting| setting.name == known.name);
        let mut state = setting.map(|setting| by_setting(known, setting)).unwrap_or_default();
        // A job that has it is as good as seeing it wait.
        if !set.task.is_empty() && state.current != Some(mode) {
            state.pending = Some(mode);
        }
        if state.next() != Some(mode) {
            return Err(self.mode_not_applied(mode, state.next()));
        }
        state.task = set.task;
        Ok(state)
    }

    /// The vendor's setting of the BIOS, where this one has it.
    async fn mode_setting(
        &mut self,
        call: &mut Call,
    ) -> Result<Option<(&'static ModeSetting, BiosSetting)>, BmcError> {
        let known = self.vendor(call).await?.boot_mode;
        if known.is_empty() {
            return Ok(None);
        }
        let settings = match self.bios_settings(call).await {
            Ok(read) => read.settings,
            // A link that leads nowhere, or for which nobody has paid, is as good as none.
            Err(
                BmcError::Unsupported { .. } | BmcError::Licence { .. } | BmcError::Http { status: 404, .. },
            ) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let is = |setting: &BiosSetting| known.iter().find(|known| known.name == setting.name);
        Ok(settings.into_iter().find_map(|setting| Some((is(&setting)?, setting))))
    }

    async fn mode_beside(&mut self, call: &mut Call) -> Result<Beside, BmcError> {
        let (path, system) = self.system(call).await?;
        if system.text(MODE).is_none() {
            let capability = Capability::BootMode.as_str();
            return Err(BmcError::Unsupported { driver: DRIVER, capability });
        }
        let (now, offered) = (mode(&system), offered(&system));
        let mut later = None;
        let mut write = (path, system);
        // Settings that wait (DSP0266 §9.10) may be about other things alone.
        if let Some(settings) = write.1.link("@Redfish.Settings/SettingsObject") {
            let waiting = optional(self.get(call, &settings).await, &mut Vec::new(), "settings")?;
            if let Some(waiting) = waiting.filter(|waiting| waiting.text(MODE).is_some()) {
                later = mode(&waiting);
                write = (settings, waiting);
            }
        }
        Ok(Beside { now, later, write, settable: offered })
    }

    async fn set_mode_beside(
        &mut self,
        call: &mut Call,
        wanted: BootMode,
    ) -> Result<BootModeState, BmcError> {
        let seen = self.mode_beside(call).await?;
        if seen.next() == Some(wanted) {
            return Ok(seen.told());
        }
        if !seen.settable.contains(&wanted) {
            return Err(BmcError::NotListed {
                addr: self.address.addr,
                what: "boot mode",
                wanted: wanted.to_string(),
                offered: seen.settable.iter().map(ToString::to_string).collect(),
            });
        }
        let word = WORDS.iter().find(|(mode, _)| *mode == wanted).map(|(_, word)| *word);
        let body = json!({ "Boot": { "BootSourceOverrideMode": word } });
        let (path, resource) = seen.write;
        let (ask, answer) = self.patch(call, &path, &body, resource.etag).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        let task = self.task_of(&answer).map(|task| task.as_str().to_owned()).unwrap_or_default();
        let mut attempt = 0;
        loop {
            let seen = self.mode_beside(call).await?;
            let next = seen.next();
            if next == Some(wanted) {
                return Ok(BootModeState { task, ..seen.told() });
            }
            // Several BMCs answer before they have stored it.
            let pause = self.tuning.busy(attempt);
            attempt += 1;
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                return Err(self.mode_not_applied(wanted, next));
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn mode_not_applied(&self, wanted: BootMode, seen: Option<BootMode>) -> BmcError {
        BmcError::NotApplied {
            addr: self.address.addr,
            what: "the boot mode",
            expected: wanted.to_string(),
            seen: seen.map_or("neither UEFI nor BIOS".to_owned(), |seen| seen.to_string()),
        }
    }
}

impl Beside {
    fn next(&self) -> Option<BootMode> {
        self.later.or(self.now)
    }

    fn told(self) -> BootModeState {
        BootModeState {
            current: self.now,
            pending: self.later.filter(|later| Some(*later) != self.now),
            settable: self.settable,
            setting: MODE.to_owned(),
            task: String::new(),
        }
    }
}

const MODE: &str = "Boot/BootSourceOverrideMode";
const WORDS: [(BootMode, &str); 2] = [(BootMode::Uefi, "UEFI"), (BootMode::Bios, "Legacy")];

fn of_word(word: &str) -> Option<BootMode> {
    WORDS.iter().find(|(_, known)| *known == word).map(|(mode, _)| *mode)
}

fn mode(resource: &Document) -> Option<BootMode> {
    of_word(&resource.text(MODE)?)
}

/// A system that does not say takes both.
fn offered(system: &Document) -> Vec<BootMode> {
    let words = system.words(&format!("{MODE}@Redfish.AllowableValues"));
    if words.is_empty() {
        return BOTH.to_vec();
    }
    BOTH.into_iter().filter(|mode| words.iter().any(|word| of_word(word) == Some(*mode))).collect()
}

fn by_setting(known: &ModeSetting, setting: &BiosSetting) -> BootModeState {
    BootModeState {
        current: known.mode(&setting.value),
        pending: setting.pending.as_deref().and_then(|value| known.mode(value)),
        settable: BOTH.to_vec(),
        setting: setting.name.clone(),
        task: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::redfish::scripted;
    use crate::redfish::vendor::of_driver;

    fn system(boot: &serde_json::Value) -> Document {
        Document::parse(json!({ "Boot": boot }).to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn a_vendors_setting_is_read_in_its_own_words_and_what_is_neither_is_no_mode() {
        let told = |driver: &str, name: &str, value: &str, pending: Option<&str>| {
            let known = of_driver(driver).boot_mode.iter().find(|known| known.name == name).unwrap();
            let pending = pending.map(str::to_owned);
            let state = by_setting(known, &BiosSetting { name: name.into(), value: value.into(), pending });
            (state.current, state.pending)
        };
        use BootMode::{Bios, Uefi};
        assert_eq!(told("idrac", "BootMode", "Uefi", Some("Bios")), (Some(Uefi), Some(Bios)));
        assert_eq!(told("ilo", "BootMode", "LegacyBios", None), (Some(Bios), None));
        assert_eq!(told("redfish", "BootModeSelect", "DUAL", Some("UEFI")), (None, Some(Uefi)));
        assert_eq!(told("redfish", "Bootmodeselect", "Legacy", None), (Some(Bios), None));
        assert_eq!(told("redfish", "BootModes_SystemBootMode", "UEFIMode", None), (Some(Uefi), None));
        for driver in super::super::vendor::DRIVERS {
            for known in of_driver(driver).boot_mode {
                assert_eq!(known.mode(known.word(Uefi)), Some(Uefi));
                assert_eq!(known.mode(known.word(Bios)), Some(Bios));
            }
        }
    }

    /// Supermicro's BIOS settings by Redfish are sold apart; the mode beside the boot override is not.
    #[tokio::test(start_paused = true)]
    async fn a_bios_that_wants_a_licence_is_told_and_the_mode_beside_the_boot_override_counts() {
        for (id, licence) in [
            ("SMC.1.0.OemLicenseNotPassed", "SFT-OOB-LIC or SFT-DCMS-SINGLE"),
            ("IDRAC.2.8.LIC501", "iDRAC Enterprise"),
            ("iLO.2.14.LicenseKeyRequired", "iLO Advanced"),
        ] {
            let hub = scripted::hub(move |request| {
                let system = r#"{"PowerState": "On", "Bios": {"@odata.id": "/B"}, "Boot": {"BootSourceOverrideMode": "UEFI"}}"#;
                Some(match request {
                    "GET /redfish/v1/" => (200, scripted::ROOT.to_owned()),
                    "GET /S" => (200, r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned()),
                    "GET /S/1" => (200, system.to_owned()),
                    "GET /B" => {
                        let refusal = json!({ "error": { "@Message.ExtendedInfo": [{ "MessageId": id }] } });
                        (403, refusal.to_string())
                    }
                    _ => (404, "{}".to_owned()),
                })
            });
            let (bmc, soon) = (hub.bmc(scripted::address()), Deadline::after(Duration::from_secs(30)));
            let refused = bmc.bios(soon).await.unwrap_err();
            assert!(
                matches!(&refused, BmcError::Licence { licence: wants, .. } if *wants == licence),
                "{refused}"
            );
            assert_eq!(bmc.boot_mode(soon).await.unwrap().current, Some(BootMode::Uefi), "{id}");
            hub.shutdown().await;
        }
    }

    #[test]
    fn what_a_system_does_not_offer_is_not_to_be_set() {
        let told = |boot: serde_json::Value| (mode(&system(&boot)), offered(&system(&boot)));
        let uefi = json!({
            "BootSourceOverrideMode": "UEFI", "BootSourceOverrideMode@Redfish.AllowableValues": ["UEFI"],
        });
        assert_eq!(told(uefi), (Some(BootMode::Uefi), vec![BootMode::Uefi]));
        assert_eq!(
            told(json!({ "BootSourceOverrideMode": "Legacy" })),
            (Some(BootMode::Bios), BOTH.to_vec())
        );
        assert_eq!(told(json!({ "BootSourceOverrideMode": 7 })).0, None);
    }
}
