//! Every `farrier …` command that a program or a page prints can be typed: it is parsed with the command line
//! itself.

use clap::Parser as _;
use clap::error::ErrorKind;
use farrier_cli::args::Cli;
use farrier_proto::inventory::{Bmc, Node, Observation};
use farrier_proto::types::{PowerState, ProvisionState};
use std::path::{Path, PathBuf};

#[test]
fn every_command_that_explain_prints_can_be_typed() {
    let mut typed = 0;
    for number in 1..=23 {
        let state = ProvisionState::try_from(number).unwrap();
        for bits in 0..64u8 {
            let has = |bit: u8| bits & (1 << bit) != 0;
            let words = |bit: u8, text: &str| if has(bit) { text.to_owned() } else { String::new() };
            let node = Node {
                name: "nodes/n1".into(),
                state: state.into(),
                bmc: has(0).then(|| Bmc { rotation_pending: has(5), ..Bmc::default() }),
                maintenance: has(1),
                operation: words(2, "operations/o1"),
                instance: words(3, "instances/web"),
                last_error: words(4, "the BMC is silent"),
                power_state: PowerState::On.into(),
                observation: has(5).then(|| Observation { power_differs: true, ..Observation::default() }),
                ..Node::default()
            };
            for action in farrier_inventory::explain(node.clone(), 0).actions {
                if let Err(error) = Cli::try_parse_from(action.split(' ')) {
                    panic!("{action}: {error}\nprinted for {node:#?}");
                }
                typed += 1;
            }
        }
    }
    assert!(typed > 1000, "{typed}");
}

#[test]
fn every_command_in_messages_and_pages_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut files = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("ARCHITECTURE.md")];
    for dir in ["cli/src", "services", "rackd", "identity/src", "model/src", "agent/src", "docs", "deploy"] {
        find(&root.join(dir), &mut files);
    }
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for command in commands(&text) {
            seen += 1;
            if let Err(error) = exists(&command) {
                wrong.push(format!("{}: {command}: {error}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "{seen} commands found");
}

/// Commands in backquotes, and lines of code blocks that begin with one.
fn commands(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2).filter(|q| q.starts_with("farrier ")) {
        // A string literal that goes on in the next line, and a comment that does.
        let words = quoted.split_whitespace().filter(|w| !matches!(*w, "\\" | "///" | "//!" | "//"));
        out.push(words.collect::<Vec<_>>().join(" "));
    }
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().map(str::trim).filter(|l| l.starts_with("farrier ")) {
        let command = line.split(" #").next().unwrap_or(line);
        // Prose that happens to break before the word.
        if !command.contains(['.', '`', ',', ';', '(']) || command.contains(" --") {
            out.push(command.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    out
}

/// Whether there is such a command. One that is only mentioned may lack its arguments.
fn exists(command: &str) -> Result<(), clap::Error> {
    // `manage|inspect|…`: a choice, for readers only.
    if command.contains('|') {
        return Ok(());
    }
    let mut words: Vec<String> = Vec::new();
    for word in command.split(' ').take_while(|word| !matches!(*word, ">" | "<")) {
        let after_flag = words.last().is_some_and(|last| last.starts_with('-'));
        match word {
            "…" | "..." if after_flag => words.push("0".repeat(64)),
            "…" | "..." => {}
            // Placeholders of values from a closed set.
            "ROLE" => words.push("admin".to_owned()),
            "SHELL" => words.push("bash".to_owned()),
            // One flag of several.
            _ if word.starts_with("--{") => words.push("--inventory".to_owned()),
            _ => words.push(filled(word)),
        }
    }
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
            _ => Err(error),
        },
    }
}

/// A format string's `{}` and `{name}` stand for some name.
fn filled(word: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in word.chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                out.push('x');
            }
            _ if inside => {}
            _ => out.push(c),
        }
    }
    out
}

fn find(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "md" || e == "toml") {
            out.push(path);
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let page =
        "Ask `farrier node maintenance NAME off` or\n`farrier node set n1`.\n\n    farrier rack listen r1\n";
    let found = commands(page);
    assert_eq!(found.len(), 3);
    for command in found {
        assert!(exists(&command).is_err(), "{command}");
    }
    for good in [
        "farrier node …",
        "farrier image import i --sha256 …",
        "farrier node explain {name}",
        "farrier --help",
    ] {
        assert!(exists(good).is_ok(), "{good}");
    }
}
