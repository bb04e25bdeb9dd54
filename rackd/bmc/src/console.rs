//! Capability: the serial console.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Bmc, BmcError, Capability, Deadline};

/// Opens a machine's serial console.
#[async_trait]
pub trait Console: Send + Sync {
    /// A line to the serial port, until it is dropped or ends by itself: see [`ConsoleEvent::Ended`]. A BMC has one
    /// to give; `take_over` takes it from whoever has it, else that is refused: [`BmcError::ConsoleTaken`].
    async fn open_console(&self, take_over: bool, deadline: Deadline) -> Result<ConsoleLine, BmcError>;
}

/// A line to a serial port. Dropping it gives the console back to the BMC.
#[derive(Debug)]
pub struct ConsoleLine {
    /// What comes from the machine. Who does not read it stops the machine's output, in the BMC, and may lose some.
    pub events: mpsc::Receiver<ConsoleEvent>,
    /// What goes to the machine.
    pub input: mpsc::Sender<ConsoleInput>,
    /// Cancelled when the BMC has the console back, or when there is nothing left to try for that.
    pub given_back: CancellationToken,
}

impl ConsoleLine {
    /// Gives the console back to the BMC, and waits until it has it; a BMC that does not answer is not waited for for long.
    pub async fn close(self) {
        let Self { events, input, given_back } = self;
        drop((events, input));
        if tokio::time::timeout(GIVEN_BACK, given_back.cancelled()).await.is_err() {
            tracing::debug!("a bmc does not say whether it has its console back");
        }
    }
}

/// Longer than any driver tries.
const GIVEN_BACK: Duration = Duration::from_secs(5);

/// Something from the machine or its BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// Characters.
    Output(Vec<u8>),
    /// The BMC lost characters.
    Overrun,
    /// A BREAK from the machine.
    Break,
    /// The serial port takes nothing now: the machine is off or in reset.
    Unavailable,
    /// Something for the machine was not sent, and why; the line goes on.
    Refused(&'static str),
    /// The line is gone; the last event.
    Ended(BmcError),
}

/// Something for the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleInput {
    /// Characters.
    Chars(Vec<u8>),
    /// A BREAK.
    Break,
    /// A BREAK and right behind it a character: Linux takes that for a magic SysRq. Where no BREAK can be sent the
    /// character is not typed either. Over SOL nobody says that a BREAK has arrived (IPMI 2.0 §15.9 acknowledges
    /// characters), and of two Linux takes the second as the first's end: where its datagram is lost, the character is typed.
    MagicSysRq(u8),
}

impl Bmc {
    /// Adds the serial console.
    #[must_use]
    pub fn with_console(mut self, console: Arc<dyn Console>) -> Self {
        self.console = Some((self.driver(), console));
        self
    }

    /// See [`Console::open_console`]. Where two drivers have one, the second's where the BMC has not got the first's.
    pub async fn open_console(&self, take_over: bool, deadline: Deadline) -> Result<ConsoleLine, BmcError> {
        let first = self.either(Capability::Console, |bmc| async move {
            bmc.give(&bmc.console, Capability::Console)?.open_console(take_over, deadline).await
        });
        let Some((driver, spare)) = &self.spare_console else { return first.await };
        let lack = match self.turned_out_without_first_console() {
            true => None,
            false => match first.await {
                Err(error) if error.is_lack() => Some(error),
                ended => return ended,
            },
        };
        match (spare.open_console(take_over, deadline).await, lack) {
            (Ok(line), _) => {
                self.gave.set(Capability::Console, Some(*driver));
                Ok(line)
            }
            // Neither has one: the first is the one that was asked for.
            (Err(error), Some(lack)) if error.is_lack() => Err(lack),
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The BMC has one, or says why it has none.
    struct One(Result<(), BmcError>);

    #[async_trait]
    impl Console for One {
        async fn open_console(&self, _: bool, _: Deadline) -> Result<ConsoleLine, BmcError> {
            let (_, events) = mpsc::channel(1);
            let (input, given_back) = (mpsc::channel(1).0, CancellationToken::new());
            self.0.clone().map(|()| ConsoleLine { events, input, given_back })
        }
    }

    fn none(driver: &'static str) -> BmcError {
        BmcError::Unsupported { driver, capability: Capability::Console.as_str() }
    }

    /// As `auto` has them, and what becomes of a console: who gave it, or why nobody did.
    async fn opened(
        redfish: Result<(), BmcError>,
        ipmi: Result<(), BmcError>,
    ) -> Result<&'static str, BmcError> {
        let one = |driver, what| Bmc::new(driver).with_console(Arc::new(One(what)));
        // Under the vendor's name it is made anew in front of both.
        let both = one("redfish", redfish.clone()).or(one("ipmi", ipmi));
        let both = one("ilo", redfish).or(both);
        assert_eq!(both.driver_of(Capability::Console), Some("ipmi"), "nobody has asked");
        let deadline = Deadline::after(Duration::from_secs(60));
        let line = both.open_console(false, deadline).await;
        let again = both.open_console(false, deadline).await;
        assert_eq!(line.is_ok(), again.is_ok(), "what is known of the BMC changes nothing");
        line.map(|_| both.driver_of(Capability::Console).unwrap())
    }

    #[tokio::test]
    async fn a_console_is_ipmis_and_where_the_bmc_has_none_over_ipmi_it_is_redfishs() {
        let addr = ([192, 0, 2, 1], 623).into();
        let taken = BmcError::ConsoleTaken { addr };
        assert_eq!(opened(Ok(()), Ok(())).await, Ok("ipmi"));
        assert_eq!(opened(Ok(()), Err(none("ipmi"))).await, Ok("ilo"));
        // Somebody else's is no lack: nobody comes in by the other door.
        assert_eq!(opened(Ok(()), Err(taken.clone())).await, Err(taken));
        assert!(opened(Err(none("redfish")), Err(none("ipmi"))).await.is_err_and(|error| error.is_lack()));
        let unknown = BmcError::ShuttingDown;
        assert_eq!(opened(Err(unknown.clone()), Err(none("ipmi"))).await, Err(unknown));
    }
}
