use super::resource::{event, one_more};
use super::{App, List, check, error};
use farrier_identity::Identity;
use farrier_inventory_store::EventQuery;
use farrier_model::Collection;
use farrier_proto::inventory::{Event, Node, RackEvent, RackEventKind, RecordActionRequest};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, internal, invalid, refuse};
use farrier_runtime::filter;
use farrier_runtime::page::Page;
use tonic::{Code, Status};

const FILTER: &[&str] = &["resource", "operation", "actor", "action"];

impl App {
    pub(crate) async fn events(&self, list: &List, descending: bool) -> Result<(Vec<Event>, String), Status> {
        let page = Page::parse(list.page_size, &list.page_token)?;
        let after = page.after.as_deref().map(str::parse).transpose().map_err(|_| {
            refuse(
                Code::InvalidArgument,
                Reason::InvalidPageToken,
                "page_token: expected the next_page_token of the page before",
            )
        })?;
        let terms = filter::parse(&list.filter, FILTER)?.into_iter().map(|t| (t.field, t.value)).collect();
        let query = EventQuery { terms, after, descending, limit: one_more(&page) };
        let rows = self.store.events(&query).await.map_err(error::store)?;
        Ok(page.finish(rows, |event| event.sequence.to_string()))
    }

    /// The newest event of a resource with this action.
    pub(super) async fn newest_event(&self, resource: &str, action: &str) -> Result<Option<Event>, Status> {
        let terms = [("resource", resource), ("action", action)];
        let terms = terms.map(|(field, value)| (field.to_owned(), value.to_owned())).into();
        let query = EventQuery { terms, after: None, descending: true, limit: 1 };
        Ok(self.store.events(&query).await.map_err(error::store)?.pop())
    }

    /// What a rack saw. It can only say what is in its name to say.
    pub(crate) async fn report(&self, caller: &Caller, events: Vec<RackEvent>) -> Result<(), Status> {
        let Some(Identity::Rack(rack)) = caller.identity() else {
            return Err(internal("only racks report"));
        };
        if events.len() > REPORTS {
            return Err(invalid("events", format!("expected at most {REPORTS}, saw {}", events.len())));
        }
        let mut rows = Vec::new();
        for reported in events {
            let action = match reported.kind() {
                RackEventKind::RefuseLogin => "refuse login",
                RackEventKind::UnknownMachine => "unknown machine",
                RackEventKind::ForeignDhcpServer => "foreign dhcp server",
                RackEventKind::DiskFailed => DISK_FAILED,
                RackEventKind::AddressConflict => "address conflict",
                RackEventKind::PoolExhausted => "address pool exhausted",
                RackEventKind::TftpFull => "tftp full",
                RackEventKind::RogueRouter => "rogue router",
                RackEventKind::Unspecified => return Err(invalid("events.kind", "expected what happened")),
            };
            check::text("events.detail", &reported.detail)?;
            let resource = self.about(caller, rack, &reported.node).await?;
            rows.push(Event { detail: reported.detail, ..event(caller, &resource, action) });
        }
        self.store.record_events(rows).await.map_err(error::store)
    }

    /// What somebody does to a node that changes nothing here.
    pub(crate) async fn record_action(
        &self,
        caller: &Caller,
        request: RecordActionRequest,
    ) -> Result<(), Status> {
        let RecordActionRequest { node, action, detail, actor } = request;
        check::text("action", &action)?;
        check::text("detail", &detail)?;
        if action.is_empty() || actor.is_empty() {
            return Err(invalid("action", "expected what was done, and by whom"));
        }
        let node = self.get::<Node>(caller, &node).await?.name;
        let row = Event { actor, detail, ..event(caller, &node, &action) };
        self.store.record_events(vec![row]).await.map_err(error::store)
    }

    /// A node of this rack, or else the rack: a node may be gone, or be only somebody's claim.
    async fn about(&self, caller: &Caller, rack: &str, node: &str) -> Result<String, Status> {
        if !node.is_empty() {
            match self.get::<Node>(caller, node).await {
                Ok(node) => return Ok(node.name),
                Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(Collection::Racks.name(rack))
    }
}

/// The action of what a rack tells of a machine's iSCSI disk, every ten minutes while it lasts.
pub(super) const DISK_FAILED: &str = "disk failed";
/// Events of one report.
const REPORTS: usize = 100;
