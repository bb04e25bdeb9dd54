//! Text requests in a session: SendTargets (RFC 7143 section 11.10, 11.11 and appendix C).

use crate::be;
use crate::bhs::{Bhs, RESERVED_TAG, opcode};
use crate::host::{Host, SessionKind};
use crate::link::Link;
use crate::text::{MAX_TEXT, Pairs};

use super::Closed;
use super::session::{REASON_PROTOCOL, Session, reject};

impl Session {
    pub(super) fn text<H: Host>(
        &mut self,
        link: &mut Link,
        bhs: &Bhs,
        data: &[u8],
        host: &mut H,
    ) -> Result<(), Closed> {
        let continues = bhs.ttt() != RESERVED_TAG;
        if !continues {
            // A new exchange ends the one before (section 11.10.4).
            self.text.clear();
            self.text_partial.clear();
        }
        if self.text_partial.len() + data.len() > MAX_TEXT {
            reject(link, bhs, REASON_PROTOCOL);
            return Err(Closed::Protocol(format!("more than {MAX_TEXT} bytes of text")));
        }
        self.text_partial.extend_from_slice(data);
        // C: the request goes on.
        if bhs.flags() & 0x40 != 0 {
            self.answer_text(link, bhs, &[], false);
            return Ok(());
        }
        let request = std::mem::take(&mut self.text_partial);
        let Ok(pairs) = Pairs::parse(&request) else {
            reject(link, bhs, REASON_PROTOCOL);
            return Ok(());
        };
        if self.text.is_empty() {
            let answer = self.answer_to(&pairs, host);
            self.text.extend(answer);
        }
        let room = self.params.max_send_data.min(self.text.len());
        let part: Vec<u8> = self.text.drain(..room).collect();
        let last = self.text.is_empty();
        self.answer_text(link, bhs, &part, last);
        Ok(())
    }

    fn answer_to<H: Host>(&mut self, pairs: &Pairs, host: &mut H) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in &pairs.0 {
            if key != "SendTargets" {
                // Nothing else is negotiated in a session here.
                text.extend_from_slice(format!("{key}=NotUnderstood\0").as_bytes());
                continue;
            }
            let own = match &self.start.kind {
                SessionKind::Normal(target) => Some(target.name.as_str()),
                SessionKind::Discovery => None,
            };
            // All only in discovery; an empty value is the session's own target (appendix C).
            let wanted = match (value.as_str(), own) {
                ("All", None) => None,
                ("All", Some(_)) => {
                    text.extend_from_slice(b"SendTargets=Reject\0");
                    continue;
                }
                ("", Some(own)) => Some(own.to_owned()),
                (name, _) => Some(name.to_owned()),
            };
            for found in host.discover(&self.start) {
                // A session with a target asks about that one only.
                let asked = wanted.as_ref().is_none_or(|wanted| *wanted == found.name);
                if !asked || own.is_some_and(|own| own != found.name) {
                    continue;
                }
                text.extend_from_slice(format!("TargetName={}\0", found.name).as_bytes());
                for address in &found.addresses {
                    text.extend_from_slice(format!("TargetAddress={address}\0").as_bytes());
                }
            }
        }
        text
    }

    fn answer_text(&mut self, link: &mut Link, bhs: &Bhs, part: &[u8], last: bool) {
        // F at the end; C and a transfer tag while there is more to come from us.
        let unfinished = !last && !part.is_empty();
        let flags = if last {
            0x80
        } else if unfinished {
            0x40
        } else {
            0
        };
        let ttt = if last { RESERVED_TAG } else { self.ttt() };
        let mut answer = Bhs::new(opcode::TEXT_RESPONSE, flags).with_itt(bhs.itt()).with_u32(20, ttt);
        be::put(&mut answer.0, 8, &bhs.lun().to_be_bytes());
        link.send(answer, part);
    }
}
