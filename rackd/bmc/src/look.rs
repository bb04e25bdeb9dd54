//! What one look at a machine says: power, and what its BMC makes of the machine's health with the same answer.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::PowerState;

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Main power.
    pub power: PowerState,
    /// The machine's health.
    pub health: Health,
    /// What is wrong, in the BMC's words as far as it has some; empty: nothing, or it does not say.
    pub problem: String,
    /// The power is on its way to another state, or a change that the BMC acknowledged may not be told yet: what is told is of
    /// before, and nothing to rely on.
    pub settling: bool,
    /// A mark of who answered: where it is another, another machine may have. Over IPMI it is the session's, over Redfish of the
    /// system's UUID and serial number.
    pub who: u64,
}

/// Of what tells one machine from another.
pub(crate) fn mark(told: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    told.hash(&mut hasher);
    hasher.finish()
}

/// What a BMC makes of its machine, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It does not say.
    Unknown,
    /// Nothing is wrong.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// Somebody has to do something.
    Critical,
}

impl Look {
    /// Of a BMC that knows the power alone.
    #[must_use]
    pub fn power_only(power: PowerState) -> Self {
        Self { power, health: Health::Unknown, problem: String::new(), settling: false, who: 0 }
    }
}
