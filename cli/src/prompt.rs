//! Questions before something is destroyed, and secrets that must not be arguments.

use crate::failure::Failure;
use crate::talk;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

/// Longest secret read, in bytes.
const MAX_SECRET: u64 = 4096;

/// Goes on when `--yes` was given or a person says yes; without a terminal nobody can, so it refuses.
pub fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage(format!("{what}: needs --yes, there is no terminal to ask on")));
    }
    talk::part(format_args!("{what}. Go on? [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::refused("not confirmed, nothing was done")),
    }
}

/// The first line of a file, of stdin (`-`), or the value from the environment. Never an argument:
/// those are seen by everybody on the machine.
pub fn secret(file: Option<&Path>, from_env: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(path) = file else { return Ok(from_env.filter(|s| !s.is_empty()).map(str::to_owned)) };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        let stdin = std::io::stdin();
        if stdin.is_terminal() { typed(&mut text) } else { stdin.take(MAX_SECRET).read_to_string(&mut text) }
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::file(path, "read the password from", &error))?;
    let first = text.lines().next().unwrap_or_default();
    if first.is_empty() {
        return Err(Failure::usage(format!(
            "{}: expected a password on the first line, saw nothing",
            path.display()
        )));
    }
    Ok(Some(first.to_owned()))
}

/// A line of the terminal that is not shown while it is typed.
fn typed(text: &mut String) -> std::io::Result<usize> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    // Key by key, Ctrl-C too: the terminal shows what is typed again whatever ends this.
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
    talk::part("password: ");
    let read = keys(stdin.lock().take(MAX_SECRET), text);
    talk::say("");
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    read
}

/// Keys up to Enter, as a terminal that edits lines would have them.
fn keys(from: impl std::io::BufRead, text: &mut String) -> std::io::Result<usize> {
    let mut line = Vec::new();
    for key in from.bytes() {
        match key? {
            b'\n' | b'\r' | END => break,
            INTERRUPT => return Err(std::io::Error::new(std::io::ErrorKind::Interrupted, "interrupted")),
            // A whole character: its last byte, and those before it that begin none.
            BACKSPACE | DELETE => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte => line.push(byte),
        }
    }
    *text = String::from_utf8(line)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "expected UTF-8"))?;
    Ok(text.len())
}

/// Ctrl-C, Ctrl-D, Ctrl-H and the key that most terminals send for it.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_edited_and_interrupted() {
        let line = |bytes: &[u8]| {
            let mut text = String::new();
            keys(bytes, &mut text).map(|_| text).map_err(|error| error.kind())
        };
        assert_eq!(line(b"s3x\x7fcret\nrest").as_deref(), Ok("s3cret"));
        assert_eq!(line("sé\x7f3\n".as_bytes()).as_deref(), Ok("s3"), "two bytes, one key");
        assert_eq!(line(b"\x08\x04").as_deref(), Ok(""));
        assert_eq!(line(b"s3\x03"), Err(std::io::ErrorKind::Interrupted));
        assert_eq!(line(b"\xff\n"), Err(std::io::ErrorKind::InvalidData));
    }

    #[test]
    fn a_secret_is_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        std::fs::write(&path, "s3cret\nrest\n").unwrap();
        assert_eq!(secret(Some(&path), Some("env")).unwrap().as_deref(), Some("s3cret"));
        assert_eq!(secret(None, Some("env")).unwrap().as_deref(), Some("env"));
        assert_eq!(secret(None, None).unwrap(), None);
        std::fs::write(&path, "").unwrap();
        assert!(secret(Some(&path), None).is_err());
    }
}
