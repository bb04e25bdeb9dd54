//! The serial port of a QEMU machine: a Unix socket that is there while the machine is on.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;

use crate::bmc::{Line, SerialPort, connect_unix};
use crate::machine::Machine;

pub(super) struct QemuSerial(pub(super) Arc<Machine>);

#[async_trait]
impl SerialPort for QemuSerial {
    async fn connect(&self) -> io::Result<Line> {
        connect_unix(&self.0.spec().serial_socket()).await
    }

    async fn send_break(&self) {
        if let Err(error) = self.0.serial_break().await {
            tracing::warn!(machine = self.0.spec().name, %error, "no break sent");
        }
    }
}
