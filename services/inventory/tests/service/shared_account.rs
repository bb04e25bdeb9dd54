//! Systems of one BMC whose nodes have one account there.

use crate::fixture::{Clients, Fixture, inner, node, refused};
use farrier_proto::inventory::*;
use tonic::Code;

const NODES: [(&str, &str, &str); 4] = [
    ("a", "192.0.2.9", "admin"),
    ("b", "192.0.2.9:443", "admin"),
    // Another account, and another BMC.
    ("c", "192.0.2.9", "root"),
    ("d", "192.0.2.90", "admin"),
];

async fn chassis(f: &Fixture) -> Clients {
    chassis_with(f, true).await
}

async fn chassis_with(f: &Fixture, default_password: bool) -> Clients {
    let mut op = f.with_nodes(&[]).await;
    for (id, address, user) in NODES {
        let bmc = Bmc {
            driver: "redfish".into(),
            address: address.into(),
            user: user.into(),
            password: "calvin".into(),
            default_password,
            system: id.into(),
            ..Bmc::default()
        };
        op.create_node(Node { bmc: Some(bmc), ..node(id) }).await.unwrap();
    }
    op
}

fn hold(id: &str, new_user: &str) -> HoldNodeRequest {
    HoldNodeRequest {
        node: format!("nodes/{id}"),
        operation: format!("operations/of-{id}"),
        action: "rotate".into(),
        rotates_bmc_credentials: true,
        bmc_new_user: new_user.into(),
        ..HoldNodeRequest::default()
    }
}

async fn password(scheduler: &mut Clients, id: &str) -> (String, String) {
    let request = GetDispatchRequest { node: format!("nodes/{id}"), ..Default::default() };
    let dispatch = inner(scheduler.dispatch.get_dispatch(request).await).unwrap();
    (dispatch.node.unwrap().bmc.unwrap().user, dispatch.bmc_password)
}

#[tokio::test]
async fn a_rotation_of_one_is_a_rotation_of_all_with_its_account() {
    for new_user in ["", "farrier"] {
        let f = Fixture::start().await;
        let mut op = chassis(&f).await;
        let mut scheduler = f.scheduler();
        inner(scheduler.dispatch.hold_node(hold("a", new_user)).await).unwrap();
        // Of two at once one would be lost; another account's is another matter.
        let why = refused(scheduler.dispatch.hold_node(hold("b", "")).await, Code::Aborted, "NODE_BUSY");
        assert!(why.contains("operations/of-a") && why.contains("nodes/a"), "{why}");
        inner(scheduler.dispatch.hold_node(hold("c", "")).await).unwrap();
        let release = ReleaseNodeRequest {
            node: "nodes/a".into(),
            operation: "operations/of-a".into(),
            bmc_credentials_rotated: true,
            bmc_account_proven: new_user.into(),
            ..Default::default()
        };
        inner(scheduler.dispatch.release_node(release).await).unwrap();
        let (user, new) = password(&mut scheduler, "a").await;
        assert_eq!(user, if new_user.is_empty() { "admin" } else { new_user });
        assert_ne!(new, "calvin");
        assert_eq!(password(&mut scheduler, "b").await, (user, new));
        for (id, user) in [("c", "root"), ("d", "admin")] {
            assert_eq!(password(&mut scheduler, id).await, (user.to_owned(), "calvin".to_owned()), "{id}");
        }
        let default = async |op: &mut Clients, id| op.node(id).await.unwrap().bmc.unwrap().default_password;
        assert!(!default(&mut op, "b").await && default(&mut op, "d").await);
        let told = op.all_events().await;
        assert!(
            told.iter().any(|e| e.resource == "nodes/b" && e.detail.contains("as nodes/a has")),
            "{told:?}"
        );
    }
}

