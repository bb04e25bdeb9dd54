//! One connection: bytes between a socket and the protocol, deadlines, and the end.

use std::io;
use std::time::Duration;

use farrier_iscsi::{Closed, Connection, Offer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::host::{Arrival, ConnectionHost};
use crate::inbox::Inbox;
use crate::limits::Limits;
use crate::pool;
use crate::targets::Targets;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the initiator closed it")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] Closed),
    #[error("no login within {0:?}")]
    LoginTimeout(Duration),
    #[error("a discovery lasted longer than {0:?}")]
    DiscoveryTimeout(Duration),
    #[error("no sign of the initiator for {0:?}")]
    Dead(Duration),
    #[error("replaced by a newer session")]
    Killed,
    #[error("its target was removed")]
    Removed,
    #[error("the server stops")]
    Shutdown,
}

/// Serves one connection to its end. `pass`: its place among those that have not logged in, given back when it has, or
/// when it has heard why not.
pub(crate) async fn run<P>(
    stream: TcpStream,
    arrival: Arrival,
    targets: Targets,
    pass: P,
    shutdown: CancellationToken,
) -> End {
    let limits = targets.limits().clone();
    let kill = CancellationToken::new();
    let (completions, completed) = mpsc::unbounded_channel();
    let host = ConnectionHost::new(targets, arrival, kill.clone(), completions);
    let connection = Connection::new(Offer::default(), limits.outstanding);
    let mut served = Served { stream, connection, host, limits, completed };
    let mut pass = Some(pass);
    let end = served.serve(&mut pass, kill, shutdown.clone()).await;
    // What was said last is worth a moment: a refusal, a logout, a drop message.
    let limit = FAREWELL.saturating_add(served.limits.wrong_secret_delay);
    let farewell = served.farewell(&end, &shutdown);
    let _ = tokio::time::timeout(limit, farewell).await;
    served.connection.end();
    end
}

struct Served {
    stream: TcpStream,
    connection: Connection,
    host: ConnectionHost,
    limits: Limits,
    completed: mpsc::UnboundedReceiver<crate::host::Completion>,
}

impl Served {
    async fn serve<P>(
        &mut self,
        pass: &mut Option<P>,
        kill: CancellationToken,
        shutdown: CancellationToken,
    ) -> End {
        match self.login(&kill, &shutdown).await {
            Ok(mut inbox) => {
                *pass = None;
                self.session(&mut inbox, &kill, &shutdown).await
            }
            Err(end) => end,
        }
    }

    /// Until the full feature phase, against one deadline.
    async fn login(&mut self, kill: &CancellationToken, shutdown: &CancellationToken) -> Result<Inbox, End> {
        let mut inbox = Inbox::default();
        let deadline = Instant::now() + self.limits.login_timeout;
        loop {
            let waiting = async {
                loop {
                    let pending = self.connection.output().pending();
                    if pending.is_empty() {
                        break;
                    }
                    let sent = self.stream.write(pending).await?;
                    self.connection.output().advance(sent);
                }
                self.stream.read(inbox.space()).await
            };
            let read = tokio::select! {
                () = kill.cancelled() => return Err(End::Killed),
                () = shutdown.cancelled() => return Err(End::Shutdown),
                () = sleep_until(deadline) => return Err(End::LoginTimeout(self.limits.login_timeout)),
                read = waiting => read?,
            };
            if read == 0 {
                return Err(End::Eof);
            }
            inbox.filled(read);
            let received = self.connection.receive(inbox.bytes(), &mut self.host)?;
            inbox.consume(received.consumed, received.need);
            if self.connection.session().is_some() {
                return Ok(inbox);
            }
        }
    }

