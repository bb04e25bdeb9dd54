//! The serial port between a BMC and its machine.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

/// A machine's serial port, as its BMC has it.
#[async_trait]
pub trait SerialPort: Send + Sync + 'static {
    /// Connects. One connection at a time; what the machine says meanwhile to nobody is gone.
    ///
    /// # Errors
    /// There is nothing at the other end: the machine is off.
    async fn connect(&self) -> io::Result<Line>;

    /// Pulls the line to BREAK for a moment.
    async fn send_break(&self);
}

/// A connection to a serial port. It has ended when nothing more can be received.
#[derive(Debug)]
pub struct Line {
    /// What the machine says.
    pub from_machine: mpsc::Receiver<Vec<u8>>,
    /// What it is told.
    pub to_machine: mpsc::Sender<Vec<u8>>,
}

/// Bytes of one read of a socket.
const PIECE: usize = 512;

/// Connects to a serial port that is a Unix socket.
///
/// # Errors
/// Nobody serves it.
pub(crate) async fn connect_unix(socket: &Path) -> io::Result<Line> {
    let (mut read, mut write) = UnixStream::connect(socket).await?.into_split();
    let (said, from_machine) = mpsc::channel(PIECES);
    let (to_machine, mut told) = mpsc::channel::<Vec<u8>>(PIECES);
    tokio::spawn(async move {
        let mut buffer = [0; PIECE];
        loop {
            let read = tokio::select! {
                read = read.read(&mut buffer) => read,
                // QEMU serves one client: the next one waits for this end.
                () = said.closed() => return,
            };
            let Ok(length @ 1..) = read else { return };
            let piece = buffer.get(..length).unwrap_or_default().to_vec();
            if said.send(piece).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(piece) = told.recv().await {
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    Ok(Line { from_machine, to_machine })
}

/// What a pretend machine remembers of what it was told.
const MOST_TYPED: usize = 64 << 10;
/// Pieces under way in one direction.
pub(crate) const PIECES: usize = 64;

/// The serial port of a machine that is only pretended: says what it is given to say, and echoes.
#[derive(Debug, Default)]
pub struct PretendSerial {
    line: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    heard: watch::Sender<Heard>,
}

/// What a pretend machine was told over its serial port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Everything typed, up to 64 KiB.
    pub typed: Vec<u8>,
    /// BREAKs, each as the number of characters typed before it.
    pub breaks: Vec<usize>,
}

impl PretendSerial {
    /// The machine says something; gone if nobody listens.
    pub fn say(&self, text: &str) {
        if let Some(line) = &*self.line() {
            let _ = line.try_send(text.as_bytes().to_vec());
        }
    }

    /// What it was told so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits until it was told what satisfies `seen`. Put a limit around it.
    pub async fn wait_for(&self, mut seen: impl FnMut(&Heard) -> bool) {
        // The sender is ours, so it cannot close.
        let _ = self.heard.subscribe().wait_for(|heard| seen(heard)).await;
    }

    /// Waits until a BMC is connected. Put a limit around it.
    pub async fn wait_connected(&self) {
        let mut changes = self.heard.subscribe();
        loop {
            if self.line().as_ref().is_some_and(|line| !line.is_closed()) {
                return;
            }
            let _ = changes.changed().await;
        }
    }

    fn line(&self) -> MutexGuard<'_, Option<mpsc::Sender<Vec<u8>>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`PretendSerial`] that can be connected to.
#[derive(Debug, Clone)]
pub struct Pretended(pub std::sync::Arc<PretendSerial>);

#[async_trait]
impl SerialPort for Pretended {
    async fn connect(&self) -> io::Result<Line> {
        let (say, from_machine) = mpsc::channel(PIECES);
        let (to_machine, mut told) = mpsc::channel::<Vec<u8>>(PIECES);
        let echo = say.clone();
        *self.0.line() = Some(say);
        // Wakes whoever waits for the connection.
        self.0.heard.send_modify(|_| {});
        let serial = std::sync::Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(piece) = told.recv().await {
                serial.heard.send_modify(|heard| {
                    let room = MOST_TYPED.saturating_sub(heard.typed.len());
                    heard.typed.extend(piece.iter().take(room));
                });
                // A terminal that is not read misses the echo, as it would of a real one.
                let _ = echo.try_send(piece);
            }
        });
        Ok(Line { from_machine, to_machine })
    }

    async fn send_break(&self) {
        self.0.heard.send_modify(|heard| {
            if heard.breaks.len() < MOST_TYPED {
                heard.breaks.push(heard.typed.len());
            }
        });
    }
}
