//! Our console client against our simulated BMC: bad networks, lost sessions, others who want the console.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::num::NonZeroU32;
use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, Tuning};
use farrier_bmc::{BmcError, ConsoleEvent, ConsoleInput, ConsoleLine, PowerState, Secret};
use farrier_sim::bmc::Faults;
use support::{Lab, Weather, proxy, quick, soon};

/// Generous: the machine may be loaded.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), what).await.expect("it happens")
}

/// Reads until `count` characters are there.
async fn output(line: &mut ConsoleLine, count: usize) -> String {
    let mut heard = Vec::new();
    while heard.len() < count {
        match within(line.events.recv()).await.expect("the line is there") {
            ConsoleEvent::Output(chars) => heard.extend(chars),
            // The BMC may still be looking for the serial port: what was typed is sent again.
            ConsoleEvent::Unavailable => {}
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
    String::from_utf8(heard).unwrap()
}

async fn ended(line: &mut ConsoleLine) -> BmcError {
    loop {
        let event = within(line.events.recv()).await.expect("it is told why");
        if let ConsoleEvent::Ended(error) = event {
            return error;
        }
    }
}

async fn types(line: &ConsoleLine, text: &str) {
    within(line.input.send(ConsoleInput::Chars(text.as_bytes().to_vec()))).await.unwrap();
}

async fn has_sessions(lab: &Lab, count: usize) {
    within(async {
        while lab.bmc.session_count() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A network that loses, doubles and reorders: every character arrives once, in order.
#[tokio::test]
async fn characters_survive_bad_weather_in_both_directions() {
    let lab = Lab::start_with(Tuning { tries: 20, ..quick() }, |_| {}).await;
    let weather =
        Weather { loss: 0.1, late: 0.1, late_by: Duration::from_millis(30), copied: 0.1, garbage: 0 };
    let (addr, _proxy) = proxy(lab.bmc.address(), weather, 7).await;
    let bmc = lab.hub.bmc(BmcAddress { addr, ..lab.address() });
    let mut line = bmc.open_console(false, soon()).await.unwrap();
    let serial = lab.chassis.serial_port();
    within(serial.wait_connected()).await;
    let said: String = (0..200).map(|n| format!("line {n}\r\n")).collect();
    serial.say(&said);
    assert_eq!(output(&mut line, said.len()).await, said);
    let typed: String = (0..100).map(|n| format!("command {n}\r")).collect();
    types(&line, &typed).await;
    within(serial.wait_for(|heard| heard.typed.len() >= typed.len())).await;
    assert_eq!(String::from_utf8(serial.heard().typed).unwrap(), typed);
    assert_eq!(output(&mut line, typed.len()).await, typed, "the machine echoes");
    drop(line);
    lab.stop().await;
}

#[tokio::test]
async fn a_break_comes_between_the_characters_it_was_sent_between() {
    let lab = Lab::start(|_| {}).await;
    let line = lab.client().open_console(false, soon()).await.unwrap();
    types(&line, "ab").await;
    line.input.send(ConsoleInput::Break).await.unwrap();
    types(&line, "h").await;
    let serial = lab.chassis.serial_port();
    within(serial.wait_for(|heard| heard.typed == b"abh" && !heard.breaks.is_empty())).await;
    assert_eq!(serial.heard().breaks, [2]);
    // The console has a session of its own, commands have theirs; both are given back.
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    drop(line);
    within(async {
        while lab.bmc.session_count() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    lab.hub.shutdown().await;
    assert_eq!(lab.bmc.session_count(), 0);
    lab.bmc.shutdown().await;
}

#[tokio::test]
async fn a_console_is_one_sessions_until_another_takes_it_over() {
    let lab = Lab::start(|_| {}).await;
    let (one, two) = (lab.client(), lab.client());
    let mut first = one.open_console(false, soon()).await.unwrap();
    let taken = two.open_console(false, soon()).await.map(drop);
    assert_eq!(taken, Err(BmcError::ConsoleTaken { addr: lab.bmc.address() }));
    let mut second = two.open_console(true, soon()).await.unwrap();
    assert_eq!(ended(&mut first).await, BmcError::ConsoleTaken { addr: lab.bmc.address() });
    drop(first);
    types(&second, "x").await;
    assert_eq!(output(&mut second, 1).await, "x");
    lab.stop().await;
}

#[tokio::test]
async fn a_line_that_is_closed_is_the_bmcs_again_when_that_returns() {
    let lab = Lab::start(|_| {}).await;
    let (one, two) = (lab.client(), lab.client());
    let line = one.open_console(false, soon()).await.unwrap();
    has_sessions(&lab, 2).await;
    // Nobody could mistake an answer that is under way for one that has come.
    lab.bmc.set_faults(Faults { delay: Duration::from_millis(100), ..Faults::default() });
    within(line.close()).await;
    assert_eq!(lab.bmc.session_count(), 1, "that of the commands");
    let again = two.open_console(false, soon()).await.unwrap();
    within(again.close()).await;
    lab.stop().await;
}

/// Five people at a node whose stored password is wrong: BMCs lock an account after three to five tries.
#[tokio::test]
async fn a_wrong_password_is_tried_once_for_all_who_want_the_console() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.hub.bmc(BmcAddress { password: Secret::new("wrong"), ..lab.address() });
    let mut tried = None;
    for _ in 0..5 {
        let error = bmc.open_console(false, soon()).await.map(drop).unwrap_err();
        assert!(error.is_wrong_password(), "{error}");
        // The last that is sent takes the half of a session back.
        has_sessions(&lab, 0).await;
        assert_eq!(*tried.get_or_insert_with(|| lab.bmc.datagrams()), lab.bmc.datagrams());
    }
    lab.stop().await;
}

/// The session of the commands is older than the password.
#[tokio::test]
async fn a_password_that_was_changed_at_the_bmc_is_found_out_by_the_console_once() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    let other = lab.client();
    other.set_password(&Secret::new("another"), soon()).await.unwrap();
    let error = bmc.open_console(false, soon()).await.map(drop).unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    has_sessions(&lab, 1).await;
    let tried = lab.bmc.datagrams();
    for _ in 0..3 {
        let error = bmc.open_console(false, soon()).await.map(drop).unwrap_err();
        assert!(matches!(&error, BmcError::CircuitOpen { .. }) && error.is_wrong_password(), "{error}");
    }
    assert_eq!(lab.bmc.datagrams(), tried);
    lab.stop().await;
}

/// Its answer is lost, and the BMC does not know the repetition for one.
#[tokio::test]
async fn a_console_that_is_ours_already_is_not_taken_for_anothers() {
    let lab = Lab::start(|_| {}).await;
    let once = || Faults { activates_once: true, ..Faults::default() };
    lab.bmc.set_faults(Faults { unanswered: vec![(0x06, 0x48)], ..once() });
    let bmc = lab.client();
    let answered = async {
        while lab.bmc.consoles() == 0 {
            tokio::task::yield_now().await;
        }
        lab.bmc.set_faults(once());
    };
    let both = async { tokio::join!(bmc.open_console(false, soon()), answered) };
    let (line, ()) =
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("a console is activated");
    let mut line = line.unwrap();
    types(&line, "x").await;
    assert_eq!(output(&mut line, 1).await, "x");
    let taken = lab.client().open_console(false, soon()).await.map(drop);
    assert_eq!(taken, Err(BmcError::ConsoleTaken { addr: lab.bmc.address() }));
    drop(line);
    lab.stop().await;
}

#[tokio::test]
async fn a_session_that_is_gone_ends_the_line_typed_to_or_not() {
    for typed in [true, false] {
        let tuning = Tuning { tries: 3, keep_alive: Duration::from_millis(200), ..quick() };
        let lab = Lab::start_with(tuning, |_| {}).await;
        let bmc = lab.client();
        let mut line = bmc.open_console(false, soon()).await.unwrap();
        types(&line, "a").await;
        assert_eq!(output(&mut line, 1).await, "a");
        lab.bmc.forget_sessions();
        if typed {
            types(&line, "b").await;
        }
        let error = ended(&mut line).await;
        assert!(matches!(error, BmcError::Unreachable { .. }), "{error}");
        // And another takes its place; the BMC has forgotten the one before.
        let mut line = within(async {
            loop {
                match bmc.open_console(true, soon()).await {
                    Ok(line) => return line,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        })
        .await;
        types(&line, "c").await;
        assert_eq!(output(&mut line, 1).await, "c");
        drop(line);
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_line_that_is_idle_keeps_its_session() {
    let tuning = Tuning { keep_alive: Duration::from_millis(100), ..quick() };
    let lab = Lab::start_with(tuning, |config| config.idle_timeout = Duration::from_secs(2)).await;
    lab.bmc.set_faults(Faults { drop_every: NonZeroU32::new(7), ..Faults::default() });
    let mut line = lab.client().open_console(false, soon()).await.unwrap();
    // Longer than the BMC's patience: as many questions as fit into it, and then some.
    let before = lab.bmc.datagrams();
    within(async {
        while lab.bmc.datagrams() < before + 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    types(&line, "x").await;
    assert_eq!(output(&mut line, 1).await, "x");
    drop(line);
    lab.stop().await;
}

#[tokio::test]
async fn a_reader_who_does_not_read_stops_the_machine_and_nobody_else() {
    let lab = Lab::start(|_| {}).await;
    let mut line = lab.client().open_console(false, soon()).await.unwrap();
    let serial = lab.chassis.serial_port();
    within(serial.wait_connected()).await;
    // More pieces than the queue of events has room for, each a packet of its own or part of one.
    let said: String = (0..60).map(|n| format!("{n:02} {}\r\n", "x".repeat(400))).collect();
    for piece in said.as_bytes().chunks(405) {
        serial.say(std::str::from_utf8(piece).unwrap());
    }
    // Commands go on meanwhile.
    assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(output(&mut line, said.len()).await, said);
    drop(line);
    lab.stop().await;
}
