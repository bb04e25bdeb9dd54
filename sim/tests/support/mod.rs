//! A UDP proxy that loses, delays, copies and mangles datagrams, and a lab around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, IpmiHub, Tuning};
use farrier_bmc::{Bmc, Deadline, Secret};
use farrier_sim::bmc::{BmcConfig, BmcHandle, BmcServer, MemoryChassis};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

pub(crate) const USER: &str = "admin";
pub(crate) const PASSWORD: &str = "S3cret-of-20-bytes!!";

/// Quick enough for a test, with enough tries to get through five per cent of loss for certain.
pub(crate) fn quick() -> Tuning {
    Tuning {
        first_timeout: Duration::from_millis(60),
        max_timeout: Duration::from_millis(400),
        tries: 10,
        tries_in_old_session: 8,
        single_shot_timeout: Duration::from_millis(400),
        min_interval: Duration::ZERO,
        busy_delay: Duration::from_millis(20),
        ..Tuning::default()
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A simulated BMC and a hub.
pub(crate) struct Lab {
    pub(crate) bmc: BmcHandle,
    pub(crate) chassis: Arc<MemoryChassis>,
    pub(crate) config: BmcConfig,
    pub(crate) hub: IpmiHub,
}

impl Lab {
    pub(crate) async fn start(change: impl FnOnce(&mut BmcConfig)) -> Self {
        Self::start_with(quick(), change).await
    }

    pub(crate) async fn start_with(tuning: Tuning, change: impl FnOnce(&mut BmcConfig)) -> Self {
        let mut config = BmcConfig::new(USER, Secret::new(PASSWORD));
        change(&mut config);
        let chassis = Arc::new(MemoryChassis::new());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bmc = BmcServer::start(socket, config.clone(), chassis.clone()).unwrap();
        Self { bmc, chassis, config, hub: IpmiHub::bind_with(tuning).await.unwrap() }
    }

    pub(crate) fn address(&self) -> BmcAddress {
        BmcAddress::new(self.bmc.address(), USER, Secret::new(PASSWORD))
    }

    pub(crate) fn client(&self) -> Bmc {
        self.hub.bmc(self.address())
    }

    /// The hub first: its actors close their sessions.
    pub(crate) async fn stop(self) {
        self.hub.shutdown().await;
        self.bmc.shutdown().await;
    }
}

/// What the network does to each datagram, either way.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    /// Part of the datagrams that is held back, so that later ones overtake them.
    pub(crate) late: f64,
    pub(crate) late_by: Duration,
    /// Part of the datagrams that arrives twice.
    pub(crate) copied: f64,
    /// Mangled copies and random bytes sent along with each datagram, with the true sender's address.
    pub(crate) garbage: u32,
}

impl Weather {
    pub(crate) const FINE: Self =
        Self { loss: 0.0, late: 0.0, late_by: Duration::ZERO, copied: 0.0, garbage: 0 };
}

/// Stands between one client and one server; ends with the returned set.
pub(crate) async fn proxy(server: SocketAddr, weather: Weather, seed: u64) -> (SocketAddr, JoinSet<()>) {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(forward(Arc::new(front), Arc::new(back), server, weather, StdRng::seed_from_u64(seed)));
    (address, tasks)
}

async fn forward(
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    server: SocketAddr,
    weather: Weather,
    mut rng: StdRng,
) {
    let mut client = None;
    let mut late = JoinSet::new();
    let (mut from_client, mut from_server) = (vec![0; 2048], vec![0; 2048]);
    loop {
        let (datagram, out, to) = tokio::select! {
            Ok((length, peer)) = front.recv_from(&mut from_client) => {
                client = Some(peer);
                (from_client[..length].to_vec(), &back, server)
            }
            Ok((length, _)) = back.recv_from(&mut from_server) => {
                let Some(client) = client else { continue };
                (from_server[..length].to_vec(), &front, client)
            }
        };
        for _ in 0..weather.garbage {
            let _ = out.send_to(&mangle(&datagram, &mut rng), to).await;
        }
        if rng.random_bool(weather.loss) {
            continue;
        }
        let copies = if rng.random_bool(weather.copied) { 2 } else { 1 };
        for _ in 0..copies {
            if rng.random_bool(weather.late) {
                let (out, datagram, by) = (Arc::clone(out), datagram.clone(), weather.late_by);
                late.spawn(async move {
                    tokio::time::sleep(by).await;
                    let _ = out.send_to(&datagram, to).await;
                });
            } else {
                let _ = out.send_to(&datagram, to).await;
            }
        }
    }
}

fn mangle(datagram: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    match rng.random_range(0..4) {
        // Behind the session header, so that the receiver has to get that far.
        0 if bytes.len() > 16 => {
            let at = rng.random_range(16..bytes.len());
            bytes[at] ^= rng.random_range(1..=255_u8);
        }
        1 => bytes.truncate(rng.random_range(0..=bytes.len())),
        2 => bytes.extend((0..rng.random_range(1..40)).map(|_| rng.random::<u8>())),
        _ => {
            let keep = rng.random_range(0..=bytes.len().min(16));
            bytes.iter_mut().skip(keep).for_each(|byte| *byte = rng.random());
        }
    }
    bytes
}
