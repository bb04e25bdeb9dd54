//! Consoles: who may, which rack, and what of it goes into the audit log. The rack does the rest.

use super::App;
use super::node_bmc::unreachable;
use super::node_rack::Audit;
use crate::engine::spec;
use farrier_proto::inventory::Dispatch;
use farrier_proto::rack::console_service_client::ConsoleServiceClient;
use farrier_proto::rack::{
    AttachConsoleRequest, ConsoleAttach, ConsoleInput, ConsoleLogPage, ConsoleMode, ConsoleOutput,
    ReadConsoleLogRequest, attach_console_request, console_input, console_output,
};
use farrier_proto::scheduler::{
    AttachNodeConsoleRequest, NodeConsoleAttach, ReadNodeConsoleLogRequest, attach_node_console_request,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, invalid, refuse};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// For the first message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages ahead of a slow reader, either way.
const AHEAD: usize = 16;

type Outputs = ReceiverStream<Result<ConsoleOutput, Status>>;

impl App {
    pub(crate) async fn attach_console(
        &self,
        caller: &Caller,
        mut inbound: Streaming<AttachNodeConsoleRequest>,
    ) -> Result<Outputs, Status> {
        let first = tokio::time::timeout(PATIENCE, inbound.message()).await;
        let first = first.map_err(|_| invalid("attach", "expected it within 30 s"))??;
        let Some(attach_node_console_request::What::Attach(attach)) = first.and_then(|first| first.what)
        else {
            return Err(invalid("attach", "expected it as the first message"));
        };
        let looks_on = attach.mode() == ConsoleMode::ReadOnly;
        let mode = mode(&attach)?;
        let (dispatch, mut rack) = self.console_of(&attach.name).await?;
        let audit = Audit { clients: self.clients.clone(), node: attach.name, actor: caller.actor() };
        audit.record("console attach", mode).await?;
        let attach = ConsoleAttach {
            machine: Some(spec::machine(dispatch)),
            mode: attach.mode,
            actor: audit.actor.clone(),
        };
        let (inputs, to_rack) = mpsc::channel(AHEAD);
        let first = AttachConsoleRequest { what: Some(attach_console_request::What::Attach(attach)) };
        let _ = inputs.try_send(first);
        let answer = rack.attach_console(ReceiverStream::new(to_rack)).await;
        let outputs = answer.map_err(|status| asked("the rack", status))?.into_inner();
        let (tx, rx) = mpsc::channel(AHEAD);
        let shutdown = self.engine.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {
                    let _ = tx.try_send(Err(refuse(
                        Code::Unavailable,
                        Reason::Unavailable,
                        "the scheduler is shutting down: attach again",
                    )));
                }
                () = tx.closed() => {}
                () = down(outputs, &tx) => {}
                status = up(inbound, inputs, &audit, looks_on, &tx) => {
                    let _ = tx.send(Err(status)).await;
                }
            }
        });
        Ok(ReceiverStream::new(rx))
    }

    pub(crate) async fn read_console_log(
        &self,
        caller: &Caller,
        request: ReadNodeConsoleLogRequest,
    ) -> Result<ReceiverStream<Result<ConsoleLogPage, Status>>, Status> {
        let ReadNodeConsoleLogRequest { name, contains, last } = request;
        let (_, mut rack) = self.console_of(&name).await?;
        let audit = Audit { clients: self.clients.clone(), node: name.clone(), actor: caller.actor() };
        audit.record("console log", "").await?;
        let answer = rack.read_console_log(ReadConsoleLogRequest { node: name, contains, last }).await;
        let mut pages = answer.map_err(|status| asked("the rack", status))?.into_inner();
        let (tx, rx) = mpsc::channel(1);
        let shutdown = self.engine.shutdown.clone();
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            while let Some(page) = pages.message().await.transpose() {
                let ends = page.is_err();
                if tx.send(page).await.is_err() || ends {
                    return;
                }
            }
        }));
        Ok(ReceiverStream::new(rx))
    }

    async fn console_of(&self, node: &str) -> Result<(Dispatch, ConsoleServiceClient<Channel>), Status> {
        let found = self.rack_of(node).await?;
        let client = self.clients.consoles(&found.rack, found.address()).map_err(unreachable)?;
        Ok((found.dispatch, client))
    }
}

