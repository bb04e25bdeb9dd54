//! The fault script: which BMCs misbehave, when, and how. Read from TOML, and then only data: what is wrong with a BMC at
//! a moment is a pure function of both.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::machine::{Lies, Said};
use crate::bmc::redfish::RedfishFaults;
use crate::bmc::{Faults, Resets};

/// A whole script.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Which BMCs a `share` takes depends on it.
    #[serde(default)]
    pub seed: u64,
    /// All of them hold at once, as far as they are about the same BMC.
    #[serde(default, rename = "fault")]
    pub rules: Vec<Rule>,
}

/// One fault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which BMCs.
    #[serde(default)]
    pub bmcs: Which,
    /// Over which protocols.
    #[serde(default = "both")]
    pub over: Vec<Protocol>,
    /// When it begins, from the simulator's start on.
    #[serde(default, deserialize_with = "span")]
    pub after: Duration,
    /// How long it holds; without it, to the end.
    #[serde(default, rename = "for", deserialize_with = "some_span")]
    pub lasts: Option<Duration>,
    /// It begins again so long after it began.
    #[serde(default, deserialize_with = "some_span")]
    pub every: Option<Duration>,
    /// What.
    pub what: What,
}

/// BMCs by number, from 0 on. What is not said excludes nobody.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// These.
    pub numbers: Option<Vec<usize>>,
    /// This one and those after it.
    #[serde(default)]
    pub from: usize,
    /// Those before this one.
    pub to: Option<usize>,
    /// Every nth of those, its first included.
    pub step: Option<usize>,
    /// This part of them, from 0 to 1, by chance.
    pub share: Option<f64>,
}

/// What a BMC speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IPMI 2.0 over LAN
    Ipmi,
    /// Redfish over https
    Redfish,
}

/// A way to misbehave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum What {
    /// It answers so much later.
    Delay(#[serde(deserialize_with = "span")] Duration),
    /// Every nth datagram, in either direction, or request is lost. 1: all of them.
    Drop(NonZeroU32),
    /// Every nth command or request is refused: node busy (C0h), 503.
    Refuse(NonZeroU32),
    /// What it is asked to do it does, and does not answer.
    Mute,
    /// A change of the power is told so much later.
    Lag(#[serde(deserialize_with = "span")] Duration),
    /// The operating system takes so long from a soft power off until the machine is off.
    SlowSoftOff(#[serde(deserialize_with = "span")] Duration),
    /// It says this of the power, whatever is true.
    Says(Said),
    /// It says yes when its power button is pressed, and does nothing.
    IgnoresButton,
    /// It says yes to a boot device, and keeps none: Redfish. IPMI: not for UEFI.
    ForgetsBoot,
    /// It starts again in the middle of its sessions.
    Reset(Reset),
    /// It answers what nobody can read.
    Garbage,
}

/// When, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// At every nth command in a session, or request; that one is not answered.
    pub every: NonZeroU32,
    /// It says nothing for so long.
    #[serde(default, deserialize_with = "span")]
    pub deaf: Duration,
}

/// What is wrong with a BMC at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Active {
    pub ipmi: Faults,
    pub redfish: RedfishFaults,
    pub machine: Lies,
}

/// A script that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("the fault script is not what it should be; docs/simulator.md has examples")]
    Toml(#[from] toml::de::Error),
    #[error("fault {0}: `every` needs a `for` that is shorter, or it never ends and begins again at once")]
    Endless(usize),
    #[error("fault {0}: `share` must be from 0 to 1")]
    Share(usize),
    #[error("fault {0}: `step` must be at least 1")]
    Step(usize),
}

impl Script {
    /// # Errors
    /// It is no TOML, says something unknown, or what cannot be.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let script: Self = toml::from_str(text)?;
        for (number, rule) in script.rules.iter().enumerate() {
            if rule.every.is_some_and(|every| rule.lasts.is_none_or(|lasts| lasts >= every)) {
                return Err(ScriptError::Endless(number));
            }
            if rule.bmcs.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(ScriptError::Share(number));
            }
            if rule.bmcs.step == Some(0) {
                return Err(ScriptError::Step(number));
            }
        }
        Ok(script)
    }

    /// What is wrong with a BMC so long after the start.
    #[must_use]
    pub fn at(&self, bmc: usize, since: Duration) -> Active {
        let mut active = Active::default();
        for (number, rule) in self.rules.iter().enumerate() {
            if rule.holds(since) && rule.bmcs.takes(bmc, self.seed.wrapping_add(number as u64)) {
                rule.apply(&mut active);
            }
        }
        active
    }

    /// When the next fault begins or ends.
    #[must_use]
    pub fn next_change(&self, since: Duration) -> Option<Duration> {
        self.rules.iter().filter_map(|rule| rule.next_change(since)).min()
    }
}

