//! What can be typed: the top of the command line and the flags that every command shares.

use crate::cmd::Command;
use crate::context::Environment;
use crate::output::Format;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

/// Provisions physical servers: sites, racks, nodes, images, instances.
#[derive(Debug, Parser)]
#[command(name = "farrier", version, about, after_help = AFTER_HELP, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How data is printed on stdout.
    #[arg(short, long, global = true, value_enum, default_value_t, hide_possible_values = false)]
    pub output: Format,
    /// Context of the configuration file to use [env: FARRIER_CONTEXT].
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Configuration file [env: FARRIER_CONFIG; default: ~/.config/farrier/config.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub endpoints: Endpoints,
    /// Do not ask before something is destroyed.
    #[arg(short = 'y', long, global = true)]
    pub yes: bool,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub color: Colour,
    /// The node that the command is about, for what it says when it fails.
    #[arg(skip)]
    pub node: Option<String>,
}

/// What was typed. Answers `--help` and usage errors itself, the latter with exit code 2 as `--help` promises.
pub fn parse() -> Cli {
    let matches = Cli::command().get_matches();
    match Cli::from_arg_matches(&matches) {
        Ok(mut cli) => {
            cli.global.node = node_of(&matches);
            cli
        }
        Err(error) => error.exit(),
    }
}

/// `n1` of `farrier node boot-device show n1`.
fn node_of(matches: &ArgMatches) -> Option<String> {
    let (noun, mut verb) = matches.subcommand()?;
    while let Some((_, inner)) = verb.subcommand() {
        verb = inner;
    }
    let name = verb.try_get_one::<String>("name").ok().flatten();
    name.filter(|_| noun == "node").cloned()
}

/// Where the services are and who asks: flag, else environment, else context.
#[derive(Debug, Clone, Default, Args)]
pub struct Endpoints {
    /// Inventory, `https://host:port` [env: FARRIER_INVENTORY].
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub inventory: Option<String>,
    /// Scheduler, `https://host:port` [env: FARRIER_SCHEDULER].
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub scheduler: Option<String>,
    /// Image service, `https://host:port` [env: FARRIER_IMAGES].
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub images: Option<String>,
    /// Directory of cert.pem, key.pem and ca.pem [env: FARRIER_IDENTITY].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub identity: Option<PathBuf>,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl Colour {
    pub fn on_stdout(self, env: &Environment) -> bool {
        self.on(env, std::io::stdout().is_terminal())
    }

    pub fn on_stderr(self, env: &Environment) -> bool {
        self.on(env, std::io::stderr().is_terminal())
    }

    fn on(self, env: &Environment, terminal: bool) -> bool {
        match self {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && !env.no_color,
        }
    }
}

/// Flags of every `list`.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// `FIELD=VALUE` terms joined by ` AND `, as the API takes them.
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    /// At most this many; without it, all pages.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

impl ListArgs {
    /// The filter with further terms that flags stand for.
    pub fn filter_with(&self, terms: impl IntoIterator<Item = String>) -> String {
        self.filter
            .clone()
            .into_iter()
            .filter(|f| !f.trim().is_empty())
            .chain(terms)
            .collect::<Vec<_>>()
            .join(" AND ")
    }
}

/// Flags of everything that answers with an operation.
#[derive(Debug, Clone, Default, Args)]
pub struct WaitArgs {
    /// Watch the operation until it is done; exit 0 only when it succeeded.
    #[arg(long)]
    pub wait: bool,
}

/// `--etag` of conditional writes.
#[derive(Debug, Clone, Default, Args)]
pub struct EtagArg {
    /// Only if the resource still has this etag; otherwise exit code 6.
    #[arg(long)]
    pub etag: Option<String>,
}

/// Reads `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Reads a whole number of `what` from `least` on.
pub fn count(text: &str, what: &str, least: i32) -> Result<i32, String> {
    let number = text.trim().parse::<i32>().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("expected a whole number of {what}, {least} or more"))
}

/// Reads a length of time: a whole number and its unit, `90s`, `15m`, `12h` or `30d`.
pub fn length_of_time(text: &str) -> Result<Duration, String> {
    let unit = |suffix| text.trim().strip_suffix(suffix)?.parse::<u64>().ok();
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let seconds = units.into_iter().find_map(|(suffix, seconds)| unit(suffix)?.checked_mul(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a length of time such as 12h or 30d".to_owned())
}

const AFTER_HELP: &str = "\
Names are accepted short (`n1`) or whole (`nodes/n1`). Data goes to stdout, talk to stderr.

Exit codes:
  0    done
  1    refused or failed
  2    usage, or a value that cannot be
  3    not found
  4    unreachable
  5    the operation failed (with --wait)
  6    conflict: stale etag, name taken, machine busy
  130  interrupted; what was asked for goes on";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_that_can_be_typed_has_a_help_text() {
        fn silent(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            if command.get_about().is_none() {
                found.push(path.to_owned());
            }
            let without =
                command.get_arguments().filter(|arg| arg.get_help().is_none() && !arg.is_hide_set());
            found.extend(without.map(|arg| format!("{path} {}", arg.get_id())));
            for sub in command.get_subcommands() {
                silent(sub, &format!("{path} {}", sub.get_name()), found);
            }
        }
        let mut found = Vec::new();
        silent(&Cli::command(), "farrier", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn the_node_that_a_command_is_about_is_known_when_it_fails() {
        let node = |line: &str| node_of(&Cli::command().try_get_matches_from(line.split(' ')).unwrap());
        for line in [
            "farrier node power on n1",
            "farrier node boot-device set n1 pxe --once",
            "farrier -o json node console n1 --log",
        ] {
            assert_eq!(node(line).as_deref(), Some("n1"), "{line}");
        }
        for line in ["farrier node list", "farrier rack get r1", "farrier event list"] {
            assert_eq!(node(line), None, "{line}");
        }
    }

    #[test]
    fn global_flags_go_before_or_after_the_noun() {
        for line in [
            vec!["farrier", "-o", "json", "node", "list", "--state", "active"],
            vec!["farrier", "node", "list", "-o", "json"],
            vec!["farrier", "node", "power", "soft-off", "n1", "--wait", "--yes"],
            vec!["farrier", "node", "maintenance", "on", "n1", "--reason", "fan"],
            vec!["farrier", "ca", "issue", "d", "--user", "u", "--role", "admin", "--out", "o"],
            vec![
                "farrier",
                "instance",
                "create",
                "i",
                "--flavor",
                "f",
                "--image",
                "u",
                "--ssh-key",
                "a",
                "--ssh-key",
                "b",
            ],
            vec!["farrier", "context", "set", "lab", "--inventory", "https://x:1", "--identity", "d"],
        ] {
            Cli::try_parse_from(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for line in [
            vec!["farrier"],
            vec!["farrier", "node", "power", "sideways", "n1"],
            vec!["farrier", "image", "import", "u", "--file", "f"],
            vec!["farrier", "ca", "issue", "d", "--user", "u", "--out", "o"],
            vec![
                "farrier", "ca", "issue", "d", "--user", "u", "--rack", "r", "--role", "admin", "--out", "o",
            ],
            vec!["farrier", "node", "create", "n1", "--rack", "r", "--bmc-password", "hunter2"],
        ] {
            let error = Cli::try_parse_from(&line).expect_err("must be refused");
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn filters_are_joined() {
        let args = ListArgs { filter: Some("rack=racks/r1".into()), limit: None };
        assert_eq!(args.filter_with(["state=active".to_owned()]), "rack=racks/r1 AND state=active");
        assert_eq!(ListArgs::default().filter_with([]), "");
    }
}
