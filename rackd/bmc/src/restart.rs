//! A power cycle and a hard reset, also of a BMC that has no command for it: many offer On, ForceOff and GracefulShutdown alone
//! (DSP0268, ComputerSystem, ResetType). Then the machine is switched off, read back, and switched on again, as Ironic does. Who
//! hears of both before they are sent can go on with that where it was, should this process end in between.

use std::time::Duration;

use crate::{Bmc, BmcError, Capability, Deadline, PowerState};

/// How a machine was restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarted {
    /// By one command. What came of it cannot be read back.
    ByBmc,
    /// Switched off and on in its place, each read back: no driver has that command for this BMC.
    OffAndOn,
}

impl Bmc {
    /// See [`Power::power_cycle`](crate::Power::power_cycle). Where no driver has it: off, read back, and on; a machine that is
    /// off is switched on.
    pub async fn power_cycle(&self, deadline: Deadline) -> Result<Restarted, BmcError> {
        let cycled = self.either(Capability::Power, |bmc| async move {
            bmc.give(&bmc.power, Capability::Power)?.power_cycle(deadline).await
        });
        self.or_off_and_on(cycled.await, "power cycle", deadline, nobody).await
    }

    /// See [`Power::power_reset`](crate::Power::power_reset). Where no driver has it: as [`Bmc::power_cycle`].
    pub async fn power_reset(&self, deadline: Deadline) -> Result<Restarted, BmcError> {
        self.power_reset_telling(deadline, nobody).await
    }

    /// As [`Bmc::power_reset`]. `told` hears what the machine is to be switched to before it is, off and then on, where no driver has
    /// a reset: what it heard last is what [`Bmc::finish_reset`] goes on with.
    pub async fn power_reset_telling<F>(
        &self,
        deadline: Deadline,
        told: impl FnMut(PowerState) -> F + Send,
    ) -> Result<Restarted, BmcError>
    where
        F: Future<Output = ()> + Send,
    {
        let reset = self.either(Capability::Power, |bmc| async move {
            bmc.give(&bmc.power, Capability::Power)?.power_reset(deadline).await
        });
        self.or_off_and_on(reset.await, HARD_RESET, deadline, told).await
    }

    /// Goes on with a reset by off and on that was to switch the machine to `next`. Idempotent: what has been reached is not done
    /// again.
    pub async fn finish_reset<F>(
        &self,
        next: PowerState,
        deadline: Deadline,
        told: impl FnMut(PowerState) -> F + Send,
    ) -> Result<(), BmcError>
    where
        F: Future<Output = ()> + Send,
    {
        self.off_and_on(next, HARD_RESET, deadline, told).await
    }

    async fn or_off_and_on<F>(
        &self,
        by_bmc: Result<(), BmcError>,
        wanted: &'static str,
        deadline: Deadline,
        told: impl FnMut(PowerState) -> F + Send,
    ) -> Result<Restarted, BmcError>
    where
        F: Future<Output = ()> + Send,
    {
        let lack = match by_bmc {
            Ok(()) => return Ok(Restarted::ByBmc),
            Err(error) if error.is_lack() => error,
            Err(error) => return Err(error),
        };
        match self.off_and_on(PowerState::Off, wanted, deadline, told).await {
            Ok(()) => Ok(Restarted::OffAndOn),
            // It cannot be switched off either: nothing was done.
            Err(error) if error.is_lack() => Err(lack),
            Err(error) => Err(error),
        }
    }

