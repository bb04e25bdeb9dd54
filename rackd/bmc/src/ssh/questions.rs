//! What `ssh` asks by its helpers, and the answers: the password goes to a BMC whose host key was seen to be the node's, once.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farrier_ipmi::Secret;
use rand::Rng as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::helper::PASSWORD;

/// Where helpers of one `ssh` ask. Dropped, nobody is answered any more.
pub(super) struct Questions {
    /// The socket's name.
    pub(super) socket: String,
    asked: Arc<Mutex<Asked>>,
    /// Something was asked that ends the try: see [`Asked::again`].
    over: Arc<Notify>,
    _answers: AbortOnDropHandle<()>,
}

/// What has been asked so far, and what was trusted.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Fingerprint that is trusted, without padding; empty: none is.
    pub(super) trusted: String,
    pub(super) password: Option<Secret>,
    /// Keys that were not the one.
    pub(super) strangers: Vec<String>,
    /// The key was the one that is trusted.
    pub(super) proven: bool,
    /// The password was given away.
    pub(super) told: bool,
    /// It was asked for another time: what was given is wrong, and nothing better is known.
    pub(super) again: bool,
}

/// Keys that are listed of one BMC.
const MOST: usize = 8;
/// The longest question: a host key of 16,384 bits has 2,800 characters.
const LONGEST: u64 = 16 << 10;
/// For one question, by a helper that runs already.
const PATIENCE: Duration = Duration::from_secs(10);

impl Questions {
    pub(super) fn listen(trusted: &str, password: Secret) -> std::io::Result<Self> {
        // Nobody finds it by chance, and who is not of this user is not answered.
        let socket = format!("farrier-ssh-{:032x}", rand::rng().random::<u128>());
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&socket)?)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let asked = Asked { trusted: bare(trusted).to_owned(), password: Some(password), ..Asked::default() };
        let (asked, over) = (Arc::new(Mutex::new(asked)), Arc::new(Notify::new()));
        let (theirs, tell) = (Arc::clone(&asked), Arc::clone(&over));
        // Beside whoever listens to `ssh`: an answer that is given in part is none.
        let answers = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of files, which passes.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let answered = tokio::time::timeout(PATIENCE, answer(stream, &theirs)).await;
                if !matches!(answered, Ok(Ok(()))) {
                    tracing::debug!("a helper of ssh went away without an answer");
                }
                if lock(&theirs).again {
                    tell.notify_one();
                }
            }
        });
        Ok(Self { socket, asked, over, _answers: AbortOnDropHandle::new(answers) })
    }

    /// What has been asked.
    pub(super) fn asked(&self) -> MutexGuard<'_, Asked> {
        lock(&self.asked)
    }

    /// Returns when `ssh` would go on without a hope. Cancel-safe.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }
}

/// Every change is one call.
fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(mut stream: UnixStream, asked: &Mutex<Asked>) -> std::io::Result<()> {
    if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    let mut question = String::new();
    (&mut stream).take(LONGEST).read_to_string(&mut question).await?;
    let reply = lock(asked).reply(&question);
    match reply {
        Reply::Password(password) => {
            stream.write_all(password.expose()).await?;
            stream.write_all(b"\n").await?;
        }
        Reply::Line(line) => stream.write_all(line.as_bytes()).await?,
        Reply::Nothing => {}
    }
    stream.shutdown().await
}

/// What a helper is told.
pub(super) enum Reply {
    Password(Secret),
    Line(String),
    Nothing,
}

impl Asked {
    /// Answers one question, whose words are lines; `ssh` has some of them from the BMC.
    pub(super) fn reply(&mut self, question: &str) -> Reply {
        let words: Vec<&str> = question.lines().collect();
        match words.as_slice() {
            [PASSWORD] => self.give_password().map_or(Reply::Nothing, Reply::Password),
            [_, host, kind, fingerprint, key] => Reply::Line(self.judge(host, kind, fingerprint, key)),
            _ => Reply::Nothing,
        }
    }

    /// The line of a `known_hosts` file that makes the key known, or one that says nothing.
    fn judge(&mut self, host: &str, kind: &str, fingerprint: &str, key: &str) -> String {
        // Before there is a key `ssh` asks for all that are known, to choose the algorithm by.
        if key == "NONE" {
            return NOTHING.to_owned();
        }
        if !self.trusted.is_empty() && bare(fingerprint) == self.trusted {
            self.proven = true;
            return format!("{host} {kind} {key}\n");
        }
        let seen = format!("{fingerprint} ({kind})");
        let seen: String = seen.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect();
        if self.strangers.len() < MOST && !self.strangers.contains(&seen) {
            self.strangers.push(seen);
        }
        NOTHING.to_owned()
    }

    fn give_password(&mut self) -> Option<Secret> {
        if self.told {
            self.again = true;
        }
        self.told |= self.proven;
        self.password.take_if(|_| self.proven)
    }
}

/// A comment of `known_hosts`.
const NOTHING: &str = "# none\n";

/// A fingerprint as it is compared: OpenSSH leaves out base64's padding, people may not.
pub(super) fn bare(fingerprint: &str) -> &str {
    fingerprint.trim().strip_prefix("SHA256:").unwrap_or(fingerprint.trim()).trim_end_matches('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(trusted: &str) -> Asked {
        Asked { trusted: bare(trusted).to_owned(), password: Some(Secret::new("s3cret")), ..Asked::default() }
    }

    #[test]
    fn the_password_is_for_whom_the_key_proves_and_for_him_once() {
        let mut asked = asked("SHA256:abc=");
        assert!(asked.give_password().is_none(), "nobody is proven yet");
        assert_eq!(asked.judge("h", "ssh-rsa", "SHA256:other", "AAA"), NOTHING);
        assert!(asked.give_password().is_none() && !asked.told);
        assert_eq!(asked.judge("h", "NONE", "NONE", "NONE"), NOTHING);
        assert_eq!(asked.strangers, ["SHA256:other (ssh-rsa)"]);
        assert_eq!(asked.judge("[h]:22", "ssh-ed25519", "SHA256:abc", "AAA"), "[h]:22 ssh-ed25519 AAA\n");
        assert_eq!(asked.give_password().unwrap().expose(), b"s3cret");
        assert!(asked.give_password().is_none() && asked.again);
        assert!(!format!("{asked:?}").contains("s3cret"));
    }

    #[test]
    fn where_no_key_is_trusted_none_is() {
        let mut asked = asked("");
        asked.judge("h", "ssh-ed25519", "SHA256:", "AAA");
        assert!(!asked.proven && asked.give_password().is_none());
        for n in 0..20 {
            asked.judge("h", "ssh-ed25519", &format!("SHA256:{n}"), "AAA");
        }
        assert_eq!(asked.strangers.len(), MOST);
    }
}
