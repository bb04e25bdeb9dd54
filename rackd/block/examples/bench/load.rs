//! An initiator that only makes load: one thread, many sessions, each with its commands under way.

use std::io;
use std::time::{Duration, Instant};

use farrier_iscsi::{BHS_LEN, Bhs, FrameRules, Pairs, RESERVED_TAG, Step, next_frame, opcode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::peers::{Server, TARGET};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Random,
    Sequential,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) order: Order,
    pub(crate) bytes: usize,
    /// Commands under way, of each session.
    pub(crate) depth: usize,
    pub(crate) sessions: usize,
}

pub(crate) struct LoadResult {
    pub(crate) operations: u64,
    elapsed: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl LoadResult {
    pub(crate) fn iops(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let at = self.latencies.len() * percent / 100;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

pub(crate) fn run(server: &Server, case: &Case, size: u64, time: Duration) -> io::Result<LoadResult> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut sessions = Vec::new();
        for number in 0..case.sessions {
            sessions.push(Session::login(server, number).await?);
        }
        let begun = Instant::now();
        let work = sessions.into_iter().enumerate().map(|(number, session)| {
            let (kind, order, bytes, depth) = (case.kind, case.order, case.bytes, case.depth);
            let share = size / case.sessions as u64;
            tokio::spawn(session.load(kind, order, bytes, depth, size, share * number as u64, begun + time))
        });
        let tasks: Vec<_> = work.collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.map_err(io::Error::other)??);
        }
        let elapsed = begun.elapsed();
        latencies.sort_unstable();
        Ok(LoadResult { operations: latencies.len() as u64, elapsed, latencies })
    })
}

struct Session {
    stream: TcpStream,
    lun: u8,
    cmd_sn: u32,
    immediate: bool,
    first_burst: usize,
    segment: usize,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
}

impl Session {
    async fn login(server: &Server, number: usize) -> io::Result<Session> {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        let mut session = Session {
            stream,
            lun: server.lun,
            cmd_sn: 1,
            immediate: true,
            first_burst: 65_536,
            segment: 8192,
            input: vec![0; 2 << 20],
            filled: 0,
            output: Vec::new(),
        };
        let mut text = Pairs::default();
        for (key, value) in [
            ("InitiatorName", format!("iqn.2026-01.dev.farrier:load-{number}")),
            ("TargetName", TARGET.into()),
            ("SessionType", "Normal".into()),
            ("HeaderDigest", "None".into()),
            ("DataDigest", "None".into()),
            ("InitialR2T", "No".into()),
            ("ImmediateData", "Yes".into()),
            ("MaxRecvDataSegmentLength", "262144".into()),
            ("MaxBurstLength", "1048576".into()),
            ("FirstBurstLength", "262144".into()),
            ("MaxOutstandingR2T", "1".into()),
        ] {
            text.push(key, value);
        }
        let [a, b] = u16::try_from(number).unwrap_or(0).to_be_bytes();
        let request = Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x87)
            .with_u32(8, 0x8000_0000 | u32::from(a) << 8 | u32::from(b))
            .with_u32(24, session.cmd_sn);
        session.push(request, &text.emit());
        session.send().await?;
        let (bhs, data) = session.receive().await?;
        if bhs.opcode() != opcode::LOGIN_RESPONSE || bhs.0[36] != 0 {
            return Err(io::Error::other("login refused"));
        }
        let answer = Pairs::parse(&data).map_err(io::Error::other)?;
        let number = |key: &str, default: usize| {
            answer.value(key).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        session.first_burst = number("FirstBurstLength", session.first_burst);
        session.segment = number("MaxRecvDataSegmentLength", session.segment);
        session.immediate = answer.value("ImmediateData") != Some("No");
        // The attentions of a new nexus.
        for _ in 0..4 {
            let ready = Bhs::new(opcode::SCSI_COMMAND, 0x81);
            session.command(ready, 7, &[0; 6], 0, &[]);
            session.send().await?;
            session.receive().await?;
        }
        Ok(session)
    }

