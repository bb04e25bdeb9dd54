//! Why something was surely not done, where the reason alone does not say so.

use crate::BmcError;

/// Nothing was changed at the BMC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// What was to be changed had to be looked for first, and that failed.
    #[error("{reason}; nothing was changed")]
    NotFound {
        /// Why.
        reason: Box<BmcError>,
    },
    /// The driver that this BMC is known by does not answer now, and the one that stands in for it has not got what was asked for.
    #[error(
        "driver {driver} has no {capability}, and the one that may have it does not answer now: {reason}; try again when it does"
    )]
    StandIn {
        /// The one that answers.
        driver: &'static str,
        /// The capability asked for.
        capability: &'static str,
        /// What is known of the other.
        reason: String,
    },
}

impl BmcError {
    /// Of what had to be looked for before anything is changed.
    pub(crate) fn not_found(self) -> Self {
        if self.was_not_begun() { self } else { NotDone::NotFound { reason: Box::new(self) }.into() }
    }
}
