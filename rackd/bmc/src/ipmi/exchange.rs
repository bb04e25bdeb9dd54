//! One question, sent until it is answered.

use std::time::Duration;

use farrier_ipmi::OpenError;
use farrier_ipmi::client::{ClientSession, Handshake, HandshakeError, Ignored, Step};
use farrier_ipmi::datagram::Datagram;
use farrier_ipmi::lan::LanMessage;
use farrier_ipmi::v15;
use tokio::time::Instant;

use super::tuning::Tuning;
use super::wire::{Rubbish, Wire};
use crate::Deadline;
use crate::actor::Call;

/// A question and how to recognise its answer.
pub(crate) trait Question: Send {
    type Answer: Send;
    /// The datagram of the next try.
    fn datagram(&mut self) -> Vec<u8>;
    /// What this datagram is to the question.
    fn answer(&mut self, datagram: &[u8]) -> Seen<Self::Answer>;
}

/// A datagram, judged by the question.
pub(crate) enum Seen<A> {
    /// The answer.
    Answer(A),
    /// Not for this question: late, foreign or forged.
    Stale,
    /// Not what the protocol says, and what of it is not.
    Unreadable(String),
    /// An answer nothing authenticates, and an unwelcome one: it stands only if no better one comes.
    Doubtful(A),
}

/// How long to wait for something better than a doubtful answer. Both would arrive together; this
/// covers a BMC that is slower than a forger by a few round trips.
const DOUBT: Duration = Duration::from_millis(50);

/// How often a question may be put, and how long to wait each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort<'a> {
    pub(crate) tuning: &'a Tuning,
    pub(crate) tries: u32,
    /// Instead of the rising wait.
    pub(crate) single_wait: Option<Duration>,
    pub(crate) deadline: Deadline,
}

/// What asking has cost a call so far.
#[derive(Debug)]
pub(crate) struct Spent<'a> {
    /// Datagrams.
    pub(crate) sent: &'a mut u32,
    /// See [`crate::actor::Call::garbled`].
    pub(crate) garbled: &'a mut u32,
}

impl<'a> Spent<'a> {
    pub(crate) fn of(call: &'a mut Call) -> Self {
        Self { sent: &mut call.sent, garbled: &mut call.garbled }
    }
}

/// Puts the question until it is answered, the tries are used up or the deadline passes. A datagram that is not the answer
/// (late, foreign, forged) changes nothing, but one that nobody can read is noted in `wire.rubbish`, for the error's text; where
/// try after try brings only such, asking ends early ([`Tuning::garbled_tries`]), and also where a call has had as many of those
/// tries as a BMC has that says nothing: what sends rubbish to each question in its turn is to have no more time than one that
/// is dead.
pub(crate) async fn ask<Q: Question>(
    wire: &mut Wire,
    effort: Effort<'_>,
    spent: Spent<'_>,
    question: &mut Q,
) -> Option<Q::Answer> {
    let mut wire = wire.listen();
    wire.rubbish = Rubbish::default();
    let (mut doubtful, begin) = (None, Instant::now());
    let mut garbled = 0;
    for attempt in 0..effort.tries {
        if attempt > 0 && effort.deadline.is_past() {
            break;
        }
        let datagram = question.datagram();
        wire.send(&datagram).await;
        *spent.sent = spent.sent.saturating_add(1);
        let rising = || effort.tuning.timeout(attempt).max(wire.least_wait());
        let wait = effort.single_wait.unwrap_or_else(rising);
        let mut until = (Instant::now() + wait).min(effort.deadline.instant());
        let (mut heard, before) = (0_u32, wire.rubbish.count);
        while let Some(datagram) = wire.receive_until(until).await {
            heard += 1;
            match question.answer(&datagram) {
                Seen::Answer(answer) => {
                    wire.learn(begin.elapsed());
                    return Some(answer);
                }
                Seen::Doubtful(answer) => {
                    doubtful = Some(answer);
                    until = until.min(Instant::now() + DOUBT);
                }
                Seen::Stale => {
                    tracing::debug!(bmc.addr = %wire.peer, "stale or foreign datagram dropped");
                }
                Seen::Unreadable(why) => {
                    tracing::debug!(bmc.addr = %wire.peer, why, "unreadable datagram dropped");
                    wire.rubbish.add(why);
                }
            }
        }
        // Of who has sent rubbish, what is no answer is no better; of others it is a late copy.
        let of_rubbish = wire.rubbish.count > before || heard > 0 && (garbled > 0 || *spent.garbled > 0);
        if of_rubbish {
            garbled += 1;
            *spent.garbled = spent.garbled.saturating_add(1);
        } else {
            // Silence in between is a loss on the way, and says nothing.
            garbled = 0;
        }
        let enough = garbled >= effort.tuning.garbled_tries || *spent.garbled >= effort.tuning.tries;
        if of_rubbish && enough {
            wire.rubbish.hopeless = doubtful.is_none();
            break;
        }
        // Alone it is the BMC's word. Among other things heard it may be a forger's, and the true
        // answer may have been crowded out: ask again.
        if doubtful.is_some() && heard == 1 {
            break;
        }
    }
    doubtful
}

/// A command before a session, in the v1.5 wrapper.
pub(crate) struct PreSession(pub(crate) LanMessage);

impl Question for PreSession {
    type Answer = LanMessage;

    fn datagram(&mut self) -> Vec<u8> {
        v15::wrap(&self.0.to_bytes())
    }

    fn answer(&mut self, datagram: &[u8]) -> Seen<LanMessage> {
        let packet = match Datagram::parse(datagram) {
            Ok(Datagram::V15(packet)) => packet,
            Ok(_) => return Seen::Stale,
            Err(error) => return Seen::Unreadable(error.to_string()),
        };
        match LanMessage::parse(packet.payload) {
            Ok(response) if response.answers(&self.0) => Seen::Answer(response),
            Ok(_) => Seen::Stale,
            Err(error) => Seen::Unreadable(error.to_string()),
        }
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

    fn answer(&mut self, datagram: &[u8]) -> Seen<Self::Answer> {
        match self.0.handle_datagram(datagram) {
            Step::Ignored(Ignored::Other) => Seen::Stale,
            Step::Ignored(Ignored::Malformed(error)) => Seen::Unreadable(error.to_string()),
            Step::Advanced => Seen::Answer(Ok(None)),
            Step::Established(session) => Seen::Answer(Ok(Some(session))),
            Step::Failed(error) => Seen::Doubtful(Err(error)),
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

    fn answer(&mut self, datagram: &[u8]) -> Seen<LanMessage> {
        match self.session.open(datagram) {
            Ok(response) if response.answers(&self.request) => Seen::Answer(response),
            Ok(_) => Seen::Stale,
            // Of another session, or a late copy.
            Err(OpenError::OtherSession { .. } | OpenError::Replayed(_)) => Seen::Stale,
            Err(error) => Seen::Unreadable(error.to_string()),
        }
    }
}
