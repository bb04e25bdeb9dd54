//! Programs of the host that the lab runs, and which Debian package brings each.
//!
//! A missing program is an error that names its package: a test that cannot run says what to
//! install, it never skips itself.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use thiserror::Error;

mod packages;

pub use packages::{DEBIAN_PACKAGES, Package, install, install_missing, missing_packages};

/// Why a program of the host did not do its work.
#[derive(Debug, Error)]
pub enum ToolError {
    #[error("{program} is not installed: apt-get install {package}")]
    Missing { program: String, package: String },
    #[error("cannot run {program}")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{command} ended with {status}: {stderr}")]
    Failed {
        command: String,
        status: std::process::ExitStatus,
        /// The last lines the program wrote to its standard error.
        stderr: String,
    },
}

/// Runs `program` to its end and gives what it wrote to standard output.
///
/// Blocking: call it from `spawn_blocking` in asynchronous code where it may take long.
pub fn run<I, S>(program: &str, args: I) -> Result<String, ToolError>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args);
    output(command, &[])
}

/// Like [`run`], with `input` on the program's standard input.
pub fn run_with_input<I, S>(program: &str, args: I, input: &[u8]) -> Result<String, ToolError>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args);
    output(command, input)
}

/// Runs a prepared command to its end, feeding it `input`; gives its standard output.
pub fn output(mut command: Command, input: &[u8]) -> Result<String, ToolError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let line = render(&command);
    tracing::debug!(command = %line, "running a program");
    // Debian keeps part of the tools in sbin, which is not on every user's path.
    command.env("PATH", SEARCH_PATH).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| spawn_error(&program, source))?;
    // The input is small (scripts), below the pipe's 64 KiB: writing before reading cannot hang.
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes its input; its exit status tells the story.
        let _ = stdin.write_all(input);
    }
    let done =
        child.wait_with_output().map_err(|source| ToolError::Spawn { program: program.clone(), source })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(ToolError::Failed {
        command: line,
        status: done.status,
        stderr: tail(&String::from_utf8_lossy(&done.stderr), 12),
    })
}

/// The error for a program that could not be started: names the package when it is not there.
pub(crate) fn spawn_error(program: &str, source: std::io::Error) -> ToolError {
    if source.kind() == std::io::ErrorKind::NotFound {
        let package = packages::package_of(program).unwrap_or("a package unknown to the lab");
        return ToolError::Missing { program: program.to_owned(), package: package.to_owned() };
    }
    ToolError::Spawn { program: program.to_owned(), source }
}

/// The last `lines` lines of `text`, in one line.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let skip = all.len().saturating_sub(lines);
    all.into_iter().skip(skip).collect::<Vec<_>>().join(" | ")
}

fn render(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
