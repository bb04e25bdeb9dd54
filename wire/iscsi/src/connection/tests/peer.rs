//! The two ends of the tests: a host with a disk in memory, and an initiator that builds its own PDUs.

use std::sync::Arc;

use crate::bhs::{BHS_LEN, Bhs, RESERVED_TAG, opcode};
use crate::chap::{Algorithm, Chap, Credentials, Secret};
use crate::frame::{self, FrameRules, Step, digest};
use crate::host::{
    Admission, Denied, Discovered, DiscoveryAccess, Grant, Host, LoginRefused, Now, Refused, SessionStart,
    Target, TaskKey,
};
use crate::params::Offer;
use crate::scsi::{Geometry, Identity, MediaError, MediaOp, MediaReply, TaskAge, Unit};
use crate::text::{binary, to_hex};

use super::super::{Closed, Connection};

pub(super) const DISK: usize = 256 * 512;

pub(super) struct MemoryHost {
    pub(super) disk: Vec<u8>,
    pub(super) target: Arc<Target>,
    pub(super) secret: bool,
    pub(super) targets: usize,
    /// Answer writes and reads later.
    pub(super) later: bool,
    pub(super) waiting: Vec<(TaskKey, Arc<Unit>, MediaOp, Vec<u8>)>,
}

impl Default for MemoryHost {
    fn default() -> MemoryHost {
        let identity = Identity {
            vendor: "FARRIER".into(),
            product: "Block".into(),
            revision: "1".into(),
            serial: "1".into(),
            naa: [0x30; 8],
            removable: false,
            read_only: false,
            thin: true,
        };
        let geometry = Geometry { blocks: (DISK / 512) as u64, block_size: 512, physical_exponent: 3 };
        let name = "iqn.2026-01.dev.farrier:t";
        let unit = Arc::new(Unit::new(0, name, 1, identity, geometry));
        let target = Arc::new(Target { name: name.into(), alias: String::new(), units: vec![unit] });
        MemoryHost {
            disk: vec![0; DISK],
            target,
            secret: false,
            targets: 1,
            later: false,
            waiting: Vec::new(),
        }
    }
}

impl MemoryHost {
    pub(super) fn disk(&self) -> &[u8] {
        &self.disk
    }

    /// Does some of what was put off, the last first.
    pub(super) fn finish_some(&mut self, connection: &mut Connection, count: usize) {
        for _ in 0..count {
            let Some((key, unit, op, data)) = self.waiting.pop() else { return };
            let result = self.perform(&op, &data);
            let result = unit.finish(&op, result);
            let _ = connection.complete(key, result, self);
        }
    }

    fn perform(&mut self, op: &MediaOp, data: &[u8]) -> Result<MediaReply, MediaError> {
        let range = |offset: u64, len: usize| offset as usize..offset as usize + len;
        match op {
            MediaOp::Read { offset, len } => Ok(MediaReply::Data(self.disk[range(*offset, *len)].to_vec())),
            MediaOp::Write { offset, .. } | MediaOp::WriteAndVerify { offset, .. } => {
                self.disk[range(*offset, data.len())].copy_from_slice(data);
                Ok(MediaReply::Done)
            }
            // Ranges that a bad CDB made would panic here.
            MediaOp::WriteSame { offset, len, .. } => {
                let _ = &self.disk[range(*offset, *len as usize)];
                Ok(MediaReply::Done)
            }
            MediaOp::Unmap { ranges } => {
                for (offset, len) in ranges {
                    let _ = &self.disk[range(*offset, *len as usize)];
                }
                Ok(MediaReply::Done)
            }
            MediaOp::Extents { .. } => Ok(MediaReply::Extents(Vec::new())),
            _ => Ok(MediaReply::Done),
        }
    }
}

impl Host for MemoryHost {
    fn admit(&mut self, _: &str, target: &str) -> Result<Admission, Denied> {
        if target != self.target.name {
            return Err(Denied::NotFound);
        }
        let initiator = Credentials { user: "node".into(), secret: Secret::new(*b"the secret of it") };
        let accounts = self.secret.then_some(Chap { initiator, target: None }).into_iter().collect();
        Ok(Admission { target: Arc::clone(&self.target), accounts })
    }

    fn discovery_access(&mut self, _: &str) -> DiscoveryAccess {
        DiscoveryAccess { anonymous: true, accounts: Vec::new() }
    }

    fn discover(&mut self, _: &SessionStart) -> Vec<Discovered> {
        let found = |number| Discovered {
            name: format!("iqn.t:{number}"),
            addresses: vec!["10.0.0.1:3260,1".into()],
        };
        (0..self.targets).map(found).collect()
    }

    fn random(&mut self, bytes: &mut [u8]) {
        bytes.fill(3);
    }

    fn session(&mut self, _: &SessionStart) -> Result<Grant, Refused> {
        Ok(Grant { tsih: 1, nexus: 1, target_port: 1 })
    }

    fn login_refused(&mut self, _: &LoginRefused) {}

