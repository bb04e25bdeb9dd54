//! Power in the words of Redfish (DSP0268, ComputerSystem: PowerState, Reset).

use super::document::Document;
use crate::PowerState;

/// A way to press the button, and the reset types that do it, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) name: &'static str,
    pub(super) types: &'static [&'static str],
    /// The state it leads to, if it names one.
    pub(super) reaches: Option<PowerState>,
    /// Repeating it does no harm. Not so of what asks an operating system: a second press while it shuts down makes some abort it.
    pub(super) repeats: bool,
    /// Where none of them is offered and this is: the button, which does the same to a machine that is on.
    pub(super) button: bool,
}

impl Reset {
    const fn event(name: &'static str, types: &'static [&'static str]) -> Self {
        Self { name, types, reaches: None, repeats: false, button: false }
    }

    const fn to(state: PowerState, name: &'static str, types: &'static [&'static str]) -> Self {
        Self { name, types, reaches: Some(state), repeats: true, button: false }
    }
}

/// Pressed shortly, as a person does (DSP0268, ResetType): a machine that is on is asked to shut down, and one that is off starts.
/// iLO 4 and iRMC S4 have it and no GracefulShutdown.
pub(super) const BUTTON: &str = "PushPowerButton";

pub(super) const ON: Reset = Reset::to(PowerState::On, "power on", &["On", "ForceOn"]);
pub(super) const OFF: Reset = Reset::to(PowerState::Off, "power off", &["ForceOff"]);
pub(super) const SOFT: Reset = Reset {
    repeats: false,
    button: true,
    ..Reset::to(PowerState::Off, "soft power off", &["GracefulShutdown"])
};
pub(super) const CYCLE: Reset = Reset::event("power cycle", &["PowerCycle"]);
pub(super) const INTERRUPT: Reset = Reset::event("a diagnostic interrupt", &["Nmi"]);
/// Of the BMC itself.
pub(super) const RESTART: Reset = Reset::event("a BMC reset", &["GracefulRestart", "ForceRestart"]);
/// Off and on is a hard reset too; GracefulRestart is none, since it waits for an operating system that may hang.
pub(super) const RESET: Reset = Reset::event("hard reset", &["ForceRestart", "PowerCycle"]);

/// A reset action: where a resource says what it offers, and where it is if it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) property: &'static str,
    pub(super) path: &'static str,
}

/// The system's.
pub(super) const OF_SYSTEM: Action =
    Action { property: "Actions/#ComputerSystem.Reset", path: "Actions/ComputerSystem.Reset" };
/// The BMC's.
pub(super) const OF_MANAGER: Action =
    Action { property: "Actions/#Manager.Reset", path: "Actions/Manager.Reset" };

/// A state in between is the one it comes from: nobody may count on the other yet.
pub(super) fn state(system: &Document) -> Option<PowerState> {
    match system.text("PowerState")?.as_str() {
        "On" | "PoweringOff" | "Paused" => Some(PowerState::On),
        "Off" | "PoweringOn" => Some(PowerState::Off),
        _ => None,
    }
}

/// Where it is on its way to, if it is between two states.
pub(super) fn on_its_way(system: &Document) -> Option<PowerState> {
    match system.text("PowerState")?.as_str() {
        "PoweringOn" => Some(PowerState::On),
        "PoweringOff" => Some(PowerState::Off),
        _ => None,
    }
}

/// The reset types the action names; none: it does not say.
pub(super) fn offered(resource: &Document, action: Action) -> Vec<String> {
    resource.words(&format!("{}/ResetType@Redfish.AllowableValues", action.property))
}

/// The reset types an ActionInfo names (DSP0266 §9.8.3).
pub(super) fn offered_by_info(info: &Document) -> Vec<String> {
    let parameters = info.at("Parameters").and_then(|p| p.as_array()).into_iter().flatten();
    let named = parameters.filter(|p| p.get("Name").and_then(|n| n.as_str()) == Some("ResetType"));
    let values = named.filter_map(|p| p.get("AllowableValues")?.as_array()).flatten();
    values.filter_map(|v| v.as_str()).map(str::to_owned).take(64).collect()
}

/// The type to send. A BMC that does not say what it offers is offered our first.
pub(super) fn choose(reset: &Reset, offered: &[String]) -> Option<&'static str> {
    let has = |kind: &str| offered.iter().any(|offered| offered == kind);
    let ours = reset.types.iter().find(|ours| offered.is_empty() || has(ours)).copied();
    ours.or_else(|| (reset.button && has(BUTTON)).then_some(BUTTON))
}