    #[allow(clippy::too_many_arguments)]
    async fn load(
        mut self,
        kind: Kind,
        order: Order,
        bytes: usize,
        depth: usize,
        size: u64,
        from: u64,
        end: Instant,
    ) -> io::Result<Vec<Duration>> {
        let data: Vec<u8> = (0..bytes).map(|at| (at / 3) as u8).collect();
        let mut begun = vec![end; depth];
        let mut latencies = Vec::new();
        let places = size / bytes as u64;
        let (mut next, mut random) = (from / bytes as u64, from | 0x9e37_79b9_7f4a_7c15);
        let mut under_way = 0;
        let mut start = |session: &mut Session, slot: usize, begun: &mut Vec<Instant>| {
            let place = match order {
                Order::Sequential => {
                    next = (next + 1) % places;
                    next
                }
                Order::Random => {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random % places
                }
            };
            if let Some(at) = begun.get_mut(slot) {
                *at = Instant::now();
            }
            session.io(kind, slot, place * bytes as u64, &data);
        };
        for slot in 0..depth {
            start(&mut self, slot, &mut begun);
            under_way += 1;
        }
        while under_way > 0 {
            self.send().await?;
            let (mut finished, mut asked) = (Vec::new(), Vec::new());
            self.take(|bhs, _| match bhs.opcode() {
                opcode::DATA_IN if bhs.flags() & 0x01 == 0 => {}
                opcode::DATA_IN | opcode::SCSI_RESPONSE => finished.push((bhs.itt(), bhs.0[3])),
                opcode::R2T => asked.push(*bhs),
                _ => {}
            })
            .await?;
            for r2t in asked {
                self.answer(&r2t, &data);
            }
            for (slot, status) in finished {
                if status != 0 {
                    return Err(io::Error::other(format!("status {status:#04x}")));
                }
                let slot = slot as usize;
                let now = Instant::now();
                latencies.push(now - begun.get(slot).copied().unwrap_or(now));
                under_way -= 1;
                if now < end {
                    start(&mut self, slot, &mut begun);
                    under_way += 1;
                }
            }
        }
        Ok(latencies)
    }

    fn io(&mut self, kind: Kind, slot: usize, offset: u64, data: &[u8]) {
        let lba = u32::try_from(offset / 512).unwrap_or(0).to_be_bytes();
        let blocks = u16::try_from(data.len() / 512).unwrap_or(0).to_be_bytes();
        let code = if kind == Kind::Read { 0x28 } else { 0x2a };
        let cdb = [code, 0, lba[0], lba[1], lba[2], lba[3], 0, blocks[0], blocks[1], 0];
        let tag = u32::try_from(slot).unwrap_or(0);
        if kind == Kind::Read {
            return self.command(Bhs::new(opcode::SCSI_COMMAND, 0xc1), tag, &cdb, data.len(), &[]);
        }
        let first = if self.immediate { data.len().min(self.first_burst).min(self.segment) } else { 0 };
        let now = data.get(..first).unwrap_or_default().to_vec();
        self.command(Bhs::new(opcode::SCSI_COMMAND, 0xa1), tag, &cdb, data.len(), &now);
    }

    fn answer(&mut self, r2t: &Bhs, data: &[u8]) {
        let from = r2t.buffer_offset() as usize;
        let len = r2t
            .0
            .get(44..48)
            .map_or(0, |field| field.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)));
        let (mut at, mut sn) = (from, 0);
        while at < from + len {
            let part = (from + len - at).min(self.segment);
            let last = at + part == from + len;
            let out = Bhs::new(opcode::DATA_OUT, if last { 0x80 } else { 0 })
                .with_u64(8, u64::from(self.lun) << 48)
                .with_itt(r2t.itt())
                .with_u32(20, r2t.ttt())
                .with_u32(36, sn)
                .with_u32(40, u32::try_from(at).unwrap_or(0));
            let piece = data.get(at..at + part).unwrap_or_default().to_vec();
            self.push(out, &piece);
            at += part;
            sn += 1;
        }
    }

    fn command(&mut self, bhs: Bhs, tag: u32, cdb: &[u8], expected: usize, data: &[u8]) {
        let mut bhs = bhs
            .with_u64(8, u64::from(self.lun) << 48)
            .with_itt(tag)
            .with_u32(20, u32::try_from(expected).unwrap_or(0))
            .with_u32(24, self.cmd_sn);
        for (at, byte) in cdb.iter().enumerate() {
            bhs = bhs.with_u8(32 + at, *byte);
        }
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.push(bhs, data);
    }

    fn push(&mut self, bhs: Bhs, data: &[u8]) {
        debug_assert_ne!(bhs.itt(), RESERVED_TAG);
        let [_, a, b, c] = u32::try_from(data.len()).unwrap_or(0).to_be_bytes();
        let bhs = bhs.with_u8(5, a).with_u8(6, b).with_u8(7, c);
        self.output.extend_from_slice(&bhs.0);
        self.output.extend_from_slice(data);
        self.output.resize(self.output.len() + data.len().next_multiple_of(4) - data.len(), 0);
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<(Bhs, Vec<u8>)> {
        let mut found = None;
        while found.is_none() {
            self.take(|bhs, data| found = Some((*bhs, data.to_vec()))).await?;
        }
        found.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads once, and hands over every PDU that is whole.
    async fn take(&mut self, mut each: impl FnMut(&Bhs, &[u8])) -> io::Result<()> {
        let read = self.stream.read(self.input.get_mut(self.filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += read;
        let rules = FrameRules { header_digest: false, data_digest: false, max_data: 1 << 20 };
        let mut at = 0;
        loop {
            let rest = self.input.get(at..self.filled).unwrap_or_default();
            match next_frame(rest, &rules).map_err(io::Error::other)? {
                Step::Frame(frame) => {
                    each(&frame.bhs, rest.get(frame.data.clone()).unwrap_or_default());
                    at += frame.len;
                }
                Step::Need(need) => {
                    debug_assert!(need >= BHS_LEN);
                    break;
                }
            }
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}
