//! One end of the line: one packet under way at a time, repeated until it is acknowledged (§15.11).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{Acknowledgement, HEADER_LEN, MAX_CHARS, Packet, operation, status};
use crate::ParseError;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Whoever is not acknowledged any more has lost his session: [`Endpoint::is_lost`].
    Console,
    /// Characters that nobody acknowledges are dropped, and the serial port goes on (§15.11).
    Bmc,
}

/// How hard an end tries.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Wait for an acknowledgement before the packet is repeated; doubles each time, four times at most.
    pub retry: Duration,
    /// Times a packet is sent, the first included.
    pub tries: u32,
    /// Wait before the other end, which had no room, is sent more.
    pub pause: Duration,
    /// Characters in one packet, at most [`MAX_CHARS`].
    pub max_chars: usize,
    /// Characters waiting to be sent.
    pub max_pending: usize,
}

impl Policy {
    /// What fits into payloads of `payload_size` bytes (Activate Payload tells them).
    #[must_use]
    pub fn with_payload_size(mut self, payload_size: u16) -> Self {
        self.max_chars = usize::from(payload_size).saturating_sub(HEADER_LEN).clamp(1, MAX_CHARS);
        self
    }
}

/// What a packet brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// Characters not seen before.
    pub chars: Vec<u8>,
    /// Bits of [`operation`] or [`status`] that were not seen before.
    pub bits: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Char(u8),
    Break,
}

#[derive(Debug)]
struct InFlight {
    sequence: u8,
    chars: Vec<u8>,
    sent: u32,
    due: Instant,
}

/// One end. Feed it packets and the time, send what it gives.
#[derive(Debug)]
pub struct Endpoint {
    role: Role,
    policy: Policy,
    pending: VecDeque<Item>,
    in_flight: Option<InFlight>,
    /// The last number used.
    sequence: u8,
    /// Of the other end's last packet: its number, and how many of its characters were taken.
    last: Option<(u8, usize)>,
    /// To be sent, and whether the packet was not taken whole.
    ack: Option<(Acknowledgement, bool)>,
    /// Status to be sent with the next packet (of a BMC).
    tell: u8,
    paused_until: Option<Instant>,
    greet: bool,
    lost: bool,
}

impl Endpoint {
    /// A line on which nothing was sent yet.
    #[must_use]
    pub fn new(role: Role, policy: Policy) -> Self {
        Self {
            role,
            policy,
            pending: VecDeque::new(),
            in_flight: None,
            sequence: 0,
            last: None,
            ack: None,
            tell: 0,
            paused_until: None,
            greet: false,
            lost: false,
        }
    }

    /// Begins behind `last` (any number) with a packet that has a number and no characters. A BMC may take the first
    /// packet of a console for a copy of the last one of the console before, acknowledge it and throw it away
    /// (`ipmi_sim` does); after a greeting the first characters have another number than whatever it saw last.
    #[must_use]
    pub fn greeting(mut self, last: u8) -> Self {
        self.sequence = last % 15 + 1;
        self.greet = true;
        self
    }

    /// Room for characters to send.
    #[must_use]
    pub fn room(&self) -> usize {
        self.policy.max_pending.saturating_sub(self.pending.len())
    }

    /// Takes characters to send, as many as there is room for; how many.
    pub fn push(&mut self, chars: &[u8]) -> usize {
        let taken = chars.len().min(self.room());
        self.pending.extend(chars.iter().take(taken).map(|c| Item::Char(*c)));
        taken
    }

    /// A BREAK behind the characters pushed so far (console to BMC). `false`: no room.
    pub fn push_break(&mut self) -> bool {
        let room = self.room() > 0;
        if room {
            self.pending.push_back(Item::Break);
        }
        room
    }

    /// Status bits for the next packet (BMC to console); a packet is sent for them.
    pub fn tell(&mut self, bits: u8) {
        self.tell |= bits;
    }

