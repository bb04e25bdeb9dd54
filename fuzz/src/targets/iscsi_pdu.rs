//! PDU framing: where a PDU ends, with and without digests.

use crate::head;
use farrier_iscsi::{BHS_LEN, FrameRules, Step, next_frame};

pub fn run(data: &[u8]) {
    let ([flags], data) = head::<1>(data);
    let rules = FrameRules {
        header_digest: flags & 1 != 0,
        data_digest: flags & 2 != 0,
        max_data: 1 << (flags >> 3),
    };
    let mut rest = data;
    while let Ok(step) = next_frame(rest, &rules) {
        match step {
            Step::Need(need) => {
                // More is needed, and never more than the largest PDU.
                assert!(need > rest.len() || need == BHS_LEN);
                assert!(need <= BHS_LEN + 1020 + 8 + rules.max_data + 3);
                break;
            }
            Step::Frame(frame) => {
                assert!(frame.len >= BHS_LEN && frame.len <= rest.len());
                assert!(frame.ahs.end <= frame.len && frame.data.end <= frame.len);
                assert_eq!(frame.data.len(), frame.bhs.data_len());
                assert_eq!(&frame.bhs.0[..], &rest[..BHS_LEN]);
                rest = &rest[frame.len..];
            }
        }
    }
}