impl Rule {
    /// Where in its round it is; `None`: it has not begun.
    fn round(&self, since: Duration) -> Option<Duration> {
        let into = since.checked_sub(self.after)?;
        let Some(every) = self.every.filter(|every| !every.is_zero()) else { return Some(into) };
        let nanos = into.as_nanos() % every.as_nanos();
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn holds(&self, since: Duration) -> bool {
        self.round(since).is_some_and(|into| self.lasts.is_none_or(|lasts| into < lasts))
    }

    fn next_change(&self, since: Duration) -> Option<Duration> {
        let Some(into) = self.round(since) else { return Some(self.after) };
        let begun = since - into;
        match self.lasts {
            Some(lasts) if into < lasts => Some(begun + lasts),
            _ => self.every.map(|every| begun + every),
        }
    }

    fn apply(&self, active: &mut Active) {
        if self.over.contains(&Protocol::Ipmi) {
            let faults = &mut active.ipmi;
            match &self.what {
                What::Delay(by) => faults.delay = faults.delay.max(*by),
                What::Drop(every) if every.get() == 1 => faults.silent = true,
                What::Drop(every) => faults.drop_every = Some(*every),
                What::Refuse(every) => faults.busy_every = Some((*every, NODE_BUSY)),
                What::Mute => faults.mute = true,
                What::ForgetsBoot => faults.forgets_efi = true,
                What::Reset(reset) => faults.resets = Some(reset.resets()),
                What::Garbage => faults.mangled = true,
                What::Lag(_) | What::SlowSoftOff(_) | What::Says(_) | What::IgnoresButton => {}
            }
        }
        if self.over.contains(&Protocol::Redfish) {
            let faults = &mut active.redfish;
            match &self.what {
                What::Delay(by) => faults.delay = faults.delay.max(*by),
                What::Drop(every) if every.get() == 1 => faults.silent = true,
                What::Drop(every) => faults.drop_every = Some(*every),
                What::Refuse(every) => faults.busy_every = Some(*every),
                What::Mute => faults.mute = true,
                What::ForgetsBoot => faults.forgets_boot = true,
                What::Reset(reset) => faults.resets = Some(reset.resets()),
                What::Garbage => faults.garbage = true,
                What::Lag(_) | What::SlowSoftOff(_) | What::Says(_) | What::IgnoresButton => {}
            }
        }
        // The power is the machine's: what is said of it is said over both.
        match &self.what {
            What::Lag(by) => active.machine.lag = *by,
            What::SlowSoftOff(takes) => active.machine.soft_takes = *takes,
            What::Says(said) => active.machine.says = Some(*said),
            What::IgnoresButton => active.machine.ignores_button = true,
            _ => {}
        }
    }
}

impl Reset {
    fn resets(&self) -> Resets {
        Resets { every: self.every, deaf: self.deaf }
    }
}

impl Which {
    fn takes(&self, bmc: usize, seed: u64) -> bool {
        let listed = self.numbers.as_ref().is_none_or(|numbers| numbers.contains(&bmc));
        let within = bmc >= self.from && self.to.is_none_or(|to| bmc < to);
        let stepped = self.step.is_none_or(|step| bmc.saturating_sub(self.from).is_multiple_of(step));
        listed && within && stepped && self.share.is_none_or(|share| chance(seed, bmc as u64) < share)
    }
}

/// From 0 to 1, the same for the same (splitmix64).
fn chance(seed: u64, bmc: u64) -> f64 {
    let mut z =
        seed.wrapping_mul(0xD1B5_4A32_D192_ED03).wrapping_add(bmc).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn both() -> Vec<Protocol> {
    vec![Protocol::Ipmi, Protocol::Redfish]
}

/// A number with its unit: `250ms`, `5s`, `2m`, `1h`.
fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match text.get(digits.len()..) {
        Some("ms") => 1,
        Some("s") => 1000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| millis > 0);
    let whole = number.and_then(|number| number.checked_mul(millis));
    whole.map(Duration::from_millis).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "{text:?} is no time; expected a number with ms, s, m or h, as in \"5s\""
        ))
    })
}

fn some_span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    span(from).map(Some)
}

/// "Node busy" (IPMI 2.0 Table 5-2).
const NODE_BUSY: u8 = 0xC0;

#[cfg(test)]
mod tests;