impl Audit {
    /// What one types is not written down; what may stop or crash a machine is, and where it is refused, as refused.
    async fn input(&self, input: &ConsoleInput, is_refused: bool) -> Result<(), Status> {
        let (action, refused, detail) = match &input.what {
            Some(console_input::What::SendBreak(_)) => {
                ("console break", "console break refused", String::new())
            }
            Some(console_input::What::MagicSysrq(key)) => {
                let key = key.chars().filter(char::is_ascii_alphanumeric).take(1).collect();
                ("console magic-sysrq", "console magic-sysrq refused", key)
            }
            Some(console_input::What::Chars(_)) | None => return Ok(()),
        };
        self.record(if is_refused { refused } else { action }, &detail).await
    }
}

/// From the rack to the caller.
async fn down(mut outputs: Streaming<ConsoleOutput>, tx: &mpsc::Sender<Result<ConsoleOutput, Status>>) {
    loop {
        let (output, last) = match outputs.message().await {
            Ok(Some(output)) => (Ok(output), false),
            Ok(None) => return,
            Err(status) => (Err(asked("the rack", status)), true),
        };
        if tx.send(output).await.is_err() || last {
            return;
        }
    }
}

/// Why an input goes no further, as far as can be told here: the rack would refuse it too, and the audit log must not say that it
/// happened. Whether somebody else has taken the keyboard only the rack knows.
fn refusal(input: &ConsoleInput, looks_on: bool) -> Option<&'static str> {
    match &input.what {
        _ if looks_on => Some("you only look on: what you typed goes nowhere"),
        Some(console_input::What::MagicSysrq(key)) => {
            let is_key = matches!(key.as_bytes(), [key] if key.is_ascii_alphanumeric());
            (!is_key).then_some("a SysRq: expected one letter or digit")
        }
        _ => None,
    }
}

/// From the caller to the rack, and to the caller what is refused here; ends only with what stops the whole.
async fn up(
    mut inbound: Streaming<AttachNodeConsoleRequest>,
    inputs: mpsc::Sender<AttachConsoleRequest>,
    audit: &Audit,
    looks_on: bool,
    tx: &mpsc::Sender<Result<ConsoleOutput, Status>>,
) -> Status {
    loop {
        let input = match inbound.message().await {
            Ok(Some(AttachNodeConsoleRequest {
                what: Some(attach_node_console_request::What::Input(input)),
            })) => input,
            Ok(Some(_)) => return invalid("input", "expected input after the first message"),
            // Nothing more to type, which the rack is told; whoever only looks does so.
            Ok(None) => {
                drop(inputs);
                return std::future::pending().await;
            }
            Err(status) => return status,
        };
        let refused = refusal(&input, looks_on);
        if let Err(status) = audit.input(&input, refused.is_some()).await {
            return status;
        }
        if let Some(why) = refused {
            let what = Some(console_output::What::Notice(why.to_owned()));
            let notice = ConsoleOutput { what, ..ConsoleOutput::default() };
            if tx.send(Ok(notice)).await.is_err() {
                // The caller is gone, which ends the whole.
                std::future::pending::<()>().await;
            }
            continue;
        }
        let request = AttachConsoleRequest { what: Some(attach_console_request::What::Input(input)) };
        if inputs.send(request).await.is_err() {
            // The rack has ended it, and says why on the way down.
            std::future::pending::<()>().await;
        }
    }
}

fn mode(attach: &NodeConsoleAttach) -> Result<&'static str, Status> {
    match attach.mode() {
        ConsoleMode::ReadOnly => Ok("read only"),
        ConsoleMode::Write => Ok("write"),
        ConsoleMode::Steal => Ok("steal"),
        ConsoleMode::Unspecified => Err(invalid("attach.mode", "expected read only, write or steal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rack_would_refuse_is_refused_before_it_is_written_down_as_done() {
        let input = |what| ConsoleInput { what: Some(what) };
        let sysrq = |key: &str| input(console_input::What::MagicSysrq(key.to_owned()));
        let stops = input(console_input::What::SendBreak(true));
        assert!(refusal(&stops, true).is_some() && refusal(&sysrq("b"), true).is_some());
        assert!(refusal(&stops, false).is_none() && refusal(&sysrq("b"), false).is_none());
        for bad in ["", "bb", "é", " "] {
            assert!(refusal(&sysrq(bad), false).is_some(), "{bad:?}");
        }
    }
}
