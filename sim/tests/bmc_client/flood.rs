//! A BMC that floods: all of them share one socket.

use std::net::{SocketAddr, UdpSocket as BlockingSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use farrier_sim::bmc::{BmcConfig, BmcServer, MemoryChassis};
use tokio::net::UdpSocket;

use super::support::PASSWORD;
use super::*;

/// Sends rubbish as fast as it can to whoever asks it something, from then on.
struct Flooder {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Flooder {
    fn start() -> Self {
        let socket = BlockingSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let (_, asker) = socket.recv_from(&mut [0; 2048]).unwrap();
            // As long as anything that is taken, and none of it can be read.
            let rubbish = [0xA5; 1024];
            while !stopped.load(Ordering::Relaxed) {
                // A full buffer is the receiver's trouble.
                if socket.send_to(&rubbish, asker).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, stop, sent, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_that_floods_the_socket_takes_no_answer_from_a_hundred_others() {
    let hub = IpmiHub::bind_with(Tuning { min_interval: Duration::ZERO, ..Tuning::default() }).await.unwrap();
    let mut servers = Vec::new();
    for _ in 0..100 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = BmcConfig::new(USER, Secret::new(PASSWORD));
        servers.push(BmcServer::start(socket, config, Arc::new(MemoryChassis::new())).unwrap());
    }
    let of = |address| hub.bmc(BmcAddress::new(address, USER, Secret::new(PASSWORD)));
    let flooder = Flooder::start();
    let hostile = of(flooder.address);
    let asking = {
        let hostile = hostile.clone();
        tokio::spawn(async move {
            loop {
                let _never = hostile.power_status(Deadline::after(Duration::from_secs(60))).await;
                tokio::task::yield_now().await;
            }
        })
    };
    while flooder.sent.load(Ordering::Relaxed) < 1000 {
        tokio::task::yield_now().await;
    }
    let healthy: Vec<_> = servers.iter().map(|server| of(server.address())).collect();
    for _ in 0..5 {
        let before = flooder.sent.load(Ordering::Relaxed);
        for seen in futures::future::join_all(healthy.iter().map(|bmc| bmc.power_status(soon()))).await {
            assert_eq!(seen, Ok(PowerState::Off));
        }
        while flooder.sent.load(Ordering::Relaxed) == before {
            tokio::task::yield_now().await;
        }
    }
    asking.abort();
    let sent = flooder.stop();
    assert!(sent > 10_000, "a flood of {sent}");
    hub.shutdown().await;
    for server in servers {
        server.shutdown().await;
    }
}
