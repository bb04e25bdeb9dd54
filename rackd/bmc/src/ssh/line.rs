//! The life of one line: `ssh` is started, let in, and carries characters until either side has enough.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::escape::Escape;
use super::questions::Questions;
use super::told::Told;
use super::{Inner, Ssh, Target, command};
use crate::{BmcError, ConsoleEvent, ConsoleInput, ConsoleLine, Deadline};

/// Events and inputs under way.
const QUEUE: usize = 64;
/// Characters taken at once.
const PIECE: usize = 4096;
/// For the child to end once its output has.
const LAST_WORDS: Duration = Duration::from_secs(2);
const NO_BREAK: &str = "a BREAK goes over SSH at the beginning of a line only: press Enter, or clear what is typed with Enter, and send it again";
/// What a client must be able to do, and who has one that can.
const WHAT_FOR: &str = "the console over SSH";
const PACKAGE: &str = "openssh-client";
/// Host key algorithms, asked for one family after the other where the node's key is not the one that was shown first: a
/// BMC has a key of each, and people copy any of them. RSA with SHA-1 for BMCs that have no other: the key is compared whole.
const FAMILIES: &[&str] = &[
    "",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
    "rsa-sha2-512,rsa-sha2-256,ssh-rsa",
];

/// Opens a line, or says why not.
pub(crate) async fn open(ssh: &Ssh, target: Target, deadline: Deadline) -> Result<ConsoleLine, BmcError> {
    let (addr, begin) = (target.addr, Instant::now());
    let (opened, outcome) = oneshot::channel();
    let setup = std::sync::Arc::clone(&ssh.inner);
    // A task of its own, so that a caller who goes away leaves no child behind. It must not keep the hub alive.
    let stop = setup.stop.clone();
    let tasks = setup.tasks.clone();
    tasks.spawn(async move { serve(&setup, target, deadline, opened, &stop).await });
    match tokio::time::timeout_at(deadline.instant() + LAST_WORDS, outcome).await {
        Ok(outcome) => outcome.unwrap_or(Err(BmcError::ShuttingDown)),
        Err(_) => Err(BmcError::Late { addr, elapsed: begin.elapsed() }),
    }
}

type Opened = oneshot::Sender<Result<ConsoleLine, BmcError>>;

async fn serve(
    setup: &Inner,
    target: Target,
    deadline: Deadline,
    mut opened: Opened,
    stop: &CancellationToken,
) {
    let logged_in = tokio::select! {
        () = stop.cancelled() => return,
        () = opened.closed() => return,
        logged_in = log_in(setup, &target, deadline) => logged_in,
    };
    let mut line = match logged_in {
        Ok(line) => line,
        Err(error) => {
            let _gone = opened.send(Err(error));
            return;
        }
    };
    let ((events_in, events), (input, inputs)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
    let given_back = CancellationToken::new();
    let _whatever_happens = given_back.clone().drop_guard();
    if opened.send(Ok(ConsoleLine { events, input, given_back })).is_err() {
        return;
    }
    let ended = tokio::select! {
        () = stop.cancelled() => Some(BmcError::ShuttingDown),
        ended = line.run(&target, &events_in, inputs) => ended,
    };
    if let Some(error) = ended {
        let _gone = events_in.try_send(ConsoleEvent::Ended(error));
    }
    // The child goes with it, and with the child the BMC's end of the line.
    drop(line);
}

/// One family of host keys after the other, as long as it is the key that is wrong and the node names one.
async fn log_in(setup: &Inner, target: &Target, deadline: Deadline) -> Result<Line, BmcError> {
    let (mut keys, mut first) = (Vec::new(), None);
    for family in FAMILIES {
        // Of this family it has shown its key already.
        if keys.iter().any(|key: &String| kind(key).is_some_and(|kind| family.contains(kind))) {
            continue;
        }
        match log_in_by(setup, target, family, deadline).await {
            Err(BmcError::HostKey { addr, expected, seen }) => {
                if !keys.contains(&seen) {
                    keys.push(seen);
                }
                first = Some((addr, expected));
                if target.host_key.is_empty() {
                    break;
                }
            }
            // It has no key of this family.
            Err(BmcError::NoConnection { .. }) if first.is_some() && !deadline.is_past() => {}
            other => return other,
        }
    }
    match first {
        Some((addr, expected)) => Err(BmcError::HostKey { addr, expected, seen: keys.join(", ") }),
        None => Err(BmcError::ShuttingDown),
    }
}

/// Of a key as `questions` tells it.
fn kind(key: &str) -> Option<&str> {
    Some(key.split_once('(')?.1.split_once(')')?.0)
}

async fn log_in_by(
    setup: &Inner,
    target: &Target,
    family: &str,
    deadline: Deadline,
) -> Result<Line, BmcError> {
    let (addr, begin) = (target.addr, Instant::now());
    let questions = Questions::listen(&target.host_key, target.password.clone());
    let questions = questions.map_err(|_| BmcError::OutOfFiles { addr })?;
    let child = command::start(setup, target, family, &questions.socket, deadline.remaining().as_secs());
    let mut child = child.map_err(|error| BmcError::NoProgram {
        program: setup.program.display().to_string(),
        what: WHAT_FOR,
        package: PACKAGE,
        seen: error.to_string(),
    })?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(mut stderr)) = pipes else {
        return Err(BmcError::OutOfFiles { addr });
    };
    let (mut told, mut buffer) = (Told::default(), [0; PIECE]);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(deadline.instant()) => break,
            () = questions.over() => break,
            read = stderr.read(&mut buffer) => match read {
                Ok(length @ 1..) => told.add(buffer.get(..length).unwrap_or_default()),
                _ => break,
            },
        }
        if told.is_in {
            tracing::info!(bmc.addr = %addr, host_key = %target.host_key, "console open over ssh");
            return Ok(Line { child, stdin, stdout, stderr, told });
        }
    }
    Err(told.refused(target, &questions.asked(), begin.elapsed()))
}

