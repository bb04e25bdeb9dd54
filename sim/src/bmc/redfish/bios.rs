//! BIOS settings (DSP0268 Bios; DSP0266 §9.10): those of now, and those of after the next start.

use serde_json::{Map, Value, json};

use super::boot_order;
use super::changes::{Outcome, bad};
use super::personality::Personality;
use super::resources::{View, link};

/// Settings as they come, and what they may be; nothing: a whole number or a truth, as they come.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    ("ProcVirtualization", "\"Disabled\"", &["Enabled", "Disabled"]),
    ("NumLock", "true", &[]),
    ("MemTestPasses", "4", &[]),
];

/// The one whose words are a vendor's own.
const BOOT_MODE: &str = "BootMode";

/// A machine's settings.
#[derive(Debug)]
pub(super) struct Bios {
    modes: [&'static str; 2],
    now: Map<String, Value>,
    later: Map<String, Value>,
}

impl Bios {
    /// As it was delivered, which is with UEFI.
    pub(super) fn new(personality: Personality) -> Self {
        let modes = personality.modes();
        let value = |text: &str| serde_json::from_str(text).unwrap_or_default();
        let mut now: Map<_, _> =
            SETTINGS.iter().map(|(name, text, _)| ((*name).to_owned(), value(text))).collect();
        now.insert(BOOT_MODE.to_owned(), json!(modes[0]));
        Self { modes, later: now.clone(), now }
    }

    /// In which mode the firmware is.
    pub(super) fn is_uefi(&self) -> bool {
        self.now.get(BOOT_MODE).and_then(Value::as_str) == Some(self.modes[0])
    }

    /// The mode is another at once.
    pub(super) fn set_mode(&mut self, uefi: bool) {
        let [of_uefi, of_bios] = self.modes;
        let mode = json!(if uefi { of_uefi } else { of_bios });
        for settings in [&mut self.now, &mut self.later] {
            settings.insert(BOOT_MODE.to_owned(), mode.clone());
        }
    }

    /// The machine starts: what was to be is.
    pub(super) fn start(&mut self) {
        self.now.clone_from(&self.later);
    }

    pub(super) fn now(&self) -> &Map<String, Value> {
        &self.now
    }

    /// PATCH of the settings to come: all or nothing.
    pub(super) fn change(&mut self, body: &Value) -> Outcome {
        let changes = body.get("Attributes").and_then(Value::as_object);
        let changes = changes.ok_or_else(|| bad("PropertyMissing", "Attributes is required"))?;
        for (name, value) in changes {
            let known = SETTINGS.iter().find(|(known, _, _)| known == name).map(|(_, _, allowed)| *allowed);
            let known = known.or((name == BOOT_MODE).then_some(&self.modes[..]));
            let allowed =
                known.ok_or_else(|| bad("PropertyUnknown", &format!("there is no setting {name}")))?;
            let good = match value {
                Value::String(word) => allowed.contains(&word.as_str()),
                other => self.now.get(name).is_some_and(|now| {
                    now.is_boolean() && other.is_boolean() || now.is_i64() && other.is_i64()
                }),
            };
            if !good {
                return Err(bad("PropertyValueNotInList", &format!("{value} is no value of {name}")));
            }
        }
        self.later.extend(changes.clone());
        Ok(())
    }
}

/// Something at or below a system's `Bios`.
pub(super) fn get(view: &View<'_>, path: &str, rest: &[&str]) -> Option<Value> {
    let bios = |attributes: &Map<String, Value>, id: &str| {
        json!({
            "@odata.id": path, "@odata.type": "#Bios.v1_2_0.Bios", "Id": id, "Name": "BIOS Settings",
            "AttributeRegistry": "BiosAttributeRegistry.v1_0_0", "Attributes": attributes,
        })
    };
    match rest {
        [] => {
            let mut now = bios(&view.bios.now, "Bios");
            let mut settings = json!({
                "@odata.type": "#Settings.v1_3_0.Settings", "SettingsObject": link(&format!("{path}/Settings")),
            });
            if view.config.personality == Personality::Idrac
                && !view.config.old_firmware
                && let Some(settings) = settings.as_object_mut()
            {
                settings.insert("SupportedApplyTimes".to_owned(), json!(["OnReset"]));
            }
            now.as_object_mut()?.insert("@Redfish.Settings".to_owned(), settings);
            if view.config.personality == Personality::Ilo {
                let links = json!({ "Hpe": { "Links": { "Boot": link(&format!("{path}/Boot")) } } });
                now.as_object_mut()?.insert("Oem".to_owned(), links);
            }
            Some(now)
        }
        ["Boot"] if view.config.personality == Personality::Ilo => {
            Some(boot_order::of_hpe(view, path, false))
        }
        ["Boot", "Settings"] if view.config.personality == Personality::Ilo => {
            Some(boot_order::of_hpe(view, path, true))
        }
        ["Settings"] => Some(bios(&view.bios.later, "Settings")),
        _ => None,
    }
}
