//! The serial port of a QEMU machine: a Unix socket that is there while the machine is on.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::bmc::{Line, SerialPort};
use crate::machine::Machine;

/// Pieces under way in one direction; each is what one read gave.
const PIECES: usize = 16;
/// Bytes of one read.
const PIECE: usize = 512;

pub(super) struct QemuSerial(pub(super) Arc<Machine>);

#[async_trait]
impl SerialPort for QemuSerial {
    async fn connect(&self) -> io::Result<Line> {
        let stream = UnixStream::connect(self.0.spec().serial_socket()).await?;
        let (mut read, mut write) = stream.into_split();
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

    async fn send_break(&self) {
        if let Err(error) = self.0.serial_break().await {
            tracing::warn!(machine = self.0.spec().name, %error, "no break sent");
        }
    }
}
