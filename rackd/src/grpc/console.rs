//! `farrier.rack.v1.ConsoleService`: serial consoles of this rack's machines.

use super::bmc::{access_of, bmc_failed};
use crate::consoles::{AttachError, Input, LogLine, Mode, Output, Query, Seat};
use crate::rack::Rack;
use farrier_model::{Collection, parse_name};
use farrier_proto::rack::console_service_server::ConsoleService;
use farrier_proto::rack::{
    AttachConsoleRequest, ConsoleAttach, ConsoleInput, ConsoleLogLine, ConsoleLogPage, ConsoleMode,
    ConsoleOutput, ReadConsoleLogRequest, attach_console_request, console_input, console_output,
};
use farrier_runtime::error::{Reason, internal, invalid, refuse};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// Outputs ahead of a slow reader; behind them it misses some, and is told.
const AHEAD: usize = 64;
/// Characters of one input: typed, or pasted.
const MAX_INPUT: usize = 4096;
/// Lines of one page of a log, at most 1 KiB each.
const PAGE: usize = 256;
/// For the first message.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct ConsoleApi {
    pub(crate) rack: Arc<Rack>,
}

type Outputs = ReceiverStream<Result<ConsoleOutput, Status>>;

#[tonic::async_trait]
impl ConsoleService for ConsoleApi {
    type AttachConsoleStream = Outputs;

