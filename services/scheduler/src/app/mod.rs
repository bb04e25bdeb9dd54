//! What callers may ask for: checked, stored, answered. The engine does the rest.

mod check;
mod console;
mod instance;
pub(crate) mod keep_power;
mod node_action;
mod node_bmc;
mod node_bmc_network;
mod node_boot;
mod node_chassis;
mod node_firmware;
mod node_profile;
mod node_rack;
mod operation;
mod recover;
mod snapshot;

pub(crate) use node_action::state_of;

use crate::clients::Clients;
use crate::engine::Engine;
use farrier_proto::rack::TaskSpec;
use farrier_proto::scheduler::{Operation, OperationPhase, OperationType};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, internal, not_found, refuse, stale_etag};
use farrier_runtime::time::now;
use farrier_runtime::vault::Vault;
use farrier_scheduler_store::{OperationRow, Store, StoreError};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tonic::{Code, Status};

pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) clients: Clients,
    pub(crate) vault: Arc<Vault>,
    pub(crate) engine: Arc<Engine>,
}

/// A new operation that a caller asks for, not stored yet.
fn new_operation(
    caller: &Caller,
    kind: OperationType,
    target: &str,
    node: &str,
    work: TaskSpec,
) -> OperationRow {
    let row = operation_of(caller.actor(), kind, target, node, work);
    OperationRow { owner: caller.project().to_owned(), ..row }
}

/// A new operation, not stored yet. Its name sorts by age (UUID v7): work on one node is done in order.
fn operation_of(
    actor: String,
    kind: OperationType,
    target: &str,
    node: &str,
    work: TaskSpec,
) -> OperationRow {
    let mut operation = Operation {
        name: format!("operations/{}", uuid::Uuid::now_v7()),
        target: target.to_owned(),
        node: node.to_owned(),
        actor,
        create_time: Some(now()),
        update_time: Some(now()),
        ..Operation::default()
    };
    operation.set_type(kind);
    operation.set_phase(OperationPhase::Placing);
    OperationRow { operation, owner: String::new(), work, sealed: None, cancel: String::new() }
}

impl App {
    /// What the same request got before. Asked before anything is judged: what was true then may not be now,
    /// and the answer stays.
    async fn answered(&self, key: &Option<RequestKey>) -> Result<Option<Operation>, Status> {
        match key {
            Some((id, content)) => self.store.answered(id, content).await.map_err(store_error),
            None => Ok(None),
        }
    }

    /// Remembers a request that was answered with an operation that was there.
    async fn remember(&self, key: Option<RequestKey>, operation: &str) -> Result<(), Status> {
        match key {
            Some((id, content)) => self.store.remember(&id, &content, operation).await.map_err(store_error),
            None => Ok(()),
        }
    }
}

/// The id of a request, and the digest of what it asks.
type RequestKey = (String, Vec<u8>);

/// The id of a request with the digest of what it asks, by whom.
fn request_key(caller: &Caller, id: &str, content: &impl Message) -> Option<RequestKey> {
    (!id.is_empty()).then(|| {
        let digest =
            Sha256::new().chain_update(caller.actor()).chain_update(content.encode_to_vec()).finalize();
        (id.to_owned(), digest.to_vec())
    })
}

pub(crate) fn store_error(error: StoreError) -> Status {
    match error {
        StoreError::NotFound { name } => not_found(&name),
        StoreError::NameTaken { name } => {
            refuse(Code::AlreadyExists, Reason::NameTaken, format!("{name} is taken: choose another name"))
        }
        StoreError::Stale { name } => stale_etag(&name, None),
        StoreError::RequestIdReused { id } => refuse(
            Code::InvalidArgument,
            Reason::RequestIdReused,
            format!("request_id {id} was used for another request: make a new one for each request"),
        ),
        error @ (StoreError::Database(_) | StoreError::Damaged(_)) => {
            internal(farrier_runtime::telemetry::chain(&error))
        }
    }
}
