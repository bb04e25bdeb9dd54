//! Serial consoles: shared at a rack, and all the way from the command line to a machine.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use farrier_proto::rack::console_service_client::ConsoleServiceClient;
use farrier_proto::rack::{
    AttachConsoleRequest, ConsoleAttach, ConsoleInput, ConsoleMode, ConsoleOutput, Machine,
    ReadConsoleLogRequest, RotateBmcCredentials, TaskState, attach_console_request, console_input,
    console_output,
};
use farrier_runtime::error::reason_of;
use farrier_sim::pretend::PretendNode;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::bench::{Bench, within};
use crate::pretend_site::Site;

/// Somebody at a console.
pub(crate) struct Viewer {
    inputs: mpsc::Sender<AttachConsoleRequest>,
    outputs: Streaming<ConsoleOutput>,
    seen: String,
    notices: String,
    /// The driver that has the line, as the first message says.
    pub(crate) driver: String,
}

impl Viewer {
    pub(crate) async fn attach(
        bench: &Bench,
        machine: Machine,
        mode: ConsoleMode,
        who: &str,
    ) -> Result<Self, Status> {
        let (inputs, requests) = mpsc::channel(16);
        let attach = ConsoleAttach { machine: Some(machine), mode: mode.into(), actor: who.to_owned() };
        let what = Some(attach_console_request::What::Attach(attach));
        inputs.send(AttachConsoleRequest { what }).await.unwrap();
        let answer = within(consoles(bench).attach_console(ReceiverStream::new(requests))).await?;
        Ok(Self {
            inputs,
            outputs: answer.into_inner(),
            seen: String::new(),
            notices: String::new(),
            driver: String::new(),
        })
    }

    pub(crate) async fn sends(&self, what: console_input::What) {
        let what = Some(attach_console_request::What::Input(ConsoleInput { what: Some(what) }));
        self.inputs.send(AttachConsoleRequest { what }).await.unwrap();
    }

    pub(crate) async fn types(&self, text: &str) {
        self.sends(console_input::What::Chars(text.as_bytes().to_vec())).await;
    }

    /// Reads on until `there`; the stream must not end before.
    async fn until(&mut self, what: &str, there: impl Fn(&Self) -> bool) {
        while !there(self) {
            match within(self.outputs.message()).await {
                Ok(Some(ConsoleOutput { what: Some(console_output::What::Chars(chars)), driver })) => {
                    self.driver.push_str(&driver);
                    self.seen.push_str(&String::from_utf8_lossy(&chars));
                }
                Ok(Some(ConsoleOutput { what: Some(console_output::What::Notice(notice)), .. })) => {
                    self.notices.push_str(&notice);
                    self.notices.push('\n');
                }
                other => panic!("{what}: {other:?} after {:?} and {:?}", self.seen, self.notices),
            }
        }
    }

    pub(crate) async fn sees(&mut self, text: &str) {
        self.until(text, |viewer| viewer.seen.contains(text)).await;
    }

    pub(crate) async fn is_told(&mut self, text: &str) {
        self.until(text, |viewer| viewer.notices.contains(text)).await;
    }