    fn read(&mut self, _: &Arc<Unit>, offset: u64, place: &mut [u8]) -> Now<()> {
        if self.later {
            return Now::Later;
        }
        let from = offset as usize;
        place.copy_from_slice(&self.disk[from..from + place.len()]);
        Now::Done(())
    }

    fn run(
        &mut self,
        task: TaskKey,
        unit: &Arc<Unit>,
        _: TaskAge,
        op: &MediaOp,
        data: &[u8],
    ) -> Now<MediaReply> {
        assert_eq!(op.data_out(), data.len(), "{op:?}");
        if self.later {
            self.waiting.push((task, Arc::clone(unit), op.clone(), data.to_vec()));
            return Now::Later;
        }
        match self.perform(op, data) {
            Ok(reply) => Now::Done(reply),
            Err(error) => Now::Failed(error),
        }
    }
}

pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) cmd_sn: u32,
    pub(super) login_text: String,
    digests: (bool, bool),
    itt: u32,
    immediate: bool,
    unsolicited: bool,
    first_burst: usize,
}

impl Peer {
    pub(super) fn new(offer: Offer) -> Peer {
        Peer {
            connection: Connection::new(offer, 32 << 20),
            cmd_sn: 100,
            login_text: String::new(),
            digests: (false, false),
            itt: 0,
            immediate: true,
            unsolicited: false,
            first_burst: 65_536,
        }
    }

