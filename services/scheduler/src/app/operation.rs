use super::{App, store_error};
use farrier_model::Collection;
use farrier_proto::scheduler::{
    CancelOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation, OperationType,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, not_found, refuse};
use farrier_runtime::filter;
use farrier_runtime::page::Page;
use farrier_scheduler_store::OperationFilter;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Another replica's writes are seen after at most this long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl App {
    pub(crate) async fn operation(&self, caller: &Caller, name: &str) -> Result<Operation, Status> {
        let row = self.store.operation(name).await.map_err(store_error)?;
        if !caller.sees_all_projects() && row.owner != caller.project() {
            return Err(not_found(name));
        }
        Ok(row.operation)
    }

    pub(crate) async fn operations(
        &self,
        caller: &Caller,
        request: ListOperationsRequest,
    ) -> Result<ListOperationsResponse, Status> {
        let page = Page::parse(request.page_size, &request.page_token)?;
        let mut wanted = OperationFilter::default();
        let bad = |text: String| refuse(Code::InvalidArgument, Reason::InvalidFilter, text);
        for term in filter::parse(&request.filter, &["done", "target", "node", "type"])? {
            match term.field.as_str() {
                "done" => {
                    wanted.done = Some(
                        term.value
                            .parse()
                            .map_err(|_| bad("filter: done: expected true or false".to_owned()))?,
                    );
                }
                "target" if !term.value.contains('/') => {
                    let text = "filter: target: expected a whole name, such as nodes/n1 or instances/i1, saw";
                    return Err(bad(format!("{text} {:?}", term.value)));
                }
                "target" => wanted.target = Some(term.value),
                "node" => wanted.node = Some(Collection::Nodes.whole(term.value)),
                _ => {
                    let name = format!("OPERATION_TYPE_{}", term.value.to_ascii_uppercase());
                    let kind = OperationType::from_str_name(&name)
                        .ok_or_else(|| bad(format!("filter: no operation type {:?}", term.value)))?;
                    wanted.kind = Some(kind.into());
                }
            }
        }
        if !caller.sees_all_projects() {
            wanted.visible_to = Some(caller.project().to_owned());
        }
        let limit = u64::try_from(page.size + 1).unwrap_or(1001);
        let rows = self.store.operations(&wanted, page.after.as_deref(), limit).await.map_err(store_error)?;
        let (rows, next_page_token) = page.finish(rows, |r| r.operation.name.clone());
        Ok(ListOperationsResponse {
            operations: rows.into_iter().map(|r| r.operation).collect(),
            next_page_token,
        })
    }

    /// `first`, then every change, until it is done.
    pub(crate) fn watch(&self, first: Operation) -> ReceiverStream<Result<Operation, Status>> {
        let (tx, rx) = mpsc::channel(16);
        let store = self.store.clone();
        let shutdown = self.engine.shutdown.clone();
        tokio::spawn(async move {
            let mut changes = store.changes();
            let name = first.name.clone();
            let mut last = first.etag.clone();
            let mut done = first.done;
            if tx.send(Ok(first)).await.is_err() {
                return;
            }
            while !done {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = tx.closed() => return,
                    () = shutdown.cancelled() => {
                        let _ = tx.try_send(Err(refuse(
                            Code::Unavailable,
                            Reason::Unavailable,
                            "the scheduler is shutting down: watch again",
                        )));
                        return;
                    }
                }
                match store.operation(&name).await {
                    Ok(row) if row.operation.etag == last => {}
                    Ok(row) => {
                        last.clone_from(&row.operation.etag);
                        done = row.operation.done;
                        if tx.send(Ok(row.operation)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let _ = tx.send(Err(store_error(error))).await;
                        return;
                    }
                }
            }
        });
        ReceiverStream::new(rx)
    }

    pub(crate) async fn cancel(
        &self,
        caller: &Caller,
        request: CancelOperationRequest,
    ) -> Result<Operation, Status> {
        self.operation(caller, &request.name).await?;
        let reason = stopped(caller, &request.reason);
        self.engine.cancel(&request.name, &reason).await.map_err(store_error)?;
        self.operation(caller, &request.name).await
    }
}

/// Who stopped it, and why: the operation's end is the audit log's word of it.
pub(super) fn stopped(caller: &Caller, reason: &str) -> String {
    match reason {
        "" => format!("stopped by {}", caller.actor()),
        reason => format!("stopped by {}: {reason}", caller.actor()),
    }
}
