//! One BMC by two drivers: what the first turns out to lack is asked of the second, and what a BMC turned out to lack is kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::{Bmc, BmcError, Capability};

/// What a BMC has said by one driver that it has not got, of what the driver can do.
#[derive(Debug, Default)]
pub(crate) struct Absent(Mutex<Vec<(Capability, Instant)>>);

/// For so long it is believed: a BMC that starts lacks things that it has some minutes later, and new firmware brings some.
const BELIEVED: Duration = Duration::from_secs(15 * 60);

impl Absent {
    fn has(&self, capability: Capability) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|(one, at)| *one == capability && at.elapsed() < BELIEVED)
    }

    fn learn(&self, capability: Capability, is_absent: bool) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(one, _)| *one != capability);
        if is_absent {
            seen.push((capability, Instant::now()));
        }
    }
}

/// Which driver gave what was asked of a handle last, where that is not the one that would be asked first.
#[derive(Debug, Default)]
pub(crate) struct Gave(Mutex<Vec<(Capability, &'static str)>>);

impl Gave {
    fn get(&self, capability: Capability) -> Option<&'static str> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(one, _)| *one == capability).map(|(_, driver)| *driver)
    }

    pub(crate) fn set(&self, capability: Capability, driver: Option<&'static str>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(one, _)| *one != capability);
        seen.extend(driver.map(|driver| (capability, driver)));
    }
}

impl Bmc {
    /// Asks the driver that gives a capability, and where this BMC has not got what was asked for, the other driver.
    pub(crate) async fn either<T, F>(
        &self,
        capability: Capability,
        ask: impl Fn(Self) -> F,
    ) -> Result<T, BmcError>
    where
        F: Future<Output = Result<T, BmcError>>,
    {
        let other = self.other_for(capability);
        if let Some(other) = other.filter(|_| self.absent_of(capability).has(capability)) {
            return ask(other.clone()).await.inspect(|_| self.gave.set(capability, Some(other.driver())));
        }
        let lack = match ask(self.clone()).await {
            Err(error) if error.is_lack() => error,
            answer => {
                if answer.is_ok() {
                    self.gave.set(capability, None);
                    self.absent_of(capability).learn(capability, false);
                }
                return answer;
            }
        };
        if lack.is_lack_of(capability) && self.giver(capability).is_some() {
            self.absent_of(capability).learn(capability, true);
        }
        let Some(other) = other else { return Err(self.lacks(lack)) };
        match ask(other.clone()).await {
            Ok(answer) => {
                self.gave.set(capability, Some(other.driver()));
                Ok(answer)
            }
            // Neither has it: the first is the one that was asked for.
            Err(error) if error.is_lack() => Err(lack),
            // The account is the first one's: power that is not offered there is not there.
            Err(error) if capability == Capability::Power && error.is_wrong_password() => Err(lack),
            Err(error) => Err(error),
        }
    }

    /// The driver that gives a capability, as far as is known of this BMC: which gave it last by this handle, else which would
    /// be asked first. `None`: none does, or the BMC has said that it has not got it.
    #[must_use]
    pub fn driver_of(&self, capability: Capability) -> Option<&'static str> {
        let first = self.giver(capability)?;
        if let Some(gave) = self.gave.get(capability) {
            return Some(gave);
        }
        if !self.absent_of(capability).has(capability) {
            return Some(first);
        }
        let spare = self.spare_console.as_ref().filter(|_| capability == Capability::Console);
        let other = self.other_for(capability).and_then(|other| other.driver_of(capability));
        other.or(spare.map(|(driver, _)| *driver))
    }

    /// The BMC has said that it has not got the console that would be asked for first.
    pub(crate) fn turned_out_without_first_console(&self) -> bool {
        self.absent_of(Capability::Console).has(Capability::Console)
    }

    /// Whether a driver could give it, and the BMC has said that it has not got it.
    #[must_use]
    pub fn turned_out_without(&self, capability: Capability) -> bool {
        self.giver(capability).is_some() && self.driver_of(capability).is_none()
    }

    /// The second driver, where it gives what the first gives too.
    fn other_for(&self, capability: Capability) -> Option<&Self> {
        let is_first = self.giver(capability) == Some(self.driver());
        self.other.as_deref().filter(|other| is_first && other.giver(capability).is_some())
    }

    /// What is known of the driver that would be asked first.
    fn absent_of(&self, capability: Capability) -> &Absent {
        let is_first = self.giver(capability).is_none_or(|giver| giver == self.driver());
        match self.other.as_deref().filter(|_| !is_first) {
            Some(other) => &other.absent,
            None => &self.absent,
        }
    }

    /// Keeps what the BMC lacks where all handles of it have it.
    #[must_use]
    pub(crate) fn knowing(mut self, absent: Arc<Absent>) -> Self {
        self.absent = absent;
        self
    }
}

