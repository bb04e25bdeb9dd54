//! A rotation that nobody knows the end of: the BMC said yes to a password and does not take it, or was not heard of since. Both
//! passwords are kept and tried, so that nothing fails by it, and nobody would look.

use super::App;
use super::bmc::has_bmc;
use farrier_inventory_store::StoreError;
use farrier_proto::inventory::{Event, Node};
use farrier_runtime::telemetry::chain;
use farrier_runtime::time::{ago_since, millis, now_ms, timestamp};
use prost_types::Timestamp;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Tells of them until shutdown, of nodes that no rack looks at too. It takes no input but the database: several replicas say it
/// once, and so does one that was away.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = app.tell_unsettled(now_ms()).await {
                tracing::warn!(error = %chain(&error), "rotations that nobody settled are not told yet");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    shutdown.run_until_cancelled(work).await;
}

impl App {
    async fn tell_unsettled(&self, now_ms: i64) -> Result<(), StoreError> {
        for row in self.store.rotating(None).await? {
            if let Some((began_ms, news)) = judge(&row.node, now_ms) {
                self.store.record_once(news, began_ms).await?;
            }
        }
        Ok(())
    }
}

/// What is told once of each rotation, when it has been so for long, and when the rotation began.
fn judge(node: &Node, now_ms: i64) -> Option<(i64, Event)> {
    let began_ms = millis(&since(node)?);
    if now_ms.saturating_sub(began_ms) < LONG_MS {
        return None;
    }
    let event = Event {
        time: Some(timestamp(now_ms)),
        actor: ACTOR.to_owned(),
        resource: node.name.clone(),
        action: "bmc rotation unsettled".to_owned(),
        detail: format!("{}; {}", told(node, now_ms)?, ways(node).join(", or ")),
        ..Event::default()
    };
    Some((began_ms, event))
}

/// What is seen of it, for people; nothing: there is none, or it is under way.
pub(super) fn told(node: &Node, now_ms: i64) -> Option<String> {
    let since = since(node)?;
    let since = match since == NOBODY_KNOWS {
        true => String::new(),
        false => format!(" {} ago", ago_since(millis(&since), now_ms)),
    };
    Some(format!(
        "a rotation of its BMC's password began{since}, and whether the BMC has taken the new one is not known: both passwords are kept"
    ))
}

/// What ends it, each with its reason.
fn ways(node: &Node) -> [String; 2] {
    let [rotate, say] = commands(node);
    [format!("`{rotate}` tries the same one again"), format!("`{say}` says which it has")]
}

/// What ends it, likelier first.
pub(super) fn commands(node: &Node) -> [String; 2] {
    let name = node.name.strip_prefix("nodes/").unwrap_or(&node.name);
    [
        format!("farrier node rotate-bmc-credentials {name}"),
        format!("farrier node update {name} --bmc-password-file FILE"),
    ]
}

/// Since when it waits for somebody.
fn since(node: &Node) -> Option<Timestamp> {
    let bmc = node.bmc.as_ref().filter(|bmc| bmc.rotation_pending && has_bmc(bmc))?;
    node.operation.is_empty().then(|| bmc.rotation_time.unwrap_or(NOBODY_KNOWS))
}

