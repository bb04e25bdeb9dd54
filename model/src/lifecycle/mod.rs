//! The node life cycle: states, events, one table of edges, one pure function.

mod render;
mod state;
mod table;

pub use render::{markdown, mermaid};
pub use state::{Event, State};
pub use table::{Edge, TABLE};

/// An event that the table has no edge for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node in state `{from}` does not take `{event}`; it takes {}", allowed(*.from))]
pub struct Refused {
    pub from: State,
    pub event: Event,
}

/// Where `event` leads from `from`.
pub fn next(from: State, event: Event) -> Result<State, Refused> {
    TABLE
        .iter()
        .find(|edge| edge.from == from && edge.event == event)
        .map(|edge| edge.to)
        .ok_or(Refused { from, event })
}

/// What people may ask of a node in this state.
pub fn verbs(from: State) -> impl Iterator<Item = Event> {
    TABLE.iter().filter(move |edge| edge.from == from && edge.event.is_verb()).map(|edge| edge.event)
}

fn allowed(from: State) -> String {
    let verbs: Vec<_> = verbs(from).filter(|verb| verb.is_driven()).map(asked).collect();
    if verbs.is_empty() { "nothing until its work ends".to_owned() } else { verbs.join(", ") }
}

/// How a person asks for it. What an instance asks for is not a verb of `farrier node`.
fn asked(verb: Event) -> String {
    match verb {
        Event::Deploy | Event::Undeploy | Event::Recover => format!("`{verb}` (through an instance)"),
        _ => format!("`{verb}`"),
    }
}

#[cfg(test)]
mod tests;