/// Whoever begins work on another system meanwhile has both, and finds out by asking which of them the BMC has.
#[tokio::test]
async fn while_one_rotates_the_others_with_its_account_are_given_both_passwords() {
    for new_user in ["", "farrier"] {
        let f = Fixture::start().await;
        let mut op = chassis(&f).await;
        let mut scheduler = f.scheduler();
        inner(scheduler.dispatch.hold_node(hold("a", new_user)).await).unwrap();
        let ways = async |scheduler: &mut Clients, id: &str| {
            let request = GetDispatchRequest { node: format!("nodes/{id}"), ..Default::default() };
            let dispatch = inner(scheduler.dispatch.get_dispatch(request).await).unwrap();
            let bmc = dispatch.node.unwrap().bmc.unwrap();
            (bmc.rotation_pending, bmc.next_user, dispatch.bmc_password, dispatch.bmc_next_password)
        };
        let (rotates, user, old, next) = ways(&mut scheduler, "a").await;
        assert!(rotates && user == new_user && old == "calvin" && !next.is_empty());
        // The rotation is the other's: it is not b's to settle.
        assert_eq!(ways(&mut scheduler, "b").await, (false, user, old, next.clone()));
        for id in ["c", "d"] {
            let (_, user, _, next) = ways(&mut scheduler, id).await;
            assert_eq!((user.as_str(), next.as_str()), ("", ""), "{id}");
        }
        let stored = op.node("b").await.unwrap().bmc.unwrap();
        assert_eq!(
            (stored.next_user.as_str(), stored.rotation_pending),
            ("", false),
            "nothing of it is kept"
        );
        let release = ReleaseNodeRequest {
            node: "nodes/a".into(),
            operation: "operations/of-a".into(),
            bmc_credentials_rotated: true,
            bmc_account_proven: new_user.into(),
            ..Default::default()
        };
        inner(scheduler.dispatch.release_node(release).await).unwrap();
        let (_, user, password, none) = ways(&mut scheduler, "b").await;
        assert_eq!((user.as_str(), password, none.as_str()), ("", next, ""));
    }
}

/// The node that rotates need not be among those of a page, nor be looked at.
#[tokio::test]
async fn a_rack_is_told_both_passwords_of_an_account_wherever_the_node_is_that_rotates_it() {
    for new_user in ["", "farrier"] {
        let f = Fixture::start().await;
        let mut op = chassis_with(&f, false).await;
        let mut scheduler = f.scheduler();
        for (id, ..) in NODES {
            scheduler.provide(id).await;
        }
        inner(scheduler.dispatch.hold_node(hold("a", new_user)).await).unwrap();
        let request = GetDispatchRequest { node: "nodes/a".into(), ..Default::default() };
        let next = inner(scheduler.dispatch.get_dispatch(request).await).unwrap().bmc_next_password;
        let both = (new_user.to_owned(), next);
        // Whose next password a rack is told, with the account that gets it; a page has one node.
        let told =
            async || {
                let (mut told, mut page_token) = (Vec::new(), String::new());
                loop {
                    let request = ListWatchedNodesRequest { page_size: 1, page_token };
                    let page = inner(f.rack("r1").watch.list_watched_nodes(request).await).unwrap();
                    assert!(page.nodes.len() <= 1);
                    told.extend(page.nodes.into_iter().map(|one| {
                        (one.node, (one.bmc.unwrap_or_default().next_user, one.bmc_next_password))
                    }));
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        return told;
                    }
                }
            };
        let none = (String::new(), String::new());
        let of = |id: &str, what: &(String, String)| (format!("nodes/{id}"), what.clone());
        let others = [of("b", &both), of("c", &none), of("d", &none)];
        let mut all = vec![of("a", &both)];
        all.extend(others.clone());
        assert_eq!(told().await, all);
        op.update_node(Node { maintenance: true, ..node("a") }, &["maintenance"]).await.unwrap();
        assert_eq!(told().await, others, "one in maintenance is not looked at, and rotates all the same");
    }
}
