use super::resource::one_more;
use super::{App, List, error};
use farrier_inventory_store::EventQuery;
use farrier_proto::inventory::Event;
use farrier_runtime::error::{Reason, refuse};
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
}
