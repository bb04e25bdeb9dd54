use super::{State, TABLE};
use std::fmt::Write as _;

/// The life cycle as a Mermaid state diagram.
pub fn mermaid() -> String {
    let id = |s: State| s.as_str().replace(' ', "_");
    let mut out = String::from("stateDiagram-v2\n    [*] --> enroll\n");
    for edge in TABLE {
        let _ = writeln!(out, "    {} --> {}: {}", id(edge.from), id(edge.to), edge.event);
    }
    out
}

/// The page `docs/life-cycle.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Node life cycle\n\nDrawn from `model/src/lifecycle/table.rs` by `cargo xtask docs`; a test fails when this page is stale.\n\n```mermaid\n",
    );
    out.push_str(&mermaid());
    out.push_str("```\n\n| from | event | to | why |\n|---|---|---|---|\n");
    for edge in TABLE {
        let driven = if edge.event.is_driven() { "" } else { " (not driven yet)" };
        let _ = writeln!(out, "| {} | {}{driven} | {} | {} |", edge.from, edge.event, edge.to, edge.why);
    }
    out
}
