//! A person at a machine's console by `farrier node console`, over SOL: from firmware to the prompt, and a login typed there.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;

use crate::qemu::Lab;

/// The command at a terminal of its own.
pub(super) struct Console {
    child: Child,
    keyboard: ChildStdin,
    screen: mpsc::UnboundedReceiver<String>,
    /// What it has shown, from the beginning.
    seen: String,
    /// Where in it the next look begins.
    at: usize,
}

impl Console {
    /// Once it has the keyboard.
    pub(super) async fn attach(lab: &Lab, node: &str) -> Result<Self> {
        let line = format!("exec {} node console {node}", lab.farrier.farrier_line()?);
        let mut child = Command::new("script")
            .args(["-q", "-f", "-e", "-c", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("script: apt-get install bsdutils")?;
        let (keyboard, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (shown, screen) = mpsc::unbounded_channel();
        // It ends with the terminal.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let _ = shown.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        let mut console = Self { child, keyboard, screen, seen: String::new(), at: 0 };
        console.shows("~. on a new line").await?;
        Ok(console)
    }

    /// Reads on until it has shown that, behind what was waited for before.
    pub(super) async fn shows(&mut self, text: &str) -> Result<()> {
        let read = async {
            loop {
                if let Some(found) = self.seen[self.at..].find(text) {
                    self.at += found + text.len();
                    return true;
                }
                match self.screen.recv().await {
                    Some(piece) => self.seen.push_str(&piece),
                    None => return false,
                }
            }
        };
        match tokio::time::timeout(LIMIT, read).await {
            Ok(true) => Ok(()),
            ended => bail!("no {text:?} on the console ({ended:?}) behind {:?}", &self.seen[self.at..]),
        }
    }

    pub(super) fn types(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes())?;
        Ok(self.keyboard.flush()?)
    }

    /// As a person leaves; what was shown.
    pub(super) async fn leave(mut self) -> Result<String> {
        self.types("\r~.")?;
        drop(self.keyboard);
        let ended = tokio::task::spawn_blocking(move || self.child.wait()).await??;
        anyhow::ensure!(ended.success(), "farrier node console: {ended}");
        Ok(self.seen)
    }
}

/// A Debian under emulation on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
