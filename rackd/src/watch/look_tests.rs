//! Looks at a BMC of a few lines, which says what a test has it say.

use super::list::{self, Watched, Words};
use super::look::{Seen, look};
use crate::bmc::Bmcs;
use farrier_bmc::{Health, PowerState};
use farrier_proto::inventory::{Bmc, WatchedNode};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the BMC is, from the next request on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// Its web server is up, and nothing behind it.
    Starting,
    /// It knows the password no more.
    Refuses,
    /// It has no system, and never gets one.
    Empty,
    /// Its machine is on its way from on to off.
    Leaving,
    /// It is well, and its machine is not.
    Ill,
    /// Another is at its address, with the same password.
    Another,
}

struct Rack {
    bmcs: Bmcs,
    mood: Arc<Mutex<Mood>>,
    watched: Watched,
    _dir: tempfile::TempDir,
    _served: JoinSet<()>,
}

impl Rack {
    async fn new(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mood, dir) = (Arc::new(Mutex::new(mood)), tempfile::tempdir().unwrap());
        let mut served = JoinSet::new();
        let asked = Arc::clone(&mood);
        served.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&asked)));
            }
        });
        let bmc = Bmc {
            driver: "redfish".into(),
            address,
            scheme: "http".into(),
            user: "u".into(),
            ..Bmc::default()
        };
        let (node, bmc_password) = ("nodes/n0".to_owned(), "x".to_owned());
        let node = WatchedNode {
            node,
            bmc: Some(bmc),
            bmc_password,
            bmc_next_password: String::new(),
            bmc_kg: String::new(),
        };
        let watched = Watched::new("nodes/n0", Arc::new(Words::of(node)));
        Self { bmcs: Bmcs::bind(dir.path(), None).await.unwrap(), mood, watched, _dir: dir, _served: served }
    }

    async fn look(&mut self, mood: Mood) -> Option<Seen> {
        *self.mood.lock().unwrap() = mood;
        look(&self.bmcs, &mut self.watched).await.map(|sighting| sighting.seen)
    }
}

