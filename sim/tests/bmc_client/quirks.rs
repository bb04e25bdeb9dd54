//! Products that are slow, and how long they are waited for: our client knows them by Get Device ID.

use std::sync::Arc;

use farrier_bmc::Bmc;
use farrier_sim::bmc::fleet::{Lies, Machine};
use farrier_sim::bmc::{BmcConfig, BmcHandle, BmcServer, MemoryChassis};
use tokio::net::UdpSocket;

use super::support::PASSWORD;
use super::*;

/// The OpenBMC project's.
const OPENBMC: u32 = 49_871;
/// Nobody's that there is a row for.
const NOBODY: u32 = 0xF_FFFF;

/// A BMC of some manufacturer before a machine that lies.
struct Slow {
    bmc: BmcHandle,
    truth: Arc<MemoryChassis>,
    machine: Arc<Machine>,
    hub: IpmiHub,
}

impl Slow {
    async fn start(manufacturer_id: u32, lies: Lies) -> Self {
        let config = BmcConfig { manufacturer_id, ..BmcConfig::new(USER, Secret::new(PASSWORD)) };
        let truth = Arc::new(MemoryChassis::new());
        let machine = Arc::new(Machine::before(truth.clone()));
        machine.set_lies(lies);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bmc = BmcServer::start(socket, config, machine.clone()).unwrap();
        Self { bmc, truth, machine, hub: IpmiHub::bind_with(quick()).await.unwrap() }
    }

    fn client(&self) -> Bmc {
        self.hub.bmc(BmcAddress::new(self.bmc.address(), USER, Secret::new(PASSWORD)))
    }

    async fn stop(self) {
        self.hub.shutdown().await;
        self.bmc.shutdown().await;
    }
}

/// What it tells, and whether that may be of before a change.
async fn told(bmc: &Bmc) -> (PowerState, bool) {
    let look = bmc.look(soon()).await.unwrap();
    (look.power, look.settling)
}

#[tokio::test]
async fn a_state_from_before_a_change_is_not_believed_of_a_product_that_lags() {
    let lies = Lies { lag: Duration::from_secs(3600), ..Lies::default() };
    let slow = Slow::start(OPENBMC, lies).await;
    let bmc = slow.client();
    assert_eq!(told(&bmc).await, (PowerState::Off, false), "nothing was changed");
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(told(&bmc).await, (PowerState::Off, true));
    // "Off" is what it was before: it is switched off all the same, and not taken for it.
    let ended = bmc.ensure_power(PowerState::Off, Deadline::after(Duration::from_secs(3))).await;
    assert_eq!(ended, Ok(false));
    assert_eq!(slow.truth.actions(), [PowerAction::On, PowerAction::Off]);
    slow.machine.set_lies(Lies::default());
    assert_eq!(told(&bmc).await, (PowerState::Off, false));
    slow.stop().await;

    // Nobody knows of this one that it lags.
    let slow = Slow::start(NOBODY, lies).await;
    let bmc = slow.client();
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(told(&bmc).await, (PowerState::Off, false));
    slow.stop().await;
}

#[tokio::test]
async fn a_change_that_is_told_late_is_waited_for_and_not_asked_for_twice() {
    let slow = Slow::start(OPENBMC, Lies { lag: Duration::from_millis(600), ..Lies::default() }).await;
    let bmc = slow.client();
    bmc.power_on(soon()).await.unwrap();
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    assert_eq!(slow.truth.actions(), [PowerAction::On]);
    slow.stop().await;
}

#[tokio::test]
async fn a_soft_off_that_takes_long_is_one_that_is_known() {
    for (manufacturer, takes) in [(OPENBMC, Duration::from_secs(300)), (NOBODY, Duration::ZERO)] {
        let slow =
            Slow::start(manufacturer, Lies { soft_takes: Duration::from_secs(5), ..Lies::default() }).await;
        let bmc = slow.client();
        assert_eq!(bmc.soft_off_takes(soon()).await, Ok(takes));
        assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
        bmc.power_soft(soon()).await.unwrap();
        assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::On), "it is shutting down");
        assert_eq!(bmc.wait_power(PowerState::Off, soon()).await, Ok(true));
        assert_eq!(slow.truth.actions(), [PowerAction::On, PowerAction::Soft]);
        slow.stop().await;
    }
}
