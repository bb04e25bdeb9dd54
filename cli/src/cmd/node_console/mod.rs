//! `farrier node console NODE`: a machine's serial console on this terminal, or what it said before.

mod keys;
mod terminal;

use super::Session;
use crate::client::{Link, ask};
use crate::failure::Failure;
use crate::names::full;
use crate::output::emit;
use farrier_model::Collection::Nodes;
use farrier_proto::rack::{ConsoleInput, ConsoleMode, console_input, console_output};
use farrier_proto::scheduler::node_console_service_client::NodeConsoleServiceClient;
use farrier_proto::scheduler::{
    AttachNodeConsoleRequest, NodeConsoleAttach, ReadNodeConsoleLogRequest, attach_node_console_request,
};
use keys::{Key, Keys};
use std::io::IsTerminal as _;
use terminal::Raw;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

const AFTER: &str = "At a terminal, at the beginning of a line: ~. leaves, ~B sends a BREAK, ~S and a letter a magic SysRq, ~~ a ~, \
                     ~? tells these.\nA script's keystrokes come from standard input; at its end the console is still shown, until Ctrl-C.";

/// Inputs ahead of a slow network: a pasted page.
const AHEAD: usize = 64;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The node, by its name.
    name: String,
    /// Only looks.
    #[arg(long, conflicts_with_all = ["steal", "log", "search"])]
    read_only: bool,
    /// Takes the keyboard from whoever types now, and the console from another session at the BMC.
    #[arg(long, conflicts_with_all = ["log", "search"])]
    steal: bool,
    /// Prints what the console said while somebody was attached.
    #[arg(long)]
    log: bool,
    /// Prints only the lines with this text.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Of the log, only the last N lines.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    last: Option<i32>,
}

pub async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let name = full(Nodes, &args.name)?;
    let link = session.services.scheduler()?;
    if args.log || args.search.is_some() || args.last.is_some() {
        return print_log(session, &link, name, args.search.unwrap_or_default(), args.last.unwrap_or(0))
            .await;
    }
    let mode = match (args.read_only, args.steal) {
        (true, _) => ConsoleMode::ReadOnly,
        (_, true) => ConsoleMode::Steal,
        _ => ConsoleMode::Write,
    };
    attach(session, &link, name, mode).await
}

async fn print_log(
    session: &Session,
    link: &Link,
    name: String,
    contains: String,
    last: i32,
) -> Result<(), Failure> {
    let request = ask(ReadNodeConsoleLogRequest { name, contains, last });
    let mut client = NodeConsoleServiceClient::new(link.channel.clone());
    let failed = |status| link.failed(&status);
    let mut pages = client.read_node_console_log(request).await.map_err(failed)?.into_inner();
    let mut lines = Vec::new();
    while let Some(page) = pages.message().await.map_err(failed)? {
        lines.extend(page.lines);
    }
    session.printer.list(&lines)
}

async fn attach(session: &Session, link: &Link, name: String, mode: ConsoleMode) -> Result<(), Failure> {
    let (inputs, requests) = mpsc::channel(AHEAD);
    let attach = NodeConsoleAttach { name: name.clone(), mode: mode.into() };
    let first = AttachNodeConsoleRequest { what: Some(attach_node_console_request::What::Attach(attach)) };
    let _ = inputs.try_send(first);
    let mut client = NodeConsoleServiceClient::new(link.channel.clone());
    // No deadline: it lasts as long as somebody looks.
    let answer = client.attach_node_console(Request::new(ReceiverStream::new(requests))).await;
    let mut outputs = answer.map_err(|status| link.failed(&status))?.into_inner();

    let types = mode != ConsoleMode::ReadOnly;
    let at_terminal = std::io::stdin().is_terminal();
    if at_terminal {
        let how = if types { "type ~. on a new line to leave, ~? for more" } else { "Ctrl-C leaves" };
        session.say(&format!("console of {name}: {how}"));
    }
    // In raw mode Ctrl-C is the machine's; who only looks keeps his own.
    let _raw = if types && at_terminal { Some(Raw::enter()?) } else { None };
    let mut typed = if types { Some(terminal::read_stdin()) } else { None };
    let mut inputs = Some(inputs);
    let mut keys = Keys::default();
    // A terminal must not stay raw.
    let mut ended = signal(SignalKind::terminate())
        .map_err(|error| Failure::refused(format!("no signals here: {error}")))?;
    loop {
        tokio::select! {
            output = outputs.message() => match output.map_err(|status| link.failed(&status))? {
                Some(output) => {
                    if at_terminal && !output.driver.is_empty() {
                        note(&crate::output::table::clean(&format!("the line is by driver {}", output.driver)));
                    }
                    show(output.what)?;
                }
                None => return Ok(()),
            },
            bytes = next(&mut typed) => match bytes {
                // A script has typed all it has to: the keyboard is free for somebody else, and it goes on looking until it
                // is interrupted.
                None => (typed, inputs) = (None, None),
                Some(bytes) => for key in keys.push(&bytes) {
                    let what = match key {
                        Key::Chars(chars) => console_input::What::Chars(chars),
                        Key::Break => console_input::What::SendBreak(true),
                        Key::MagicSysRq(key) => console_input::What::MagicSysrq(key.to_string()),
                        Key::Leave => return Ok(()),
                        Key::Help => {
                            note(keys::HELP);
                            continue;
                        }
                    };
                    let input = ConsoleInput { what: Some(what) };
                    let what = Some(attach_node_console_request::What::Input(input));
                    // A stream that has ended says why on the other way.
                    if let Some(inputs) = &inputs {
                        let _ = inputs.send(AttachNodeConsoleRequest { what }).await;
                    }
                }
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = ended.recv() => return Ok(()),
        }
    }
}

async fn next(typed: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => std::future::pending().await,
    }
}

fn show(what: Option<console_output::What>) -> Result<(), Failure> {
    match what {
        Some(console_output::What::Chars(chars)) => terminal::write(&chars),
        Some(console_output::What::Notice(text)) => {
            note(&crate::output::table::clean(&text));
            Ok(())
        }
        None => emit(""),
    }
}

/// For the person: a line of its own, whatever the terminal's mode.
fn note(text: &str) {
    crate::talk::part(format_args!("\r\n[{text}]\r\n"));
}