async fn serve(mut stream: TcpStream, mood: Arc<Mutex<Mood>>) {
    let mut request = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut request).await {
        let path = String::from_utf8_lossy(&request[..length]);
        let path = path.split(' ').nth(1).unwrap_or_default();
        let (status, body) = match (*mood.lock().unwrap(), path) {
            (Mood::Starting, _) => ("200 OK", "<html>wait</html>"),
            (_, "/redfish/v1/") => (
                "200 OK",
                r##"{"RedfishVersion": "1.6.0", "Systems": {"@odata.id": "/redfish/v1/Systems"}}"##,
            ),
            (Mood::Refuses, _) => ("401 Unauthorized", "{}"),
            (Mood::Empty, _) => ("200 OK", r#"{"Members": []}"#),
            (Mood::Well | Mood::Leaving | Mood::Ill | Mood::Another, "/redfish/v1/Systems") => {
                ("200 OK", r#"{"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]}"#)
            }
            (Mood::Well, _) => ("200 OK", r#"{"PowerState": "On"}"#),
            (Mood::Another, _) => ("200 OK", r#"{"PowerState": "On", "SerialNumber": "B18"}"#),
            (Mood::Leaving, _) => ("200 OK", r#"{"PowerState": "PoweringOff"}"#),
            (Mood::Ill, _) => (
                "200 OK",
                r#"{"PowerState": "On", "SerialNumber": " A17", "Status": {"Health": "OK", "HealthRollup": "Critical"}}"#,
            ),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const ON: Seen = Seen::Power {
    state: PowerState::On,
    driver: "redfish",
    health: Health::Unknown,
    problem: String::new(),
    machine: None,
};

#[tokio::test]
async fn a_bmc_that_restarts_is_away_for_a_while_and_looked_at_all_the_time() {
    let mut rack = Rack::new(Mood::Well).await;
    assert_eq!(rack.look(Mood::Well).await, Some(ON));
    for _ in 0..2 {
        let seen = rack.look(Mood::Starting).await;
        assert!(matches!(&seen, Some(Seen::Unreachable(why)) if why.contains("restarting")), "{seen:?}");
    }
    assert_eq!(rack.look(Mood::Well).await, Some(ON), "at once");
    rack.bmcs.shutdown().await;
}

#[tokio::test]
async fn a_power_state_that_is_on_its_way_to_another_is_no_news_until_it_stays_so() {
    let mut rack = Rack::new(Mood::Well).await;
    assert_eq!(rack.look(Mood::Well).await, Some(ON));
    assert_eq!(rack.look(Mood::Leaving).await, None);
    assert_eq!(rack.look(Mood::Well).await, Some(ON));
    assert!(rack.watched.settling_since.is_none());
    // One that stays in between is told as it is.
    assert_eq!(rack.look(Mood::Leaving).await, None);
    assert!(!rack.watched.may_settle(Instant::now() + list::SETTLES));
    rack.bmcs.shutdown().await;
}

#[tokio::test]
async fn a_bmc_that_somebody_has_to_mend_is_failing_and_looked_at_again() {
    let mut rack = Rack::new(Mood::Empty).await;
    let seen = rack.look(Mood::Empty).await;
    assert!(matches!(&seen, Some(Seen::Failing(why)) if why.contains("--bmc-system")), "{seen:?}");
    assert_eq!(rack.look(Mood::Well).await, Some(ON), "at once");
    rack.bmcs.shutdown().await;
}

#[tokio::test]
async fn a_refused_password_is_asked_for_once_more_and_then_left_alone() {
    let mut rack = Rack::new(Mood::Well).await;
    assert_eq!(rack.look(Mood::Well).await, Some(ON));
    assert_eq!(rack.look(Mood::Refuses).await, None, "inventory is asked first");
    let seen = rack.look(Mood::Refuses).await;
    assert!(matches!(&seen, Some(Seen::Failing(why)) if why.contains("password")), "{seen:?}");
    assert!(rack.watched.not_before.is_some_and(|at| at > Instant::now()));
    assert_eq!(rack.look(Mood::Well).await, None, "a further try may lock the account");
    rack.bmcs.shutdown().await;
}

#[tokio::test]
async fn the_machines_health_comes_with_its_power_and_who_it_is_now_and_then() {
    let mut rack = Rack::new(Mood::Ill).await;
    let first = rack.look(Mood::Ill).await;
    let Some(Seen::Power { machine: Some(machine), .. }) = first.clone() else { panic!("{first:?}") };
    assert_eq!((machine.uuid.as_str(), machine.serial.as_str(), machine.driver), ("", "A17", "redfish"));
    assert_eq!(machine.address, rack.watched.words.place());
    assert!(machine.address.starts_with("127.0.0.1:"), "{machine:?}");
    let ill = |machine| Seen::Power {
        state: PowerState::On,
        driver: "redfish",
        health: Health::Critical,
        problem: "Health OK, HealthRollup Critical".to_owned(),
        machine,
    };
    assert_eq!(first, Some(ill(Some(machine.clone()))));
    assert_eq!(rack.look(Mood::Ill).await, Some(ill(None)), "asked for once an hour");
    // While every look succeeds.
    let other = rack.look(Mood::Another).await;
    let Some(Seen::Power { machine: Some(other), .. }) = other.clone() else { panic!("at once: {other:?}") };
    assert_eq!(other.serial, "B18");
    assert_eq!(rack.look(Mood::Another).await, Some(ON));
    assert!(matches!(rack.look(Mood::Starting).await, Some(Seen::Unreachable(_))));
    let again = rack.look(Mood::Ill).await;
    let Some(Seen::Power { machine: Some(back), .. }) = again.clone() else {
        panic!("another may have come back: {again:?}")
    };
    assert!(back.at > machine.at, "{back:?}");
    rack.bmcs.shutdown().await;
}
