//! Driver `auto`: Redfish where the BMC answers it, else IPMI; what worked is remembered. Where Redfish has worked and does not answer
//! for a while, IPMI stands in for it, and what worked stays what it was.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::redfish::RedfishAddress;
use crate::{Bmc, BmcError, Deadline};

/// A driver that learns from the BMC whose it is.
#[async_trait]
pub trait Recognise: Send + Sync {
    /// The handle under the vendor's own driver name, with what that one can.
    async fn recognised(&self, deadline: Deadline) -> Result<Bmc, BmcError>;
}

/// A driver that can ask whether anybody is there, without a password.
#[async_trait]
pub trait Present: Send + Sync {
    /// Asks.
    ///
    /// # Errors
    /// Nobody answered, or something that is not the protocol.
    async fn present(&self, deadline: Deadline) -> Result<(), BmcError>;
}

/// What worked for which node.
#[derive(Debug)]
pub struct Auto {
    nodes: Mutex<HashMap<String, Node>>,
    /// What each node said of its BMC last, as a number that tells whether it says something else.
    said: Mutex<HashMap<String, u64>>,
    by: RandomState,
    again: Duration,
}

/// What is known of one node's BMC.
#[derive(Debug, Clone)]
struct Node {
    /// What worked last.
    driver: &'static str,
    /// With IPMI: when Redfish is tried again. A BMC's web server starts a minute after its IPMI.
    redfish_at: Instant,
    /// With Redfish: whether IPMI answers there too, and when that was asked.
    ipmi: Option<(bool, Instant)>,
    /// With IPMI: what is wrong with a Redfish that is there. Told until somebody mends it.
    wrong: Option<BmcError>,
    /// With Redfish: IPMI stands in for it for now.
    stands_in: bool,
    /// With Redfish: when IPMI did not take the account, in its place.
    refused: Option<Instant>,
}

impl Node {
    fn by(driver: &'static str, redfish_at: Instant) -> Self {
        Self { driver, redfish_at, ipmi: None, wrong: None, stands_in: false, refused: None }
    }
}

impl Default for Auto {
    fn default() -> Self {
        Self::knowing([])
    }
}

impl Auto {
    /// Where `worked` says what worked before.
    #[must_use]
    pub fn knowing(worked: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let redfish_at = Instant::now() + AGAIN;
        let node = |(name, driver)| (name, Node::by(driver, redfish_at));
        let nodes = Mutex::new(worked.into_iter().map(node).collect());
        Self { nodes, said: Mutex::default(), by: RandomState::new(), again: AGAIN }
    }

    /// As it is, with another pause until what was not there is tried again.
    #[must_use]
    pub fn again_after(self, again: Duration) -> Self {
        Self { again, ..self }
    }

    /// The handle of the driver that works: the one that worked last is asked first, Redfish where none did, and now and then
    /// where IPMI did. Its [`Bmc::driver`] says which it is; the other's failure, if it was asked first, comes along, and each
    /// time where Redfish is there and somebody has to mend something for it. What Redfish lacks is IPMI's to give where IPMI
    /// answers. An IPMI that stands in for a Redfish that does not answer now says so ([`Bmc::stands_in`]).
    ///
    /// # Errors
    /// Both fail; or Redfish is there and shows another certificate than the node's, or refuses the password: then
    /// IPMI is not tried, since that would take a warning for a fault, or lock the account. That IPMI refuses the password
    /// says nothing of a node that Redfish has worked for: its account may have no rights over IPMI.
    pub async fn open(
        &self,
        node: &str,
        redfish: Bmc,
        ipmi: Bmc,
        deadline: Deadline,
    ) -> Result<(Bmc, Option<BmcError>), BmcError> {
        let ipmi_first = self.worked(node) == Some(ipmi.driver());
        if ipmi_first && self.is_due(node) {
            let part = deadline.min(Deadline::at(Instant::now() + (deadline.remaining() / 3).min(RETRY)));
            // Whatever is wrong with it: the node has a driver that works.
            match self.try_redfish(node, &redfish, &ipmi, part).await {
                Ok(bmc) => return Ok((bmc, None)),
                // The same words again and again would lock the account, IPMI's too.
                Err(error) if is_final(&error) => {
                    tracing::warn!(node.id = node, %error, "Redfish is not tried again before the node's BMC is verified, or described anew");
                    self.put_off(node, A_DAY, &error);
                }
                Err(error) => self.put_off(node, self.again, &error),
            }
        }
        let (first, second) = if ipmi_first { (&ipmi, &redfish) } else { (&redfish, &ipmi) };
        self.first_of(node, (first, second), &ipmi, deadline).await
    }