/// A line in use. Dropped, its child ends.
struct Line {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    told: Told,
}

impl Line {
    /// Until the caller drops the line (`None`) or it ends.
    async fn run(
        &mut self,
        target: &Target,
        events: &mpsc::Sender<ConsoleEvent>,
        mut inputs: mpsc::Receiver<ConsoleInput>,
    ) -> Option<BmcError> {
        let Self { child, stdin, stdout, stderr, told } = self;
        let (mut escape, mut typed) = (Escape::default(), Vec::new());
        let (mut said, mut out, mut err) = (Vec::new(), [0; PIECE], [0; PIECE]);
        let mut complains = true;
        loop {
            tokio::select! {
                () = events.closed() => return None,
                // What nobody has taken stays in `ssh`, and then in the BMC (RFC 4254 §5.2).
                permit = events.reserve(), if !said.is_empty() => match permit {
                    Ok(permit) => permit.send(ConsoleEvent::Output(std::mem::take(&mut said))),
                    Err(_) => return None,
                },
                read = stdout.read(&mut out), if said.is_empty() => match read {
                    Ok(length @ 1..) => said.extend(out.get(..length).unwrap_or_default()),
                    _ => break,
                },
                read = stderr.read(&mut err), if complains => match read {
                    Ok(length @ 1..) => told.add(err.get(..length).unwrap_or_default()),
                    _ => complains = false,
                },
                wrote = stdin.write(&typed), if !typed.is_empty() => match wrote {
                    Ok(length @ 1..) => drop(typed.drain(..length)),
                    _ => break,
                },
                input = inputs.recv(), if typed.is_empty() => {
                    let sent = match input {
                        Some(ConsoleInput::Chars(chars)) => {
                            escape.chars(&chars, &mut typed);
                            true
                        }
                        Some(ConsoleInput::Break) => escape.send_break(&mut typed),
                        Some(ConsoleInput::MagicSysRq(key)) => {
                            let sent = escape.send_break(&mut typed);
                            if sent {
                                escape.chars(&[key], &mut typed);
                            }
                            sent
                        }
                        None => return None,
                    };
                    if !sent {
                        // A hint: who is behind with reading misses it.
                        let _behind = events.try_send(ConsoleEvent::Refused(NO_BREAK));
                    }
                }
            }
        }
        let last_words = async {
            let mut rest = Vec::new();
            let _ = stderr.take(PIECE as u64).read_to_end(&mut rest).await;
            told.add(&rest);
            let _ = child.wait().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        Some(told.ended(target.addr))
    }
}