    pub(crate) async fn ends(mut self) -> Status {
        loop {
            match within(self.outputs.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

fn consoles(bench: &Bench) -> ConsoleServiceClient<Channel> {
    ConsoleServiceClient::new(bench.scheduler_to_rack())
}

pub(crate) fn machine(node: &PretendNode) -> Machine {
    crate::bench::spec(
        node,
        farrier_proto::rack::task_spec::Work::Verify(farrier_proto::rack::Verify::default()),
    )
    .machine
    .unwrap()
}

pub(crate) async fn log(bench: &Bench, contains: &str) -> Vec<String> {
    let request = ReadConsoleLogRequest { node: "nodes/n1".into(), contains: contains.into(), last: 0 };
    let mut pages = within(consoles(bench).read_console_log(request)).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(page) = within(pages.message()).await.unwrap() {
        lines.extend(page.lines.into_iter().map(|line| line.text));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_read_one_types_and_the_keyboard_changes_hands_only_on_purpose() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    let attach = |mode, who| Viewer::attach(&bench, machine(&node), mode, who);
    let missing = within(consoles(&bench).read_console_log(ReadConsoleLogRequest {
        node: "nodes/n1".into(),
        ..ReadConsoleLogRequest::default()
    }))
    .await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);

    let mut ann = attach(ConsoleMode::Write, "ann").await.unwrap();
    within(node.serial_port().wait_connected()).await;
    node.serial_port().say("Booting\r\nn1 login: ");
    ann.sees("n1 login: ").await;
    // Who comes later sees what was said before.
    let mut bob = attach(ConsoleMode::ReadOnly, "bob").await.unwrap();
    bob.sees("Booting\r\nn1 login: ").await;
    assert_eq!((ann.driver.as_str(), bob.driver.as_str()), ("ipmi", "ipmi"));
    ann.is_told("bob looks on").await;
    ann.types("root\r").await;
    within(node.serial_port().wait_for(|heard| heard.typed == b"root\r")).await;
    bob.sees("login: root").await;
    bob.types("reboot\r").await;
    bob.is_told("you only look on").await;
    // One session of a console at the BMC, beside the one of commands, and one that types.
    assert_eq!(node.ipmi().unwrap().session_count(), 2);
    let refused = attach(ConsoleMode::Write, "eve").await.err().unwrap();
    assert_eq!(reason_of(&refused).as_deref(), Some("CONSOLE_TAKEN"));
    assert!(refused.message().contains("ann types there already"), "{refused}");

    let mut eve = attach(ConsoleMode::Steal, "eve").await.unwrap();
    ann.is_told("eve types now, not ann").await;
    ann.types("x").await;
    ann.is_told("you only look on").await;
    eve.sends(console_input::What::SendBreak(true)).await;
    eve.sends(console_input::What::MagicSysrq("h".into())).await;
    within(node.serial_port().wait_for(|heard| heard.typed == b"root\rh")).await;
    assert_eq!(node.serial_port().heard().breaks, [5, 5]);
    eve.sends(console_input::What::MagicSysrq("reboot".into())).await;
    eve.is_told("expected one letter or digit").await;
    drop(eve);
    // The keyboard is free when who has it leaves; rackd hears of that in its own time.
    let again = within(async {
        loop {
            match attach(ConsoleMode::Write, "ann").await {
                Ok(viewer) => return viewer,
                Err(status) => assert_eq!(reason_of(&status).as_deref(), Some("CONSOLE_TAKEN")),
            }
        }
    })
    .await;
    again.types("\r").await;
    within(node.serial_port().wait_for(|heard| heard.typed == b"root\rh\r")).await;
    // The log has what was said, and finds it.
    node.serial_port().say("\r\n\x1b[31mKernel panic\x1b[0m - not syncing\r\nlast words");
    bob.sees("last words").await;
    assert_eq!(log(&bench, "panic").await, ["Kernel panic - not syncing"]);
    let all = log(&bench, "").await;
    assert_eq!(
        (all.first().map(String::as_str), all.last().map(String::as_str)),
        (Some("Booting"), Some("last words"))
    );
    drop((ann, bob, again));
    bench.stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_is_opened_again_and_one_that_a_person_took_is_not() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    let mut ann = Viewer::attach(&bench, machine(&node), ConsoleMode::Write, "ann").await.unwrap();
    within(node.serial_port().wait_connected()).await;
    node.serial_port().say("before");
    ann.sees("before").await;
    // The BMC restarts: it has forgotten all sessions and answers none.
    node.ipmi().unwrap().forget_sessions();
    ann.types("x").await;
    ann.is_told("the line is lost, opening it again").await;
    ann.is_told("the line is back").await;
    ann.types("y").await;
    ann.sees("y").await;

    // Somebody takes it with another program, and it is his.
    let address = node.bmc_address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let ipmitool = |words: &[&str]| {
        let connection =
            ["-I", "lanplus", "-C", "17", "-H", &host, "-p", &port, "-U", "admin", "-P", "pretend"];
        let done = Command::new("timeout")
            .args(["60", "ipmitool"])
            .args(connection)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("ipmitool runs");
        assert!(done.status.success(), "{done:?}");
    };
    ipmitool(&["sol", "deactivate"]);
    let status = ann.ends().await;
    assert_eq!(reason_of(&status).as_deref(), Some("CONSOLE_TAKEN"), "{status}");
    // A wrong password is told as such, and a machine without a console too.
    let wrong = Machine { bmc_password: "wrong".into(), ..machine(&node) };
    let refused = Viewer::attach(&bench, wrong, ConsoleMode::Write, "ann").await.err().unwrap();
    assert!(refused.message().contains("the password does not match"), "{refused}");
    let redfish = Machine { bmc_driver: "redfish".into(), ..machine(&node) };
    let refused = Viewer::attach(&bench, redfish, ConsoleMode::Write, "ann").await.err().unwrap();
    assert_eq!(reason_of(&refused).as_deref(), Some("BMC_FAILED"));
    assert!(refused.message().contains("driver redfish has no serial console"), "{refused}");
    bench.stop(vec![node]).await;
}

/// The session of an open console is of the password that it was opened with: the next one is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_that_is_open_while_the_password_is_rotated_comes_back_by_the_new_one() {
    let bench = Bench::start().await;
    let node = bench.node(1).await;
    let mut ann = Viewer::attach(&bench, machine(&node), ConsoleMode::Write, "ann").await.unwrap();
    within(node.serial_port().wait_connected()).await;
    ann.types("a").await;
    ann.sees("a").await;
    let rotate = farrier_proto::rack::task_spec::Work::RotateBmcCredentials(RotateBmcCredentials::default());
    let mut ordered = crate::bench::spec(&node, rotate);
    ordered.machine.as_mut().unwrap().bmc_next_password = "another-One-4now".into();
    bench.start_task("rotate", 1, ordered).await.unwrap();
    let rotated = bench.ended("rotate").await;
    assert_eq!(rotated.state(), TaskState::Done, "{}", rotated.error);
    let refused = node.accounts().refused_log_ins();
    node.ipmi().unwrap().forget_sessions();
    ann.types("x").await;
    ann.is_told("the line is lost, opening it again").await;
    ann.is_told("the line is back").await;
    ann.types("y").await;
    ann.sees("y").await;
    assert_eq!(node.accounts().refused_log_ins(), refused, "nobody came with the old one");
    drop(ann);
    bench.stop(vec![node]).await;
}

/// `farrier node console` at a terminal of its own, through the scheduler and rackd; each deed is an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_has_the_console_and_history_has_the_command_line() {
    let site = Site::enrolled(1).await;
    let node = &site.nodes[0];
    let line = format!("{} node console n0", site.installation.farrier_line().unwrap());
    let mut terminal = Command::new("script")
        .args(["-q", "-f", "-e", "-c", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of bsdutils runs");
    let (mut keyboard, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let (shown, mut pieces) = mpsc::unbounded_channel();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok(length @ 1..) = screen.read(&mut buffer) {
            let _ = shown.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    });
    let mut seen = String::new();
    let mut shows = async |text: &str| {
        while !seen.contains(text) {
            let piece = within(pieces.recv()).await;
            seen.push_str(&piece.unwrap_or_else(|| panic!("no {text:?} in {seen:?}\n{}", site.tails())));
        }
    };
    shows("~. on a new line").await;
    within(node.serial_port().wait_connected()).await;
    node.serial_port().say("n0 login: ");
    shows("n0 login: ").await;
    keyboard.write_all(b"root\r~B~Sh").unwrap();
    within(node.serial_port().wait_for(|heard| heard.typed == b"root\rh" && heard.breaks == [5, 5])).await;
    keyboard.write_all(b"\r~.").unwrap();
    drop(keyboard);
    let ended = within(tokio::task::spawn_blocking(move || terminal.wait().unwrap())).await.unwrap();
    assert!(ended.success(), "{seen}");
    reader.join().unwrap();

    let farrier = |words: &[&str]| site.installation.farrier(words).unwrap();
    let found = farrier(&["node", "console", "n0", "--search", "login", "-o", "json"]);
    assert!(found.contains("n0 login: root"), "{found}");
    let events = farrier(&["event", "list", "--resource", "n0", "-o", "json"]);
    let events: serde_json::Value = serde_json::from_str(&events).unwrap();
    let told: Vec<(String, String)> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["action"].as_str().unwrap().starts_with("console"))
        .map(|event| {
            assert!(event["actor"].as_str().unwrap().starts_with("spiffe://farrier/user/"), "{event}");
            (event["action"].as_str().unwrap().to_owned(), event["detail"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("console attach", "write"),
        ("console break", ""),
        ("console magic-sysrq", "h"),
        ("console log", ""),
    ];
    assert_eq!(told, expected.map(|(action, detail)| (action.to_owned(), detail.to_owned())));
    assert_eq!(node.power().await, farrier_sim::bmc::PowerState::Off, "looking changes nothing");
    tokio::time::timeout(Duration::from_secs(120), site.shutdown()).await.unwrap();
}
