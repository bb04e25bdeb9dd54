//! This terminal: raw while a machine's console is on it.

use crate::failure::Failure;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{Read as _, Write as _};
use tokio::sync::mpsc;

/// Raw mode; dropping it brings back what was before.
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn enter() -> Result<Self, Failure> {
        let stdin = rustix::stdio::stdin();
        let failed =
            |error: rustix::io::Errno| Failure::refused(format!("the terminal cannot be made raw: {error}"));
        let before = tcgetattr(stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What was typed and not read would be a shell's command: thrown away.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// What is typed. A thread of its own reads it, which ends with the program: a read cannot be called back.
pub(super) fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (typed, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(length @ 1..) => {
                    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                    if typed.blocking_send(bytes).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    });
    receiver
}

/// Writes the machine's characters as they are.
pub(super) fn write(chars: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(chars).and_then(|()| out.flush());
    written.map_err(|error| Failure::refused(format!("cannot write to stdout: {error}")))
}
