//! A pretend machine without a disk: it logs in to the iSCSI disk that its boot script names, reads what cloud-init
//! reads there, and notices when the disk goes away, as a running system does.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use farrier_iscsi::initiator::{Capacity, Event as Heard, Initiator, InitiatorError, Login};
use farrier_iscsi::{Credentials, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::board::Board;
use super::observe::Event;

/// An iSCSI disk as a boot script names it.
#[derive(Clone, PartialEq, Eq)]
pub struct San {
    pub portal: SocketAddr,
    pub target: String,
    pub initiator: String,
    pub user: String,
    pub secret: String,
}

impl std::fmt::Debug for San {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} for {}", self.target, self.portal, self.initiator)
    }
}

impl San {
    /// `None`: the script boots no iSCSI disk.
    pub(super) fn parse(script: &str) -> Option<Self> {
        let set = |name: &str| {
            let line = script.lines().find_map(|line| line.strip_prefix("set ")?.strip_prefix(name))?;
            line.strip_prefix(' ').map(|value| value.trim().to_owned())
        };
        let path = script.lines().find_map(|line| line.strip_prefix("sanboot iscsi:"))?;
        // host:protocol:port:lun:target (RFC 4173 section 5); the target's name has colons too.
        let mut parts = path.trim_end_matches("||").trim().splitn(5, ':');
        let (host, _, port) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next()? == "0").then_some(())?;
        Some(Self {
            portal: SocketAddr::new(host.parse().ok()?, port.parse().ok()?),
            target: parts.next()?.to_owned(),
            initiator: set("initiator-iqn")?,
            user: set("username")?,
            secret: set("password")?,
        })
    }
}

/// A session with the disk.
pub(super) struct Session {
    tcp: TcpStream,
    initiator: Initiator,
}

/// Why there is no session.
pub(super) enum NoSession {
    /// The target knows the machine no more, or never did.
    Refused,
    Away(anyhow::Error),
}

impl Session {
    pub(super) async fn open(source: Ipv4Addr, san: &San) -> Result<Self, NoSession> {
        let away = |error: std::io::Error| NoSession::Away(error.into());
        let socket = TcpSocket::new_v4().map_err(away)?;
        socket.bind((source, 0).into()).map_err(away)?;
        let tcp = socket.connect(san.portal).await.map_err(away)?;
        let chap = Credentials { user: san.user.clone(), secret: Secret::new(san.secret.as_bytes()) };
        let login = Login {
            initiator: san.initiator.clone(),
            target: san.target.clone(),
            chap: Some(chap),
            isid: rand::random(),
        };
        let mut session = Self { tcp, initiator: Initiator::new(login) };
        let mut out = Vec::new();
        session.initiator.login(&mut out);
        session.tcp.write_all(&out).await.map_err(away)?;
        loop {
            match session.receive().await {
                Ok(heard) if heard.contains(&Heard::LoggedIn) => return Ok(session),
                Ok(_) => {}
                Err(error) => {
                    return Err(match error.downcast_ref::<InitiatorError>() {
                        Some(InitiatorError::Refused { .. }) => NoSession::Refused,
                        _ => NoSession::Away(error),
                    });
                }
            }
        }
    }

    /// A whole logical unit; small ones only.
    pub(super) async fn read_all(&mut self, lun: u16) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut capacity = None;
        // Unit attentions come first, each as the failure of a command (SAM-5 section 5.14).
        for _ in 0..16 {
            let tag = self.initiator.read_capacity(lun, &mut out);
            if let Ok(answer) = self.answer(tag, &mut out, 32).await {
                capacity = Capacity::parse(&answer);
                break;
            }
        }
        let capacity = capacity.context("no capacity")?;
        let bytes = capacity.blocks.saturating_mul(u64::from(capacity.block_bytes));
        ensure!(bytes <= MAX_BYTES, "a logical unit of {bytes} bytes");
        let mut whole = Vec::new();
        let mut block = 0;
        while block < capacity.blocks {
            let blocks = u32::try_from((capacity.blocks - block).min(BLOCKS))?;
            let tag = self.initiator.read(lun, block, blocks, capacity.block_bytes, &mut out);
            let len = usize::try_from(blocks)? * usize::try_from(capacity.block_bytes)?;
            whole.extend(self.answer(tag, &mut out, len).await?);
            block += u64::from(blocks);
        }
        Ok(whole)
    }

    /// Answers the target until it leaves.
    pub(super) async fn until_lost(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.receive().await {
                return error;
            }
        }
    }

    async fn answer(&mut self, asked: u32, out: &mut Vec<u8>, len: usize) -> Result<Vec<u8>> {
        self.tcp.write_all(&std::mem::take(out)).await?;
        let mut answer = vec![0; len];
        loop {
            for heard in self.receive().await? {
                match heard {
                    Heard::Data { tag, offset, data } if tag == asked => {
                        let from = usize::try_from(offset)?;
                        let place = answer.get_mut(from..from + data.len()).context("stray data")?;
                        place.copy_from_slice(&data);
                    }
                    Heard::Ended { tag, status, .. } if tag == asked => {
                        ensure!(status == 0, "SCSI status {status:#04x}");
                        return Ok(answer);
                    }
                    Heard::Leaving => bail!("the target leaves"),
                    _ => {}
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Vec<Heard>> {
        let mut buffer = vec![0; 64 << 10];
        let len = self.tcp.read(&mut buffer).await?;
        ensure!(len > 0, "the target closed the connection");
        let mut out = Vec::new();
        let heard = self.initiator.receive(buffer.get(..len).unwrap_or_default(), &mut out)?;
        self.tcp.write_all(&out).await?;
        Ok(heard)
    }
}

/// Lives on a session for as long as there is power: one that is lost is looked for again, with what the machine
/// knows since its boot.
pub(super) async fn live(board: &Board, san: &San, mut session: Session) -> std::convert::Infallible {
    loop {
        let error = session.until_lost().await;
        tracing::info!(node = board.name, %error, "the disk is lost");
        board.diary.note(Event::DiskLost);
        let mut refused = false;
        session = loop {
            match Session::open(board.source, san).await {
                Ok(again) => break again,
                Err(NoSession::Refused) if !refused => {
                    refused = true;
                    board.diary.note(Event::DiskRefused);
                }
                Err(NoSession::Refused | NoSession::Away(_)) => {}
            }
            tokio::time::sleep(board.retry).await;
        };
        board.diary.note(Event::DiskBack);
    }
}

/// A NoCloud file system is much smaller.
const MAX_BYTES: u64 = 64 << 20;
/// Of one command.
const BLOCKS: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_the_disk_and_the_proof() {
        let script = "#!ipxe\nset tries:int32 0\nset initiator-iqn iqn.2026-11.dev.farrier:r:node:n1\n\
            set username n1\nset password 00ff\n:again\n\
            sanboot iscsi:127.0.0.1::3260:0:iqn.2026-11.dev.farrier:r:volume:web ||\ninc tries\n";
        let san = San::parse(script).unwrap();
        assert_eq!(san.portal, "127.0.0.1:3260".parse().unwrap());
        assert_eq!(san.target, "iqn.2026-11.dev.farrier:r:volume:web");
        assert_eq!((san.user.as_str(), san.secret.as_str()), ("n1", "00ff"));
        assert!(!format!("{san:?}").contains("00ff"));
        assert_eq!(San::parse("#!ipxe\nsanboot --drive 0x80 || exit 1\n"), None);
    }
}
