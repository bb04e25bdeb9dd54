//! One question, sent until it is answered.

use farrier_ipmi::client::{ClientSession, Handshake, HandshakeError, Step};
use farrier_ipmi::datagram::Datagram;
use farrier_ipmi::lan::LanMessage;
use farrier_ipmi::v15;
use tokio::time::Instant;

use super::tuning::Tuning;
use super::wire::Wire;
use crate::Deadline;

/// A question and how to recognise its answer.
pub(crate) trait Question: Send {
    type Answer: Send;
    /// The datagram of the next try.
    fn datagram(&mut self) -> Vec<u8>;
    /// The answer, if this datagram is it.
    fn answer(&mut self, datagram: &[u8]) -> Option<Self::Answer>;
}

/// How often a question may be put, and how long to wait each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort<'a> {
    pub(crate) tuning: &'a Tuning,
    pub(crate) tries: u32,
    /// Instead of the rising wait.
    pub(crate) single_wait: Option<std::time::Duration>,
    pub(crate) deadline: Deadline,
}

/// Puts the question until it is answered, the tries are used up or the deadline passes; `sent`
/// counts datagrams. A datagram that is not the answer (late, foreign, forged) changes nothing.
pub(crate) async fn ask<Q: Question>(
    wire: &mut Wire,
    effort: Effort<'_>,
    sent: &mut u32,
    question: &mut Q,
) -> Option<Q::Answer> {
    wire.drain();
    for attempt in 0..effort.tries {
        if attempt > 0 && effort.deadline.is_past() {
            return None;
        }
        let datagram = question.datagram();
        wire.send(&datagram).await;
        *sent = sent.saturating_add(1);
        let wait = effort.single_wait.unwrap_or_else(|| effort.tuning.timeout(attempt));
        let until = (Instant::now() + wait).min(effort.deadline.instant());
        while let Some(datagram) = wire.receive_until(until).await {
            if let Some(answer) = question.answer(&datagram) {
                return Some(answer);
            }
            tracing::debug!(bmc.addr = %wire.peer, "stale or foreign datagram dropped");
        }
    }
    None
}

/// A command before a session, in the v1.5 wrapper.
pub(crate) struct PreSession(pub(crate) LanMessage);

impl Question for PreSession {
    type Answer = LanMessage;

    fn datagram(&mut self) -> Vec<u8> {
        v15::wrap(&self.0.to_bytes())
    }

    fn answer(&mut self, datagram: &[u8]) -> Option<LanMessage> {
        let Ok(Datagram::V15(packet)) = Datagram::parse(datagram) else { return None };
        LanMessage::parse(packet.payload).ok().filter(|response| response.answers(&self.0))
    }
}

/// One message of the handshake.
pub(crate) struct HandshakeStep<'a>(pub(crate) &'a mut Handshake);

impl Question for HandshakeStep<'_> {
    /// The session, once it is open.
    type Answer = Result<Option<ClientSession>, HandshakeError>;

    fn datagram(&mut self) -> Vec<u8> {
        self.0.poll_transmit().to_vec()
    }

    fn answer(&mut self, datagram: &[u8]) -> Option<Self::Answer> {
        match self.0.handle_datagram(datagram) {
            Ok(Step::Ignored(_)) => None,
            Ok(Step::Advanced) => Some(Ok(None)),
            Ok(Step::Established(session)) => Some(Ok(Some(session))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// A command in a session. Each try has the same rqSeq and a fresh session sequence number.
pub(crate) struct InSession<'a> {
    pub(crate) session: &'a mut ClientSession,
    pub(crate) request: LanMessage,
}

impl Question for InSession<'_> {
    type Answer = LanMessage;

    fn datagram(&mut self) -> Vec<u8> {
        self.session.seal(&self.request, &rand::random())
    }

    fn answer(&mut self, datagram: &[u8]) -> Option<LanMessage> {
        match self.session.open(datagram) {
            Ok(response) if response.answers(&self.request) => Some(response),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "datagram not opened");
                None
            }
        }
    }
}