    /// The second begins when the first has failed, or has said nothing for half of the time: the first goes on meanwhile, since a
    /// BMC that takes seconds for each answer needs all of it.
    async fn first_of(
        &self,
        node: &str,
        (first, second): (&Bmc, &Bmc),
        ipmi: &Bmc,
        deadline: Deadline,
    ) -> Result<(Bmc, Option<BmcError>), BmcError> {
        let redfish_first = first.driver() != ipmi.driver();
        // The second may then stand in for the first, and no more.
        let is_known = redfish_first && self.worked(node).is_some();
        let is_alone = is_known && self.is_refused(node);
        let mut one = pin!(self.try_one(node, first, ipmi, deadline));
        let mut other = pin!(self.try_one(node, second, ipmi, deadline));
        let mut late = pin!(tokio::time::sleep(deadline.remaining() / 2));
        let (mut failed, mut also_failed, mut is_late) = (None, None, false);
        loop {
            tokio::select! {
                biased;
                tried = &mut one, if failed.is_none() => match tried {
                    Ok(bmc) => {
                        self.remember_ipmi(node, &bmc);
                        return Ok((bmc, also_failed.or_else(|| self.wrong(node))));
                    }
                    Err(error) if is_final(&error) || is_alone && error.is_transient() => return Err(error),
                    Err(error) => failed = Some(error),
                },
                tried = &mut other, if also_failed.is_none() && (is_late && !is_alone || failed.is_some()) => match tried {
                    Ok(bmc) if redfish_first => return Ok((self.in_place(node, bmc, failed.as_ref(), is_known), failed)),
                    Ok(bmc) => return Ok((bmc, failed)),
                    Err(error) => also_failed = Some(error),
                },
                () = &mut late, if !is_late => is_late = true,
            }
            (failed, also_failed) = match (failed, also_failed) {
                (Some(one), Some(error)) if is_final(&error) && !(is_known && one.is_transient()) => {
                    return Err(error);
                }
                (Some(one), Some(other)) => {
                    if is_known && other.is_wrong_password() {
                        self.note_refusal(node);
                    }
                    let (one, other) = (Box::new(one), Box::new(other));
                    let (redfish, ipmi) = if redfish_first { (one, other) } else { (other, one) };
                    return Err(BmcError::NoDriver { redfish, ipmi });
                }
                either => either,
            };
        }
    }

    /// IPMI, which answered where Redfish failed, or says nothing so far. It takes the place of one that has worked only where that
    /// one is gone.
    fn in_place(&self, node: &str, ipmi: Bmc, failed: Option<&BmcError>, is_known: bool) -> Bmc {
        let passes = failed.is_none_or(BmcError::is_transient);
        if is_known && passes {
            self.stand_in(node);
        } else {
            self.remember_ipmi(node, &ipmi);
        }
        if let Some(error) = failed {
            self.learn(node, error);
        }
        let why = || failed.map_or_else(|| "no answer so far".to_owned(), ToString::to_string);
        if passes { ipmi.standing_in(&why()) } else { ipmi }
    }

