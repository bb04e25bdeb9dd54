//! Channels to the services: who is called, who must answer, and how its errors read.

use crate::context::{Settings, Sourced};
use crate::failure::{Called, Exit, Failure};
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Longest wait for one answer. Everything that takes longer is an operation or a stream.
const DEADLINE: Duration = Duration::from_secs(30);
/// A BMC's log of thousands of records, or all that it is set to: a little longer than rackd waits for it.
const SLOW: Duration = Duration::from_secs(310);
/// A hardware report of a large node is some tens of KiB; a page of a thousand nodes needs room.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One service, not yet connected.
#[derive(Debug, Clone)]
pub struct Link {
    pub channel: Channel,
    pub called: Called,
}

impl Link {
    /// A failed call, as its reader will see it.
    pub fn failed(&self, status: &Status) -> Failure {
        Failure::of_status(status, &self.called)
    }
}

/// The services of the context in use.
#[derive(Debug, Clone)]
pub struct Services {
    settings: Settings,
}

impl Services {
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    pub fn inventory(&self) -> Result<Link, Failure> {
        self.service("inventory", &self.settings.inventory)
    }

    pub fn scheduler(&self) -> Result<Link, Failure> {
        self.service("scheduler", &self.settings.scheduler)
    }

    pub fn images(&self) -> Result<Link, Failure> {
        self.service("images", &self.settings.images)
    }

    /// The daemon of a rack. `id` without `racks/`: exactly this rack must answer, whoever holds the address.
    pub fn rack(&self, id: &str, address: &str, source: &str) -> Result<Link, Failure> {
        if address.is_empty() {
            return Err(Failure::refused(format!("rack {id} has no address"))
                .next(format!("`farrier rack update {id} --address https://HOST:PORT`, or --address here")));
        }
        let called =
            Called { service: format!("rack {id}"), url: address.to_owned(), source: source.to_owned() };
        self.link(called, Expect::Exactly(Identity::Rack(id.to_owned())))
    }

    /// Whatever server of this installation is at `url`.
    pub fn any(&self, url: &str) -> Result<Link, Failure> {
        let called = Called {
            service: "server".to_owned(),
            url: url.to_owned(),
            source: crate::failure::COMMAND_LINE.to_owned(),
        };
        self.link(called, Expect::AnyServer)
    }

    fn service(&self, name: &str, url: &Option<Sourced<String>>) -> Result<Link, Failure> {
        let Some(url) = url else {
            return Err(Failure::new(Exit::Usage, format!("no address of {name}: {}", self.missing(name)))
                .next(format!("`farrier context set NAME --{name} https://HOST:PORT --identity DIR`")));
        };
        let called = Called { service: name.to_owned(), url: url.value.clone(), source: url.source.clone() };
        self.link(called, Expect::Exactly(Identity::Service(name.to_owned())))
    }

    fn missing(&self, name: &str) -> String {
        let flag = format!("expected --{name}, FARRIER_{}", name.to_ascii_uppercase());
        match &self.settings.context {
            Some(context) => format!("{flag}, or `{name}` in context {context}"),
            None => format!("{flag}, or a context (none is current)"),
        }
    }

    fn link(&self, called: Called, expect: Expect) -> Result<Link, Failure> {
        let Some(identity) = &self.settings.identity else {
            return Err(Failure::usage(format!("nobody asks: {}", self.missing("identity")))
                .next("`farrier ca issue CA_DIR --user NAME --role ROLE --out DIR` makes one"));
        };
        let credentials = Credentials::load(&identity.value).map_err(|error| {
            Failure::from(error).next(format!("the identity directory is from {}", identity.source))
        })?;
        let channel = channel(&called.url, &credentials, expect)
            .map_err(|error| Failure::from(error).next(format!("the address is from {}", called.source)))?;
        Ok(Link { channel, called })
    }
}

/// A request with a deadline.
pub fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// A request to which a BMC takes longer than anything else.
pub fn ask_slow<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(SLOW);
    request
}

/// A fresh id: a request that is sent twice is done once.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Largest answer that is read.
pub const fn max_answer_bytes() -> usize {
    MAX_ANSWER_BYTES
}

/// Most items asked for in one page: the API's own cap.
const PAGE: i32 = 1000;

/// Fetches pages until there are no more, or `limit` items.
pub async fn pages<T, F, Fut>(limit: Option<usize>, mut fetch: F) -> Result<Vec<T>, Failure>
where
    F: FnMut(i32, String) -> Fut,
    Fut: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let left = limit.map(|limit| limit.saturating_sub(items.len()));
        if left == Some(0) {
            break;
        }
        let size = left.and_then(|left| i32::try_from(left).ok()).map_or(PAGE, |left| left.min(PAGE));
        let (page, next) = fetch(size, token.clone()).await?;
        items.extend(page);
        if next.is_empty() {
            break;
        }
        if next == token {
            return Err(Failure::refused("the server answered the same page twice"));
        }
        token = next;
    }
    items.truncate(limit.unwrap_or(usize::MAX));
    Ok(items)
}

/// Calls one method with a deadline; a failure says who was called.
#[macro_export]
macro_rules! call {
    ($link:expr, $client:ident, $method:ident, slow $message:expr) => {
        $crate::call!($link, $client, $method, asked $crate::client::ask_slow($message))
    };
    ($link:expr, $client:ident, $method:ident, asked $request:expr) => {
        $client::new($link.channel.clone())
            .max_decoding_message_size($crate::client::max_answer_bytes())
            .$method($request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| $link.failed(&status))
    };
    ($link:expr, $client:ident, $method:ident, $message:expr) => {
        $crate::call!($link, $client, $method, asked $crate::client::ask($message))
    };
}

/// Lists through all pages: `list!(link, NodeServiceClient, list_nodes, ListNodesRequest, nodes, args, filter)`.
#[macro_export]
macro_rules! list {
    ($link:expr, $client:ident, $method:ident, $request:ident { $($extra:tt)* }, $items:ident, $limit:expr, $filter:expr) => {{
        let link = &$link;
        let filter: String = $filter;
        $crate::client::pages($limit, |page_size, page_token| {
            let filter = filter.clone();
            async move {
                let page = $crate::call!(link, $client, $method, $request { page_size, page_token, filter, $($extra)* })?;
                Ok((page.$items, page.next_page_token))
            }
        })
        .await
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_end_at_the_limit_and_at_the_end() {
        let page = |size: i32, token: String| async move {
            let from: i32 = token.parse().unwrap_or(0);
            let to = (from + size.min(3)).min(7);
            Ok(((from..to).collect(), if to == 7 { String::new() } else { to.to_string() }))
        };
        assert_eq!(pages(None, page).await.unwrap(), (0..7).collect::<Vec<_>>());
        assert_eq!(pages(Some(4), page).await.unwrap(), vec![0, 1, 2, 3]);
        assert_eq!(pages(Some(0), page).await.unwrap(), Vec::<i32>::new());
    }

    #[tokio::test]
    async fn a_server_that_turns_in_circles_is_stopped() {
        let page = |_: i32, _: String| async { Ok((vec![1], "t".to_owned())) };
        assert!(pages(None, page).await.is_err());
    }
}
