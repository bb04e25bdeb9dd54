use super::*;
use std::collections::HashSet;

#[test]
fn an_event_leads_to_one_state_only() {
    let mut seen = HashSet::new();
    for edge in TABLE {
        assert!(seen.insert((edge.from, edge.event)), "{} {} twice", edge.from, edge.event);
    }
}

#[test]
fn every_state_can_be_reached_from_enroll() {
    let mut reached = HashSet::from([State::Enroll]);
    loop {
        let before = reached.len();
        for edge in TABLE {
            if reached.contains(&edge.from) {
                reached.insert(edge.to);
            }
        }
        if reached.len() == before {
            break;
        }
    }
    for state in State::ALL {
        assert!(reached.contains(state), "{state}");
    }
}

#[test]
fn every_working_state_can_end_well_fail_and_be_stopped() {
    for state in State::ALL.iter().filter(|s| s.is_working()) {
        for event in [Event::Done, Event::Fail, Event::Abort] {
            assert!(next(*state, event).is_ok(), "{state} {event}");
        }
    }
}

#[test]
fn no_state_is_a_dead_end() {
    for state in State::ALL {
        assert!(TABLE.iter().any(|e| e.from == *state && e.to != *state), "{state}");
    }
}

#[test]
fn available_is_entered_only_by_a_proven_clean() {
    for edge in TABLE.iter().filter(|e| e.to == State::Available) {
        assert!(matches!(edge.from, State::Cleaning | State::Deleting) && edge.event == Event::Done);
    }
}

#[test]
fn a_refusal_says_what_is_allowed() {
    let refused = next(State::Enroll, Event::Deploy).unwrap_err();
    assert_eq!(refused.to_string(), "a node in state `enroll` does not take `deploy`; it takes `manage`");
}

#[test]
fn words_round_trip() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse(), Ok(*state));
    }
    for event in Event::ALL {
        assert_eq!(event.as_str().parse(), Ok(*event));
    }
}

#[test]
fn the_drawing_in_docs_is_fresh() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/life-cycle.md"))
        .unwrap_or_default();
    assert!(page == markdown(), "docs/life-cycle.md is stale: run `cargo xtask docs`");
}
