//! Data-In (RFC 7143 section 11.7): cut to what the initiator takes, the status in the last one.

use crate::bhs::{Bhs, RESERVED_TAG, opcode};
use crate::host::{Host, Now};
use crate::link::Link;
use crate::scsi::MediaError;

use super::command::{READ, residual};
use super::session::{Session, Work};

impl Session {
    /// Answers with data that is there.
    pub(super) fn data_in(&mut self, link: &mut Link, bhs: &Bhs, data: &[u8]) {
        let done = self.send_in(link, bhs, data.len(), |from, place| {
            match data.get(from..from + place.len()) {
                Some(source) => place.copy_from_slice(source),
                None => place.fill(0),
            }
            Now::Done(())
        });
        debug_assert!(matches!(done, Now::Done(())));
    }

    /// Answers with data that is read straight into its PDUs, if the medium has it at once.
    pub(super) fn read_in<H: Host>(
        &mut self,
        link: &mut Link,
        work: &Work,
        offset: u64,
        len: usize,
        host: &mut H,
    ) -> Now<()> {
        // Small ones are bounded by what a connection may have to say.
        let room = if len > SMALL {
            match host.room(len) {
                Some(room) => Some(room),
                None => return Now::Failed(MediaError::Busy),
            }
        } else {
            None
        };
        let fill =
            |from: usize, place: &mut [u8]| host.read(&work.unit, offset.saturating_add(from as u64), place);
        let done = self.send_in(link, &work.request, len, fill);
        if let (Now::Done(()), Some(room)) = (&done, room) {
            link.out.hold(room);
        }
        done
    }

    fn send_in(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        len: usize,
        mut fill: impl FnMut(usize, &mut [u8]) -> Now<()>,
    ) -> Now<()> {
        let (flags, left) = residual(bhs, len, READ);
        let expected = if bhs.flags() & READ != 0 { bhs.expected_data_len() as usize } else { 0 };
        let total = len.min(expected);
        if total == 0 {
            let answer = Bhs::new(opcode::SCSI_RESPONSE, 0x80 | flags).with_itt(bhs.itt()).with_u32(44, left);
            link.send(answer, &[]);
            return Now::Done(());
        }
        let mark = link.out.mark();
        let (mut at, mut data_sn, mut burst) = (0, 0, 0);
        while at < total {
            let room = self.params.max_burst - burst;
            let part = (total - at).min(self.params.max_send_data).min(room);
            burst = if part == room { 0 } else { burst + part };
            let last = at + part == total;
            // F at the end of each burst (section 11.7.2); S and residuals in the last.
            let ends = last || burst == 0;
            let mut head = Bhs::new(opcode::DATA_IN, if ends { 0x80 } else { 0 })
                .with_itt(bhs.itt())
                .with_u32(20, RESERVED_TAG)
                .with_u32(36, data_sn)
                .with_u32(40, u32::try_from(at).unwrap_or(u32::MAX));
            head = link.counters(head);
            if last {
                head = head.with_u8(1, 0x80 | 0x01 | flags).with_u32(44, left).with_u32(24, link.stat_sn);
            }
            let filled = link.out.pdu_with(head, part, |place| match fill(at, place) {
                Now::Done(()) => Ok(()),
                Now::Failed(error) => Err(Some(error)),
                Now::Later => Err(None),
            });
            if let Err(stop) = filled {
                link.out.back_to(mark);
                return stop.map_or(Now::Later, |error: MediaError| Now::Failed(error));
            }
            at += part;
            data_sn += 1;
        }
        link.stat_sn = link.stat_sn.wrapping_add(1);
        Now::Done(())
    }
}

/// Bytes of a read whose answer takes no room of its own.
const SMALL: usize = 64 << 10;
