//! `farrier.agent.v1.AgentService`: ramdisks prove themselves and take orders.

use crate::agents::AgentSlot;
use crate::discovery;
use crate::rack::Rack;
use crate::secrets::TokenUse;
use crate::tasks::TaskHandle;
use farrier_identity::{Identity, Peer, ca};
use farrier_netboot::{EventKind, MacAddr};
use farrier_proto::agent::agent_service_server::AgentService;
use farrier_proto::agent::{
    RegisterRequest, RegisterResponse, SessionRequest, SessionResponse, session_request,
};
use farrier_runtime::error::{Reason, internal, invalid, refuse};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// A ramdisk's certificate outlives the longest image write, not much more.
const CERTIFICATE_VALID: Duration = Duration::from_secs(24 * 3600);
/// Orders under way to one agent; it takes them one by one.
const ORDERS: usize = 4;

pub(crate) struct AgentApi {
    pub(crate) rack: Arc<Rack>,
}

#[tonic::async_trait]
impl AgentService for AgentApi {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let address = request.extensions().get::<Peer>().map(|peer| peer.addr.ip());
        let tell = |kind, detail: &str| {
            if let Some(address) = address {
                self.rack.netboot.tell(address, kind, detail.to_owned());
            }
        };
        let request = request.into_inner();
        let key = ca::request_key_digest(&request.csr_der)
            .map_err(|e| invalid("csr_der", e))?
            .map(|b| format!("{b:02x}"))
            .concat();
        for task in self.rack.tasks.all() {
            match task.use_boot_token(&request.token, &key).await.map_err(internal)? {
                TokenUse::Unknown => {}
                TokenUse::UsedByAnother => {
                    tracing::warn!(node.id = %task.node, "a boot token was used twice");
                    tell(EventKind::AgentRefused, "another ramdisk has used its boot's secret");
                    task.agent.refuse(
                        "a second ramdisk came with a token that was used already: it was refused".to_owned(),
                    );
                    return Err(used_by_another());
                }
                used @ (TokenUse::First | TokenUse::Again) => {
                    let certificate_der = self
                        .rack
                        .agent_ca
                        .sign_request(&request.csr_der, &identity(&task), &[], CERTIFICATE_VALID)
                        .map_err(|e| invalid("csr_der", e))?;
                    tracing::info!(node.id = %task.node, operation.id = %task.id, "agent registered");
                    let node = task.node.clone();
                    // Not in its way: who is answered late asks again.
                    if used == TokenUse::First {
                        tell(EventKind::AgentRegistered, "");
                        let rack = Arc::clone(&self.rack);
                        let renewed = async move { crate::tasks::token_used(&rack, &task).await };
                        self.rack.tracker.spawn(renewed);
                    }
                    return Ok(Response::new(RegisterResponse { certificate_der, node }));
                }
            }
        }
        if let Some((mac, used)) = discovery::use_token(&self.rack, &request.token, &key).await {
            if used == TokenUse::UsedByAnother {
                tracing::warn!(%mac, "a boot token was used twice");
                tell(EventKind::AgentRefused, "another ramdisk has used its boot's secret");
                return Err(used_by_another());
            }
            let sign = |identity| {
                self.rack.agent_ca.sign_request(&request.csr_der, &identity, &[], CERTIFICATE_VALID)
            };
            let certificate_der = sign(discovery::identity(mac)).map_err(|e| invalid("csr_der", e))?;
            if used == TokenUse::First {
                tell(EventKind::AgentRegistered, "");
            }
            discovery::registered(&self.rack, mac, used, request.hardware);
            return Ok(Response::new(RegisterResponse { certificate_der, node: discovery::name(mac) }));
        }
        tell(EventKind::AgentRefused, "its boot's secret belongs to no task: the task may have ended");
        Err(refuse(
            Code::PermissionDenied,
            Reason::TokenUnknown,
            "this boot token belongs to no task of this rack: the task may have ended; the machine switches itself off in some minutes, or starts again when it is no node's",
        ))
    }

    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let address = peer.as_ref().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.addr.ip());
        let peer = peer.and_then(|peer| peer.identity);
        let mut reports = request.into_inner();
        if let Some(found) = peer.as_ref().and_then(|peer| self.rack.discovery.found.agent_of(peer)) {
            return self.discovered(found, address, reports).await;
        }
        // An agent belongs to the one task whose boot it is; a ramdisk left over from another gets nothing.
        let task = self
            .rack
            .tasks
            .all()
            .into_iter()
            .find(|task| peer.as_ref() == Some(&identity(task)))
            .ok_or_else(|| {
                refuse(Code::PermissionDenied, Reason::NotAllowed, "this agent's task has ended")
            })?;
        let hello = hello(&mut reports).await?;
        let (outgoing, orders) = mpsc::channel(ORDERS);
        let serial = task.agent.attach(hello, address, outgoing);
        tracing::info!(node.id = %task.node, operation.id = %task.id, "agent connected");
        let rack = self.rack.clone();
        self.rack.tracker.spawn(async move {
            let mut ended = task.ended.subscribe();
            loop {
                tokio::select! {
                    () = rack.shutdown.cancelled() => break,
                    _ = ended.wait_for(|ended| *ended) => break,
                    message = reports.message() => match message {
                        Ok(Some(report)) => task.agent.report(report),
                        Ok(None) | Err(_) => break,
                    },
                }
            }
            task.agent.detach(serial);
            tracing::info!(node.id = %task.node, operation.id = %task.id, "agent disconnected");
        });
        Ok(Response::new(ReceiverStream::new(orders)))
    }
}

impl AgentApi {
    /// An unknown machine's session: it ends with the order to switch itself off.
    async fn discovered(
        &self,
        (mac, agent): (MacAddr, Arc<AgentSlot>),
        address: IpAddr,
        mut reports: Streaming<SessionRequest>,
    ) -> Result<Response<ReceiverStream<Result<SessionResponse, Status>>>, Status> {
        let hello = hello(&mut reports).await?;
        let (outgoing, orders) = mpsc::channel(ORDERS);
        let hardware = hello.hardware.clone();
        let serial = agent.attach(hello, address, outgoing);
        // It has registered with the rackd before this one, perhaps.
        discovery::registered(&self.rack, mac, TokenUse::Again, hardware);
        let rack = self.rack.clone();
        self.rack.tracker.spawn(async move {
            let work = async {
                while let Ok(Some(report)) = reports.message().await {
                    agent.report(report);
                }
            };
            rack.shutdown.run_until_cancelled(work).await;
            agent.detach(serial);
        });
        Ok(Response::new(ReceiverStream::new(orders)))
    }
}

async fn hello(reports: &mut Streaming<SessionRequest>) -> Result<session_request::Hello, Status> {
    match reports.message().await?.and_then(|message| message.report) {
        Some(session_request::Report::Hello(hello)) => Ok(hello),
        _ => Err(invalid("report", "expected hello as the first message of a session")),
    }
}

fn used_by_another() -> Status {
    refuse(
        Code::PermissionDenied,
        Reason::TokenUsed,
        "this boot token was used by another ramdisk: boot the machine again to get a new one",
    )
}

/// Who the agent of a task is: its node and its task.
fn identity(task: &TaskHandle) -> Identity {
    let node = task.node.rsplit('/').next().unwrap_or_default();
    Identity::Node(format!("{node}.{}", task.id))
}