/// What the button would do to a machine that shall go off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Press {
    /// What it is pressed for.
    Does,
    /// The machine is off, or on its way: pressed now, it would start it.
    NotNeeded,
    /// Nobody can tell.
    Unknown,
}

pub(super) fn press(system: &Document) -> Press {
    match (state(system), on_its_way(system)) {
        (_, Some(PowerState::Off)) | (Some(PowerState::Off), None) => Press::NotNeeded,
        (Some(PowerState::On), None) => Press::Does,
        _ => Press::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_type_that_is_offered_is_taken() {
        let offered = |types: &[&str]| types.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(choose(&ON, &offered(&["ForceOn", "On"])), Some("On"));
        assert_eq!(choose(&ON, &offered(&["ForceOn"])), Some("ForceOn"));
        assert_eq!(choose(&ON, &[]), Some("On"));
        assert_eq!(choose(&SOFT, &offered(&["On", "ForceOff"])), None);
        assert_eq!(
            choose(&SOFT, &offered(&["PushPowerButton", "GracefulShutdown"])),
            Some("GracefulShutdown")
        );
        assert_eq!(choose(&SOFT, &offered(&["On", "PushPowerButton"])), Some("PushPowerButton"));
        assert_eq!(choose(&OFF, &offered(&["On", "PushPowerButton"])), None);
        assert_eq!(choose(&RESET, &offered(&["GracefulRestart", "PowerCycle"])), Some("PowerCycle"));
        assert_eq!(choose(&RESET, &offered(&["GracefulRestart"])), None);
    }

    #[test]
    fn the_button_is_for_a_machine_that_is_on() {
        let press = |state: &str| {
            press(&Document::parse(format!(r#"{{"PowerState": {state}}}"#).as_bytes(), None).unwrap())
        };
        assert_eq!(press(r#""On""#), Press::Does);
        for off in [r#""Off""#, r#""PoweringOff""#] {
            assert_eq!(press(off), Press::NotNeeded, "{off}");
        }
        for between in [r#""PoweringOn""#, "null", r#""Strange""#] {
            assert_eq!(press(between), Press::Unknown, "{between}");
        }
    }

    #[test]
    fn a_machine_on_its_way_is_not_there_yet() {
        let state = |text: &str| state(&Document::parse(text.as_bytes(), None).unwrap());
        assert_eq!(state(r#"{"PowerState": "PoweringOn"}"#), Some(PowerState::Off));
        assert_eq!(state(r#"{"PowerState": "PoweringOff"}"#), Some(PowerState::On));
        let way = |text: &str| on_its_way(&Document::parse(text.as_bytes(), None).unwrap());
        assert_eq!(way(r#"{"PowerState": "PoweringOn"}"#), Some(PowerState::On));
        assert_eq!((way(r#"{"PowerState": "On"}"#), way("{}")), (None, None));
        assert_eq!((state(r#"{"PowerState": "Strange"}"#), state(r#"{"PowerState": 1}"#)), (None, None));
    }

    #[test]
    fn an_action_info_tells_the_types_too() {
        let text = br#"{"Parameters": [{"Name": "Other", "AllowableValues": ["x"]}, 4,
            {"Name": "ResetType", "AllowableValues": ["On", 5, "ForceOff"]}]}"#;
        assert_eq!(offered_by_info(&Document::parse(text, None).unwrap()), ["On", "ForceOff"]);
    }
}
