//! A whole target, from the first byte: login, commands, data, task management, with a medium that answers at
//! once or later.

use std::sync::Arc;

use crate::{head, messages};
use farrier_iscsi::scsi::{Geometry, Identity, MediaError, MediaOp, MediaReply, TaskAge, Unit};
use farrier_iscsi::{
    Admission, Bhs, Chap, Connection, Credentials, Denied, Discovered, DiscoveryAccess, Grant, Host,
    LoginRefused, Now, Offer, Refused, Secret, SessionStart, Target, TaskKey, opcode,
};

pub fn run(data: &[u8]) {
    let ([mode], data) = head::<1>(data);
    let mut host = World::new(mode & 1 != 0, mode & 2 != 0);
    let mut connection = Connection::new(Offer::default(), 1 << 20);
    let mut cmd_sn = 1;
    if mode & 4 == 0 {
        // Past the login, where there is more to find.
        let text = b"InitiatorName=iqn.a\0TargetName=iqn.t\0";
        let bhs =
            Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x87).with_u8(7, text.len() as u8).with_u32(24, cmd_sn);
        let mut bytes = bhs.0.to_vec();
        bytes.extend_from_slice(text);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let _ = connection.receive(&bytes, &mut host);
    }
    let mut inbox = Vec::new();
    for message in messages(data) {
        // A message is a PDU whose header it begins; counters are made right, since no fuzzer guesses them.
        let ([first, flags, a, b, lba, count, itt, ttt, sn, offset], rest) = head::<10>(message);
        let mut bhs = Bhs::new(first, flags)
            .with_u8(2, a)
            .with_u32(16, u32::from(itt & 3))
            .with_u32(20, if ttt & 0x80 != 0 { u32::MAX } else { u32::from(ttt) << (b & 15) })
            .with_u32(24, cmd_sn)
            .with_u32(36, u32::from(sn))
            .with_u32(40, u32::from(offset) * 512);
        if first & 0x3f == opcode::SCSI_COMMAND {
            let cdb: [u8; 16] = head::<16>(rest).0;
            for (at, byte) in cdb.into_iter().enumerate() {
                bhs = bhs.with_u8(32 + at, byte);
            }
            if b & 1 != 0 {
                bhs = bhs.with_u32(34, u32::from(lba)).with_u16(39, u16::from(count));
            }
        }
        let rest = rest.get(16..).unwrap_or_default();
        bhs = bhs.with_u16(6, rest.len() as u16);
        inbox.extend_from_slice(&bhs.0);
        inbox.extend_from_slice(rest);
        inbox.resize(inbox.len().next_multiple_of(4), 0);
        let Ok(received) = connection.receive(&inbox, &mut host) else { break };
        assert!(received.consumed <= inbox.len());
        inbox.drain(..received.consumed);
        if bhs.opcode() != opcode::DATA_OUT && !bhs.immediate() && received.consumed > 0 {
            cmd_sn += 1;
        }
        let pending = connection.output().pending().len();
        assert!(pending <= (1 << 20) + (4 << 20) + (64 << 10), "{pending} bytes wait");
        connection.output().advance(pending);
        host.finish(&mut connection, usize::from(b >> 6));
        assert!(host.waiting.len() <= 512, "tasks are bounded");
    }
    host.finish(&mut connection, usize::MAX);
    connection.end();
}

struct World {
    target: Arc<Target>,
    secret: bool,
    later: bool,
    waiting: Vec<(TaskKey, Arc<Unit>, MediaOp)>,
}

impl World {
    fn new(secret: bool, later: bool) -> World {
        let identity = Identity {
            vendor: "FARRIER".into(),
            product: "Block".into(),
            revision: "1".into(),
            serial: "1".into(),
            naa: [0x30; 8],
            removable: true,
            read_only: false,
            thin: true,
        };
        let geometry = Geometry { blocks: SIZE / 512, block_size: 512, physical_exponent: 3 };
        let units = vec![Arc::new(Unit::new(0, "iqn.t", 1, identity, geometry))];
        let target = Arc::new(Target { name: "iqn.t".into(), alias: String::new(), units });
        World { target, secret, later, waiting: Vec::new() }
    }