    /// From `next` on. An error that is a lack: it cannot be switched off.
    async fn off_and_on<F>(
        &self,
        next: PowerState,
        wanted: &'static str,
        deadline: Deadline,
        mut told: impl FnMut(PowerState) -> F + Send,
    ) -> Result<(), BmcError>
    where
        F: Future<Output = ()> + Send,
    {
        let stopped = |now, reason| BmcError::HalfRestarted { wanted, now, reason };
        if next == PowerState::Off {
            told(PowerState::Off).await;
            // What is left is for the way back: better late than off.
            let off_by = Deadline::after(deadline.remaining().mul_f64(FOR_OFF));
            match self.bring(PowerState::Off, off_by, || ()).await {
                Ok(true) => {}
                Ok(false) => {
                    let why = "expected it to read off after the command to switch it off, seen on";
                    return Err(stopped(None, why.to_owned()));
                }
                Err(error) if error.is_lack() => return Err(error),
                Err(error) => return Err(stopped(None, error.to_string())),
            }
        }
        told(PowerState::On).await;
        match self.bring(PowerState::On, deadline, || ()).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = "expected it to read on after the command to switch it on, seen off";
                Err(stopped(None, why.to_owned()))
            }
            Err(error) => {
                // Only where it was surely not switched on: a machine that comes on is not off.
                let off = error.is_lack() || error.was_not_begun();
                Err(stopped(off.then_some(PowerState::Off), error.to_string()))
            }
        }
    }

    /// As [`Bmc::ensure_power`], and what passes is waited for as long as there is time: a machine is not left half-way for one
    /// answer that was late. `taken` hears when the BMC has taken the command, or needs none, whatever reads back afterwards.
    pub async fn bring(
        &self,
        wanted: PowerState,
        until: Deadline,
        mut taken: impl FnMut() + Send,
    ) -> Result<bool, BmcError> {
        // Both commands are idempotent: whether one that was not answered has arrived is all the same.
        let passes = |error: &BmcError| error.is_transient() || matches!(error, BmcError::AnswerLost { .. });
        loop {
            let brought = match self.command_power(wanted, until).await {
                Ok(()) => {
                    taken();
                    self.wait_power(wanted, until).await
                }
                Err(error) => Err(error),
            };
            match brought {
                Err(error) if passes(&error) && until.remaining() > AGAIN => {
                    tracing::debug!(%error, wanted = wanted.as_str(), "not yet");
                    tokio::time::sleep(AGAIN).await;
                }
                ended => return ended,
            }
        }
    }
}

/// Hears nothing.
fn nobody(_: PowerState) -> std::future::Ready<()> {
    std::future::ready(())
}

/// In errors.
const HARD_RESET: &str = "hard reset";

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(1);