impl BmcError {
    /// Whether the driver, or the BMC by it, has not got what was asked for: nothing was changed, and another way may have it.
    pub(crate) fn is_lack(&self) -> bool {
        matches!(
            self,
            Self::Unsupported { .. }
                | Self::NotOffered { .. }
                | Self::NotListed { .. }
                | Self::Licence { .. }
        )
    }

    /// Whether it lacks all of a capability, not only what was asked of it.
    fn is_lack_of(&self, capability: Capability) -> bool {
        match self {
            Self::Unsupported { capability: lacks, .. } => *lacks == capability.as_str(),
            // There is but one of these.
            Self::NotOffered { .. } => capability == Capability::Interrupt,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        Accounts, BmcNetwork, Deadline, Identify, Led, ReadNetwork, ReadSensors, Removed, Secret, Sensors,
    };

    /// Has an LED without a clock, and no sensors.
    struct First;
    /// Has an LED that can do anything, and sensors.
    struct Second;

    #[async_trait]
    impl Identify for First {
        async fn identify(&self, led: Led, _: Deadline) -> Result<(), BmcError> {
            match led {
                Led::Seconds(_) => {
                    Err(BmcError::Unsupported { driver: "first", capability: "locator LED for a time" })
                }
                _ => Ok(()),
            }
        }
    }

    #[async_trait]
    impl ReadSensors for First {
        async fn sensors(&self, _: Deadline) -> Result<Sensors, BmcError> {
            Err(BmcError::Unsupported { driver: "first", capability: Capability::Sensors.as_str() })
        }
    }

    #[async_trait]
    impl Identify for Second {
        async fn identify(&self, _: Led, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
    }

    #[async_trait]
    impl ReadSensors for Second {
        async fn sensors(&self, _: Deadline) -> Result<Sensors, BmcError> {
            Ok(Sensors::default())
        }
    }

    /// Speaks of accounts and of the network, or says that the BMC has got none.
    struct Further(bool);

    impl Further {
        fn gives<T>(&self, capability: Capability, what: T) -> Result<T, BmcError> {
            let lack = BmcError::Unsupported { driver: "first", capability: capability.as_str() };
            if self.0 { Ok(what) } else { Err(lack) }
        }
    }

    #[async_trait]
    impl Accounts for Further {
        async fn set_password(&self, _: &Secret, _: Deadline) -> Result<(), BmcError> {
            self.gives(Capability::Accounts, ())
        }
        async fn prove_password(&self, _: Deadline) -> Result<(), BmcError> {
            self.gives(Capability::Accounts, ())
        }
        async fn has_account(&self, _: &str, _: Deadline) -> Result<bool, BmcError> {
            self.gives(Capability::Accounts, true)
        }
        async fn create_account(&self, _: &str, _: &Secret, _: Deadline) -> Result<(), BmcError> {
            self.gives(Capability::Accounts, ())
        }
        async fn delete_account(&self, _: &str, _: Deadline) -> Result<Removed, BmcError> {
            self.gives(Capability::Accounts, Removed::Gone)
        }
    }

    #[async_trait]
    impl ReadNetwork for Further {
        async fn network(&self, _: Deadline) -> Result<BmcNetwork, BmcError> {
            self.gives(Capability::Network, BmcNetwork::default())
        }
    }

    #[tokio::test]
    async fn whatever_is_asked_of_accounts_and_network_is_the_seconds_to_give_where_the_first_has_none() {
        let with = |driver, gives| {
            Bmc::new(driver).with_accounts(Arc::new(Further(gives))).with_network(Arc::new(Further(gives)))
        };
        let both = || with("first", false).or(with("second", true));
        assert_eq!(both().has_account("u", soon()).await, Ok(true));
        assert_eq!(both().create_account("u", &Secret::new("hunter2"), soon()).await, Ok(()));
        assert_eq!(both().delete_account("u", soon()).await, Ok(Removed::Gone));
        assert_eq!(both().network(soon()).await, Ok(BmcNetwork::default()));
    }

    fn first() -> Bmc {
        Bmc::new("first").with_identify(Arc::new(First)).with_sensors(Arc::new(First))
    }

    fn second() -> Bmc {
        Bmc::new("second").with_identify(Arc::new(Second)).with_sensors(Arc::new(Second))
    }

    /// A log, or a boot option: by the other way there may be one of that name.
    #[test]
    fn a_name_that_is_not_among_those_that_there_are_is_a_lack_and_none_of_the_capability() {
        let (addr, offered) = (([192, 0, 2, 1], 443).into(), vec!["SEL".to_owned()]);
        let unlisted = BmcError::NotListed { addr, what: "log", wanted: "Audit".into(), offered };
        assert!(unlisted.is_lack() && !unlisted.is_lack_of(Capability::EventLog));
    }

    /// Supermicro sells much of its Redfish by licence, and none of its IPMI.
    #[test]
    fn what_nobody_has_paid_for_is_a_lack_and_none_of_the_capability() {
        let unpaid = BmcError::Licence {
            addr: ([192, 0, 2, 1], 443).into(),
            request: "PATCH /S/1".to_owned(),
            licence: "SFT-OOB-LIC",
            detail: String::new(),
        };
        assert!(unpaid.is_lack() && !unpaid.is_lack_of(Capability::BootDevice));
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[tokio::test]
    async fn what_the_first_driver_lacks_is_the_seconds_to_give_and_it_is_told() {
        let both = first().or(second());
        both.identify(Led::Seconds(30), soon()).await.unwrap();
        assert_eq!(both.driver_of(Capability::Identify), Some("second"), "who gave the last answer");
        both.identify(Led::On, soon()).await.unwrap();
        assert_eq!(both.driver_of(Capability::Identify), Some("first"));
        assert_eq!(both.driver_of(Capability::Sensors), Some("first"), "nobody knows better");
        both.sensors(soon()).await.unwrap();
        assert_eq!(both.driver_of(Capability::Sensors), Some("second"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_bmc_turned_out_to_lack_is_known_to_all_handles_for_a_while() {
        let absent = Arc::new(Absent::default());
        let handle = || first().knowing(Arc::clone(&absent));
        let lacking = handle().sensors(soon()).await.unwrap_err();
        assert!(lacking.is_lack_of(Capability::Sensors), "{lacking}");
        assert_eq!(handle().driver_of(Capability::Sensors), None);
        assert!(handle().turned_out_without(Capability::Sensors));
        // A part of it that is missing is not all of it.
        handle().identify(Led::Seconds(30), soon()).await.unwrap_err();
        assert_eq!(handle().driver_of(Capability::Identify), Some("first"));
        let both = handle().or(second());
        assert_eq!(both.driver_of(Capability::Sensors), Some("second"), "without asking");
        tokio::time::advance(BELIEVED).await;
        assert_eq!(handle().driver_of(Capability::Sensors), Some("first"));
    }
}
