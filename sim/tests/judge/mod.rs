//! Programs of others, and what they say of ours.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::ErrorKind;
use std::time::Duration;

use tokio::process::Command;

/// Generous: the machine may be loaded.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Output {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Output {
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.text.contains(words), "expected {words:?}, seen:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> &Self {
        assert!(self.ok, "expected success, seen:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn fails(&self) -> &Self {
        assert!(!self.ok, "expected a failure, seen:\n{}", self.text);
        self
    }
}

/// A missing program fails the test, with what to install: a proof that is skipped is no proof.
pub(crate) async fn run(mut command: Command, package: &str) -> Output {
    let output = match soon(command.kill_on_drop(true).output()).await {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{command:?} is not installed: apt-get install {package}")
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Output { ok: output.status.success(), text }
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens")
}
