//! One look at one BMC.

use super::list::{Known, Watched};
use crate::bmc::{Bmcs, Opened};
use crate::tasks::Waiting;
use farrier_bmc::{BmcError, Capability, Deadline, Health, Look, PowerState};
use farrier_model::hint::about_node;
use std::time::Duration;
use tokio::time::Instant;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// `nodes/{node}`
    pub(super) node: String,
    pub(super) at: Instant,
    pub(super) seen: Seen,
    /// Why the driver that an `auto` would rather have is not it; empty: it is, or it is not there.
    pub(super) passed_over: String,
    /// The task that did nothing but wait for all of the look.
    pub(super) waiting: Option<Waiting>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Power {
        state: PowerState,
        driver: &'static str,
        health: Health,
        /// What is wrong with the machine.
        problem: String,
        /// Now and then.
        machine: Option<Machine>,
    },
    /// It may answer another time.
    Unreachable(String),
    /// It will not, unless somebody does something.
    Failing(String),
}

impl Seen {
    /// Who the machine is is asked seldom: an older look that was not told yet is not told in vain.
    pub(super) fn keep_machine(&mut self, older: Self) {
        if let (Self::Power { machine: now @ None, .. }, Self::Power { machine, .. }) = (self, older) {
            *now = machine;
        }
    }
}

/// Who the machine is, in its BMC's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(super) uuid: String,
    pub(super) serial: String,
    pub(super) driver: &'static str,
    /// Where inventory had it asked for.
    pub(super) address: String,
    /// When it was asked for: it may wait longer than what else was seen.
    pub(super) at: Instant,
}

/// Nothing: it is not time, or rackd ends.
pub(super) async fn look(bmcs: &Bmcs, watched: &mut Watched) -> Option<Sighting> {
    if watched.not_before.is_some_and(|at| Instant::now() < at) {
        return None;
    }
    let mut refused = false;
    let deadline = Deadline::after(PATIENCE);
    let read = power(bmcs, watched, deadline).await;
    // What is asked below takes its time: another look may see something newer meanwhile.
    let at = Instant::now();
    let seen = match read {
        // What it says is of before a change: a disagreement that is none.
        Ok((look, _)) if look.settling && watched.may_settle(at) => {
            watched.doubted = false;
            return None;
        }
        Ok((look, driver)) => {
            watched.doubted = false;
            if !look.settling {
                watched.settling_since = None;
            }
            // Two BMCs may have changed addresses between two looks.
            if watched.who.replace(look.who) != Some(look.who) {
                watched.machine_at = None;
            }
            power_of(look, driver, machine(watched, deadline).await)
        }
        // Nobody was asked.
        Err(Failure::Bmc(error)) if error.is_our_own() => return None,
        // Inventory is asked again first.
        Err(failure) if failure.is_wrong_password() && !watched.doubted => {
            watched.doubted = true;
            return None;
        }
        Err(failure) => {
            watched.settling_since = None;
            refused = failure.is_wrong_password();
            let problem = told(&failure.to_string(), &watched.node);
            if failure.is_transient() { Seen::Unreachable(problem) } else { Seen::Failing(problem) }
        }
    };
    if !matches!(seen, Seen::Power { .. }) {
        // Where it was away, another may come back.
        watched.machine_at = None;
    }
    watched.not_before = refused.then(|| Instant::now() + REFUSED);
    let passed_over = watched.bmc.as_ref().map(|known| known.passed_over.clone()).unwrap_or_default();
    Some(Sighting { node: watched.node.clone(), at, seen, passed_over, waiting: None })
}

/// What was seen beside the rounds.
pub(super) fn seen(node: &str, look: Look, driver: &'static str) -> Sighting {
    sighting(node, power_of(look, driver, None))
}

pub(super) fn sighting(node: &str, seen: Seen) -> Sighting {
    Sighting { node: node.to_owned(), at: Instant::now(), seen, passed_over: String::new(), waiting: None }
}

/// A failure in words, of this node.
pub(super) fn told(error: &str, node: &str) -> String {
    plain(&about_node(error, node))
}

fn power_of(look: Look, driver: &'static str, machine: Option<Machine>) -> Seen {
    let Look { power: state, health, problem, .. } = look;
    Seen::Power { state, driver, health, problem: plain(&problem), machine }
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
) -> Result<(Look, &'static str), Failure> {
    let id = watched.node.strip_prefix("nodes/").unwrap_or(&watched.node);
    // Held until another is found, so that its session is not opened anew for nothing.
    let before = watched.bmc.take_if(|known| bmcs.is_over(id, &known.bmc));
    if let Some(Known { bmc, settled, .. }) = &watched.bmc {
        match bmc.look(deadline).await {
            Ok(state) => return Ok((state, bmc.driver())),
            Err(error) if *settled => return Err(error.into()),
            // Of an `auto` it may be the other driver now, and a name may mean another address.
            Err(_) => watched.bmc = None,
        }
    }
    let access = watched.words.access().await?;
    let settled = access.is_settled();
    let Opened { bmc, passed_over } = bmcs.open(id, access, deadline).await?;
    let passed_over = passed_over.filter(BmcError::is_to_mend);
    let passed_over = passed_over.map(|error| told(&error.to_string(), id)).unwrap_or_default();
    drop(before);
    let state = bmc.look(deadline).await;
    let driver = bmc.driver();
    watched.bmc = Some(Known { bmc, settled, passed_over });
    watched.opens += 1;
    Ok((state?, driver))
}

/// Who the machine is, when that is due. A BMC that does not say it is asked again like one that does.
async fn machine(watched: &mut Watched, deadline: Deadline) -> Option<Machine> {
    let now = Instant::now();
    if watched.machine_at.is_some_and(|at| now < at) {
        return None;
    }
    let bmc = &watched.bmc.as_ref()?.bmc;
    let driver = bmc.driver_of(Capability::Identity)?;
    let identity = bmc.identity(deadline).await;
    // Of one that may answer another time it is not known that it is the same: the next look asks again.
    if !identity.as_ref().is_err_and(BmcError::is_transient) {
        // Spread, so that a rack's BMCs are not all asked in one round.
        watched.machine_at = Some(now + MACHINE.mul_f64(rand::random_range(0.75..1.25)));
    }
    let identity = identity.ok()?;
    let uuid = identity.guid.map(hyphened).unwrap_or_default();
    let serial = word(&identity.serial);
    let address = watched.words.place();
    (!uuid.is_empty() || !serial.is_empty()).then_some(Machine { uuid, serial, driver, address, at: now })
}

fn hyphened(guid: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in guid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn word(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(WORD).collect()
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
pub(super) const PATIENCE: Duration = Duration::from_secs(35);
/// Until one that refuses its password is asked again: it may lock the account. New words are tried at once.
pub(super) const REFUSED: Duration = Duration::from_secs(15 * 60);
/// Between two questions who a machine is, about: where another may answer, it is asked at once.
const MACHINE: Duration = Duration::from_secs(60 * 60);
/// Characters of a serial number.
const WORD: usize = 64;
/// Bytes of a problem: what inventory takes.
const PROBLEM: usize = 1000;
