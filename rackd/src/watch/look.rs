//! One look at one BMC.

use super::list::{Known, Watched};
use crate::bmc::Bmcs;
use farrier_bmc::{BmcError, Deadline, PowerState};
use std::time::Duration;
use tokio::time::Instant;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// `nodes/{node}`
    pub(super) node: String,
    pub(super) at: Instant,
    pub(super) seen: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Power {
        state: PowerState,
        driver: &'static str,
    },
    /// It may answer another time.
    Unreachable(String),
    /// It will not, unless somebody does something.
    Failing(String),
}

/// Nothing: it is not time, or rackd ends.
pub(super) async fn look(bmcs: &Bmcs, watched: &mut Watched) -> Option<Sighting> {
    if watched.not_before.is_some_and(|at| Instant::now() < at) {
        return None;
    }
    let mut refused = false;
    let seen = match power(bmcs, watched, Deadline::after(PATIENCE)).await {
        Ok((state, driver)) => {
            watched.doubted = false;
            Seen::Power { state, driver }
        }
        // Nobody was asked.
        Err(Failure::Bmc(error)) if error.is_our_own() => return None,
        // Inventory is asked again first.
        Err(failure) if failure.is_wrong_password() && !watched.doubted => {
            watched.doubted = true;
            return None;
        }
        Err(failure) => {
            refused = failure.is_wrong_password();
            let problem = plain(&failure.to_string());
            if failure.is_transient() { Seen::Unreachable(problem) } else { Seen::Failing(problem) }
        }
    };
    watched.not_before = refused.then(|| Instant::now() + REFUSED);
    Some(Sighting { node: watched.node.clone(), at: Instant::now(), seen })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Words(#[from] crate::bmc::BadAccess),
    #[error(transparent)]
    Bmc(#[from] BmcError),
}

impl Failure {
    fn is_wrong_password(&self) -> bool {
        matches!(self, Self::Bmc(error) if error.is_wrong_password())
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Words(bad) => bad.is_transient(),
            Self::Bmc(error) => error.is_transient(),
        }
    }
}

async fn power(
    bmcs: &Bmcs,
    watched: &mut Watched,
    deadline: Deadline,
) -> Result<(PowerState, &'static str), Failure> {
    let id = watched.node.strip_prefix("nodes/").unwrap_or(&watched.node);
    // Held until another is found, so that its session is not opened anew for nothing.
    let before = if bmcs.is_due(id) { watched.bmc.take() } else { None };
    if let Some(Known { bmc, settled }) = &watched.bmc {
        match bmc.power_status(deadline).await {
            Ok(state) => return Ok((state, bmc.driver())),
            Err(error) if *settled => return Err(error.into()),
            // Of an `auto` it may be the other driver now, and a name may mean another address.
            Err(_) => watched.bmc = None,
        }
    }
    let access = watched.words.access().await?;
    let settled = access.is_settled();
    let bmc = bmcs.open(id, access, deadline).await?.bmc;
    drop(before);
    let state = bmc.power_status(deadline).await;
    let driver = bmc.driver();
    watched.bmc = Some(Known { bmc, settled });
    Ok((state?, driver))
}

/// What a BMC says goes into the history, on one line.
fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut plain: String = text.chars().map(visible).collect();
    let end = (0..=PROBLEM.min(plain.len())).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or(0);
    plain.truncate(end);
    plain
}

/// For a look: one that takes five seconds for each answer is read. One that is dead is given up after some twelve.
const PATIENCE: Duration = Duration::from_secs(35);
/// Until one that refuses its password is asked again: it may lock the account. New words are tried at once.
const REFUSED: Duration = Duration::from_secs(15 * 60);
/// Bytes of a problem: what inventory takes.
const PROBLEM: usize = 1000;
