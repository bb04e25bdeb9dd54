use super::context::Context;
use crate::boot::PublishError;
use crate::cache::CacheError;
use crate::snapshots::SnapshotError;
use crate::volumes::VolumeError;
use farrier_block::OverlayError;
use farrier_bmc::BmcError;
use farrier_journal::JournalError;
use farrier_model::hint::about_node;
use farrier_switch::SwitchError;
use serde::Deserialize;
use std::time::Duration;

/// One step of a task.
///
/// **Invariant:** `run` may be called again after a crash at any instruction, and then does what is still
/// missing. It is cancelled by dropping it when the task is aborted or the deadline passes.
#[async_trait::async_trait]
pub(crate) trait Step: Sync {
    /// Also its file's subject, in the timeline and in the documentation.
    fn name(&self) -> &'static str;

    /// How long it may take with all its tries.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.bmc
    }

    /// Whether the machine is switched off when this step fails for good.
    fn power_off_after_failure(&self) -> bool {
        true
    }

    /// Whether it does nothing to the machine's power and waits, for minutes or hours: the machine is looked at meanwhile.
    fn only_waits(&self) -> bool {
        false
    }

    /// Whether the machine's power stays as it is by whatever such a step waits for: other power is then somebody else's doing.
    fn leaves_power(&self) -> bool {
        true
    }

    /// Check, do, read back.
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError>;

    /// Whether what it serves is served beyond the task's end, and so [`Step::restore`]d for ended tasks too.
    fn lasts(&self) -> bool {
        false
    }

    /// Has a machine answered as known, of a step that was done: by what the journal alone says, when rackd starts, before any disk
    /// is asked. What is missing then is [`Step::restore`]d.
    async fn hold(&self, _cx: &Context<'_>) -> Result<(), StepError> {
        Ok(())
    }

    /// Makes again what a finished step had put in memory only (boot entries), when rackd starts.
    async fn restore(&self, _cx: &Context<'_>) -> Result<(), StepError> {
        Ok(())
    }
}

/// Why a step did not do its work this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepError {
    /// Trying again may help without anybody doing anything.
    Again(String),
    /// It will fail every time until somebody acts.
    Fatal(String),
    /// The BMC did not take the password: as [`StepError::Fatal`], unless there is another one to try.
    Refused(String),
}

impl StepError {
    pub(crate) fn fatal(text: impl std::fmt::Display) -> Self {
        StepError::Fatal(text.to_string())
    }

