//! Power in the words of Redfish (DSP0268, ComputerSystem: PowerState, Reset).

use super::document::Document;
use crate::PowerState;

/// A way to press the button, and the reset types that do it, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) name: &'static str,
    pub(super) types: &'static [&'static str],
    /// The state it leads to, if it names one: then repeating it does no harm.
    pub(super) reaches: Option<PowerState>,
}

pub(super) const ON: Reset =
    Reset { name: "power on", types: &["On", "ForceOn"], reaches: Some(PowerState::On) };
pub(super) const OFF: Reset =
    Reset { name: "power off", types: &["ForceOff"], reaches: Some(PowerState::Off) };
pub(super) const SOFT: Reset =
    Reset { name: "soft power off", types: &["GracefulShutdown"], reaches: Some(PowerState::Off) };
pub(super) const CYCLE: Reset = Reset { name: "power cycle", types: &["PowerCycle"], reaches: None };
pub(super) const INTERRUPT: Reset = Reset { name: "a diagnostic interrupt", types: &["Nmi"], reaches: None };
/// Of the BMC itself.
pub(super) const RESTART: Reset =
    Reset { name: "a BMC reset", types: &["GracefulRestart", "ForceRestart"], reaches: None };
pub(super) const RESET: Reset = Reset { name: "hard reset", types: &["ForceRestart"], reaches: None };

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
    reset.types.iter().find(|ours| offered.is_empty() || offered.iter().any(|o| o == *ours)).copied()
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
