//! No file that a reader gives up on.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Lines of Rust without its tests.
const LIMIT: usize = 600;

/// Files that may be longer, each with its reason.
const ALLOWED: &[(&str, &str)] = &[];

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in rust_files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        if is_test(&name) || ALLOWED.iter().any(|(allowed, _)| *allowed == name) {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| name.clone())?;
        let lines = lines_without_tests(&text);
        if lines > LIMIT {
            found.push(format!("{name} has {lines} lines, {LIMIT} are the limit: which noun moves out?"));
        }
    }
    for (name, _) in ALLOWED.iter().filter(|(name, _)| !root.join(name).exists()) {
        found.push(format!("{name} may be long and is not there (xtask/src/tidy/lengths.rs)"));
    }
    Ok(found)
}

fn is_test(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
}

/// Up to the test module, which is last in a file.
fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name();
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count() {
        let text = "fn a() {}\n".repeat(10) + "#[cfg(test)]\nmod tests {\n" + &"// x\n".repeat(1000) + "}\n";
        assert_eq!(lines_without_tests(&text), 10);
        assert!(is_test("model/src/lifecycle/tests.rs") && is_test("cli/tests/it/main.rs"));
        assert!(!is_test("services/db/src/testing.rs"));
    }
}
