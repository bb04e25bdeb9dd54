//! Where the key that seals secrets comes from: a file, or a program that asks a key management system for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

/// A key of AES-256, in bytes.
pub const KEY_BYTES: usize = 32;
/// What a key management system may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any way to write a key takes.
const MOST: u64 = 4096;

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// 32 bytes; made, with mode 0600, where there is none and nothing was sealed yet.
    File(PathBuf),
    /// A program and its arguments, which prints the key: 32 bytes, or the same as 64 hexadecimal digits or in base64.
    /// No key is on this machine's disk then. It is asked at each start, and makes its key itself.
    Command(Vec<String>),
}

impl KeySource {
    /// What `--secrets-key` and `--secrets-key-command` say: words, as no shell would read them.
    #[must_use]
    pub fn of(file: PathBuf, command: Option<&str>) -> Self {
        match command {
            Some(command) => Self::Command(command.split_whitespace().map(str::to_owned).collect()),
            None => Self::File(file),
        }
    }

    /// The key. `make`: a file that is missing may be made.
    pub(crate) async fn key(&self, make: bool) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match self {
            Self::File(path) if make => made(path),
            Self::File(path) => read(path),
            Self::Command(words) => printed(words, PATIENCE).await,
        }
    }

    /// What to do where it is not the key that sealed what there is.
    pub(crate) fn restore(&self) -> String {
        match self {
            Self::File(path) => {
                format!("bring back the file that was {} when they were stored", path.display())
            }
            Self::Command(_) => "have it print the key that it printed when they were stored".to_owned(),
        }
    }
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for KeySource {
    /// A program's arguments are not told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Command(words) => {
                write!(f, "what {} prints", words.first().map_or("no program", String::as_str))
            }
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read or make the key file {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: expected {KEY_BYTES} bytes, saw {seen}")]
    Length { path: PathBuf, seen: usize },
    #[error("cannot run the program {program} that prints the key")]
    Program { program: String, source: std::io::Error },
    #[error(
        "expected {program} to print the key and to succeed, saw {saw}; what it says of that is on standard error"
    )]
    Refused { program: String, saw: String },
    #[error(
        "expected {program} to print {KEY_BYTES} bytes, or the same in hexadecimal or base64, saw {seen} bytes of another kind"
    )]
    NoKey { program: String, seen: usize },
    #[error("the system's random generator failed")]
    Random,
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = std::fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    let bytes = Zeroizing::new(bytes);
    match bytes.len() {
        KEY_BYTES => Ok(bytes),
        seen => Err(KeyError::Length { path: path.to_owned(), seen }),
    }
}

/// The key of a file, which is made where there is none.
pub(crate) fn made(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file_error = |source| KeyError::File { path: path.to_owned(), source };
    if !path.exists() {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(file_error)?;
        }
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        SystemRandom::new().fill(key.as_mut()).map_err(|_| KeyError::Random)?;
        // Written aside and linked into place: two replicas starting at once agree on one key.
        let tmp = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&tmp)
            .map_err(file_error)?;
        file.write_all(key.as_ref()).map_err(file_error)?;
        file.sync_all().map_err(file_error)?;
        let linked = std::fs::hard_link(&tmp, path);
        std::fs::remove_file(&tmp).map_err(file_error)?;
        match linked {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(file_error(e)),
            _ => {}
        }
    }
    read(path)
}

async fn printed(words: &[String], patience: Duration) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (program, arguments) =
        words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let program = || program.to_owned();
    let refused = |saw: String| KeyError::Refused { program: program(), saw };
    let run = |source| KeyError::Program { program: program(), source };
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it complains of is its operator's to read.
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(run)?;
    let mut out = Zeroizing::new(Vec::with_capacity(usize::try_from(MOST).unwrap_or_default()));
    let ended = tokio::time::timeout(patience, async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MOST).read_to_end(&mut out).await?;
        }
        child.wait().await
    });
    match ended.await {
        Err(_) => return Err(refused(format!("no end of it within {} s", patience.as_secs()))),
        Ok(Err(source)) => return Err(run(source)),
        Ok(Ok(status)) if !status.success() => return Err(refused(status.to_string())),
        Ok(Ok(_)) => {}
    }
    key_in(&out).ok_or_else(|| KeyError::NoKey { program: program(), seen: out.len() })
}

/// The key in what a program printed.
fn key_in(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if bytes.len() == KEY_BYTES {
        return Some(Zeroizing::new(bytes.to_vec()));
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let hexadecimal = || {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        pairs.iter().map(|[high, low]| Some((digit(high)? << 4) | digit(low)?)).collect()
    };
    let key: Vec<u8> = hexadecimal().or_else(|| STANDARD.decode(text).ok())?;
    let key = Zeroizing::new(key);
    (key.len() == KEY_BYTES).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_BYTES] =
        *b"0123456789abcdef\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\xff";

    fn hexadecimal() -> String {
        KEY.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_key_is_read_however_it_is_written() {
        for text in [hexadecimal(), hexadecimal().to_uppercase() + "\n", STANDARD.encode(KEY) + "\n"] {
            assert_eq!(key_in(text.as_bytes()).unwrap().as_slice(), KEY, "{text}");
        }
        assert_eq!(key_in(&KEY).unwrap().as_slice(), KEY);
        for other in [&b""[..], b"password", &KEY[1..], &hexadecimal().as_bytes()[1..], b"\xff\xff"] {
            assert!(key_in(other).is_none());
        }
    }

    async fn says(script: &str, patience: Duration) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        printed(&["sh", "-c", script].map(str::to_owned), patience).await
    }

    #[tokio::test]
    async fn a_program_prints_the_key_or_it_is_told_what_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, hexadecimal()).unwrap();
        let source = KeySource::of("unused".into(), Some(&format!("cat {}", path.display())));
        assert_eq!(source.key(false).await.unwrap().as_slice(), KEY);
        assert_eq!(source.to_string(), "what cat prints");
        let long = Duration::from_secs(60);
        let failed = says("printf 0123456789abcdef0123456789abcdef; exit 3", long).await.unwrap_err();
        assert!(failed.to_string().contains("exit status: 3"), "{failed}");
        let other = says("echo hunter2", long).await.unwrap_err();
        assert!(matches!(&other, KeyError::NoKey { seen: 8, .. }) && !other.to_string().contains("hunter2"));
        let endless = says("cat /dev/zero", long).await.unwrap_err();
        assert!(matches!(endless, KeyError::Refused { .. } | KeyError::NoKey { .. }), "{endless}");
        let hangs = says("exec sleep 600", Duration::ZERO).await.unwrap_err();
        assert!(hangs.to_string().contains("no end of it"), "{hangs}");
        let missing = printed(&["/nonexistent/kms".to_owned()], long).await.unwrap_err();
        assert!(matches!(&missing, KeyError::Program { program, .. } if program == "/nonexistent/kms"));
        assert!(matches!(printed(&[], long).await, Err(KeyError::Program { .. })));
    }
}
