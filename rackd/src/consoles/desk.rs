//! A console while it is open.

use super::AttachError;
use super::lines::{Line, Lines};
use super::log::Log;
use super::seat::{Input, Mode, Output, Seat};
use super::secrets::Secrets;
use super::way::Way;
use farrier_bmc::{Bmc, BmcError, Capability, ConsoleEvent, ConsoleInput, ConsoleLine, Deadline};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pieces of output that a slow reader may be behind.
const BEHIND: usize = 256;
/// Inputs on their way.
const INPUTS: usize = 64;
/// What a newcomer sees of what was said before, in bytes.
const SCROLLBACK: usize = 16 << 10;
/// An open console that nobody is at any more: a viewer whose network broke comes back to it.
const LINGER: Duration = Duration::from_secs(30);
/// Between tries to open a line that was lost: doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A line that lasted so long was one: the pauses begin anew after it.
const LASTED: Duration = Duration::from_secs(60);
/// A session that nobody uses ends after 60 s ± 3 s (IPMI 2.0 §6.12.15).
const OWN_SESSION: Duration = Duration::from_secs(75);

#[derive(Debug)]
pub(super) struct Desk {
    node: String,
    state: Mutex<State>,
    output: broadcast::Sender<Output>,
    input: mpsc::Sender<Input>,
    /// Where the task takes it from.
    inputs: Mutex<Option<mpsc::Receiver<Input>>>,
    got_up: Notify,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    open: bool,
    /// Who sits there, by number of the seat.
    seats: BTreeMap<u64, String>,
    /// For the log's sake, with nobody at the desk.
    keepers: usize,
    next: u64,
    /// The one that has the line.
    driver: String,
    writer: Option<u64>,
    scrollback: VecDeque<u8>,
    lines: Lines,
    secrets: Secrets,
}

impl State {
    fn is_wanted(&self) -> bool {
        !self.seats.is_empty() || self.keepers > 0
    }
}

/// Wants a desk to stay open, without sitting there: dropped, it wants that no more.
#[derive(Debug)]
pub(super) struct Held {
    desk: Arc<Desk>,
}

impl Held {
    /// Returns when the desk has closed.
    pub(super) async fn closed(&self) {
        self.desk.closed().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.desk.state().keepers -= 1;
        self.desk.got_up.notify_one();
    }
}

/// Why a line is done with.
enum End {
    /// Nobody wants it any more, or rackd ends.
    Unwanted,
    Lost(BmcError),
}

impl Desk {
    pub(super) fn new(node: &str, driver: &str) -> Arc<Self> {
        let (output, _) = broadcast::channel(BEHIND);
        let (input, inputs) = mpsc::channel(INPUTS);
        tracing::debug!(node.id = node, "console opened");
        let state = State {
            open: true,
            seats: BTreeMap::new(),
            keepers: 0,
            next: 0,
            driver: driver.to_owned(),
            writer: None,
            scrollback: VecDeque::new(),
            lines: Lines::default(),
            secrets: Secrets::default(),
        };
        let inputs = Mutex::new(Some(inputs));
        let node = node.to_owned();
        let (got_up, closed) = (Notify::new(), CancellationToken::new());
        Arc::new(Self { node, state: Mutex::new(state), output, input, inputs, got_up, closed })
    }

    /// Keeps the desk open; `None`: it has closed.
    pub(super) fn hold(desk: &Arc<Self>) -> Option<Held> {
        let mut state = desk.state();
        if !state.open {
            return None;
        }
        state.keepers += 1;
        drop(state);
        Some(Held { desk: Arc::clone(desk) })
    }

    /// Somebody sits down; `None`: it has closed.
    pub(super) fn sit(desk: &Arc<Self>, mode: Mode, actor: &str) -> Option<Result<Seat, AttachError>> {
        let mut state = desk.state();
        if !state.open {
            return None;
        }
        let writer = state.writer.and_then(|seat| state.seats.get(&seat)).cloned();
        if mode == Mode::Write
            && let Some(writer) = writer
        {
            return Some(Err(AttachError::Taken { node: desk.node.clone(), writer }));
        }
        let id = state.next;
        state.next += 1;
        let what = match (mode, writer) {
            (Mode::ReadOnly, _) => "looks on".to_owned(),
            (_, None) => "types".to_owned(),
            (_, Some(writer)) => format!("types now, not {writer}"),
        };
        if mode != Mode::ReadOnly {
            state.writer = Some(id);
        }
        // Nothing comes between the two: output is sent under the same lock.
        let (scrollback, output) = (state.scrollback.iter().copied().collect(), desk.output.subscribe());
        let driver = state.driver.clone();
        state.seats.insert(id, actor.to_owned());
        drop(state);
        desk.notice(&format!("{actor} {what}"));
        Some(Ok(Seat { id, desk: Arc::clone(desk), scrollback, driver, output }))
    }