    /// What worked last, by node.
    #[must_use]
    pub fn all(&self) -> HashMap<String, &'static str> {
        self.nodes().iter().map(|(name, node)| (name.clone(), node.driver)).collect()
    }

    /// The driver that worked last.
    #[must_use]
    pub fn worked(&self, node: &str) -> Option<&'static str> {
        self.nodes().get(node).map(|node| node.driver)
    }

    /// Whether IPMI worked last, if only in Redfish's place, and it is time to try Redfish again, which [`Auto::open`] does.
    #[must_use]
    pub fn is_due(&self, node: &str) -> bool {
        let by_ipmi = |node: &Node| node.driver == IPMI || node.stands_in;
        self.nodes().get(node).is_some_and(|node| by_ipmi(node) && node.redfish_at <= Instant::now())
    }

    /// Whether IPMI answers in the place of a Redfish that has worked.
    #[must_use]
    pub fn stands_in(&self, node: &str) -> bool {
        self.nodes().get(node).is_some_and(|node| node.stands_in)
    }

    /// What the node says of its BMC now. Where that is news, somebody has described what was wrong or missing, such as the
    /// certificate: the next [`Auto::open`] tries Redfish again.
    pub fn told(&self, node: &str, redfish: &RedfishAddress) {
        let said = self.by.hash_one(redfish);
        let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.insert(node.to_owned(), said);
        drop(all);
        if before.is_some_and(|before| before != said) {
            self.reconsider(node);
        }
    }

    /// Has the next [`Auto::open`] try Redfish again: somebody may have mended it.
    pub fn reconsider(&self, node: &str) {
        if let Some(node) = self.nodes().get_mut(node) {
            node.redfish_at = Instant::now();
            (node.ipmi, node.refused) = (None, None);
        }
    }

    /// What is wrong with a Redfish that is there, of a node whose IPMI works.
    fn wrong(&self, node: &str) -> Option<BmcError> {
        self.nodes().get(node).and_then(|node| node.wrong.clone())
    }

    fn learn(&self, node: &str, failed: &BmcError) {
        if let Some(node) = self.nodes().get_mut(node) {
            node.wrong = to_mend(failed).cloned();
        }
    }

    async fn try_one(&self, node: &str, bmc: &Bmc, ipmi: &Bmc, deadline: Deadline) -> Result<Bmc, BmcError> {
        if bmc.driver() != ipmi.driver() {
            return self.try_redfish(node, bmc, ipmi, deadline).await;
        }
        bmc.power_status(deadline).await?;
        Ok(bmc.clone())
    }

    async fn try_redfish(
        &self,
        node: &str,
        redfish: &Bmc,
        ipmi: &Bmc,
        deadline: Deadline,
    ) -> Result<Bmc, BmcError> {
        match redfish.power_status(deadline).await {
            // It lets us in, to change the password: whoever wants more is told.
            Ok(_) | Err(BmcError::PasswordChangeRequired { .. }) => {}
            Err(error) => return Err(error),
        }
        let seen = self.nodes().get(node).and_then(|node| node.ipmi);
        let seen = match seen.filter(|(_, at)| at.elapsed() < self.again) {
            Some(seen) => seen,
            None => {
                let asked = ipmi.present(deadline.min(Deadline::after(PRESENCE))).await;
                (asked.is_ok(), Instant::now())
            }
        };
        let bmc = if seen.0 { redfish.clone().or(ipmi.clone()) } else { redfish.clone() };
        let bmc = bmc.recognised(deadline).await?;
        self.remember(node, bmc.driver(), Some(seen));
        Ok(bmc)
    }

    fn remember(&self, node: &str, driver: &'static str, ipmi: Option<(bool, Instant)>) {
        let redfish_at = Instant::now() + self.again;
        let mut nodes = self.nodes();
        let known = nodes.entry(node.to_owned()).or_insert(Node::by(driver, redfish_at));
        if known.driver != driver || known.stands_in {
            known.redfish_at = redfish_at;
        }
        (known.driver, known.ipmi, known.stands_in) = (driver, ipmi, false);
        if driver != IPMI {
            known.wrong = None;
        }
    }

    /// Redfish is remembered when it is found.
    fn remember_ipmi(&self, node: &str, bmc: &Bmc) {
        if bmc.driver() == IPMI {
            self.remember(node, IPMI, None);
        }
    }

    fn stand_in(&self, node: &str) {
        if let Some(node) = self.nodes().get_mut(node) {
            (node.stands_in, node.redfish_at) = (true, Instant::now() + self.again.min(SOON));
        }
    }

    fn note_refusal(&self, node: &str) {
        if let Some(node) = self.nodes().get_mut(node) {
            node.refused = Some(Instant::now());
        }
    }

    /// Whether IPMI would not take the account in Redfish's place.
    fn is_refused(&self, node: &str) -> bool {
        self.nodes().get(node).and_then(|node| node.refused).is_some_and(|at| at.elapsed() < A_DAY)
    }

    fn put_off(&self, node: &str, pause: Duration, failed: &BmcError) {
        if let Some(node) = self.nodes().get_mut(node) {
            node.redfish_at = Instant::now() + pause;
        }
        self.learn(node, failed);
    }

    /// The map stays consistent even if a holder panicked: every change is one call.
    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const IPMI: &str = "ipmi";
const A_DAY: Duration = Duration::from_secs(86_400);
/// Until what was not there is tried again: some seconds of a try every ten minutes.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// Until a Redfish that has worked is tried again, which may be restarting.
const SOON: Duration = Duration::from_secs(60);
/// For that try.
const RETRY: Duration = Duration::from_secs(10);
/// For a sign of IPMI beside Redfish: a healthy BMC gives one in 100 ms, and the third repetition is a second later.
const PRESENCE: Duration = Duration::from_secs(2);

