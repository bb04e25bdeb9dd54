//! Our client, over both protocols.

use std::sync::Arc;

use farrier_bmc::ipmi::{BmcAddress, IpmiHub, Tuning};
use farrier_bmc::redfish::{self, Dial, DialError, RedfishAddress, RedfishHub, Stream, Trust};
use farrier_bmc::{Bmc, Deadline, PowerState, Secret};
use farrier_identity::device::{DeviceError, DeviceTrust, connect};
use tokio::net::TcpStream;

use super::*;

pub(crate) struct Hubs {
    ipmi: IpmiHub,
    redfish: RedfishHub,
}

impl Hubs {
    pub(crate) async fn start() -> Self {
        let quick = Duration::from_millis(20);
        let ipmi = Tuning {
            first_timeout: Duration::from_millis(100),
            max_timeout: Duration::from_millis(400),
            tries: 8,
            tries_in_old_session: 4,
            single_shot_timeout: Duration::from_millis(400),
            min_interval: Duration::ZERO,
            busy_delay: quick,
            ..Tuning::default()
        };
        let redfish = redfish::Tuning { busy_delay: quick, ..redfish::Tuning::default() };
        Self {
            ipmi: IpmiHub::bind_with(ipmi).await.unwrap(),
            redfish: RedfishHub::with(Arc::new(PinnedDial), redfish),
        }
    }

    pub(crate) fn ipmi(&self, program: &Program, number: usize) -> Bmc {
        let address = BmcAddress::new(program.bmcs[number].ipmi, USER, Secret::new(PASSWORD));
        self.ipmi.bmc(address)
    }

    pub(crate) fn redfish(&self, program: &Program, number: usize) -> Bmc {
        let bmc = &program.bmcs[number];
        let trust = Trust::Pin(bmc.sha256);
        self.redfish.bmc(RedfishAddress::new(bmc.redfish, USER, Secret::new(PASSWORD), trust))
    }

    pub(crate) async fn stop(self) {
        self.ipmi.shutdown().await;
        self.redfish.shutdown().await;
    }
}

/// TLS with the certificate that the program told.
struct PinnedDial;

#[async_trait::async_trait]
impl Dial for PinnedDial {
    async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        let Trust::Pin(pin) = address.trust else { panic!("{:?}", address.trust) };
        let stream = TcpStream::connect(address.addr).await?;
        match connect(stream, &address.host, &DeviceTrust::Pin(pin)).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(DeviceError::Certificate(seen)) => Err(DialError::Certificate(seen)),
            Err(error @ DeviceError::WeakKey(_)) => Err(DialError::WeakKey(error.to_string())),
            Err(DeviceError::Tls(seen)) => Err(DialError::Tls(seen)),
        }
    }
}

pub(crate) fn later() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Both protocols, TLS and sessions included.
const MOST_BYTES_EACH: usize = 100 << 10;
const COUNT: usize = 500;

#[tokio::test]
async fn five_hundred_bmcs_in_one_process_are_all_asked_over_both_protocols_and_cost_little_each() {
    let program = Program::start(COUNT, "", &["--personality", PERSONALITIES]).await;
    let hubs = Hubs::start().await;
    // Each on its own: what is done to one is done to no other.
    for number in (0..COUNT).step_by(7) {
        hubs.ipmi(&program, number).power_on(later()).await.unwrap();
    }
    let expected = |number: usize| if number.is_multiple_of(7) { PowerState::On } else { PowerState::Off };
    let asked: Vec<(usize, Bmc, Bmc)> = (0..COUNT)
        .map(|number| (number, hubs.ipmi(&program, number), hubs.redfish(&program, number)))
        .collect();
    let each = asked.iter().map(async |(number, ipmi, redfish)| {
        assert_eq!(ipmi.power_status(later()).await, Ok(expected(*number)), "{number}");
        assert_eq!(redfish.power_status(later()).await, Ok(expected(*number)), "{number}");
    });
    futures::StreamExt::collect::<()>(futures::StreamExt::buffer_unordered(futures::stream::iter(each), 32))
        .await;
    let bytes = resident(program.child.id().unwrap()) / COUNT;
    assert!(bytes < MOST_BYTES_EACH, "{bytes} bytes each");
    drop(asked);
    hubs.stop().await;
    program.stop().await;
}
