//! Sessions are few at a BMC: none is lost, and none waits for those of others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;
use crate::support::PASSWORD;
use farrier_bmc::ipmi::Pins;
use farrier_sim::bmc::BmcServer;

/// A rack of which two thirds lose their power after they have been looked at.
#[tokio::test]
async fn bmcs_that_die_keep_no_other_waiting() {
    let tuning = Tuning { idle_close: Duration::from_millis(300), concurrent_opens: 2, ..quick() };
    let hub = IpmiHub::bind_with(tuning).await.unwrap();
    let mut labs = Vec::new();
    for _ in 0..60 {
        labs.push(Lab::start_with(quick(), |_| {}).await);
    }
    let bmcs: Vec<_> = labs.iter().map(|lab| hub.bmc(lab.address())).collect();
    let looks = bmcs.iter().map(|bmc| bmc.power_status(Deadline::after(Duration::from_secs(60))));
    for seen in futures::future::join_all(looks).await {
        assert_eq!(seen, Ok(PowerState::Off));
    }
    // Each of them needs a session again.
    while labs.iter().any(|lab| lab.bmc.session_count() > 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (dead, healthy) = labs.split_at(40);
    dead.iter().for_each(|lab| lab.bmc.set_faults(Faults { silent: true, ..Faults::default() }));
    let begin = Instant::now();
    let long = Deadline::after(Duration::from_secs(60));
    let died = futures::future::join_all(bmcs[..40].iter().map(|bmc| bmc.power_status(long)));
    let lives = futures::future::join_all(bmcs[40..].iter().map(async |bmc| {
        let seen = bmc.power_status(long).await;
        (seen, begin.elapsed())
    }));
    let (died, lives) = tokio::join!(died, lives);
    for seen in died {
        assert!(matches!(seen, Err(BmcError::Unreachable { .. })), "{seen:?}");
    }
    assert_eq!(lives.len(), healthy.len());
    for (seen, after) in lives {
        assert_eq!(seen, Ok(PowerState::Off));
        // Two at a time, a dead one would take some three seconds of its place: a minute for all.
        assert!(after < Duration::from_secs(15), "{after:?}");
    }
    hub.shutdown().await;
    for lab in labs {
        lab.stop().await;
    }
}

/// The call is given up in every part of its life: before the log-in, in it, after it.
#[tokio::test]
async fn calls_that_are_given_up_leave_no_session_behind() {
    let lab = Lab::start(|config| config.max_sessions = 3).await;
    lab.bmc.set_faults(Faults { delay: Duration::from_millis(40), ..Faults::default() });
    for after in (0..24).map(|n| Duration::from_millis(15 * n)) {
        let bmc = lab.hub.bmc(lab.address());
        // By the caller, who goes away, and by the deadline.
        let _gone = tokio::time::timeout(after, bmc.power_status(soon())).await;
        let _late = bmc.power_status(Deadline::after(after)).await;
        drop(bmc);
    }
    lab.bmc.set_faults(Faults::default());
    let asked = Deadline::after(Duration::from_secs(10));
    assert_eq!(lab.client().power_status(asked).await, Ok(PowerState::Off));
    let given_back = async {
        while lab.bmc.session_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Sooner than the BMC ends them by itself.
    tokio::time::timeout(Duration::from_secs(15), given_back).await.expect("a session is left");
    lab.stop().await;
}

/// Each by a handle that is gone before the next, as of a command line that is called again and again.
#[tokio::test]
async fn what_went_wrong_with_an_account_is_known_to_whoever_asks_next() {
    let tuning = Tuning { tries: 3, ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let wrong = BmcAddress { password: Secret::new("wrong"), ..lab.address() };
    let ask = async |address: &BmcAddress| lab.hub.bmc(address.clone()).power_status(soon()).await;
    let is_open = |seen: &Result<PowerState, BmcError>| matches!(seen, Err(BmcError::CircuitOpen { .. }));
    for sent in [true, false, false, false, false] {
        let seen = ask(&wrong).await;
        assert!(seen.as_ref().is_err_and(BmcError::is_wrong_password), "{seen:?}");
        assert_eq!(is_open(&seen), !sent, "each try may count against the account");
    }
    // Somebody says that it is mended, and another account is another matter.
    lab.hub.forgive(&wrong);
    let seen = ask(&wrong).await;
    assert!(matches!(seen, Err(BmcError::WrongPassword { .. })), "{seen:?}");
    assert_eq!(ask(&lab.address()).await, Ok(PowerState::Off));

    lab.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    let mut opened = false;
    for _ in 0..6 {
        opened = is_open(&ask(&lab.address()).await);
        if opened {
            break;
        }
    }
    assert!(opened, "a dead BMC costs those who come later nothing");
    lab.stop().await;
}

/// Also not by a hub of later, which is told what this one has found out.
#[tokio::test]
async fn a_bmc_that_has_spoken_suite_17_is_not_asked_with_3_when_it_is_silent() {
    let tuning = Tuning { tries: 3, tries_in_old_session: 3, breaker_failures: 100, ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let pins = Arc::new(Pins::default());
    let hub = IpmiHub::bind_knowing(tuning, Arc::clone(&pins)).await.unwrap();
    hub.bmc(lab.address()).power_status(soon()).await.unwrap();
    assert_eq!(pins.all(), [lab.bmc.address()]);
    lab.bmc.set_faults(Faults { deaf_to_sha256: true, ..Faults::default() });
    lab.bmc.forget_sessions();
    let next = IpmiHub::bind_knowing(tuning, Arc::new(Pins::new(pins.all(), || ()))).await.unwrap();
    for hub in [&hub, &hub, &next] {
        let error = hub.bmc(lab.address()).power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::Unreachable { .. }), "{error}");
    }
    // Who does not know it takes the suite for one that the BMC ignores.
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    // A person says that it has the other one, and from then on it is found out.
    let said = hub.bmc(BmcAddress { cipher: Cipher::fixed(3).unwrap(), ..lab.address() });
    assert_eq!(said.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(
        (pins.all().len(), hub.bmc(lab.address()).power_status(soon()).await),
        (0, Ok(PowerState::Off))
    );
    hub.shutdown().await;
    next.shutdown().await;
    lab.stop().await;
}

#[tokio::test]
async fn a_bmc_that_refuses_suite_17_after_it_has_spoken_it_says_what_to_do() {
    let Lab { bmc, chassis, mut config, hub } = Lab::start(|_| {}).await;
    let addr = bmc.address();
    let client = hub.bmc(BmcAddress::new(addr, USER, Secret::new(PASSWORD)));
    client.power_status(soon()).await.unwrap();
    // Other firmware, or somebody in between.
    bmc.shutdown().await;
    config.suites = vec![CipherSuite::Suite3];
    let bmc = BmcServer::start(UdpSocket::bind(addr).await.unwrap(), config, chassis).unwrap();
    let mut seen = client.power_status(soon()).await;
    while matches!(seen, Err(BmcError::Unreachable { .. })) {
        seen = client.power_status(soon()).await;
    }
    let error = seen.unwrap_err();
    assert!(matches!(error, BmcError::CipherDowngrade { .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("`farrier node update NODE --bmc-cipher-suite 3`"), "{error}");
    hub.shutdown().await;
    bmc.shutdown().await;
}

/// Loses what comes from either side and is of one kind; counts the questions that begin a handshake.
async fn losing(server: SocketAddr, loses: fn(&[u8]) -> bool) -> (SocketAddr, Arc<AtomicU32>, JoinSet<()>) {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (addr, begun) = (front.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let (count, mut tasks) = (Arc::clone(&begun), JoinSet::new());
    tasks.spawn(async move {
        let (mut client, mut last) = (None, Vec::new());
        let (mut asked, mut told) = ([0; 1024], [0; 1024]);
        loop {
            let (datagram, out, to) = tokio::select! {
                Ok((length, peer)) = front.recv_from(&mut asked) => {
                    client = Some(peer);
                    let datagram = &asked[..length];
                    if kind(datagram) == OPEN_SESSION && datagram != last {
                        count.fetch_add(1, Ordering::Relaxed);
                        last = datagram.to_vec();
                    }
                    (datagram, &back, server)
                }
                Ok((length, _)) = back.recv_from(&mut told) => {
                    let Some(client) = client else { continue };
                    (&told[..length], &front, client)
                }
            };
            if !loses(datagram) {
                out.send_to(datagram, to).await.unwrap();
            }
        }
    });
    (addr, begun, tasks)
}

/// Payload types of session set-up (IPMI 2.0 Table 13-16).
const OPEN_SESSION: u8 = 0x10;
const RAKP_1: u8 = 0x12;
const RAKP_2: u8 = 0x13;
const RAKP_3: u8 = 0x14;
const RAKP_4: u8 = 0x15;

fn kind(datagram: &[u8]) -> u8 {
    datagram.get(5).copied().unwrap_or(0)
}

/// Each of them would have one of its few slots until the BMC's own time-out.
#[tokio::test]
async fn a_handshake_that_ends_in_silence_leaves_nothing_behind_and_begins_again_once() {
    // The one that gives up has another status.
    let kinds: [fn(&[u8]) -> bool; 4] = [
        |datagram| kind(datagram) == RAKP_1,
        |datagram| kind(datagram) == RAKP_2,
        |datagram| kind(datagram) == RAKP_3 && datagram.get(17) == Some(&0),
        |datagram| kind(datagram) == RAKP_4,
    ];
    for loses in kinds {
        let tuning = Tuning { tries: 4, tries_in_old_session: 2, ..quick() };
        let lab = Lab::start_with(tuning, |config| config.max_sessions = 1).await;
        let (addr, begun, _relay) = losing(lab.bmc.address(), loses).await;
        let error = lab.hub.bmc(BmcAddress { addr, ..lab.address() }).power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::Unreachable { .. }), "{error}");
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off), "its only slot is free");
        lab.stop().await;
    }
}

/// As the watch does it, with the times made shorter in proportion.
#[tokio::test]
async fn polls_with_pauses_between_them_are_one_log_in() {
    let tuning = Tuning { keep_alive: Duration::from_millis(200), ..quick() };
    let lab = Lab::start_with(tuning, |config| config.idle_timeout = Duration::from_secs(1)).await;
    let bmc = lab.client();
    for _ in 0..3 {
        assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
        // Longer than the BMC's patience, by as many signs of life.
        let (begin, before) = (Instant::now(), lab.bmc.datagrams());
        while lab.bmc.datagrams() < before + 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begin.elapsed() > lab.config.idle_timeout, "{:?}", begin.elapsed());
    }
    assert_eq!((lab.bmc.log_ins(), lab.bmc.session_count()), (1, 1));
    // One that dies meanwhile is found dead, not asked for ever, and found again.
    lab.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    lab.bmc.forget_sessions();
    let before = lab.bmc.datagrams();
    while lab.bmc.datagrams() < before + 9 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.bmc.set_faults(Faults::default());
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(lab.bmc.log_ins(), 2);
    lab.stop().await;
}

/// In turn what nobody can read, and what is no answer: the question itself.
#[tokio::test]
async fn rubbish_in_turn_with_what_is_no_answer_is_given_up_as_soon() {
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = peer.local_addr().unwrap();
    let answers = tokio::spawn(async move {
        let mut datagram = [0; 512];
        for n in 0_u32.. {
            let (length, from) = peer.recv_from(&mut datagram).await.unwrap();
            let answer = if n % 2 == 0 { &[0xFF; 20][..] } else { &datagram[..length] };
            peer.send_to(answer, from).await.unwrap();
        }
    });
    let hub = IpmiHub::bind_with(Tuning { tries: 1000, ..quick() }).await.unwrap();
    let bmc = hub.bmc(BmcAddress::new(addr, USER, Secret::new("S3cret")));
    let error = bmc.power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::Garbled { count: 2, .. }), "{error}");
    hub.shutdown().await;
    answers.abort();
}