    fn finish(&mut self, connection: &mut Connection, count: usize) {
        for _ in 0..count {
            let Some((key, unit, op)) = self.waiting.pop() else { return };
            let result = perform(&op);
            let result = unit.finish(&op, result);
            let _ = connection.complete(key, result, None, self);
        }
    }
}

/// Every operation must be inside the medium: that is what the protocol promises.
fn perform(op: &MediaOp) -> Result<MediaReply, MediaError> {
    let inside =
        |offset: u64, len: u64| assert!(offset.checked_add(len).is_some_and(|end| end <= SIZE), "{op:?}");
    match op {
        MediaOp::Read { offset, len } => {
            inside(*offset, *len as u64);
            return Ok(MediaReply::Data(vec![0; *len]));
        }
        MediaOp::Write { offset, len, .. }
        | MediaOp::WriteAndVerify { offset, len }
        | MediaOp::OrWrite { offset, len, .. }
        | MediaOp::CompareAndWrite { offset, len, .. } => inside(*offset, *len as u64),
        MediaOp::Verify { offset, len, .. }
        | MediaOp::WriteSame { offset, len, .. }
        | MediaOp::Prefetch { offset, len } => inside(*offset, *len),
        MediaOp::Unmap { ranges } => ranges.iter().for_each(|(offset, len)| inside(*offset, *len)),
        MediaOp::Copy { segments, .. } => segments.iter().for_each(|segment| {
            inside(segment.from, segment.len);
            inside(segment.to, segment.len);
        }),
        MediaOp::Extents { offset, .. } => {
            inside(*offset, 1);
            return Ok(MediaReply::Extents(Vec::new()));
        }
        MediaOp::Flush | MediaOp::Sanitize { .. } | MediaOp::Settle => {}
    }
    Ok(MediaReply::Done)
}

impl Host for World {
    fn admit(&mut self, _: &str, target: &str) -> Result<Admission, Denied> {
        if target != "iqn.t" {
            return Err(Denied::NotFound);
        }
        let initiator = Credentials { user: "u".into(), secret: Secret::new(*b"s") };
        let accounts = self.secret.then_some(Chap { initiator, target: None }).into_iter().collect();
        Ok(Admission { target: Arc::clone(&self.target), accounts })
    }

    fn discovery_access(&mut self, _: &str) -> DiscoveryAccess {
        let initiator = Credentials { user: "u".into(), secret: Secret::new(*b"s") };
        let accounts = self.secret.then_some(Chap { initiator, target: None });
        DiscoveryAccess { anonymous: !self.later, accounts: accounts.into_iter().collect() }
    }

    fn discover(&mut self, _: &SessionStart) -> Vec<Discovered> {
        vec![Discovered { name: "iqn.t".into(), addresses: vec!["10.0.0.1:3260,1".into()] }; 50]
    }

    fn random(&mut self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn session(&mut self, _: &SessionStart) -> Result<Grant, Refused> {
        Ok(Grant { tsih: 1, nexus: 1, target_port: 1 })
    }

    fn login_refused(&mut self, _: &LoginRefused) {}

    fn read(&mut self, _: &Arc<Unit>, offset: u64, place: &mut [u8]) -> Now<()> {
        assert!(offset + place.len() as u64 <= SIZE);
        if self.later {
            return Now::Later;
        }
        place.fill(1);
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
        assert_eq!(op.data_out(), data.len());
        if self.later {
            self.waiting.push((task, Arc::clone(unit), op.clone()));
            return Now::Later;
        }
        match perform(op) {
            Ok(reply) => Now::Done(reply),
            Err(error) => Now::Failed(error),
        }
    }
}

const SIZE: u64 = 8 << 20;