    async fn attach_console(
        &self,
        request: Request<Streaming<AttachConsoleRequest>>,
    ) -> Result<Response<Outputs>, Status> {
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(PATIENCE, inbound.message()).await;
        let first = first.map_err(|_| invalid("attach", "expected it within 30 s"))??;
        let Some(attach_console_request::What::Attach(attach)) = first.and_then(|first| first.what) else {
            return Err(invalid("attach", "expected it as the first message"));
        };
        let seat = self.sit(attach).await?;
        let (tx, rx) = mpsc::channel(AHEAD);
        let rack = Arc::clone(&self.rack);
        self.rack.tracker.spawn(async move {
            tokio::select! {
                () = rack.shutdown.cancelled() => {
                    let bye = refuse(Code::Unavailable, Reason::Unavailable, "rackd is shutting down: attach again");
                    let _ = tx.try_send(Err(bye));
                }
                () = tx.closed() => {}
                () = attend(seat, inbound, &tx) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    type ReadConsoleLogStream = ReceiverStream<Result<ConsoleLogPage, Status>>;

    async fn read_console_log(
        &self,
        request: Request<ReadConsoleLogRequest>,
    ) -> Result<Response<Self::ReadConsoleLogStream>, Status> {
        let ReadConsoleLogRequest { node, contains, last } = request.into_inner();
        let id = parse_name(Collection::Nodes, &node).map_err(|error| invalid("node", error))?;
        let last = usize::try_from(last).map_err(|_| invalid("last", "expected 0 or more"))?;
        let read = self.rack.consoles.read_log(id, Query { contains, last }).await;
        let lines = read.map_err(internal)?.ok_or_else(|| {
            let why = format!(
                "{node}: expected a console log, saw none yet: it is written while somebody is attached, and as \
                 [consoles] of rackd.toml says"
            );
            refuse(Code::NotFound, Reason::NotFound, why)
        })?;
        let (tx, rx) = mpsc::channel(1);
        let shutdown = self.rack.shutdown.clone();
        self.rack.tracker.spawn(shutdown.run_until_cancelled_owned(async move {
            for page in lines.chunks(PAGE) {
                let lines = page.iter().cloned().map(log_line).collect();
                if tx.send(Ok(ConsoleLogPage { lines })).await.is_err() {
                    return;
                }
            }
        }));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

impl ConsoleApi {
    async fn sit(&self, attach: ConsoleAttach) -> Result<Seat, Status> {
        let mode = match attach.mode() {
            ConsoleMode::ReadOnly => Mode::ReadOnly,
            ConsoleMode::Write => Mode::Write,
            ConsoleMode::Steal => Mode::Steal,
            ConsoleMode::Unspecified => {
                return Err(invalid("attach.mode", "expected read only, write or steal"));
            }
        };
        let (id, access) = access_of(attach.machine).await?;
        let actor = if attach.actor.is_empty() { "somebody" } else { &attach.actor };
        let seat = self.rack.consoles.attach(&self.rack.bmc, &id, access, mode, actor).await;
        seat.map_err(|error| match error {
            AttachError::Taken { .. } => {
                refuse(Code::FailedPrecondition, Reason::ConsoleTaken, error.to_string())
            }
            AttachError::Bmc(error) => bmc_failed(&error),
        })
    }
}

/// Until either side has enough.
async fn attend(
    mut seat: Seat,
    mut inbound: Streaming<AttachConsoleRequest>,
    tx: &mpsc::Sender<Result<ConsoleOutput, Status>>,
) {
    let scrollback = std::mem::take(&mut seat.scrollback);
    let driver = std::mem::take(&mut seat.driver);
    // At once, also where the machine has said nothing: who attached knows by which way.
    if tx.send(Ok(ConsoleOutput { driver, ..chars(scrollback) })).await.is_err() {
        return;
    }
    // A caller that has nothing to type any more may still look.
    let mut types = true;
    loop {
        let output = tokio::select! {
            output = seat.output.recv() => match output {
                Ok(Output::Chars(piece)) => chars(piece.to_vec()),
                Ok(Output::Notice(text)) => notice(&text),
                Ok(Output::Ended(error)) => {
                    let _ = tx.send(Err(bmc_failed(&error))).await;
                    return;
                }
                Ok(Output::Moved) => {
                    let text = "the node has another BMC now: attach again for its console";
                    let _ = tx.send(Err(refuse(Code::Aborted, Reason::ConsoleMoved, text))).await;
                    return;
                }
                Err(RecvError::Lagged(count)) => {
                    notice(&format!("{count} pieces were left out here: this connection is slow"))
                }
                Err(RecvError::Closed) => return,
            },
            input = inbound.message(), if types => match input {
                Ok(Some(request)) => match read(request).and_then(|input| seat.input(input).map_err(str::to_owned)) {
                    Ok(()) => continue,
                    Err(why) => notice(&why),
                },
                Ok(None) => {
                    types = false;
                    seat.type_no_more();
                    continue;
                }
                Err(_) => return,
            },
        };
        if tx.send(Ok(output)).await.is_err() {
            return;
        }
    }
}

fn read(request: AttachConsoleRequest) -> Result<Input, String> {
    let Some(attach_console_request::What::Input(ConsoleInput { what: Some(what) })) = request.what else {
        return Err("expected input after the first message".to_owned());
    };
    match what {
        console_input::What::Chars(chars) if chars.len() <= MAX_INPUT => Ok(Input::Chars(chars)),
        console_input::What::Chars(chars) => {
            Err(format!("{} characters at once: expected at most {MAX_INPUT}", chars.len()))
        }
        console_input::What::SendBreak(_) => Ok(Input::Break),
        console_input::What::MagicSysrq(key) => match key.as_bytes() {
            [key] if key.is_ascii_alphanumeric() => Ok(Input::MagicSysRq(*key)),
            _ => Err("magic SysRq: expected one letter or digit".to_owned()),
        },
    }
}

fn chars(piece: Vec<u8>) -> ConsoleOutput {
    ConsoleOutput { what: Some(console_output::What::Chars(piece)), driver: String::new() }
}

fn notice(text: &str) -> ConsoleOutput {
    ConsoleOutput { what: Some(console_output::What::Notice(text.to_owned())), driver: String::new() }
}

fn log_line(line: LogLine) -> ConsoleLogLine {
    ConsoleLogLine { time: line.time, text: line.text }
}
