//! A BMC whose own network is changed over IPMI, and that refuses, ignores, loses or makes up what it likes.

use super::redfish_client::{soon, told};
use crate::{head, messages};
use farrier_bmc::ipmi::{BmcAddress, IpmiHub, Tuning};
use farrier_bmc::{Bmc, NetworkSettings, NewAddress, Secret as Password, StaticAddress};
use farrier_ipmi::server::{Outcome, Request, Server, ServerConfig, User};
use farrier_ipmi::{CipherSuite, Secret};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// Datagrams that all calls together may send: tries are bounded, and so is what is put back.
const MOST_DATAGRAMS: usize = 1000;

pub fn run(data: &[u8]) {
    let ([mode], script) = head::<1>(data);
    let bmc = Arc::new(Mutex::new(Channel::new(mode, script)));
    let before = bmc.lock().unwrap().kept.clone();
    let at = Arc::clone(&bmc);
    let answer = move |asked: &Request| at.lock().unwrap().answer(asked);
    let datagrams = talk(Conduct { answer, sol: |_: u32, _: &mut Server| Vec::new() }, async |handle| {
        let wanted = wanted(mode);
        let set = handle.set_network(&wanted, soon()).await;
        if let Err(error) = set {
            let bmc = bmc.lock().unwrap();
            let says_so = error.to_string().contains("all is as it was");
            // What a BMC says that makes things up is not held against us.
            let same = before.iter().filter(|(number, _)| **number != IN_PROGRESS);
            let is_so = same.clone().all(|(number, old)| means_same(*number, &bmc.kept[number], old));
            assert!(!says_so || bmc.has_lied || is_so, "{error}: {:?}, and was {before:?}", bmc.kept);
            told(error);
        }
        if let Ok(settled) = handle.settle_network(&wanted, soon()).await.map_err(told) {
            if let Some(NewAddress::Static(address)) = wanted.address {
                assert_eq!(settled.address, Some(address.address()), "set, and not read back");
            }
            assert!(wanted.vlan.is_none_or(|vlan| vlan == settled.vlan), "set, and not read back");
        }
        let _ = handle.network(soon()).await.map(|seen| assert!(seen.warnings.len() <= 6)).map_err(told);
    });
    assert!(datagrams < MOST_DATAGRAMS, "{datagrams}");
}

fn wanted(mode: u8) -> NetworkSettings {
    let gateway = if mode & 4 == 0 { "192.0.2.1" } else { "" };
    let address = StaticAddress::parse("192.0.2.7", "255.255.255.0", gateway).unwrap();
    let vlan = match mode >> 3 & 3 {
        0 => None,
        1 => Some(None),
        _ => Some(Some(100)),
    };
    let address = if mode & 2 == 0 { NewAddress::Static(address) } else { NewAddress::Dhcp };
    NetworkSettings { address: Some(address), vlan, ..NetworkSettings::default() }
}

/// Parameter 0 (Table 23-4).
const IN_PROGRESS: u8 = 0;

/// As it is read: reserved bits, and the number of a VLAN that is off, mean nothing.
fn means_same(number: u8, one: &[u8], other: &[u8]) -> bool {
    let vlan = |data: &[u8]| match data {
        [low, high, ..] if high & 0x80 != 0 => Some((*low, high & 0x0F)),
        _ => None,
    };
    match number {
        4 => one.first().map(|source| source & 0x0F) == other.first().map(|source| source & 0x0F),
        20 => vlan(one) == vlan(other),
        _ => one == other,
    }
}

/// A LAN channel, and what it does instead of what it is asked.
struct Channel {
    kept: BTreeMap<u8, Vec<u8>>,
    script: Vec<Vec<u8>>,
    has_lied: bool,
}

impl Channel {
    fn new(mode: u8, script: &[u8]) -> Self {
        let source = if mode & 1 == 0 { 1 } else { 2 };
        let kept = [
            (IN_PROGRESS, vec![0]),
            (3, vec![192, 0, 2, 9]),
            (4, vec![source]),
            (5, vec![2, 0, 0, 0, 0, 1]),
            (6, vec![255, 255, 0, 0]),
            (12, vec![0; 4]),
            (20, vec![5, 0]),
        ];
        let mut script: Vec<_> = messages(script).map(<[u8]>::to_vec).collect();
        script.reverse();
        Self { kept: kept.into(), script, has_lied: false }
    }

    /// `None`: it is not answered.
    fn answer(&mut self, asked: &Request) -> Option<(u8, Vec<u8>)> {
        let honest = match (asked.message.netfn, asked.message.cmd, asked.message.data.as_slice()) {
            (0x0C, 0x02, [_, number, ..]) => match self.kept.get(number) {
                Some(kept) => (0, [&[0x11], kept.as_slice()].concat()),
                None => (0x80, Vec::new()),
            },
            (0x0C, 0x01, [_, number, data @ ..]) if self.kept.contains_key(number) => {
                return self.set(*number, data);
            }
            (0x0C, ..) => (0x80, Vec::new()),
            (netfn, cmd, _) => return Some(usual(netfn, cmd)),
        };
        let Some(next) = self.script.pop() else { return Some(honest) };
        let ([what], rest) = head::<1>(&next);
        match what % 8 {
            0..=3 => Some(honest),
            4 => Some((rest.first().copied().unwrap_or(0xC0), Vec::new())),
            5 => None,
            _ => {
                self.has_lied = true;
                Some((0, rest.to_vec()))
            }
        }
    }