    /// Nobody acknowledges (of a console): the session is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Nothing waits to be sent or acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_none() && self.ack.is_none() && self.tell == 0
    }

    /// Takes a packet. Of its characters at most `room` are taken; the other end sends the rest again.
    pub fn handle(&mut self, now: Instant, payload: &[u8], room: usize) -> Result<Heard, ParseError> {
        let packet = Packet::parse(payload)?;
        self.acknowledged(now, &packet);
        if packet.sequence == 0 {
            return Ok(Heard { chars: Vec::new(), bits: packet.bits & !status::NACK });
        }
        let (skip, news) = match self.last {
            // Repeated: our acknowledgement was lost. Characters may have been added at its end (§15.11).
            Some((last, taken)) if last == packet.sequence => (taken, false),
            // One packet at a time is under way: the one before the last was acknowledged, and this is a copy that
            // went astray; one without characters is a greeting, from wherever it begins.
            Some((last, _)) if last == next(packet.sequence) && !packet.chars.is_empty() => {
                return Ok(Heard::default());
            }
            _ => (0, true),
        };
        let fresh = packet.chars.get(skip..).unwrap_or_default();
        let chars: Vec<u8> = fresh.iter().take(room).copied().collect();
        let short = chars.len() < fresh.len();
        let taken = skip + chars.len();
        // A refused packet is forgotten: its characters come again under another number.
        self.last = if short && taken == 0 { self.last } else { Some((packet.sequence, taken)) };
        let accepted = u8::try_from(taken).unwrap_or(u8::MAX);
        self.ack = Some((Acknowledgement { sequence: packet.sequence, accepted }, short));
        Ok(Heard { chars, bits: if news { packet.bits & !status::NACK } else { 0 } })
    }

    /// What to send now; ask until there is nothing.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.lost {
            return None;
        }
        if std::mem::take(&mut self.greet) {
            // Not repeated: a BMC need not acknowledge what holds nothing.
            return Some(self.packet(self.sequence, Vec::new(), 0));
        }
        if let Some(flying) = &mut self.in_flight
            && now >= flying.due
        {
            if flying.sent < self.policy.tries {
                flying.due = now + self.policy.retry * (1 << flying.sent.min(2));
                flying.sent += 1;
                let (sequence, chars) = (flying.sequence, flying.chars.clone());
                return Some(self.packet(sequence, chars, 0));
            }
            self.in_flight = None;
            match self.role {
                Role::Console => {
                    self.lost = true;
                    return None;
                }
                Role::Bmc => self.tell |= status::OVERRUN,
            }
        }
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
        if self.in_flight.is_none() && self.paused_until.is_none() {
            match self.pending.front() {
                Some(Item::Break) => {
                    self.pending.pop_front();
                    // Without a number, as ipmitool sends it: only characters are acknowledged.
                    return Some(self.packet(0, Vec::new(), operation::BREAK));
                }
                Some(Item::Char(_)) => return Some(self.next_packet(now)),
                None => {}
            }
        }
        (self.ack.is_some() || self.tell != 0).then(|| self.packet(0, Vec::new(), 0))
    }

    /// When to ask [`Endpoint::poll_transmit`] again although nothing came.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (&self.in_flight, self.paused_until) {
            _ if self.lost => None,
            (Some(flying), _) => Some(flying.due),
            (None, Some(until)) if !self.pending.is_empty() => Some(until),
            _ => None,
        }
    }

    fn acknowledged(&mut self, now: Instant, packet: &Packet) {
        let Some(ack) = packet.ack else { return };
        let Some(flying) = self.in_flight.take_if(|flying| flying.sequence == ack.sequence) else { return };
        let accepted = usize::from(ack.accepted).min(flying.chars.len());
        let rest = flying.chars.get(accepted..).unwrap_or_default();
        for char in rest.iter().rev() {
            self.pending.push_front(Item::Char(*char));
        }
        // What it had no room for goes into another packet, a little later if it took nothing or said no.
        if !rest.is_empty() && (packet.bits & status::NACK != 0 || accepted == 0) {
            self.paused_until = Some(now + self.policy.pause);
        }
    }

    fn next_packet(&mut self, now: Instant) -> Vec<u8> {
        let mut chars = Vec::new();
        while chars.len() < self.policy.max_chars {
            match self.pending.front() {
                Some(Item::Char(char)) => chars.push(*char),
                _ => break,
            }
            self.pending.pop_front();
        }
        self.sequence = next(self.sequence);
        let flying =
            InFlight { sequence: self.sequence, chars: chars.clone(), sent: 1, due: now + self.policy.retry };
        self.in_flight = Some(flying);
        self.packet(self.sequence, chars, 0)
    }

    /// Whatever is to be acknowledged or told goes with any packet.
    fn packet(&mut self, sequence: u8, chars: Vec<u8>, bits: u8) -> Vec<u8> {
        let (ack, short) = self.ack.take().map_or((None, false), |(ack, short)| (Some(ack), short));
        let nack = if short { operation::NACK } else { 0 };
        let bits = bits | nack | std::mem::take(&mut self.tell);
        Packet { sequence, ack, bits, chars }.to_bytes()
    }
}

/// 1 to 15, then 1 again: 0 is no number.
fn next(sequence: u8) -> u8 {
    if sequence >= 15 { 1 } else { sequence + 1 }
}

#[cfg(test)]
mod tests;
