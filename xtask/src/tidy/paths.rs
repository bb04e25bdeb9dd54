//! Documents name files; files move. A path in backticks that is not there is a complaint.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for document in documents(root)? {
        let name = document.strip_prefix(root).unwrap_or(&document).display().to_string();
        let text = std::fs::read_to_string(&document).with_context(|| name.clone())?;
        for (number, line) in text.lines().enumerate() {
            for path in paths_in(line, root) {
                if !root.join(&path).exists() {
                    found.push(format!("{name}:{}: {path} is not there", number + 1));
                }
            }
        }
    }
    Ok(found)
}

/// What describes the tree as it is. The changelog tells what was.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for dir in [root.to_owned(), root.join("docs"), root.join("docs/adr"), root.join("deploy")] {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry?.path();
            let markdown = path.extension().is_some_and(|end| end == "md");
            if markdown && path.file_name().is_some_and(|name| name != "CHANGELOG.md") {
                all.push(path);
            }
        }
    }
    all.sort();
    Ok(all)
}

/// The words in backticks that look like paths of this tree: their first part is one of its rooms.
fn paths_in(line: &str, root: &Path) -> Vec<String> {
    line.split('`').skip(1).step_by(2).filter_map(|word| path(word, root)).collect()
}

fn path(word: &str, root: &Path) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    // `path::item`, `path:12` and `path#part` name something in a file.
    let word = word.split([':', '#']).next()?;
    let (first, rest) = word.split_once('/')?;
    let is_room = !first.is_empty() && root.join(first).is_dir() && !GENERATED.contains(&first);
    // `services/X/store` speaks of all services.
    let placeholder = rest.split('/').any(|part| part == "X");
    (is_room && !placeholder && word.chars().all(plain)).then(|| word.to_owned())
}

/// Rooms whose content is not in the repository.
const GENERATED: &[&str] = &["target"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_tree_are_taken_for_paths() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sim/src")).unwrap();
        let line = "see `sim/src/gone.rs`, `sim/src`, `nodes/n1`, `sim/*.rs`, `sim/src/a.rs::f` and `make it`, \
                    not sim/src/b.rs, `sim/X/a.rs`";
        assert_eq!(paths_in(line, dir.path()), ["sim/src/gone.rs", "sim/src", "sim/src/a.rs"]);
    }

    #[test]
    fn a_path_that_is_gone_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sim")).unwrap();
        std::fs::write(dir.path().join("README.md"), "a\n`sim/gone.rs`\n").unwrap();
        assert_eq!(check(dir.path()).unwrap(), ["README.md:2: sim/gone.rs is not there"]);
    }
}
