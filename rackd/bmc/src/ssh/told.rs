//! What `ssh` says on its standard error, and what that means. OpenSSH's words, in its messages of every release since 6.

use std::net::SocketAddr;
use std::time::Duration;

use super::Target;
use super::questions::Asked;
use crate::BmcError;

/// The last that was said, bounded: a BMC's banner is said there too.
#[derive(Debug, Default)]
pub(super) struct Told {
    text: Vec<u8>,
    /// It has logged in.
    pub(super) is_in: bool,
}

/// Bytes of it that are kept.
const MOST: usize = 4096;
/// Of that, in an error.
const SHOWN: usize = 200;
/// Said once the BMC has let us in (`ssh_login`, at level VERBOSE). A banner that says so gains its BMC nothing.
const IN: &str = "Authenticated to ";
const DENIED: &str = "Permission denied";

impl Told {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.text.extend(piece);
        let excess = self.text.len().saturating_sub(MOST);
        self.text.drain(..excess);
        self.is_in = self.is_in || self.lines().any(|line| line.starts_with(IN));
    }

    fn lines(&self) -> impl DoubleEndedIterator<Item = String> {
        let text = String::from_utf8_lossy(&self.text).into_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// The last two lines that say something, on one line.
    fn last(&self) -> String {
        let said = self.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
        let mut last: Vec<_> =
            said.filter(|line| !line.trim().is_empty() && !line.starts_with(IN)).rev().take(2).collect();
        last.reverse();
        let last: String = last.join("; ").chars().take(SHOWN).collect();
        if last.is_empty() { "nothing".to_owned() } else { last }
    }

    /// Why nobody was let in.
    pub(super) fn refused(&self, target: &Target, asked: &Asked, elapsed: Duration) -> BmcError {
        let addr = target.addr;
        if !asked.proven && !asked.strangers.is_empty() {
            return BmcError::HostKey {
                addr,
                expected: expects(&target.host_key),
                seen: asked.strangers.join(", "),
            };
        }
        if asked.told && (asked.again || self.lines().any(|line| line.contains(DENIED))) {
            return BmcError::WrongPassword { addr, user: target.user.clone() };
        }
        BmcError::NoConnection { addr, service: "SSH", seen: self.last(), elapsed }
    }

    /// Why a line that was open has ended.
    pub(super) fn ended(&self, addr: SocketAddr) -> BmcError {
        BmcError::LineEnded { addr, seen: self.last() }
    }
}

fn expects(host_key: &str) -> String {
    match host_key {
        "" => "one that the node names, and it names none".to_owned(),
        named => format!("the pinned one, {named}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_ipmi::Secret;

    fn target() -> Target {
        Target {
            addr: ([192, 0, 2, 1], 22).into(),
            user: "root".into(),
            password: Secret::new("s3cret"),
            host_key: String::new(),
            entry: String::new(),
        }
    }

    #[test]
    fn what_ssh_says_at_its_end_is_told_by_whose_fault_it_is() {
        let told = |text: &str, asked: Asked| {
            let mut told = Told::default();
            told.add(text.as_bytes());
            told.refused(&target(), &asked, Duration::ZERO)
        };
        let denied = "root@192.0.2.1: Permission denied (publickey,password).\r\n";
        let given = || Asked { proven: true, told: true, ..Asked::default() };
        assert!(matches!(told(denied, given()), BmcError::WrongPassword { .. }));
        assert!(matches!(told("", Asked { again: true, ..given() }), BmcError::WrongPassword { .. }));
        // It takes no passwords at all: none was said.
        assert!(matches!(
            told(denied, Asked { proven: true, ..Asked::default() }),
            BmcError::NoConnection { .. }
        ));
        let stranger = Asked { strangers: vec!["SHA256:x (ssh-rsa)".into()], ..Asked::default() };
        let error = told("Host key verification failed.\r\n", stranger).to_string();
        assert!(
            error.contains("SHA256:x (ssh-rsa)") && error.contains("--bmc-ssh-host-key-sha256"),
            "{error}"
        );
        let error = told("ssh: connect to host 192.0.2.1 port 22: Connection refused\r\n", Asked::default());
        assert!(error.to_string().contains("Connection refused") && error.is_transient(), "{error}");
    }

    #[test]
    fn what_is_said_is_kept_in_bounds_and_being_in_is_not_forgotten() {
        let mut told = Told::default();
        told.add(b"Authenticated to 192.0.2.1 ([192.0.2.1]:22) using \"password\".\r\n");
        for _ in 0..1000 {
            told.add(b"a banner without an end\x1b[2J ");
        }
        assert!(told.is_in && told.text.len() <= MOST);
        assert!(told.last().len() <= SHOWN && !told.last().contains('\x1b'));
    }
}
