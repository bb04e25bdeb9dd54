//! Tables for people: one line a row, no lines drawn, nothing that a terminal would obey.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// How a row is meant; shown as its colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Busy,
    Bad,
}

/// The table's text. `tones` colour the rows, first to first; missing ones are plain.
pub fn render(header: &[&str], rows: Vec<Vec<String>>, tones: &[Tone], colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(
            row.iter()
                .map(|cell| if cell.is_empty() { "-".to_owned() } else { clean(cell) })
                .collect::<Vec<_>>(),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        let code = match index.checked_sub(1).map(|row| tones.get(row).copied().unwrap_or_default()) {
            _ if !colour => "",
            None => "\x1b[1m",
            Some(Tone::Plain) => "",
            Some(Tone::Good) => "\x1b[32m",
            Some(Tone::Busy) => "\x1b[33m",
            Some(Tone::Bad) => "\x1b[31m",
        };
        out.push_str(code);
        out.push_str(line);
        out.push_str(if code.is_empty() { "\n" } else { "\x1b[0m\n" });
    }
    out
}

/// Without control characters: names and messages come from machines that may be hostile.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_controls_disarmed() {
        let rows = vec![vec!["n1".into(), "a\nb\x1b[31m".into()], vec!["node-22".into(), String::new()]];
        insta::assert_snapshot!(render(&["NAME", "X"], rows, &[], false), @r"
        NAME     X
        n1       a?b?[31m
        node-22  -
        ");
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let rows = || vec![vec!["n1".to_owned()]];
        assert_eq!(render(&["N"], rows(), &[Tone::Bad], true), "\x1b[1mN\x1b[0m\n\x1b[31mn1\x1b[0m\n");
        assert_eq!(render(&["N"], rows(), &[Tone::Bad], false), "N\nn1\n");
    }
}