    /// The same of this node: what a BMC's driver says does not know its name.
    pub(crate) fn about_node(self, node: &str) -> Self {
        match self {
            StepError::Again(text) => StepError::Again(about_node(&text, node)),
            StepError::Fatal(text) => StepError::Fatal(about_node(&text, node)),
            StepError::Refused(text) => StepError::Refused(about_node(&text, node)),
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            StepError::Again(text) | StepError::Fatal(text) | StepError::Refused(text) => text,
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    farrier_runtime::telemetry::chain(error)
}

impl From<BmcError> for StepError {
    fn from(e: BmcError) -> Self {
        let text = chain(&e);
        match e.is_transient() {
            true => StepError::Again(text),
            false if e.is_wrong_password() => StepError::Refused(text),
            false => StepError::Fatal(text),
        }
    }
}

impl From<CacheError> for StepError {
    fn from(e: CacheError) -> Self {
        if e.is_transient() { StepError::Again(chain(&e)) } else { StepError::Fatal(chain(&e)) }
    }
}

impl From<VolumeError> for StepError {
    fn from(e: VolumeError) -> Self {
        match e {
            // A full disk may be emptied, one that hangs be reset.
            VolumeError::Io { .. } | VolumeError::Hangs { .. } | VolumeError::NoImage { .. } => {
                StepError::Again(chain(&e))
            }
            // A full disk may be emptied, a wire be plugged in again.
            VolumeError::Overlay { source: OverlayError::Io(_) | OverlayError::InUse, .. } => {
                StepError::Again(chain(&e))
            }
            VolumeError::Overlay { .. }
            | VolumeError::Target(_)
            | VolumeError::NoVolume { .. }
            | VolumeError::Elsewhere { .. }
            | VolumeError::NotOffered { .. }
            | VolumeError::Shrinks { .. } => StepError::Fatal(chain(&e)),
        }
    }
}

impl From<SnapshotError> for StepError {
    fn from(e: SnapshotError) -> Self {
        if e.is_transient() { StepError::Again(chain(&e)) } else { StepError::Fatal(chain(&e)) }
    }
}

impl From<SwitchError> for StepError {
    fn from(e: SwitchError) -> Self {
        if e.is_transient() { StepError::Again(chain(&e)) } else { StepError::Fatal(chain(&e)) }
    }
}

impl From<PublishError> for StepError {
    fn from(e: PublishError) -> Self {
        match e {
            PublishError::Address(JournalError::PoolExhausted { .. })
            | PublishError::NoPort { .. }
            | PublishError::Mac { .. }
            | PublishError::Args(_)
            | PublishError::Cd(_)
            | PublishError::NoRamdisk { .. }
            | PublishError::Arm64San { .. }
            | PublishError::NoSignedBoot { .. }
            | PublishError::MediaSan { .. }
            | PublishError::SignedSan { .. }
            | PublishError::San(_) => StepError::Fatal(chain(&e)),
            PublishError::Address(journal) => journal.into(),
        }
    }
}

impl From<JournalError> for StepError {
    fn from(e: JournalError) -> Self {
        // A full disk may be emptied; nothing else can be done without a journal anyway.
        StepError::Again(chain(&e))
    }
}

/// How long things may take. Each is a guess about hardware, said where it is made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// A BMC step with all its tries: a BMC that restarts is back within two to four minutes.
    #[serde(with = "seconds", rename = "bmc_seconds")]
    pub bmc: Duration,
    /// One BMC command.
    #[serde(with = "seconds", rename = "bmc_call_seconds")]
    pub bmc_call: Duration,
    /// Power on until the ramdisk's agent calls, counted anew from each part of what it boots that it is sent: servers with much
    /// memory test it for ten minutes and more. A machine of which nothing is heard for two thirds of this, or nothing more for one
    /// third of it, is switched off and on, twice at most.
    #[serde(with = "seconds", rename = "agent_seconds")]
    pub agent: Duration,
    /// All of that, and no less than three times `agent_seconds`, whatever it is sent: GRUB fetches a kernel and its ramdisk block by block, which is an hour where an answer
    /// takes 50 ms.
    #[serde(with = "seconds", rename = "agent_most_seconds")]
    pub agent_most: Duration,
    /// Writing an image: a terabyte to a slow disk takes hours; progress is watched apart.
    #[serde(with = "seconds", rename = "write_seconds")]
    pub write: Duration,
    /// No agent connected while it should work.
    #[serde(with = "seconds", rename = "silence_seconds")]
    pub silence: Duration,
    /// Soft power off, before it is forced.
    #[serde(with = "seconds", rename = "soft_off_seconds")]
    pub soft_off: Duration,
    /// A new password that a BMC has said yes to, until it must let us in: some need seconds for it.
    #[serde(with = "seconds", rename = "password_seconds")]
    pub password: Duration,
}

impl Timeouts {
    /// How long a machine of a product that takes so long has to switch itself off: as long as leaves time to force it.
    pub(crate) fn soft_off_of(&self, takes: Duration) -> Duration {
        takes.min(self.soft_off_step().saturating_sub(self.bmc_call * 2)).max(self.soft_off)
    }

    /// A step that switches off softly, and by force if that does not do.
    pub(crate) fn soft_off_step(&self) -> Duration {
        self.soft_off + self.bmc
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            bmc: Duration::from_secs(300),
            bmc_call: Duration::from_secs(30),
            agent: Duration::from_secs(1800),
            agent_most: Duration::from_secs(7200),
            write: Duration::from_secs(6 * 3600),
            silence: Duration::from_secs(300),
            soft_off: Duration::from_secs(120),
            password: Duration::from_secs(15),
        }
    }
}

mod seconds {
    use serde::de::{Error as _, Unexpected};
    use serde::{Deserialize as _, Deserializer};
    use std::time::Duration;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        match u64::deserialize(d)? {
            seconds @ 1..=WEEK => Ok(Duration::from_secs(seconds)),
            seen => Err(D::Error::invalid_value(Unexpected::Unsigned(seen), &"1 to 604800 seconds (a week)")),
        }
    }

    /// Longer is a typing error, and much longer is no instant any more.
    const WEEK: u64 = 7 * 86_400;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_takes_long_has_its_time_and_no_more_than_is_allowed() {
        let timeouts = Timeouts::default();
        let seconds = Duration::from_secs;
        for (takes, waits) in [(0, 120), (60, 120), (300, 300), (2700, 360)] {
            assert_eq!(timeouts.soft_off_of(seconds(takes)), seconds(waits), "{takes}");
        }
        let patient = Timeouts { soft_off: seconds(900), ..timeouts.clone() };
        assert_eq!(patient.soft_off_of(seconds(300)), seconds(900));
        // Calls that may take longer than the step: what is said for everybody holds.
        let hasty = Timeouts { bmc: seconds(4), bmc_call: seconds(30), soft_off: seconds(3), ..timeouts };
        assert_eq!(hasty.soft_off_of(seconds(300)), seconds(3));
    }
}