/// The part of the time in which it has to go off. BMCs take up to some ten seconds for that, and most take less for on.
const FOR_OFF: f64 = 2.0 / 3.0;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::Power;

    /// What was done, and whether it has a cycle.
    struct Machine {
        done: Arc<Mutex<Vec<&'static str>>>,
        on: Mutex<bool>,
        cycles: bool,
        /// So many reads get no answer, once it has been switched.
        deaf: Mutex<u32>,
    }

    impl Machine {
        fn does(&self, what: &'static str, on: bool) -> Result<(), BmcError> {
            self.done.lock().unwrap().push(what);
            *self.on.lock().unwrap() = on;
            Ok(())
        }

        fn event(&self, what: &'static str) -> Result<(), BmcError> {
            let addr = ([192, 0, 2, 1], 443).into();
            let lack = BmcError::NotOffered { addr, wanted: what, expected: vec![], offered: vec![] };
            if self.cycles { self.does(what, true) } else { Err(lack) }
        }
    }

    #[async_trait::async_trait]
    impl Power for Machine {
        async fn power_status(&self, _: Deadline) -> Result<PowerState, BmcError> {
            let mut deaf = self.deaf.lock().unwrap();
            if *deaf > 0 && !self.done.lock().unwrap().is_empty() {
                *deaf -= 1;
                let addr = ([192, 0, 2, 1], 443).into();
                return Err(BmcError::AnswerLost { addr, command: "a read", power_now: None });
            }
            Ok(if *self.on.lock().unwrap() { PowerState::On } else { PowerState::Off })
        }
        async fn power_on(&self, _: Deadline) -> Result<(), BmcError> {
            self.does("on", true)
        }
        async fn power_off(&self, _: Deadline) -> Result<(), BmcError> {
            self.does("off", false)
        }
        async fn power_soft(&self, _: Deadline) -> Result<(), BmcError> {
            self.does("soft", false)
        }
        async fn power_cycle(&self, _: Deadline) -> Result<(), BmcError> {
            self.event("cycle")
        }
        async fn power_reset(&self, _: Deadline) -> Result<(), BmcError> {
            self.event("reset")
        }
    }

    #[tokio::test]
    async fn a_driver_that_has_the_command_comes_before_off_and_on() {
        let soon = || Deadline::after(Duration::from_secs(60));
        let made: &[&str] = &["off", "on", "off", "on"];
        for (second, how, expected) in [
            (None, Restarted::OffAndOn, made),
            (Some(false), Restarted::OffAndOn, made),
            (Some(true), Restarted::ByBmc, &["cycle", "reset"][..]),
        ] {
            let done: Arc<Mutex<Vec<&'static str>>> = Arc::default();
            let driver = |name, cycles| {
                let (done, on) = (Arc::clone(&done), Mutex::new(true));
                let machine = Machine { done, on, cycles, deaf: Mutex::default() };
                Bmc::new(name).with_power(Arc::new(machine))
            };
            let first = driver("first", false);
            let bmc = match second {
                Some(cycles) => first.or(driver("second", cycles)),
                None => first,
            };
            assert_eq!(bmc.power_cycle(soon()).await, Ok(how), "{second:?}");
            assert_eq!(bmc.power_reset(soon()).await, Ok(how), "{second:?}");
            assert_eq!(*done.lock().unwrap(), expected, "{second:?}");
        }
    }

    /// As by a program that ends when it has heard of one half, before that is sent, and when it is done: another goes on from
    /// there, with one off and one on in all.
    #[tokio::test(start_paused = true)]
    async fn a_reset_by_off_and_on_is_finished_from_where_it_was_and_the_machine_ends_on() {
        let soon = || Deadline::after(Duration::from_secs(60));
        for (ended_at, sent_before) in
            [(PowerState::Off, 0), (PowerState::Off, 1), (PowerState::On, 1), (PowerState::On, 2)]
        {
            let done: Arc<Mutex<Vec<&'static str>>> = Arc::default();
            let machine = Machine {
                done: Arc::clone(&done),
                on: Mutex::new(true),
                cycles: false,
                deaf: Mutex::default(),
            };
            let bmc = Bmc::new("first").with_power(Arc::new(machine));
            let heard = Mutex::new(None);
            let reached = tokio::sync::Notify::new();
            let first = bmc.power_reset_telling(soon(), |next| {
                *heard.lock().unwrap() = Some(next);
                let ends = next == ended_at;
                let reached = &reached;
                async move {
                    if ends {
                        reached.notify_one();
                        std::future::pending::<()>().await;
                    }
                }
            });
            tokio::select! {
                ended = first => panic!("{ended:?}"),
                () = reached.notified() => {}
            }
            // What it was about to send may have been sent.
            let is_sent = sent_before > done.lock().unwrap().len();
            match (ended_at, is_sent) {
                (PowerState::Off, true) => bmc.power_off(soon()).await.unwrap(),
                (PowerState::On, true) => bmc.power_on(soon()).await.unwrap(),
                _ => {}
            }
            let next = heard.lock().unwrap().unwrap();
            let mut after = Vec::new();
            let told = |next| {
                after.push(next);
                std::future::ready(())
            };
            assert_eq!(bmc.finish_reset(next, soon(), told).await, Ok(()));
            assert_eq!(*done.lock().unwrap(), ["off", "on"], "{ended_at:?} {sent_before}");
            let expected: &[_] = match ended_at {
                PowerState::Off => &[PowerState::Off, PowerState::On],
                PowerState::On => &[PowerState::On],
            };
            assert_eq!(after, expected);
        }
    }

    /// Whoever answers for it must know that it was told, even if nobody sees what came of it.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_was_taken_is_heard_of_though_its_end_is_not_seen() {
        for (deaf, brought) in [(0, Some(true)), (3, Some(true)), (u32::MAX, None)] {
            let done: Arc<Mutex<Vec<&'static str>>> = Arc::default();
            let machine = Machine {
                done: Arc::clone(&done),
                on: Mutex::new(true),
                cycles: false,
                deaf: Mutex::new(deaf),
            };
            let bmc = Bmc::new("first").with_power(Arc::new(machine));
            let mut taken = 0;
            let seen =
                bmc.bring(PowerState::Off, Deadline::after(Duration::from_secs(30)), || taken += 1).await;
            assert_eq!(seen.as_ref().ok().copied(), brought, "{seen:?}");
            assert!(taken >= 1 && done.lock().unwrap()[..] == ["off"], "{taken} {done:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_is_not_left_off_for_an_answer_that_is_late() {
        let done: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let machine =
            Machine { done: Arc::clone(&done), on: Mutex::new(true), cycles: false, deaf: Mutex::new(3) };
        let bmc = Bmc::new("first").with_power(Arc::new(machine));
        let deadline = Deadline::after(Duration::from_secs(60));
        assert_eq!(bmc.power_reset(deadline).await, Ok(Restarted::OffAndOn));
        assert_eq!(done.lock().unwrap().last(), Some(&"on"));
    }
}
