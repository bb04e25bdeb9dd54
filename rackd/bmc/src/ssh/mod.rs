//! A machine's serial console over its BMC's SSH server (RFC 4251 to 4254): OpenSSH's `ssh`, as a child of this process.
//!
//! ```text
//!  ConsoleLine ── line ── pipes ── ssh ──────────────────────────► BMC
//!                                   │ KnownHostsCommand, SSH_ASKPASS
//!                 questions ◄─ socket ─ helper (this program again)
//! ```
//! - `questions`: what `ssh` wants to know, answered here: whether the host key is the node's, and then the password
//! - `helper`: the other end, in a process that `ssh` starts; it has no opinion and no secret
//! - `command`: the words that `ssh` is started with; no shell reads them, and none of them is a secret
//! - `line`: the life of one line; `escape`: keystrokes as `ssh` takes them; `told`: what its end means
//!
//! OpenSSH rather than a crate: that brings a second set of cryptography and some sixty crates, for a protocol whose servers
//! on BMCs are old and odd, and which OpenSSH has met all of.

mod command;
mod escape;
mod helper;
mod line;
mod questions;
mod told;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use farrier_ipmi::Secret;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use helper::help;
pub(crate) use line::open;

/// How consoles over SSH are opened. Cheap to clone. When the last clone is dropped the lines end.
#[derive(Debug, Clone)]
pub struct Ssh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    helper: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Ssh {
    /// `helper` is a program that calls [`help`] before all else: this one, as a rule.
    #[must_use]
    pub fn new(helper: PathBuf) -> Self {
        Self::with_program(PathBuf::from("ssh"), helper)
    }

    /// With another client than the first `ssh` of `PATH`.
    #[must_use]
    pub fn with_program(program: PathBuf, helper: PathBuf) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { inner: Arc::new(Inner { program, helper, stop, tasks }) }
    }

    /// Ends all lines and waits for that.
    pub(crate) async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What is told of a try at which `ssh` said this and asked this, one question behind the other with NUL between: all of our reading
/// of what a BMC has a say in, without `ssh`. For the fuzz target.
#[doc(hidden)]
#[must_use]
pub fn judged(password: &str, host_key: &str, asked: &str, said: &[u8]) -> String {
    let target = Target {
        addr: ([192, 0, 2, 1], 22).into(),
        user: "u".to_owned(),
        password: Secret::new(password),
        host_key: host_key.to_owned(),
        entry: String::new(),
    };
    let mut answers = questions::Asked {
        trusted: questions::bare(host_key).to_owned(),
        password: Some(target.password.clone()),
        ..questions::Asked::default()
    };
    for question in asked.split('\0') {
        let _told = answers.reply(question);
    }
    let mut told = told::Told::default();
    for piece in said.chunks(PIECE) {
        told.add(piece);
    }
    let refused = told.refused(&target, &answers, std::time::Duration::ZERO);
    format!("{refused}; {}", told.ended(target.addr))
}

/// `ssh` says things in pieces.
const PIECE: usize = 64;

/// A console as it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The BMC, and the port of its SSH.
    pub(crate) addr: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// Fingerprint of the host key that is trusted, as OpenSSH says it; empty: none is.
    pub(crate) host_key: String,
    /// What leads to the console, as an `exec` request (RFC 4254 §6.5); empty: a login leads to it.
    pub(crate) entry: String,
}