/// An earlier version of Farrier did not keep it.
const NOBODY_KNOWS: Timestamp = Timestamp { seconds: 0, nanos: 0 };
/// Whoever began it has looked at what came of it by then.
const LONG_MS: i64 = 3_600_000;
/// Between two looks at the database.
const EVERY: Duration = Duration::from_secs(60);
/// Who says it.
const ACTOR: &str = "spiffe://farrier/service/inventory";

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_inventory_store::{EventQuery, New, NodeExtra, Resource, SecretChange, Secrets, Store};
    use farrier_proto::inventory::{Bmc, Rack, Site};
    use farrier_runtime::vault::Vault;

    const BEGAN: i64 = 10_000_000;

    fn rotating(name: &str, time: Option<Timestamp>) -> Node {
        let bmc =
            Bmc { driver: "ipmi".into(), rotation_pending: true, rotation_time: time, ..Bmc::default() };
        Node {
            name: format!("nodes/{name}"),
            uid: format!("node-{name}"),
            rack: "racks/r1".into(),
            bmc: Some(bmc),
            ..Node::default()
        }
    }

    async fn make<R: Resource>(store: &Store, resource: R, extra: R::Extra) {
        let event = Event { action: "create".into(), ..Event::default() };
        store.create(New { resource, extra, event, request: None, dry: false }).await.unwrap();
    }

    /// No rack reports anything here, and one of the nodes is in maintenance.
    #[tokio::test]
    async fn a_rotation_that_is_not_settled_is_told_after_an_hour_once_by_whoever_looks_and_the_next_one_too()
    {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}", dir.path().join("db").display())).await.unwrap();
        make(&store, Site { name: "sites/s1".into(), uid: "s1".into(), ..Site::default() }, ()).await;
        let rack =
            Rack { name: "racks/r1".into(), uid: "r1".into(), site: "sites/s1".into(), ..Rack::default() };
        make(&store, rack, ()).await;
        let extra = || NodeExtra {
            secrets: Secrets { next: SecretChange::Store(b"next".to_vec()), ..Secrets::default() },
            ..NodeExtra::default()
        };
        let node = Node { maintenance: true, ..rotating("n1", Some(timestamp(BEGAN))) };
        make(&store, node, extra()).await;
        // One of an earlier version, which did not keep when it began.
        make(&store, rotating("n2", None), extra()).await;
        let app =
            |key: &str| App::new(store.clone(), Vault::open_or_create(&dir.path().join(key)).unwrap(), None);
        let replicas = [app("one"), app("two")];
        let told = async || {
            let terms = vec![("action".to_owned(), "bmc rotation unsettled".to_owned())];
            let events = store.events(&EventQuery { terms, limit: 100, ..EventQuery::default() }).await;
            events
                .unwrap()
                .into_iter()
                .map(|event| (event.resource, millis(&event.time.unwrap())))
                .collect::<Vec<_>>()
        };
        let look = async |minutes: i64| {
            for replica in &replicas {
                replica.tell_unsettled(BEGAN + minutes * 60_000).await.unwrap();
            }
        };
        look(59).await;
        let n2 = ("nodes/n2".to_owned(), BEGAN + 59 * 60_000);
        assert_eq!(told().await, std::slice::from_ref(&n2));
        for minutes in [60, 61, 600] {
            look(minutes).await;
        }
        let n1 = ("nodes/n1".to_owned(), BEGAN + 60 * 60_000);
        assert_eq!(told().await, [n2.clone(), n1.clone()]);
        // Another rotation of the same node.
        let stored = store.stored_node("nodes/n1").await.unwrap();
        let mut node = stored.node;
        node.bmc.as_mut().unwrap().rotation_time = Some(timestamp(BEGAN + 700 * 60_000));
        store.replace(node, 1, &NodeExtra::default(), Event::default()).await.unwrap();
        for minutes in [701, 760, 761] {
            look(minutes).await;
        }
        let again = ("nodes/n1".to_owned(), BEGAN + 760 * 60_000);
        assert_eq!(told().await, [n2, n1, again]);
    }

    #[test]
    fn what_is_told_says_since_when_and_what_ends_it() {
        let (began, told) = judge(&rotating("n1", Some(timestamp(BEGAN))), BEGAN + 3 * LONG_MS).unwrap();
        assert_eq!((began, told.resource.as_str()), (BEGAN, "nodes/n1"));
        for words in ["began 3h", "`farrier node rotate-bmc-credentials n1`", "--bmc-password-file FILE`"] {
            assert!(told.detail.contains(words), "{words}: {}", told.detail);
        }
    }

    #[test]
    fn one_that_is_under_way_or_settled_is_told_by_nobody() {
        let later = BEGAN + 2 * LONG_MS;
        let node = rotating("n1", Some(timestamp(BEGAN)));
        let busy = Node { operation: "operations/o1".into(), ..node.clone() };
        let mut settled = node.clone();
        settled.bmc.as_mut().unwrap().rotation_pending = false;
        for quiet in [busy, settled, Node { bmc: None, ..node.clone() }] {
            assert_eq!(judge(&quiet, later), None, "{quiet:?}");
            assert_eq!(told(&quiet, later), None);
        }
        assert!(told(&node, later).is_some());
    }
}
