//! The iSCSI disk of a pretend machine without one: what firmware's `sanboot` and the kernel's initiator do, from the
//! machine's own address. It logs in again when the target comes back, and tries again what is answered with BUSY,
//! as Linux with iscsid does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use farrier_agent::machine::BlockDevice;
use farrier_iscsi::initiator::{Capacity, Event as Heard, Initiator, InitiatorError, Login};
use farrier_iscsi::scsi::status;
use farrier_iscsi::{Credentials, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::observe::{Diary, Event};

/// An iSCSI disk as a boot script names it.
#[derive(Clone, PartialEq, Eq)]
pub struct San {
    pub portal: SocketAddr,
    pub target: String,
    pub lun: u16,
    pub initiator: String,
    pub user: String,
    pub secret: String,
}

impl std::fmt::Debug for San {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("San")
            .field("portal", &self.portal)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A machine's way to its target, for all of its logical units.
pub(super) struct Link {
    san: San,
    source: Ipv4Addr,
    retry: Duration,
    cut: CancellationToken,
    diary: Arc<Diary>,
    state: Mutex<State>,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    /// It had a session and has none.
    lost: bool,
    /// Since it was lost, the target refused the machine.
    refused: bool,
}

impl Link {
    /// Works until `cut`; must be made on a runtime.
    pub(super) fn new(
        san: San,
        source: Ipv4Addr,
        retry: Duration,
        cut: CancellationToken,
        diary: Arc<Diary>,
    ) -> Arc<Self> {
        Arc::new(Self { san, source, retry, cut, diary, state: Mutex::default(), runtime: Handle::current() })
    }

    /// A logical unit as a disk; one that is not there is an error of its reads. Blocking.
    pub(super) fn disk(self: &Arc<Self>, lun: u16) -> io::Result<SanDisk> {
        let link = Arc::clone(self);
        let capacity = self.patiently(async |session: &mut Session| session.capacity(lun).await)?;
        Ok(SanDisk { link, lun, capacity })
    }

    /// The unit that the script names.
    pub(super) fn lun(&self) -> u16 {
        self.san.lun
    }

    /// Does something with a session, again and again until it succeeds or power goes.
    fn patiently<T>(&self, work: impl AsyncFn(&mut Session) -> io::Result<T>) -> io::Result<T> {
        let tries = async {
            let mut state = self.state.lock().await;
            loop {
                let done = self.once(&mut state, &work).await;
                match done {
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                    Err(error) => tracing::debug!(target = self.san.target, %error, "iSCSI disk"),
                    done => return done,
                }
                tokio::time::sleep(self.retry).await;
            }
        };
        let off = || io::Error::other("the machine has no power");
        self.runtime.block_on(self.cut.run_until_cancelled(tries)).ok_or_else(off)?
    }

    /// One try, with the session that is there or a new one.
    async fn once<T>(
        &self,
        state: &mut State,
        work: &impl AsyncFn(&mut Session) -> io::Result<T>,
    ) -> io::Result<T> {
        let had = state.session.is_some();
        let mut session = match state.session.take() {
            Some(session) => session,
            None => match Session::login(&self.san, self.source).await {
                Ok(session) => session,
                Err(error) => {
                    if state.lost && is_refusal(&error) && !std::mem::replace(&mut state.refused, true) {
                        self.diary.note(Event::DiskRefused);
                    }
                    return Err(error);
                }
            },
        };
        if !had && std::mem::take(&mut state.lost) {
            state.refused = false;
            self.diary.note(Event::DiskBack);
        }
        let done = work(&mut session).await;
        // After an error of the connection it is over; an answer of the target is not one.
        let answered = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::InvalidData)
        };
        if done.as_ref().err().is_none_or(answered) {
            state.session = Some(session);
        } else {
            state.lost = true;
            self.diary.note(Event::DiskLost);
        }
        done
    }
}

pub(super) struct SanDisk {
    link: Arc<Link>,
    lun: u16,
    capacity: Capacity,
}

impl BlockDevice for SanDisk {
    fn size_bytes(&self) -> u64 {
        self.capacity.blocks.saturating_mul(u64::from(self.capacity.block_bytes))
    }