    async fn session(
        &mut self,
        inbox: &mut Inbox,
        kill: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> End {
        let discovers = self.host.gone().is_none();
        let gone = self.host.gone().unwrap_or_default();
        // Asking for names takes no time.
        let mut over = std::pin::pin!(sleep_until(Instant::now() + self.limits.discovery_time));
        let (mut reader, mut writer) = self.stream.split();
        let mut killed = std::pin::pin!(kill.cancelled());
        let mut removed = std::pin::pin!(gone.cancelled());
        let mut stopped = std::pin::pin!(shutdown.cancelled());
        let tick = self.limits.idle / 4;
        let mut clock = std::pin::pin!(sleep_until(Instant::now() + tick));
        // Ticks since the initiator said something whole, and since it took something.
        let (mut silent, mut stuck, mut asked) = (0u32, 0u32, false);
        // Whether commands wait in the inbox for output or completions.
        let mut blocked = false;
        loop {
            let pending = !self.connection.output().pending().is_empty();
            let full = self.connection.is_full();
            tokio::select! {
                biased;
                () = &mut killed => return End::Killed,
                () = &mut removed => {
                    self.connection.say_drop();
                    return End::Removed;
                }
                () = &mut stopped => {
                    self.connection.say_drop();
                    return End::Shutdown;
                }
                () = &mut over, if discovers => return End::DiscoveryTimeout(self.limits.discovery_time),
                sent = writer.write(self.connection.output().pending()), if pending => {
                    match sent {
                        Ok(0) => return End::Eof,
                        Ok(sent) => self.connection.output().advance(sent),
                        Err(error) => return error.into(),
                    }
                    pool::give_back(self.connection.output());
                    stuck = 0;
                    // More waits, so this was room that the initiator made: it is there, though it has nothing to ask.
                    if !self.connection.output().pending().is_empty() {
                        (silent, asked) = (0, false);
                    }
                }
                // What is done waits with the memory it was given until there is room for its answer.
                Some((task, result, memory)) = self.completed.recv(), if !full => {
                    pool::lend(self.connection.output());
                    if let Err(closed) = self.connection.complete(task, result, memory, &mut self.host) {
                        return closed.into();
                    }
                    // More may be there: one write for all their answers.
                    while !self.connection.is_full()
                        && let Ok((task, result, memory)) = self.completed.try_recv()
                    {
                        if let Err(closed) = self.connection.complete(task, result, memory, &mut self.host) {
                            return closed.into();
                        }
                    }
                }
                read = reader.read(inbox.space()), if !blocked => {
                    match read {
                        Ok(0) => return End::Eof,
                        Ok(read) => inbox.filled(read),
                        Err(error) => return error.into(),
                    }
                    (silent, asked) = (0, false);
                }
                () = &mut clock => {
                    clock.as_mut().reset(Instant::now() + tick);
                    silent += 1;
                    if pending {
                        stuck += 1;
                    }
                    if tick * silent.max(stuck) >= self.limits.dead {
                        return End::Dead(self.limits.dead);
                    }
                    if tick * silent >= self.limits.idle && !asked && !inbox.is_partial() {
                        asked = true;
                        self.connection.ping();
                    }
                    continue;
                }
            }
            if inbox.is_empty() {
                blocked = false;
                continue;
            }
            pool::lend(self.connection.output());
            match self.connection.receive(inbox.bytes(), &mut self.host) {
                Ok(received) => {
                    inbox.consume(received.consumed, received.need);
                    blocked = received.blocked;
                }
                Err(closed) => return closed.into(),
            }
            // Nothing to say: then nothing to hold.
            pool::give_back(self.connection.output());
        }
    }

    /// Sends what is left.
    async fn farewell(&mut self, end: &End, shutdown: &CancellationToken) -> io::Result<()> {
        if let End::Protocol(Closed::LoginRefused(refused)) = end
            && refused.suspicious
        {
            // Guessing secrets is slow (and the number of logins at once is bounded: this one keeps its place).
            tokio::select! {
                () = tokio::time::sleep(self.limits.wrong_secret_delay) => {}
                () = shutdown.cancelled() => {}
            }
        }
        if matches!(end, End::Eof | End::Io(_) | End::Killed | End::Dead(_)) {
            return Ok(());
        }
        if matches!(end, End::Removed) {
            // Who takes a target away waits for this: what goes at once goes.
            let sent = self.stream.try_write(self.connection.output().pending())?;
            self.connection.output().advance(sent);
            return Ok(());
        }
        loop {
            let pending = self.connection.output().pending();
            if pending.is_empty() {
                break;
            }
            let sent = self.stream.write(pending).await?;
            if sent == 0 {
                break;
            }
            self.connection.output().advance(sent);
        }
        self.stream.shutdown().await
    }
}

/// For the last answer.
const FAREWELL: Duration = Duration::from_secs(10);
