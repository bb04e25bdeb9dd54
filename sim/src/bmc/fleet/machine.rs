//! A machine that may lie about its power to whoever asks, over either protocol.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::bmc::{
    BootFlags, Chassis, ChassisError, ChassisIdentify, MemoryChassis, PowerAction, PowerState, SerialPort,
};

/// What a machine's power is said to be, and what pressing its button does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    /// A change is told so much later.
    pub lag: Duration,
    /// This is said, whatever is true.
    pub says: Option<Said>,
    /// The button is pressed, yes is said, and nothing happens.
    pub ignores_button: bool,
    /// Its operating system takes so long from a soft power off until it is off.
    pub soft_takes: Duration,
}

/// What is said of the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// Always on.
    On,
    /// Always off.
    Off,
    /// Never the truth.
    Opposite,
}

/// What it says on its serial port when it starts.
const BANNER: &str = "\r\nA pretend machine starts.\r\npretend login: ";

/// A machine with [`Lies`] in front of it.
pub struct Machine {
    inner: Arc<dyn Chassis>,
    told: Mutex<Told>,
    /// Its operating system was asked to shut down.
    asked: Notify,
}

#[derive(Debug, Default)]
struct Told {
    lies: Lies,
    /// The power before its last change, and when that was.
    before: Option<(PowerState, Instant)>,
    /// When its operating system will have shut down.
    off_at: Option<Instant>,
}

impl Default for Machine {
    /// A pretend one.
    fn default() -> Self {
        Self::before(Arc::new(MemoryChassis::saying(BANNER)))
    }
}

impl Machine {
    /// In front of another one, which is the truth.
    #[must_use]
    pub fn before(inner: Arc<dyn Chassis>) -> Self {
        Self { inner, told: Mutex::default(), asked: Notify::new() }
    }

    /// From now on.
    pub fn set_lies(&self, lies: Lies) {
        self.told().lies = lies;
    }

    /// The operating system has shut down by now, if it was asked to and has had its time.
    async fn shut_down(&self) {
        let is_due = self.told().off_at.take_if(|at| *at <= Instant::now()).is_some();
        if is_due && let Err(error) = self.press(PowerAction::Soft).await {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "a machine did not shut down"
            );
        }
    }

    async fn press(&self, action: PowerAction) -> Result<(), ChassisError> {
        let before = self.inner.power().await;
        self.inner.set_power(action).await?;
        if self.inner.power().await != before {
            self.told().before = Some((before, Instant::now()));
        }
        Ok(())
    }

    /// Never held across an await.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Chassis for Machine {
    async fn power(&self) -> PowerState {
        self.shut_down().await;
        self.inner.power().await
    }

    async fn told_power(&self) -> PowerState {
        let truth = self.power().await;
        let told = self.told();
        let late = told.before.filter(|(_, at)| at.elapsed() < told.lies.lag).map(|(before, _)| before);
        match (told.lies.says, truth) {
            (Some(Said::On), _) | (Some(Said::Opposite), PowerState::Off) => PowerState::On,
            (Some(Said::Off), _) | (Some(Said::Opposite), PowerState::On) => PowerState::Off,
            (None, truth) => late.unwrap_or(truth),
        }
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), ChassisError> {
        let lies = self.told().lies;
        if lies.ignores_button {
            return Ok(());
        }
        self.shut_down().await;
        if action == PowerAction::Soft
            && !lies.soft_takes.is_zero()
            && self.inner.power().await == PowerState::On
        {
            self.told().off_at.get_or_insert(Instant::now() + lies.soft_takes);
            self.asked.notify_one();
            return Ok(());
        }
        self.press(action).await?;
        if action.boots(PowerState::On) || action == PowerAction::Off {
            // What was shutting down is no more.
            self.told().off_at = None;
        }
        Ok(())
    }

    async fn boot_flags(&self) -> BootFlags {
        self.inner.boot_flags().await
    }

    async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), ChassisError> {
        self.inner.set_boot_flags(flags).await
    }

    async fn set_media(&self, url: Option<&str>) -> Result<(), ChassisError> {
        self.inner.set_media(url).await
    }

    async fn identify(&self, identify: ChassisIdentify) {
        self.inner.identify(identify).await;
    }

    async fn identified(&self) -> Option<ChassisIdentify> {
        self.inner.identified().await
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        self.inner.serial()
    }

    async fn stirred(&self) {
        loop {
            let off_at = self.told().off_at;
            let shuts_down = async {
                match off_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inner.stirred() => return,
                () = self.asked.notified() => {}
                () = shuts_down => {
                    self.shut_down().await;
                    return;
                }
            }
        }
    }
}