    pub(super) fn login(&mut self, host: &mut MemoryHost, text: &str) -> Result<(), Closed> {
        let names = "InitiatorName=iqn.2026-01.dev.farrier:a\0TargetName=iqn.2026-01.dev.farrier:t\0";
        let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x87).with_u32(24, self.cmd_sn);
        self.login_step(host, bhs, &format!("{names}{text}"))
    }

    fn login_step(&mut self, host: &mut MemoryHost, bhs: Bhs, text: &str) -> Result<(), Closed> {
        self.connection.receive(&pdu(bhs, text.as_bytes(), false, false), host)?;
        let answer = self.connection.output().pending().to_vec();
        self.connection.output().advance(answer.len());
        self.login_text = String::from_utf8_lossy(&answer[BHS_LEN..]).into_owned();
        if let Some(params) = self.connection.params() {
            self.digests = (params.header_digest, params.data_digest);
            self.immediate = params.immediate_data;
            self.unsolicited = !params.initial_r2t;
            self.first_burst = params.first_burst;
        }
        Ok(())
    }

    pub(super) fn login_with_chap(&mut self, host: &mut MemoryHost, secret: &[u8]) -> Result<(), Closed> {
        let names = "InitiatorName=iqn.2026-01.dev.farrier:a\0TargetName=iqn.2026-01.dev.farrier:t\0AuthMethod=CHAP,None\0";
        let step = |flags: u8| Bhs::new(opcode::LOGIN_REQUEST | 0x40, flags).with_u32(24, 100);
        self.login_step(host, step(0x81), names)?;
        self.login_step(host, step(0x00), "CHAP_A=7,5\0")?;
        let value = |text: &str, key: &str| {
            text.split('\0')
                .find_map(|pair| pair.strip_prefix(&format!("{key}=")))
                .map(str::to_owned)
                .expect("is there")
        };
        let challenge = binary(&value(&self.login_text, "CHAP_C"), 1024).expect("binary");
        let identifier: u8 = value(&self.login_text, "CHAP_I").parse().expect("a number");
        let response = Algorithm::Sha256.response(identifier, &Secret::new(secret.to_vec()), &challenge);
        self.login_step(host, step(0x83), &format!("CHAP_N=node\0CHAP_R={}\0", to_hex(&response)))
    }

    /// A SCSI command; READ or WRITE and F are in `flags`.
    pub(super) fn command(&mut self, cdb: &[u8], flags: u8, expected: usize) -> Bhs {
        self.itt += 1;
        let mut bhs = Bhs::new(opcode::SCSI_COMMAND, flags)
            .with_itt(self.itt)
            .with_u32(20, expected as u32)
            .with_u32(24, self.cmd_sn);
        bhs.0[32..32 + cdb.len()].copy_from_slice(cdb);
        bhs
    }

    /// Sends bytes and takes the answers apart.
    pub(super) fn exchange(&mut self, bytes: &[u8], host: &mut MemoryHost) -> Vec<(Bhs, Vec<u8>)> {
        let received = self.connection.receive(bytes, host).expect("the connection stays");
        assert_eq!(received.consumed, bytes.len());
        self.take()
    }

    fn take(&mut self) -> Vec<(Bhs, Vec<u8>)> {
        let pending = self.connection.output().pending().to_vec();
        self.connection.output().advance(pending.len());
        let rules =
            FrameRules { header_digest: self.digests.0, data_digest: self.digests.1, max_data: 1 << 24 };
        let mut rest = &pending[..];
        let mut answers = Vec::new();
        while !rest.is_empty() {
            match frame::next(rest, &rules).expect("well made") {
                Step::Frame(found) => {
                    answers.push((found.bhs, rest[found.data.clone()].to_vec()));
                    rest = &rest[found.len..];
                }
                Step::Need(need) => panic!("{need} of {}", rest.len()),
            }
        }
        answers
    }

    /// Fetches what is waiting for a new nexus.
    pub(super) fn attentions(&mut self, host: &mut MemoryHost) {
        let bhs = self.command(&[0; 6], 0x80, 0);
        self.cmd_sn += 1;
        let bytes = pdu(bhs, &[], self.digests.0, self.digests.1);
        self.exchange(&bytes, host);
    }

    pub(super) fn write(
        &mut self,
        host: &mut MemoryHost,
        lba: usize,
        data: &[u8],
        immediate: usize,
        segment: usize,
    ) {
        let blocks = (data.len() / 512) as u16;
        let mut cdb = [0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
        cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
        let immediate = if self.immediate { immediate.min(self.first_burst).min(data.len()) } else { 0 };
        let more = self.unsolicited && immediate < data.len().min(self.first_burst);
        let bhs = self.command(&cdb, if more { 0x20 } else { 0xa0 }, data.len());
        self.cmd_sn += 1;
        let itt = bhs.itt();
        let mut answers = self.exchange(&pdu(bhs, &data[..immediate], self.digests.0, self.digests.1), host);
        if more {
            let end = data.len().min(self.first_burst);
            answers.extend(self.data_out(host, itt, RESERVED_TAG, data, immediate, end, segment));
        }
        loop {
            host.finish_some(&mut self.connection, 1);
            answers.extend(self.take());
            assert!(!answers.is_empty(), "no answer");
            let (answer, _) = answers.remove(0);
            match answer.opcode() {
                opcode::R2T => {
                    let from = answer.buffer_offset() as usize;
                    let len = u32::from_be_bytes(answer.0[44..48].try_into().expect("4")) as usize;
                    answers.extend(self.data_out(host, itt, answer.ttt(), data, from, from + len, segment));
                }
                opcode::SCSI_RESPONSE => {
                    assert_eq!((answer.0[3], answer.flags() & 0x06), (0, 0), "good, no residual");
                    return;
                }
                other => panic!("{other:#x}"),
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn data_out(
        &mut self,
        host: &mut MemoryHost,
        itt: u32,
        ttt: u32,
        data: &[u8],
        from: usize,
        end: usize,
        segment: usize,
    ) -> Vec<(Bhs, Vec<u8>)> {
        let (mut at, mut sn) = (from, 0);
        let mut answers = Vec::new();
        while at < end {
            let part = segment.min(end - at);
            let last = at + part == end;
            let bhs = Bhs::new(opcode::DATA_OUT, if last { 0x80 } else { 0 })
                .with_itt(itt)
                .with_u32(20, ttt)
                .with_u32(36, sn)
                .with_u32(40, at as u32);
            answers
                .extend(self.exchange(&pdu(bhs, &data[at..at + part], self.digests.0, self.digests.1), host));
            at += part;
            sn += 1;
        }
        answers
    }

    pub(super) fn read(&mut self, host: &mut MemoryHost, lba: usize, blocks: usize) -> Vec<u8> {
        let mut cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
        cdb[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
        let bhs = self.command(&cdb, 0xc0, blocks * 512);
        self.cmd_sn += 1;
        let mut answers = self.exchange(&pdu(bhs, &[], self.digests.0, self.digests.1), host);
        host.finish_some(&mut self.connection, 1);
        answers.extend(self.take());
        let mut data = Vec::new();
        let (last, _) = answers.last().expect("an answer").clone();
        assert_eq!(last.flags() & 0x81, 0x81, "the status is in the last Data-In");
        for (number, (bhs, part)) in answers.into_iter().enumerate() {
            assert_eq!(bhs.opcode(), opcode::DATA_IN);
            assert_eq!((bhs.data_sn() as usize, bhs.buffer_offset() as usize), (number, data.len()));
            data.extend(part);
        }
        data
    }

    pub(super) fn send_targets(&mut self, host: &mut MemoryHost) -> String {
        let mut text = Vec::new();
        let (mut ttt, mut ask) = (RESERVED_TAG, b"SendTargets=All\0".to_vec());
        loop {
            let bhs =
                Bhs::new(opcode::TEXT_REQUEST, 0x80).with_itt(5).with_u32(20, ttt).with_u32(24, self.cmd_sn);
            self.cmd_sn += 1;
            let answers = self.exchange(&pdu(bhs, &ask, false, false), host);
            let [(answer, part)] = &answers[..] else { panic!("{answers:?}") };
            text.extend_from_slice(part);
            if answer.is_final() {
                return String::from_utf8(text).expect("text");
            }
            (ttt, ask) = (answer.ttt(), Vec::new());
        }
    }
}

pub(super) fn pdu(mut bhs: Bhs, data: &[u8], header_digest: bool, data_digest: bool) -> Vec<u8> {
    bhs.set_data_len(data.len());
    let mut bytes = bhs.0.to_vec();
    if header_digest {
        bytes.extend_from_slice(&digest(&bhs.0));
    }
    let mut padded = data.to_vec();
    padded.resize(data.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(&padded);
    if data_digest && !data.is_empty() {
        bytes.extend_from_slice(&digest(&padded));
    }
    bytes
}
