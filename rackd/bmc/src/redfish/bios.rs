//! BIOS settings (DSP0268 Bios; DSP0266 §9.10 for settings that wait), and Dell's job that applies them.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::link::Link;
use crate::actor::Call;
use crate::{Bios, BiosSetting, BiosSettings, BmcError, Capability, Deadline};

/// Settings of one machine that are shown; servers have some hundreds.
const MOST: usize = 4096;

/// Both sides of a machine's settings.
struct Both {
    now: Document,
    /// Where changes are written, and what is written there.
    later: Option<(Path, Document)>,
}

#[async_trait]
impl Bios for RedfishBmc {
    async fn bios(&self, deadline: Deadline) -> Result<BiosSettings, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.bios_settings(call))).await
    }

    async fn set_bios(
        &self,
        changes: Vec<(String, String)>,
        deadline: Deadline,
    ) -> Result<BiosSettings, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_bios(call, changes))).await
    }
}

impl Link {
    /// The settings of now, and where those of later are.
    async fn bios_now(&mut self, call: &mut Call) -> Result<(Document, Option<Path>), BmcError> {
        let unsupported = BmcError::Unsupported { driver: DRIVER, capability: Capability::Bios.as_str() };
        let (_, system) = self.system(call).await?;
        let path = system.link("Bios").ok_or(unsupported.clone())?;
        let now = self.get_long(call, &path).await?;
        if now.at("Attributes").is_none_or(|attributes| !attributes.is_object()) {
            return Err(unsupported);
        }
        let later = now.link("@Redfish.Settings/SettingsObject");
        Ok((now, later))
    }

    async fn bios(&mut self, call: &mut Call) -> Result<Both, BmcError> {
        let (now, later) = self.bios_now(call).await?;
        let later = match later {
            Some(path) => {
                let document = self.get_long(call, &path).await?;
                Some((path, document))
            }
            None => None,
        };
        Ok(Both { now, later })
    }

    pub(super) async fn bios_settings(&mut self, call: &mut Call) -> Result<BiosSettings, BmcError> {
        let (now, later) = self.bios_now(call).await?;
        let later = match later {
            Some(path) => {
                // What is now does not depend on what waits.
                let mut warnings = Vec::new();
                let document = self.get_long(call, &path).await;
                let document = optional(document, &mut warnings, path.as_str())?;
                for warning in warnings {
                    tracing::warn!(bmc.addr = %self.address.addr, warning, "which BIOS settings wait is not known");
                }
                document.map(|document| (path, document))
            }
            None => None,
        };
        Ok(BiosSettings { settings: settings(&Both { now, later }), task: String::new() })
    }

    pub(super) async fn set_bios(
        &mut self,
        call: &mut Call,
        changes: Vec<(String, String)>,
    ) -> Result<BiosSettings, BmcError> {
        let both = self.bios(call).await?;
        let attributes = self.typed(&both.now, &changes)?;
        let Some((path, waiting)) = &both.later else {
            return Err(BmcError::Unsupported { driver: DRIVER, capability: "changes of BIOS settings" });
        };
        let mut task = None;
        if attributes.iter().any(|(name, value)| will_be(&both, name) != Some(value)) {
            let mut body = json!({ "Attributes": attributes });
            let on_reset =
                both.now.words("@Redfish.Settings/SupportedApplyTimes").iter().any(|t| t == ON_RESET);
            if let (true, Some(body)) = (on_reset, body.as_object_mut()) {
                body.insert("@Redfish.SettingsApplyTime".to_owned(), json!({ "ApplyTime": ON_RESET }));
            }
            let (ask, answer) = self.patch(call, path, &body, waiting.etag.clone()).await?;
            if !answer.status.is_success() {
                return Err(without(self.refused(&ask, &answer), &changes));
            }
            task = self.task_of(&answer);
        }
        // Also where nothing was to be written: an earlier job may have failed, or was never queued.
        let waits = attributes.iter().any(|(name, value)| is_now(&both, name) != Some(value));
        if task.is_none() && waits && self.vendor(call).await?.queues_jobs {
            task = self.ensure_job(call, path).await?;
        }
        let both = self.bios(call).await?;
        // A job that has them is as good as seeing them wait: some BMCs show them no longer then.
        let kept = |(name, value): &(&String, &Value)| will_be(&both, name) == Some(value);
        if let (None, Some((name, _))) = (&task, attributes.iter().find(|change| !kept(change))) {
            return Err(BmcError::NotApplied {
                addr: self.address.addr,
                what: "a BIOS setting",
                // A value may be a password.
                expected: format!("{name} as it was asked for"),
                seen: will_be(&both, name).map_or("no such setting", |_| "another value").to_owned(),
            });
        }
        let task = task.map(|task| task.as_str().to_owned()).unwrap_or_default();
        Ok(BiosSettings { settings: settings(&both), task })
    }