    fn block_bytes(&self) -> u32 {
        self.capacity.block_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let block = u64::from(self.capacity.block_bytes);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (first, skip) = (at / block, at % block);
            let len = (skip + (buf.len() - done) as u64).next_multiple_of(block).min(READ_BYTES);
            let blocks = u32::try_from(len / block).map_err(io::Error::other)?;
            let data = self.link.patiently(async |session: &mut Session| {
                session
                    .command(|initiator, out| {
                        initiator.read(self.lun, first, blocks, self.capacity.block_bytes, out)
                    })
                    .await
            })?;
            let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let part = (data.len().saturating_sub(usize::try_from(skip).unwrap_or(0))).min(buf.len() - done);
            let from = usize::try_from(skip).unwrap_or(0);
            let data = data.get(from..from + part).filter(|data| !data.is_empty()).ok_or_else(short)?;
            buf.get_mut(done..done + part).ok_or_else(short)?.copy_from_slice(data);
            done += part;
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn unmap(&self, _: u64, _: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct Session {
    tcp: TcpStream,
    initiator: Initiator,
    buffer: Vec<u8>,
}

impl Session {
    async fn login(san: &San, source: Ipv4Addr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let tcp = tokio::time::timeout(PATIENCE, socket.connect(san.portal)).await??;
        tcp.set_nodelay(true)?;
        let chap = Credentials { user: san.user.clone(), secret: Secret::new(san.secret.as_bytes()) };
        let login = Login {
            initiator: san.initiator.clone(),
            target: san.target.clone(),
            chap: Some(chap),
            isid: rand::random(),
        };
        let mut session = Self { tcp, initiator: Initiator::new(login), buffer: vec![0; RECEIVE] };
        let mut out = Vec::new();
        session.initiator.login(&mut out);
        session.tcp.write_all(&out).await?;
        while !session.receive().await?.contains(&Heard::LoggedIn) {}
        Ok(session)
    }

    async fn capacity(&mut self, lun: u16) -> io::Result<Capacity> {
        let answer = self.command(|initiator, out| initiator.read_capacity(lun, out)).await?;
        Capacity::parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// One command and its data. BUSY and what a new session is told first are [`io::ErrorKind::ResourceBusy`]; any
    /// other refusal is [`io::ErrorKind::InvalidData`].
    async fn command(&mut self, ask: impl Fn(&mut Initiator, &mut Vec<u8>) -> u32) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let asked = ask(&mut self.initiator, &mut out);
        self.tcp.write_all(&out).await?;
        let mut answer: Vec<u8> = Vec::new();
        loop {
            for event in self.receive().await? {
                match event {
                    Heard::Data { tag, data, .. } if tag == asked => answer.extend(data),
                    Heard::Ended { tag, status, sense } if tag == asked => {
                        let key = sense.get(2).map(|byte| byte & 0x0f);
                        return match status {
                            status::GOOD => Ok(answer),
                            status::BUSY | status::TASK_SET_FULL => Err(io::ErrorKind::ResourceBusy.into()),
                            // Unit attention (SPC-4 section 4.5.6).
                            _ if key == Some(6) => Err(io::ErrorKind::ResourceBusy.into()),
                            _ => Err(io::Error::new(
                                io::ErrorKind::InvalidData,
                                format!("SCSI status {status:#04x}, sense key {key:?}"),
                            )),
                        };
                    }
                    Heard::Leaving => return Err(io::ErrorKind::ConnectionAborted.into()),
                    _ => {}
                }
            }
        }
    }

    async fn receive(&mut self) -> io::Result<Vec<Heard>> {
        let len = tokio::time::timeout(PATIENCE, self.tcp.read(&mut self.buffer)).await??;
        if len == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut out = Vec::new();
        let events = self.initiator.receive(self.buffer.get(..len).unwrap_or_default(), &mut out);
        let events = events.map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
        self.tcp.write_all(&out).await?;
        Ok(events)
    }
}

fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<InitiatorError>());
    matches!(inner, Some(InitiatorError::Refused { .. }))
}

const READ_BYTES: u64 = 1 << 20;
const RECEIVE: usize = 256 * 1024;
/// For one answer; then it logs in again.
const PATIENCE: Duration = Duration::from_secs(30);
