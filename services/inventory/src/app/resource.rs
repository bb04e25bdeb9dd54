//! Create, get, list, update and delete: the same for every noun.

use super::noun::Noun;
use super::{App, check, error};
use farrier_inventory_store::{Created, New, Query, RequestRecord, StoreError};
use farrier_proto::inventory::Event;
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, internal, invalid, not_found, refuse, stale_etag};
use farrier_runtime::page::Page;
use farrier_runtime::{filter, mask, time};
use prost_types::FieldMask;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use uuid::Uuid;

/// Tries of a write that names no etag, when others write the same resource. Sized for a burst: each try
/// loses only to a write that succeeded.
const TRIES: usize = 16;

/// What a list request asks for.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) filter: String,
}

impl App {
    pub(crate) async fn create<R: Noun>(
        &self,
        caller: &Caller,
        resource: Option<R>,
        request_id: &str,
        validate_only: bool,
    ) -> Result<R, Status> {
        let resource = resource.ok_or_else(|| invalid(R::FIELD, "expected a value"))?;
        let digest = digest(&resource);
        let request = match (request_id, validate_only) {
            ("", _) => None,
            (id, _) if Uuid::parse_str(id).is_err() => return Err(invalid("request_id", "expected a UUID")),
            (_, true) => None,
            (id, false) => Some(self.seal_request::<R>(id, &digest)?),
        };
        let now = time::now();
        let mut resource = resource.born(Uuid::now_v7().to_string(), now)?;
        let extra = resource.seal(None, &self.vault)?;
        let parent = resource.parent().map(str::to_owned);
        let event = event(caller, resource.name(), "create");
        let new = New { resource, extra, event, request, dry: validate_only };
        // A conflict here is another transaction with this request id, committed just now: its answer is ours.
        let mut created = self.store.create(new.clone()).await;
        if matches!(created, Err(StoreError::Conflict { .. })) {
            created = self.store.create(new).await;
        }
        match created {
            Ok(Created::New(resource)) => Ok(resource),
            Ok(Created::Repeated { request, name }) => {
                self.same_request::<R>(&request, &digest)?;
                self.get(caller, &name).await
            }
            Err(StoreError::NoParent { name }) => Err(not_found(parent.as_deref().unwrap_or(&name))),
            Err(other) => Err(error::store(other)),
        }
    }

    pub(crate) async fn get<R: Noun>(&self, caller: &Caller, name: &str) -> Result<R, Status> {
        check::name("name", R::COLLECTION, name)?;
        let resource: R = self.store.get(name).await.map_err(error::store)?;
        if resource.visible_to(caller) { Ok(resource) } else { Err(not_found(name)) }
    }

    pub(crate) async fn list<R: Noun>(
        &self,
        caller: &Caller,
        list: &List,
    ) -> Result<(Vec<R>, String), Status> {
        let page = Page::parse(list.page_size, &list.page_token)?;
        let terms = filter::parse(&list.filter, R::FILTER)?
            .into_iter()
            .map(|term| R::term(term).map(|t| (t.field, t.value)))
            .collect::<Result<_, _>>()?;
        let query = Query {
            terms,
            project: (!caller.sees_all_projects()).then(|| caller.project().to_owned()),
            after: page.after.clone(),
            limit: one_more(&page),
        };
        let rows = self.store.list(&query).await.map_err(error::store)?;
        Ok(page.finish(rows, |row: &R| row.name().to_owned()))
    }

