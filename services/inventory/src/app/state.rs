//! The life cycle's states on the wire.

use farrier_model::lifecycle::State;
use farrier_proto::types::ProvisionState;

const PREFIX: &str = "PROVISION_STATE_";

/// The state that a message holds; a node that says nothing was never anything but enrolled.
pub(super) fn read(state: ProvisionState) -> State {
    let name = state.as_str_name();
    word(name.strip_prefix(PREFIX).unwrap_or(name)).parse().unwrap_or(State::Enroll)
}

pub(super) fn write(state: State) -> ProvisionState {
    let name = format!("{PREFIX}{}", state.as_str().to_uppercase().replace(' ', "_"));
    ProvisionState::from_str_name(&name).unwrap_or_default()
}

/// A state as people write it: `deploy failed`, `deploy_failed`, `DEPLOY_FAILED`.
pub(super) fn parse(text: &str) -> Option<State> {
    word(text.strip_prefix(PREFIX).unwrap_or(text)).parse().ok()
}

fn word(text: &str) -> String {
    text.to_lowercase().replace(['_', '-'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip_over_the_wire() {
        for state in State::ALL {
            assert_eq!(read(write(*state)), *state);
            assert_eq!(parse(write(*state).as_str_name()), Some(*state));
            assert_ne!(write(*state), ProvisionState::Unspecified);
        }
    }
}
