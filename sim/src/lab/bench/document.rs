//! A benchmark's own part of `docs/benchmarks.md`, written by the program that measured it.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Replaces the part called `name` by `text`.
pub(super) fn write(name: &str, text: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT);
    let old = std::fs::read_to_string(&path).context(DOCUMENT)?;
    std::fs::write(&path, replace(&old, name, text)?).context(DOCUMENT)?;
    eprintln!("{DOCUMENT}: part {name:?} written");
    Ok(())
}

fn replace(document: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {name} -->\n"), format!("<!-- end of bench {name} -->"));
    let missing = || {
        format!(
            "{DOCUMENT}: expected the lines {:?} and {end:?}, saw none; add them where the result belongs",
            begin.trim_end()
        )
    };
    let (before, rest) = document.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
}

const DOCUMENT: &str = "docs/benchmarks.md";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_part_changes_and_writing_twice_is_writing_once() {
        let old = "a\n<!-- bench x -->\nold\n<!-- end of bench x -->\nb\n<!-- bench y -->\n<!-- end of bench y -->\n";
        let new = replace(old, "x", "1\n2\n").unwrap();
        assert_eq!(
            new,
            "a\n<!-- bench x -->\n\n1\n2\n\n<!-- end of bench x -->\nb\n<!-- bench y -->\n<!-- end of bench y -->\n"
        );
        assert_eq!(replace(&new, "x", "1\n2\n").unwrap(), new);
        assert!(replace(old, "z", "").is_err());
    }
}
