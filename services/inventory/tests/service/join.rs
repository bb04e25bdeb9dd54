//! How racks join and stay.

use crate::fixture::{Clients, Fixture, inner, refused};
use farrier_identity::agent::PinnedCa;
use farrier_identity::ca::new_request;
use farrier_identity::client::pinned_channel;
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::inventory::*;
use tonic::Code;

/// A token, and a client as a new rackd has it: no certificate, the authority's digest from the token.
async fn token(f: &Fixture) -> (String, Clients) {
    let mut admin = f.user(Role::Admin, "");
    let request = CreateJoinTokenRequest { rack: "racks/r1".into(), valid_seconds: 60 };
    let token = inner(admin.joins.create_join_token(request).await).unwrap();
    assert!(token.expire_time.is_some());
    let pin = token.token.rsplit('.').next().unwrap();
    let pin = PinnedCa::from_hex(pin).unwrap();
    (token.token, Clients::new(pinned_channel(&f.uri, pin.bytes()).unwrap()))
}

fn join(token: &str, csr_der: &[u8]) -> JoinRequest {
    JoinRequest {
        token: token.into(),
        csr_der: csr_der.into(),
        hosts: vec!["rack1.example".into(), "127.0.0.1".into()],
    }
}

#[tokio::test]
async fn a_token_admits_one_key_to_one_rack() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let (token, mut rackd) = token(&f).await;
    let (key, csr) = new_request().unwrap();

    let malformed = rackd.joins.join(join(&token, b"csr")).await;
    refused(malformed, Code::InvalidArgument, "INVALID_FIELD");
    let unknown = token.replacen("farrier-join.r1.", "farrier-join.r2.", 1);
    refused(rackd.joins.join(join(&unknown, &csr)).await, Code::PermissionDenied, "TOKEN_UNKNOWN");
    refused(rackd.joins.join(join("hello", &csr)).await, Code::PermissionDenied, "TOKEN_UNKNOWN");

    let joined = inner(rackd.joins.join(join(&token, &csr)).await).unwrap();
    let credentials = Credentials::from_pem(&joined.certificate_pem, &key, &joined.ca_pem).unwrap();
    assert_eq!(credentials.identity(), Identity::Rack("r1".into()));
    let mut rack = f.clients_with(&credentials);
    assert!(rack.node("n1").await.is_ok());

    // The answer was lost on the way: the same key asks again.
    inner(rackd.joins.join(join(&token, &csr)).await).unwrap();
    let (_, thief) = new_request().unwrap();
    refused(rackd.joins.join(join(&token, &thief)).await, Code::PermissionDenied, "TOKEN_USED");

    // Later, a new key for the same rack.
    let (key, csr_der) = new_request().unwrap();
    let renewed = rack.joins.renew_certificate(RenewCertificateRequest { csr_der, hosts: vec![] }).await;
    let renewed = inner(renewed).unwrap();
    let credentials = Credentials::from_pem(&renewed.certificate_pem, &key, &renewed.ca_pem).unwrap();
    assert_eq!(credentials.identity(), Identity::Rack("r1".into()));
    assert!(f.clients_with(&credentials).node("n1").await.is_ok());

    let events = op.all_events().await;
    let secret = token.split('.').nth(2).unwrap();
    assert!(events.iter().all(|e| !format!("{e:?}").contains(secret)));
    let joins: Vec<_> = events.iter().filter(|e| e.action == "join").map(|e| e.actor.as_str()).collect();
    assert_eq!(joins, ["spiffe://farrier/rack/r1"]);
}

#[tokio::test]
async fn tokens_are_for_racks_that_exist_and_times_that_can_be() {
    let f = Fixture::start().await;
    f.with_nodes(&[]).await;
    let mut admin = f.user(Role::Admin, "");
    let mut ask = async |rack: &str, valid_seconds| {
        admin.joins.create_join_token(CreateJoinTokenRequest { rack: rack.into(), valid_seconds }).await
    };
    refused(ask("racks/none", 0).await, Code::NotFound, "NOT_FOUND");
    refused(ask("r1", 0).await, Code::InvalidArgument, "INVALID_FIELD");
    refused(ask("racks/r1", -1).await, Code::InvalidArgument, "INVALID_FIELD");
    ask("racks/r1", 0).await.unwrap();
}

#[tokio::test]
async fn a_rack_that_was_deleted_renews_nothing() {
    let f = Fixture::start().await;
    f.with_nodes(&[]).await;
    let (_, csr_der) = new_request().unwrap();
    let renew = RenewCertificateRequest { csr_der, hosts: vec![] };
    refused(f.rack("gone").joins.renew_certificate(renew.clone()).await, Code::NotFound, "NOT_FOUND");
    let user = f.user(Role::Admin, "").joins.renew_certificate(renew.clone()).await;
    refused(user, Code::PermissionDenied, "NOT_ALLOWED");
    inner(f.scheduler().joins.renew_certificate(renew).await).unwrap();
}

#[tokio::test]
async fn with_an_external_pki_nobody_joins_here() {
    let f = Fixture::with_ca(false).await;
    f.with_nodes(&[]).await;
    let mut admin = f.user(Role::Admin, "");
    let token = CreateJoinTokenRequest { rack: "racks/r1".into(), valid_seconds: 0 };
    let message =
        refused(admin.joins.create_join_token(token).await, Code::FailedPrecondition, "NO_AUTHORITY");
    assert!(message.contains("external PKI"), "{message}");
    let join = JoinRequest { token: "t".into(), ..Default::default() };
    refused(admin.joins.join(join).await, Code::FailedPrecondition, "NO_AUTHORITY");
}
