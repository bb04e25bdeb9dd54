//! What `ssh` starts to learn whether a host key is known, and the password: a program that asks whoever started `ssh`.
//!
//! Synchronous and small: it runs before anything else of its program is set up.

use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

/// Where the question goes: the name of an abstract socket (unix(7)). Whoever knows it is asked who he is.
pub(super) const SOCKET_VARIABLE: &str = "FARRIER_SSH_SOCKET";
/// In front of a question for the password; of a host key there are five words.
pub(super) const PASSWORD: &str = "password";
/// No answer is longer.
const LONGEST: u64 = 64 << 10;
/// For the whole of it: rackd answers at once, or has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where `ssh` has started this program as a helper, does what it is for; the program must then end with this code and do
/// nothing else. `None`: it is no helper.
#[must_use]
pub fn help() -> Option<ExitCode> {
    let socket = std::env::var(SOCKET_VARIABLE).ok()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    // ssh(1) gives a helper for passwords the prompt alone; what that says is the BMC's choice.
    let question = if words.len() == 5 { words } else { vec![PASSWORD.to_owned()] };
    let answered = ask(&socket, &question).and_then(|answer| std::io::stdout().write_all(&answer));
    // Said to nobody: what is written here would be taken for something of the BMC's.
    Some(if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(socket: &str, question: &[String]) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(socket)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for word in question {
        stream.write_all(word.as_bytes())?;
        stream.write_all(b"\n")?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    if answer.is_empty() { Err(std::io::ErrorKind::PermissionDenied.into()) } else { Ok(answer) }
}