    pub(super) fn get_up(&self, seat: u64) {
        let mut state = self.state();
        state.seats.remove(&seat);
        if state.writer == Some(seat) {
            state.writer = None;
        }
        drop(state);
        self.got_up.notify_one();
    }

    /// Whoever types has nothing more to type, and looks on.
    pub(super) fn free_keyboard(&self, seat: u64) {
        let mut state = self.state();
        if state.writer != Some(seat) {
            return;
        }
        state.writer = None;
        let actor = state.seats.get(&seat).cloned().unwrap_or_default();
        drop(state);
        self.notice(&format!("{actor} looks on now: nobody types"));
    }

    pub(super) fn input(&self, seat: u64, input: Input) -> Result<(), &'static str> {
        if self.state().writer != Some(seat) {
            return Err("you only look on: what you typed goes nowhere");
        }
        self.input.try_send(input).map_err(|_| "the machine takes nothing: what you typed is thrown away")
    }

    /// The line of the log that has not ended.
    pub(super) fn unfinished(&self) -> Option<Line> {
        self.state().lines.unfinished()
    }

    /// Keeps the line, which `bmc` gave, until nobody wants it any more. One that is lost is opened again by `way`.
    pub(super) async fn run(
        desk: Arc<Self>,
        mut bmc: Bmc,
        line: ConsoleLine,
        way: impl Way,
        mut log: Log,
        stop: CancellationToken,
    ) {
        let inputs = desk.inputs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inputs) = inputs else { return };
        let mut line = Some(line);
        // Kept from line to line: one that ends as soon as it is open costs the BMC a log-in each time.
        let mut pause = FIRST_PAUSE;
        let ended = loop {
            let opened_at = Instant::now();
            let lost = match line.take() {
                Some(mut line) => match desk.serve(&mut line, &mut inputs, &mut log, &stop).await {
                    End::Unwanted => {
                        // Whoever waits for the end of this desk opens another, and finds the console free.
                        line.close().await;
                        break None;
                    }
                    End::Lost(error) => error,
                },
                None => break None,
            };
            if is_final(&lost) {
                break Some(lost);
            }
            if opened_at.elapsed() >= LASTED {
                pause = FIRST_PAUSE;
            }
            desk.notice(&format!("the line is lost, opening it again: {lost}"));
            line = match desk.open_again(&way, &mut pause, &stop).await {
                Ok((by, line)) => {
                    // One handle at a time keeps the BMC's actor, and the session of its commands.
                    drop(std::mem::replace(&mut bmc, by));
                    Some(line)
                }
                Err(End::Unwanted) => break None,
                Err(End::Lost(error)) => break Some(error),
            };
            // Meant for a machine that may be another by now.
            while inputs.try_recv().is_ok() {}
            desk.back(driver_of(&bmc));
        };
        let last = {
            let mut state = desk.state();
            state.open = false;
            state.lines.end()
        };
        if let Some(error) = ended {
            tracing::info!(node.id = %desk.node, %error, "console ended");
            let _nobody = desk.output.send(Output::Ended(Arc::new(error)));
        }
        log.append(last.into_iter().collect()).await;
        desk.closed.cancel();
    }

    /// One line, until its end.
    async fn serve(
        &self,
        line: &mut ConsoleLine,
        inputs: &mut mpsc::Receiver<Input>,
        log: &mut Log,
        stop: &CancellationToken,
    ) -> End {
        let mut typed: VecDeque<ConsoleInput> = VecDeque::new();
        let mut empty_since: Option<Instant> = None;
        loop {
            empty_since = if self.state().is_wanted() { None } else { empty_since.or(Some(Instant::now())) };
            let closes = empty_since.map(|since| since + LINGER);
            tokio::select! {
                () = stop.cancelled() => return End::Unwanted,
                () = self.got_up.notified() => {}
                () = tokio::time::sleep_until(closes.unwrap_or_else(Instant::now)), if closes.is_some() => {
                    if self.closes_unwanted() {
                        return End::Unwanted;
                    }
                }
                event = line.events.recv() => match event {
                    Some(ConsoleEvent::Output(chars)) => log.append(self.say(&chars)).await,
                    Some(ConsoleEvent::Break) => self.notice("the machine sent a BREAK"),
                    Some(ConsoleEvent::Overrun) => self.notice("the BMC lost characters of the machine"),
                    Some(ConsoleEvent::Unavailable) => {
                        self.notice("the serial port takes nothing now: the machine is off or in reset");
                    }
                    Some(ConsoleEvent::Refused(why)) => self.notice(why),
                    Some(ConsoleEvent::Ended(error)) => return End::Lost(error),
                    None => return End::Lost(BmcError::ShuttingDown),
                },
                input = inputs.recv(), if typed.is_empty() => match input {
                    Some(Input::Chars(chars)) => typed.push_back(ConsoleInput::Chars(chars)),
                    Some(Input::Break) => typed.push_back(ConsoleInput::Break),
                    Some(Input::MagicSysRq(key)) => typed.push_back(ConsoleInput::MagicSysRq(key)),
                    None => return End::Unwanted,
                },
                permit = line.input.reserve(), if !typed.is_empty() => match (permit, typed.pop_front()) {
                    (Ok(permit), Some(input)) => permit.send(input),
                    // It has ended; the last event says why.
                    _ => typed.clear(),
                },
            }
        }
    }

    /// Tries until there is a line. Who took the console meanwhile keeps it: nobody fights a person for it.
    async fn open_again(
        &self,
        way: &impl Way,
        pause: &mut Duration,
        stop: &CancellationToken,
    ) -> Result<(Bmc, ConsoleLine), End> {
        let begin = Instant::now();
        loop {
            let wait = pause.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                () = stop.cancelled() => return Err(End::Unwanted),
                () = tokio::time::sleep(wait) => {}
            }
            if self.closes_unwanted() {
                return Err(End::Unwanted);
            }
            *pause = (*pause * 2).min(LAST_PAUSE);
            let deadline = Deadline::after(super::OPEN);
            let opened = async {
                let bmc = way.bmc(deadline).await?;
                let line = bmc.open_console(false, deadline).await?;
                Ok((bmc, line))
            };
            match opened.await {
                Ok(opened) => return Ok(opened),
                Err(error) if is_over(&error, begin.elapsed()) => return Err(End::Lost(error)),
                Err(error) => tracing::debug!(%error, "console not opened yet"),
            }
        }
    }

    /// Where nobody wants it. Who comes then sits down at another, or here before.
    fn closes_unwanted(&self) -> bool {
        let mut state = self.state();
        state.open &= state.is_wanted();
        !state.open
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().open
    }

    /// It is of a BMC that is its node's no more: who sits here hears it, and nobody else sits down.
    pub(super) fn moved(&self) {
        self.state().open = false;
        let _nobody = self.output.send(Output::Moved);
    }

    /// Returns when the BMC has its console back, and the log has the last line.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// The machine says something; the lines it ended.
    fn say(&self, chars: &[u8]) -> Vec<Line> {
        let mut state = self.state();
        let chars: &[u8] = &state.secrets.filter(chars);
        let excess = (state.scrollback.len() + chars.len()).saturating_sub(SCROLLBACK);
        let excess = excess.min(state.scrollback.len());
        state.scrollback.drain(..excess);
        state.scrollback.extend(chars);
        let _nobody = self.output.send(Output::Chars(chars.into()));
        state.lines.push(SystemTime::now(), chars)
    }

    /// The line is there again, by this driver.
    fn back(&self, driver: &str) {
        self.state().driver = driver.to_owned();
        self.notice(&format!(
            "the line is back, by driver {driver}; what was said or typed meanwhile is lost"
        ));
    }

    fn notice(&self, text: &str) {
        let _nobody = self.output.send(Output::Notice(text.into()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which driver has opened the line.
pub(super) fn driver_of(bmc: &Bmc) -> &'static str {
    bmc.driver_of(Capability::Console).unwrap_or(bmc.driver())
}

/// Whether a line that was lost so long ago is lost for good.
fn is_over(error: &BmcError, lost_for: Duration) -> bool {
    match error {
        // A BMC that a broken network kept us from holds the console for our own last session until that times out.
        BmcError::ConsoleTaken { .. } => lost_for > OWN_SESSION,
        error => is_final(error),
    }
}

/// Trying again would do harm, or no good.
fn is_final(error: &BmcError) -> bool {
    // Also where it is not asked again since it refused the password.
    error.is_wrong_password()
        || matches!(
            error,
            BmcError::ConsoleTaken { .. }
                | BmcError::Unsupported { .. }
                | BmcError::WrongKg { .. }
                | BmcError::BadCredentials { .. }
                | BmcError::HostKey { .. }
                | BmcError::NoProgram { .. }
                | BmcError::NotOffered { .. }
                | BmcError::ShuttingDown
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use farrier_bmc::Console;

    /// Its lines end after so long. When each was opened is kept.
    struct Fleeting {
        lasts: Duration,
        opened: Mutex<Vec<Instant>>,
    }

    impl Fleeting {
        fn line(&self) -> ConsoleLine {
            self.opened.lock().unwrap().push(Instant::now());
            let ((told, events), (input, _typed)) = (mpsc::channel(1), mpsc::channel(1));
            let lasts = self.lasts;
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                let (addr, seen) = (([127, 0, 0, 1], 22).into(), "the end".to_owned());
                told.send(ConsoleEvent::Ended(BmcError::LineEnded { addr, seen })).await
            });
            ConsoleLine { events, input, given_back: CancellationToken::new() }
        }

        /// Between one line and the next, of so many.
        async fn pauses(lasts: Duration, count: usize) -> Vec<Duration> {
            let console = Arc::new(Self { lasts, opened: Mutex::default() });
            let bmc = Bmc::new("fleeting").with_console(Arc::clone(&console) as Arc<dyn Console>);
            let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
            let desk = Desk::new("n1", "fleeting");
            let _held = Desk::hold(&desk).unwrap();
            let log = Log::new(dir.path().join("n1"));
            let run = Desk::run(desk, bmc.clone(), console.line(), Straight(bmc), log, stop.clone());
            let run = tokio::spawn(run);
            while console.opened.lock().unwrap().len() <= count {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            stop.cancel();
            run.await.unwrap();
            let opened = console.opened.lock().unwrap();
            opened.windows(2).map(|two| two[1] - two[0] - lasts).collect()
        }
    }

    /// There is but one way.
    struct Straight(Bmc);

    #[async_trait]
    impl Way for Straight {
        async fn bmc(&self, _: Deadline) -> Result<Bmc, BmcError> {
            Ok(self.0.clone())
        }
    }

    #[async_trait]
    impl Console for Fleeting {
        async fn open_console(&self, _: bool, _: Deadline) -> Result<ConsoleLine, BmcError> {
            Ok(self.line())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_ends_as_soon_as_it_is_open_is_opened_more_and_more_seldom() {
        let pauses = Fleeting::pauses(Duration::ZERO, 8).await;
        for (pause, least) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            assert!(*pause >= Duration::from_secs(least).mul_f64(0.75), "{pauses:?}");
        }
        // One that was lost after a while is opened again at once.
        let pauses = Fleeting::pauses(LASTED, 4).await;
        assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(2)), "{pauses:?}");
    }

    #[test]
    fn who_has_nothing_more_to_type_leaves_the_keyboard_to_others_and_looks_on() {
        let desk = Desk::new("n1", "ipmi");
        let sit = |mode, actor| Desk::sit(&desk, mode, actor).unwrap();
        let mut script = sit(Mode::Write, "ann").unwrap();
        let taken = sit(Mode::Write, "bob").unwrap_err();
        assert!(matches!(&taken, AttachError::Taken { writer, .. } if writer == "ann"), "{taken}");
        script.type_no_more();
        let person = sit(Mode::Write, "bob").unwrap();
        assert_eq!(person.driver, "ipmi");
        // Said twice, it is not the other's keyboard that is free.
        script.type_no_more();
        assert!(script.input(Input::Break).is_err());
        assert_eq!(person.input(Input::Break), Ok(()));
        desk.say(b"login: ");
        let mut seen = Vec::new();
        while let Ok(output) = script.output.try_recv() {
            seen.push(output);
        }
        let freed = |output: &Output| matches!(output, Output::Notice(text) if &**text == "ann looks on now: nobody types");
        assert!(seen.iter().any(freed), "{seen:?}");
        assert!(matches!(seen.last(), Some(Output::Chars(chars)) if &**chars == b"login: "), "{seen:?}");
    }

    #[test]
    fn our_own_last_session_is_waited_for_and_a_persons_is_not_fought() {
        let addr = ([127, 0, 0, 1], 623).into();
        let (soon, late) = (Duration::from_secs(60), Duration::from_secs(80));
        assert!(!is_over(&BmcError::ConsoleTaken { addr }, soon));
        assert!(is_over(&BmcError::ConsoleTaken { addr }, late));
        assert!(!is_over(&BmcError::StillQueued { addr }, late));
        let wrong = BmcError::WrongPassword { addr, user: String::new() };
        assert!(is_over(&wrong, soon));
        let spared = |reason| BmcError::CircuitOpen { addr, failures: 1, reason, next_try_in: soon };
        assert!(is_final(&spared(Box::new(wrong))));
        assert!(!is_final(&spared(Box::new(BmcError::StillQueued { addr }))));
        // Told by the BMC, not found when asking: somebody took it just now.
        assert!(is_final(&BmcError::ConsoleTaken { addr }));
    }
}