    /// What is to be written, each of the type that the setting has now.
    fn typed(&self, now: &Document, changes: &[(String, String)]) -> Result<Map<String, Value>, BmcError> {
        let known = attributes(now);
        let mut typed = Map::new();
        for (name, wanted) in changes {
            let addr = self.address.addr;
            let Some(value) = known.and_then(|known| known.get(name)) else {
                return Err(BmcError::NoSetting { addr, name: name.clone(), near: near(known, name) });
            };
            let value = as_typed(value, wanted).ok_or_else(|| BmcError::BadSetting {
                addr,
                name: name.clone(),
                expected: if value.is_boolean() { "true or false" } else { "a whole number" },
            })?;
            typed.insert(name.clone(), value);
        }
        Ok(typed)
    }
}

const ON_RESET: &str = "OnReset";

fn attributes(document: &Document) -> Option<&Map<String, Value>> {
    document.at("Attributes")?.as_object()
}

/// A refusal in which the BMC repeats what it was asked for, without that: a value may be a password.
fn without(refused: BmcError, changes: &[(String, String)]) -> BmcError {
    let BmcError::Http { addr, request, status, mut detail } = refused else { return refused };
    // Shorter ones are everywhere, and no secrets.
    for (_, value) in changes.iter().filter(|(_, value)| value.len() >= 4) {
        detail = detail.replace(value.as_str(), "…");
    }
    BmcError::Http { addr, request, status, detail }
}

/// A setting's value until the next start.
fn is_now<'a>(both: &'a Both, name: &str) -> Option<&'a Value> {
    attributes(&both.now)?.get(name)
}

/// A setting's value after the next start.
fn will_be<'a>(both: &'a Both, name: &str) -> Option<&'a Value> {
    let later = both.later.as_ref().and_then(|(_, later)| attributes(later)?.get(name));
    later.filter(|value| !value.is_null()).or_else(|| attributes(&both.now)?.get(name))
}

fn settings(both: &Both) -> Vec<BiosSetting> {
    let now = attributes(&both.now).into_iter().flatten().take(MOST);
    let one = |(name, value): (&String, &Value)| BiosSetting {
        name: name.chars().filter(|c| !c.is_control()).take(128).collect(),
        value: text(value),
        pending: will_be(both, name).filter(|later| *later != value).map(text),
    };
    now.map(one).collect()
}

/// As it is shown, and as it is asked for.
fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// `None`: it cannot be one of the setting's.
fn as_typed(like: &Value, wanted: &str) -> Option<Value> {
    match like {
        Value::Bool(_) => wanted.to_ascii_lowercase().parse().ok().map(Value::Bool),
        Value::Number(_) => wanted.parse::<i64>().ok().map(Value::from),
        _ => Some(Value::from(wanted)),
    }
}

/// Names somebody may have meant.
fn near(known: Option<&Map<String, Value>>, name: &str) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let like = |known: &&String| {
        let known = known.to_ascii_lowercase();
        known.contains(&lower) || lower.contains(&known)
    };
    known.into_iter().flat_map(Map::keys).filter(like).take(5).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_differs() {
        let document = |text: &str| Document::parse(text.as_bytes(), None).unwrap();
        let now =
            document(r#"{"Attributes": {"BootMode": "Uefi", "NumLock": true, "Slots": 4, "Odd": null}}"#);
        let later = document(r#"{"Attributes": {"BootMode": "Bios", "NumLock": true, "Slots": null}}"#);
        let both = Both { now, later: Some((Path::ours("/s"), later)) };
        let shown: Vec<_> = settings(&both).into_iter().map(|s| (s.name, s.value, s.pending)).collect();
        let one = |name: &str, value: &str, pending: Option<&str>| {
            (name.into(), value.into(), pending.map(Into::into))
        };
        assert_eq!(
            shown,
            [
                one("BootMode", "Uefi", Some("Bios")),
                one("NumLock", "true", None),
                one("Odd", "", None),
                one("Slots", "4", None),
            ]
        );
    }

    #[test]
    fn a_value_has_the_type_that_the_setting_has() {
        assert_eq!(as_typed(&json!(true), "False"), Some(json!(false)));
        assert_eq!((as_typed(&json!(true), "yes"), as_typed(&json!(4), "x")), (None, None));
        assert_eq!(as_typed(&json!(4), "-7"), Some(json!(-7)));
        assert_eq!(as_typed(&json!("4"), "7"), Some(json!("7")));
        let known = json!({ "ProcVirtualization": "Enabled", "BootMode": "Uefi" });
        assert_eq!(near(known.as_object(), "virtualization"), ["ProcVirtualization"]);
    }
}
