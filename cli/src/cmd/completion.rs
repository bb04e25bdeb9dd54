//! `farrier completion SHELL`

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::emit;
use clap::{CommandFactory as _, ValueEnum};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// For bash: `farrier completion bash > /etc/bash_completion.d/farrier`.
    pub shell: Shell,
}

/// Shells that are completed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    emit(&script(args.shell))
}

/// The completion script.
pub fn script(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "farrier", &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bash_script_parses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("farrier.bash");
        std::fs::write(&path, script(Shell::Bash)).unwrap();
        let checked = std::process::Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    #[test]
    fn every_shell_gets_the_nouns() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            assert!(script.contains("instance") && script.contains("join-token"), "{shell:?}");
        }
    }
}