    fn set(&mut self, number: u8, data: &[u8]) -> Option<(u8, Vec<u8>)> {
        let Some(next) = self.script.pop() else {
            self.kept.insert(number, data.to_vec());
            return Some((0, Vec::new()));
        };
        let ([what], rest) = head::<1>(&next);
        let data = if what % 8 == 7 { rest } else { data };
        let code = rest.first().copied().unwrap_or(0xC0);
        match what % 8 {
            // Refused: a yes would be a lie.
            0 if code != 0 => return Some((code, Vec::new())),
            // It says yes, and does nothing.
            1 => return Some((0, Vec::new())),
            // It does not arrive.
            2 => return None,
            _ => {}
        }
        self.kept.insert(number, data.to_vec());
        // It is done, and nobody hears of it.
        (what % 8 != 3).then(|| (0, Vec::new()))
    }
}

/// What an honest BMC answers to what goes with a session.
pub(super) fn usual(netfn: u8, cmd: u8) -> (u8, Vec<u8>) {
    match (netfn, cmd) {
        // Get Chassis Status: it is on.
        (0x00, 0x01) => (0, vec![1, 0, 0, 0]),
        // Get Device ID.
        (0x06, 0x01) => (0, vec![0x20, 1, 1, 0, 2, 0xBF, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        // Deactivate Payload.
        (0x06, 0x49) => (0, Vec::new()),
        _ => (0xC1, Vec::new()),
    }
}

/// How a pretended BMC answers.
pub(super) struct Conduct<A, S> {
    /// A command: a completion code and data; `None`: nothing.
    pub(super) answer: A,
    /// A packet of a console, by its session, or the time for one: datagrams.
    pub(super) sol: S,
}

/// What is done with a BMC that answers so; how many datagrams it got.
pub(super) fn talk<A, S>(mut conduct: Conduct<A, S>, calls: impl AsyncFnOnce(Bmc)) -> usize
where
    A: FnMut(&Request) -> Option<(u8, Vec<u8>)> + Send + 'static,
    S: FnMut(u32, &mut Server) -> Vec<Vec<u8>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&seen);
        let bmc = tokio::spawn(async move {
            let (mut server, mut buffer) = (server(), [0; 1024]);
            let mut entropy = |buffer: &mut [u8]| buffer.fill(0x5A);
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                *counted.lock().unwrap() += 1;
                let outcome = server.handle_datagram(Instant::now(), &buffer[..length], &mut entropy);
                let replies = match outcome {
                    Outcome::Reply(reply) => vec![reply],
                    Outcome::Request(asked) => {
                        let answer = (conduct.answer)(&asked);
                        answer
                            .and_then(|(code, data)| server.respond(&asked, code, &data, &mut entropy))
                            .into_iter()
                            .collect()
                    }
                    Outcome::Sol(arrived) => (conduct.sol)(arrived.session_id, &mut server),
                    Outcome::Ignored(_) => Vec::new(),
                };
                send(&socket, peer, replies).await;
            }
        });
        let hub = IpmiHub::bind_with(quick()).await.unwrap();
        calls(hub.bmc(BmcAddress::new(addr, "admin", Password::new("hunter2")))).await;
        hub.shutdown().await;
        bmc.abort();
        *seen.lock().unwrap()
    })
}

async fn send(socket: &UdpSocket, peer: SocketAddr, replies: Vec<Vec<u8>>) {
    for reply in replies {
        let _gone = socket.send_to(&reply, peer).await;
    }
}

fn server() -> Server {
    Server::new(ServerConfig {
        users: vec![User { name: "admin".into(), password: Secret::new("hunter2"), max_privilege: 4 }],
        kg: None,
        guid: [0xA5; 16],
        suites: vec![CipherSuite::Suite17],
        max_sessions: 4,
        idle_timeout: Duration::from_secs(60),
        handshake_timeout: Duration::from_secs(10),
    })
}

/// On loopback, where what is not there at once does not come.
fn quick() -> Tuning {
    Tuning {
        first_timeout: Duration::from_millis(15),
        max_timeout: Duration::from_millis(15),
        tries: 2,
        tries_in_old_session: 1,
        single_shot_timeout: Duration::from_millis(15),
        min_interval: Duration::ZERO,
        busy_delay: Duration::ZERO,
        breaker_failures: u32::MAX,
        refused_pause: Duration::ZERO,
        ..Tuning::default()
    }
}