/// What a person has to mend, of a driver that is there: a BMC without Redfish, or one that starts, is no news.
fn to_mend(error: &BmcError) -> Option<&BmcError> {
    match error {
        BmcError::CircuitOpen { reason, .. } => to_mend(reason),
        BmcError::Certificate { .. } | BmcError::WrongPassword { .. } => Some(error),
        _ => None,
    }
}

impl BmcError {
    /// Whether a person has to mend it, of a driver that is there and is not the one that answered.
    #[must_use]
    pub fn is_to_mend(&self) -> bool {
        to_mend(self).is_some()
    }
}

/// Whether the other driver must not be tried: this one is there, and something is wrong that a person has to see.
/// A node that says nothing of certificates has none to differ from.
fn is_final(error: &BmcError) -> bool {
    match error {
        BmcError::CircuitOpen { reason, .. } => is_final(reason),
        BmcError::Certificate { pinned, .. } => *pinned,
        BmcError::WrongPassword { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redfish::Trust;
    use crate::{Power, PowerState};
    use std::net::SocketAddr;
    use std::sync::Arc;

    /// Says this after so many seconds.
    struct After(u64, Result<PowerState, BmcError>);

    #[async_trait]
    impl Power for After {
        async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
            let wait = Duration::from_secs(self.0).min(deadline.remaining());
            tokio::time::sleep(wait).await;
            if wait == Duration::from_secs(self.0) { self.1.clone() } else { Err(absent()) }
        }

        async fn power_on(&self, _: Deadline) -> Result<(), BmcError> {
            Err(absent())
        }

        async fn power_off(&self, _: Deadline) -> Result<(), BmcError> {
            Err(absent())
        }

        async fn power_soft(&self, _: Deadline) -> Result<(), BmcError> {
            Err(absent())
        }

        async fn power_cycle(&self, _: Deadline) -> Result<(), BmcError> {
            Err(absent())
        }

        async fn power_reset(&self, _: Deadline) -> Result<(), BmcError> {
            Err(absent())
        }
    }

    const ADDR: ([u8; 4], u16) = ([192, 0, 2, 1], 443);

    fn busy() -> BmcError {
        BmcError::Http { addr: ADDR.into(), request: "GET /".into(), status: 503, detail: String::new() }
    }

    fn refused() -> BmcError {
        BmcError::WrongPassword { addr: ADDR.into(), user: "u".into() }
    }

    async fn open(
        auto: &Auto,
        redfish: Result<PowerState, BmcError>,
        ipmi: Result<PowerState, BmcError>,
    ) -> Result<(Bmc, Option<BmcError>), BmcError> {
        let deadline = Deadline::after(Duration::from_secs(35));
        auto.open("n1", bmc("redfish", After(0, redfish)), bmc("ipmi", After(0, ipmi)), deadline).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_redfish_that_has_worked_is_not_forgotten_for_one_bad_answer() {
        let auto = Auto::knowing([("n1".to_owned(), "redfish")]);
        let (bmc, passed_over) = open(&auto, Err(busy()), Ok(PowerState::On)).await.unwrap();
        assert_eq!((bmc.driver(), passed_over), ("ipmi", Some(busy())));
        assert_eq!((bmc.stands_in(), auto.worked("n1")), (true, Some("redfish")));
        // What IPMI has not got Redfish may have in a minute.
        let soon = Deadline::after(Duration::from_secs(1));
        let lack = bmc.eject_media(soon).await.unwrap_err();
        assert!(lack.is_transient() && !lack.is_lack() && lack.to_string().contains("HTTP 503"), "{lack}");
        assert!(!auto.is_due("n1"));
        tokio::time::advance(SOON).await;
        assert!(auto.is_due("n1"), "a handle that is kept is given up for the other driver's");
        let (bmc, passed_over) = open(&auto, Ok(PowerState::On), Ok(PowerState::On)).await.unwrap();
        assert_eq!((bmc.driver(), bmc.stands_in(), passed_over), ("redfish", false, None));
        assert!(!auto.is_due("n1"));
    }

    #[tokio::test(start_paused = true)]
    async fn ipmi_takes_the_place_of_a_redfish_that_is_gone_or_never_was() {
        let gone = BmcError::NoRedfish { addr: ADDR.into(), seen: "HTTP 404".into() };
        for (before, failed) in [(Some("redfish"), gone.clone()), (None, gone), (None, busy())] {
            let auto = Auto::knowing(before.map(|driver| ("n1".to_owned(), driver)));
            let (first, _) = open(&auto, Err(failed.clone()), Ok(PowerState::On)).await.unwrap();
            assert_eq!((auto.worked("n1"), first.stands_in()), (Some("ipmi"), failed.is_transient()));
            // Nobody waits for a Redfish that a BMC may not have.
            let (next, _) = open(&auto, Err(failed), Ok(PowerState::On)).await.unwrap();
            let lack = next.eject_media(Deadline::after(Duration::from_secs(1))).await.unwrap_err();
            assert!(lack.is_lack() && !lack.is_transient(), "{lack}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_is_named_at_last_is_believed_at_the_next_look() {
        let unnamed = BmcError::Certificate {
            addr: ADDR.into(),
            pinned: false,
            seen: "ab".into(),
            expected: String::new(),
        };
        let (auto, mut said) = (Auto::default(), address());
        auto.told("n1", &said);
        let (_, passed_over) = open(&auto, Err(unnamed.clone()), Ok(PowerState::On)).await.unwrap();
        assert_eq!((passed_over, auto.worked("n1")), (Some(unnamed), Some("ipmi")));
        auto.told("n1", &said);
        assert!(!auto.is_due("n1"), "nothing is new");
        said.trust = Trust::Pin([0xab; 32]);
        auto.told("n1", &said);
        assert!(auto.is_due("n1"));
        let (bmc, passed_over) = open(&auto, Ok(PowerState::On), Ok(PowerState::On)).await.unwrap();
        assert_eq!((bmc.driver(), passed_over), ("redfish", None));
    }

    fn address() -> RedfishAddress {
        RedfishAddress::new(ADDR.into(), "u", farrier_ipmi::Secret::new("p"), Trust::Nothing)
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_without_rights_over_ipmi_is_no_wrong_password_while_redfish_is_away() {
        let auto = Auto::knowing([("n1".to_owned(), "redfish")]);
        let seen = open(&auto, Err(busy()), Err(refused())).await.unwrap_err();
        assert!(seen.is_transient() && !seen.is_wrong_password(), "{seen}");
        // It is not asked again and again, which may lock the account.
        assert_eq!(open(&auto, Err(busy()), Ok(PowerState::On)).await.unwrap_err(), busy());
        auto.reconsider("n1");
        assert!(open(&auto, Err(busy()), Ok(PowerState::On)).await.unwrap().0.stands_in());
        // Redfish's own word counts, and so does IPMI's where nothing is known.
        let seen = open(&auto, Err(refused()), Ok(PowerState::On)).await.unwrap_err();
        assert!(seen.is_wrong_password(), "{seen}");
        let seen = open(&Auto::default(), Err(busy()), Err(refused())).await.unwrap_err();
        assert!(seen.is_wrong_password(), "{seen}");
    }

    fn absent() -> BmcError {
        BmcError::AnswerLost { addr: SocketAddr::from(([127, 0, 0, 1], 1)), command: "none", power_now: None }
    }

    fn on(after: u64) -> After {
        After(after, Ok(PowerState::On))
    }

    fn gone(after: u64) -> After {
        After(after, Err(absent()))
    }

    fn bmc(driver: &'static str, after: After) -> Bmc {
        Bmc::new(driver).with_power(Arc::new(after))
    }

    /// Which driver is found with 35 s, and after how many: what worked before, how long each takes and whether it answers then.
    #[tokio::test(start_paused = true)]
    async fn one_that_takes_its_time_has_all_of_it_and_holds_nobody_up() {
        for (before, redfish, ipmi, found, seconds) in [
            (None, on(1), on(0), Some("redfish"), 1),
            // A BMC of five seconds an answer, whose Redfish is refused.
            (Some("ipmi"), gone(0), on(30), Some("ipmi"), 30),
            (None, gone(0), on(30), Some("ipmi"), 30),
            (None, on(20), on(60), Some("redfish"), 20),
            // A Redfish that swallows everything: IPMI begins at half of the time.
            (None, on(60), on(1), Some("ipmi"), 19),
            (Some("redfish"), on(25), on(60), Some("redfish"), 25),
            (None, on(60), on(60), None, 35),
        ] {
            let auto = Auto::knowing(before.map(|driver| ("n1".to_owned(), driver)));
            let begin = Instant::now();
            let deadline = Deadline::after(Duration::from_secs(35));
            let opened = auto.open("n1", bmc("redfish", redfish), bmc("ipmi", ipmi), deadline).await;
            let driver = opened.as_ref().ok().map(|(bmc, _)| bmc.driver());
            let took = begin.elapsed().as_millis().div_ceil(1000);
            assert_eq!((driver, took), (found, seconds), "{opened:?}");
        }
    }
}