    pub(crate) async fn update<R: Noun>(
        &self,
        caller: &Caller,
        wanted: Option<R>,
        update_mask: Option<&FieldMask>,
    ) -> Result<R, Status> {
        let wanted = wanted.ok_or_else(|| invalid(R::FIELD, "expected a value"))?;
        let fields = mask::fields(update_mask, R::MASK, |field| wanted.is_set(field))?;
        for _ in 0..TRIES {
            let before: R = self.get(caller, wanted.name()).await?;
            let revision = expect_etag(&before, wanted.etag())?;
            let mut after = before.clone();
            for field in &fields {
                after.take(field, &wanted);
            }
            after.check()?;
            after.touch(time::now());
            let extra = after.seal(Some(&before), &self.vault)?;
            let event = Event { detail: fields.join(", "), ..event(caller, wanted.name(), "update") };
            match self.store.replace(after, revision, &extra, event).await {
                // The caller did not say which version it means, so the newest one it is.
                Err(StoreError::Conflict { .. }) if wanted.etag().is_empty() => {}
                other => return other.map_err(error::store),
            }
        }
        Err(stale_etag(wanted.name(), None))
    }

    /// Deletes what `removable` lets go.
    pub(crate) async fn delete<R: Noun>(
        &self,
        caller: &Caller,
        name: &str,
        etag: &str,
        removable: impl Fn(&R) -> Result<(), Status>,
    ) -> Result<(), Status> {
        for _ in 0..TRIES {
            let before: R = self.get(caller, name).await?;
            let revision = expect_etag(&before, etag)?;
            removable(&before)?;
            match self.store.delete::<R>(name, Some(revision), event(caller, name, "delete")).await {
                Err(StoreError::Conflict { .. }) if etag.is_empty() => {}
                other => return other.map_err(error::store),
            }
        }
        Err(stale_etag(name, None))
    }

    /// A request may hold a password, so even its digest is not kept in the clear.
    fn seal_request<R: Noun>(&self, id: &str, digest: &[u8]) -> Result<RequestRecord, Status> {
        let digest = self.vault.seal(&request_context(id), digest).map_err(internal)?;
        Ok(RequestRecord { id: id.to_owned(), method: method::<R>(), digest })
    }

    fn same_request<R: Noun>(&self, first: &RequestRecord, digest: &[u8]) -> Result<(), Status> {
        let sealed = self.vault.open(&request_context(&first.id), &first.digest).map_err(internal)?;
        if first.method == method::<R>() && sealed.as_slice() == digest {
            return Ok(());
        }
        Err(refuse(
            Code::InvalidArgument,
            Reason::RequestIdReused,
            format!("request_id {} was used for another request: choose a new one", first.id),
        ))
    }
}

/// The revision to write over, if the caller's etag (empty: any) is of it.
pub(super) fn expect_etag<R: Noun>(stored: &R, etag: &str) -> Result<i64, Status> {
    if !etag.is_empty() && etag != stored.etag() {
        return Err(stale_etag(stored.name(), Some((etag, stored.etag()))));
    }
    stored.etag().parse().map_err(|_| internal(format!("{} has no revision", stored.name())))
}

/// The row of history for something that `caller` did now.
pub(super) fn event(caller: &Caller, resource: &str, action: &str) -> Event {
    Event {
        time: Some(time::now()),
        actor: caller.actor(),
        resource: resource.to_owned(),
        action: action.to_owned(),
        ..Event::default()
    }
}

/// Rows to read for a page: one more tells whether there is a next.
pub(super) fn one_more(page: &Page) -> u64 {
    u64::try_from(page.size).unwrap_or(u64::MAX).saturating_add(1)
}

fn method<R: Noun>() -> String {
    format!("create {}", R::FIELD)
}

fn request_context(id: &str) -> String {
    format!("requests/{id}")
}

/// SHA-256 of what was asked. Labels are a map, which protobuf writes in any order: they are sorted first.
fn digest<R: Noun>(resource: &R) -> Vec<u8> {
    let mut plain = resource.clone();
    let mut labels: Vec<_> = plain.labels_mut().map(std::mem::take).unwrap_or_default().into_iter().collect();
    labels.sort();
    let mut hash = Sha256::new();
    hash.update(plain.encode_length_delimited_to_vec());
    for text in labels.iter().flat_map(|(key, value)| [key, value]) {
        hash.update(text.len().to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().to_vec()
}
