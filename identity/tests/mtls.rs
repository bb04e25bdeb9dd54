//! Who gets a connection, over real sockets: every way a certificate can be wrong, and rotation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use farrier_identity::agent::{self, Key, PinnedCa};
use farrier_identity::ca::{Authority, Issued, request_key_digest, to_pem, write_identity};
use farrier_identity::client::{Expect, channel, channel_with_deadline, pinned_channel};
use farrier_identity::server::{ClientAuth, Limits, accept};
use farrier_identity::{Credentials, Identity, IdentityError, Peer, Role};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

const HOUR: Duration = Duration::from_secs(3600);

/// Answers every call with the caller's identity in a header.
#[derive(Clone)]
struct WhoAmI;

impl tonic::server::NamedService for WhoAmI {
    const NAME: &'static str = "test.Who";
}

impl tower::Service<http::Request<Body>> for WhoAmI {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().expect("the connection's peer is in every request");
        let who = match &peer.identity {
            None => "nobody".to_owned(),
            Some(Identity::User { name, role, project }) => format!("{name} {} {project}", role.as_str()),
            Some(identity) => identity.to_string(),
        };
        ready(Ok(http::Response::builder().header("who", who).body(Body::empty()).unwrap()))
    }
}

struct Served {
    uri: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(credentials: Credentials, auth: ClientAuth) -> Served {
    serve_limited(credentials, auth, Limits::default()).await
}

async fn serve_limited(credentials: Credentials, auth: ClientAuth, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap());
    let incoming = accept(listener, credentials, auth, limits);
    let server = tonic::transport::Server::builder().add_service(WhoAmI).serve_with_incoming(incoming);
    let task = tokio::spawn(async move {
        let _ = server.await;
    });
    Served { uri, task }
}

/// Who the server says we are; the whole chain of causes when there is no connection.
async fn who(mut channel: Channel) -> Result<String, String> {
    let chain = |error: &dyn std::error::Error| farrier_chain(error);
    let request = http::Request::post("/test.Who/AmI").body(Body::empty()).unwrap();
    let ready = channel.ready().await.map_err(|e| chain(&e))?;
    let response = ready.call(request).await.map_err(|e| chain(&e))?;
    Ok(response.headers()["who"].to_str().unwrap().to_owned())
}

fn farrier_chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        out += &format!(": {e}");
        cause = e.source();
    }
    out
}

fn authority() -> Authority {
    Authority::generate("test").unwrap().0
}

fn issue(authority: &Authority, identity: &Identity) -> Issued {
    authority.issue(identity, &["127.0.0.1".to_owned()], HOUR).unwrap()
}

fn credentials(authority: &Authority, identity: &Identity) -> Credentials {
    of_issued(&issue(authority, identity), authority)
}

fn of_issued(issued: &Issued, authority: &Authority) -> Credentials {
    Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap()
}

fn service(name: &str) -> Identity {
    Identity::Service(name.into())
}

/// A certificate made by hand, with the authority's key, for what [`Authority::issue`] does not make.
fn odd_credentials(
    uris: &[&str],
    ou: &str,
    not_after_year: i32,
) -> (Authority, Result<Credentials, IdentityError>) {
    let (authority, ca) = Authority::generate("test").unwrap();
    let issuer =
        rcgen::Issuer::from_ca_cert_pem(&ca.cert_pem, rcgen::KeyPair::from_pem(&ca.key_pem).unwrap())
            .unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    for uri in uris {
        params.subject_alt_names.push(rcgen::SanType::URI((*uri).try_into().unwrap()));
    }
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, ou);
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &issuer).unwrap();
    let credentials = Credentials::from_pem(&cert.pem(), &key.serialize_pem(), &ca.cert_pem);
    (authority, credentials)
}

#[tokio::test]
async fn each_kind_of_identity_arrives_as_it_was_issued() {
    let ca = authority();
    let served = serve(credentials(&ca, &service("inventory")), ClientAuth::Required).await;
    let user = Identity::User { name: "ann".into(), role: Role::Member, project: "p1".into() };
    for (identity, expect) in [
        (service("scheduler"), "spiffe://farrier/service/scheduler"),
        (Identity::Rack("r1".into()), "spiffe://farrier/rack/r1"),
        (Identity::Node("n1".into()), "spiffe://farrier/node/n1"),
        (user, "ann member p1"),
    ] {
        let channel =
            channel(&served.uri, &credentials(&ca, &identity), Expect::Exactly(service("inventory")));
        assert_eq!(who(channel.unwrap()).await.as_deref(), Ok(expect));
    }
}

#[tokio::test]
async fn a_client_of_another_authority_gets_no_answer() {
    let ca = authority();
    let served = serve(credentials(&ca, &service("inventory")), ClientAuth::Required).await;
    let foreign = issue(&authority(), &service("scheduler"));
    // It knows our authority, so that only the server can refuse.
    let stranger = of_issued(&foreign, &ca);
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        let served = if auth == ClientAuth::Required {
            &served
        } else {
            &serve(credentials(&ca, &service("inventory")), auth).await
        };
        let refused = who(channel(&served.uri, &stranger, Expect::AnyServer).unwrap()).await;
        assert!(refused.is_err(), "{auth:?}: {refused:?}");
    }
    // The server lives on.
    let good = channel(&served.uri, &credentials(&ca, &service("scheduler")), Expect::AnyServer).unwrap();
    assert!(who(good).await.is_ok());
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let ca = authority();
    let served = serve(credentials(&authority(), &service("inventory")), ClientAuth::Optional).await;
    let error =
        who(channel(&served.uri, &credentials(&ca, &service("scheduler")), Expect::AnyServer).unwrap())
            .await
            .unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_server_is_only_who_it_is() {
    let ca = authority();
    let me = credentials(&ca, &service("scheduler"));
    for (server, expect, admitted) in [
        (service("inventory"), Expect::Exactly(service("inventory")), true),
        (service("images"), Expect::Exactly(service("inventory")), false),
        (Identity::Rack("inventory".into()), Expect::Exactly(service("inventory")), false),
        (Identity::Rack("r2".into()), Expect::Exactly(Identity::Rack("r1".into())), false),
        (Identity::Rack("r2".into()), Expect::AnyRack, true),
        (service("images"), Expect::AnyRack, false),
        (service("images"), Expect::AnyService, true),
        (Identity::Rack("r1".into()), Expect::AnyService, false),
        (Identity::Rack("r1".into()), Expect::AnyServer, true),
    ] {
        let served = serve(credentials(&ca, &server), ClientAuth::Required).await;
        let seen = who(channel(&served.uri, &me, expect.clone()).unwrap()).await;
        assert_eq!(seen.is_ok(), admitted, "{server} as {expect:?}: {seen:?}");
    }
}

#[tokio::test]
async fn nodes_and_users_cannot_serve() {
    let ca = authority();
    let me = credentials(&ca, &service("scheduler"));
    let user = Identity::User { name: "ann".into(), role: Role::Admin, project: String::new() };
    for identity in [Identity::Node("n1".into()), user] {
        let served = serve(credentials(&ca, &identity), ClientAuth::Required).await;
        // Even to a client that wants exactly this one: the certificate has no right to serve.
        let error = who(channel(&served.uri, &me, Expect::Exactly(identity)).unwrap()).await.unwrap_err();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn without_a_certificate_there_is_a_connection_only_where_it_is_optional() {
    let ca = authority();
    let pin = PinnedCa::of(ca.cert_der()).bytes();
    let required = serve(credentials(&ca, &service("images")), ClientAuth::Required).await;
    let optional = serve(credentials(&ca, &service("inventory")), ClientAuth::Optional).await;
    assert!(who(pinned_channel(&required.uri, pin).unwrap()).await.is_err());
    assert_eq!(who(pinned_channel(&optional.uri, pin).unwrap()).await.as_deref(), Ok("nobody"));
}

#[tokio::test]
async fn a_pin_names_one_authority() {
    let ca = authority();
    let served = serve(credentials(&ca, &service("inventory")), ClientAuth::Optional).await;
    let other = PinnedCa::of(authority().cert_der()).bytes();
    let error = who(pinned_channel(&served.uri, other).unwrap()).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    // An authority that merely travels along does not vouch for a certificate it did not sign.
    let (honest, impostor) = (authority(), authority());
    let issued = issue(&impostor, &service("inventory"));
    let mut cert = issued.cert_pem.clone();
    cert += honest.cert_pem();
    let liar = Credentials::from_pem(&cert, &issued.key_pem, impostor.cert_pem()).unwrap();
    let served = serve(liar, ClientAuth::Optional).await;
    assert!(
        who(pinned_channel(&served.uri, PinnedCa::of(honest.cert_der()).bytes()).unwrap()).await.is_err()
    );
}

#[tokio::test]
async fn an_agent_believes_racks_of_its_pin_only_and_then_has_a_name() {
    let ca = authority();
    let pin = PinnedCa::of(ca.cert_der());
    let rack = serve(credentials(&ca, &Identity::Rack("r1".into())), ClientAuth::Optional).await;
    let key = Key::generate().unwrap();
    let cert = ca.sign_request(key.csr_der(), &Identity::Node("n1".into()), &[], HOUR).unwrap();
    assert_eq!(who(agent::channel(&rack.uri, &pin, None).unwrap()).await.as_deref(), Ok("nobody"));
    let named = agent::channel(&rack.uri, &pin, Some((&key, &cert))).unwrap();
    assert_eq!(who(named).await.as_deref(), Ok("spiffe://farrier/node/n1"));
    // A service of the same authority is not a rack.
    let inventory = serve(credentials(&ca, &service("inventory")), ClientAuth::Optional).await;
    assert!(who(agent::channel(&inventory.uri, &pin, None).unwrap()).await.is_err());
    // The names in the request do not matter; the key does.
    assert_eq!(request_key_digest(key.csr_der()).unwrap(), request_key_digest(key.csr_der()).unwrap());
    assert_ne!(
        request_key_digest(key.csr_der()).unwrap(),
        request_key_digest(Key::generate().unwrap().csr_der()).unwrap()
    );
}

#[tokio::test]
async fn expired_certificates_are_refused_on_both_sides() {
    let (ca, expired) = odd_credentials(&["spiffe://farrier/service/inventory"], "", 2021);
    let expired = expired.unwrap();
    let good = credentials(&ca, &service("scheduler"));
    let server = serve(expired.clone(), ClientAuth::Optional).await;
    let error = who(channel(&server.uri, &good, Expect::AnyServer).unwrap()).await.unwrap_err();
    assert!(error.contains("xpired"), "{error}");
    let server = serve(good, ClientAuth::Optional).await;
    assert!(who(channel(&server.uri, &expired, Expect::AnyServer).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_certificate_without_one_farrier_name_is_nobody() {
    for uris in [
        &[][..],
        &["spiffe://elsewhere/service/inventory"],
        &["spiffe://farrier/service/inventory", "spiffe://farrier/rack/r1"],
        &["spiffe://farrier/service/in/ventory"],
    ] {
        let (_, credentials) = odd_credentials(uris, "", 2100);
        let error = credentials.map(|c| c.identity()).unwrap_err();
        assert!(matches!(error, IdentityError::NoIdentity { .. }), "{uris:?}: {error}");
    }
    // An unknown role is the least one, never a greater.
    let (_, credentials) = odd_credentials(&["spiffe://farrier/user/eve"], "root", 2100);
    let identity = credentials.unwrap().identity();
    assert!(matches!(identity, Identity::User { role: Role::Reader, .. }), "{identity:?}");
}

#[tokio::test]
async fn there_is_no_plaintext_and_a_silent_peer_holds_up_nobody() {
    let ca = authority();
    let served = serve(credentials(&ca, &service("inventory")), ClientAuth::Required).await;
    let address = served.uri.trim_start_matches("https://");
    let _silent: Vec<TcpStream> = {
        let mut all = Vec::new();
        for _ in 0..32 {
            all.push(TcpStream::connect(address).await.unwrap());
        }
        all
    };
    for hello in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(hello).await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        // At most a TLS alert (record type 21), never HTTP.
        assert!(answer.first().is_none_or(|b| *b == 21), "{answer:?}");
    }
    let good = channel(&served.uri, &credentials(&ca, &service("scheduler")), Expect::AnyServer).unwrap();
    assert!(who(good).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_silent_address_cannot_keep_the_others_out() {
    let ca = authority();
    let served = serve(credentials(&ca, &service("inventory")), ClientAuth::Optional).await;
    let address = served.uri.trim_start_matches("https://").parse().unwrap();
    let mut silent = Vec::new();
    // More than a server has handshakes under way.
    for _ in 0..400 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(address).await.unwrap());
    }
    let good = channel(&served.uri, &credentials(&ca, &service("scheduler")), Expect::AnyServer).unwrap();
    assert!(who(good).await.is_ok());
    drop(silent);
}

#[tokio::test]
async fn new_files_serve_the_next_handshake_and_broken_ones_none() {
    let ca = authority();
    let dir = tempfile::tempdir().unwrap();
    let write =
        |identity: &Identity| write_identity(dir.path(), &issue(&ca, identity), ca.cert_pem()).unwrap();
    write(&service("inventory"));
    let files = Credentials::load(dir.path()).unwrap();
    let served = serve(files.clone(), ClientAuth::Required).await;
    let me = credentials(&ca, &service("scheduler"));
    let is = |name: &'static str| who(channel(&served.uri, &me, Expect::Exactly(service(name))).unwrap());
    assert!(is("inventory").await.is_ok());
    assert!(!files.reload().unwrap(), "nothing changed");

    // Another name, so that the new certificate is told from the old one.
    write(&service("images"));
    assert!(is("inventory").await.is_ok(), "not before it is read again");
    assert!(files.reload().unwrap());
    assert_eq!(*files.generation().borrow(), 1);
    assert!(is("images").await.is_ok());
    assert!(is("inventory").await.is_err());

    for (file, content) in [
        ("cert.pem", Some("nonsense")),
        ("cert.pem", Some("")),
        ("key.pem", Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")),
        ("ca.pem", None),
    ] {
        let path = dir.path().join(file);
        let before = std::fs::read(&path).unwrap();
        match content {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = files.reload().unwrap_err();
        assert!(farrier_chain(&error).len() > 10, "{error}");
        assert_eq!(files.identity(), service("images"), "{file}");
        assert!(is("images").await.is_ok(), "{file} is broken: the last good one serves");
        std::fs::write(&path, before).unwrap();
        files.reload().unwrap();
    }
    // A key that does not belong to the certificate.
    std::fs::write(dir.path().join("key.pem"), issue(&ca, &service("images")).key_pem).unwrap();
    assert!(files.reload().is_err());
    assert!(is("images").await.is_ok());
}

#[tokio::test]
async fn a_rotated_client_needs_no_restart() {
    let ca = authority();
    let dir = tempfile::tempdir().unwrap();
    let write = |id: &str| {
        write_identity(dir.path(), &issue(&ca, &Identity::Rack(id.into())), ca.cert_pem()).unwrap();
    };
    write("r1");
    let files = Credentials::load(dir.path()).unwrap();
    let ask = |uri: String| {
        let channel = channel(&uri, &files, Expect::AnyServer).unwrap();
        async move { who(channel).await }
    };
    let served = serve(credentials(&ca, &service("inventory")), ClientAuth::Required).await;
    assert_eq!(ask(served.uri.clone()).await.as_deref(), Ok("spiffe://farrier/rack/r1"));
    write("r2");
    assert!(files.reload().unwrap());
    assert_eq!(ask(served.uri.clone()).await.as_deref(), Ok("spiffe://farrier/rack/r2"));
}

#[test]
fn an_authority_is_made_once_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let made = Authority::init(dir.path(), "site").unwrap();
    assert!(matches!(Authority::init(dir.path(), "site"), Err(IdentityError::Exists { .. })));
    assert_eq!(Authority::load(dir.path()).unwrap().cert_der(), made.cert_der());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
    assert_eq!(to_pem(made.cert_der()).lines().count(), made.cert_pem().lines().count());
}

#[test]
fn requests_that_are_none_are_refused() {
    let ca = authority();
    let huge = vec![0x30; 17 * 1024];
    for csr in [&b""[..], b"\x30", b"nonsense", &huge] {
        let refused = ca.sign_request(csr, &Identity::Node("n".into()), &[], HOUR);
        assert!(matches!(refused, Err(IdentityError::BadRequest)));
        assert!(request_key_digest(csr).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_more_than_the_limit_waits_for_another_to_end() {
    let authority = authority();
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = credentials(&authority, &service("inventory"));
    let served = serve_limited(server, ClientAuth::Required, limits).await;
    let client = credentials(&authority, &service("scheduler"));
    let first = channel(&served.uri, &client, Expect::AnyService).unwrap();
    who(first.clone()).await.unwrap();
    let second = tokio::spawn(who(channel(&served.uri, &client, Expect::AnyService).unwrap()));
    // Time enough, on any machine, for a second connection that were let in.
    for _ in 0..100 {
        who(first.clone()).await.unwrap();
    }
    assert!(!second.is_finished());
    drop(first);
    // It may have given up meanwhile on a slow machine; the place is free in any case.
    let _ = second.await.unwrap();
    who(channel(&served.uri, &client, Expect::AnyService).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_certificate_cannot_keep_out_those_who_have_one() {
    let authority = authority();
    let limits = Limits { anonymous: 1, ..Limits::default() };
    let server = credentials(&authority, &service("inventory"));
    let served = serve_limited(server, ClientAuth::Optional, limits).await;
    let pin = PinnedCa::of(authority.cert_der()).bytes();
    let unproven = pinned_channel(&served.uri, pin).unwrap();
    assert_eq!(who(unproven.clone()).await.unwrap(), "nobody");
    who(pinned_channel(&served.uri, pin).unwrap()).await.unwrap_err();
    let client = credentials(&authority, &service("scheduler"));
    who(channel(&served.uri, &client, Expect::AnyService).unwrap()).await.unwrap();
    assert_eq!(who(unproven).await.unwrap(), "nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_server_that_hangs_ends_at_its_deadline() {
    #[derive(Clone)]
    struct Hangs;
    impl tonic::server::NamedService for Hangs {
        const NAME: &'static str = "test.Who";
    }
    impl tower::Service<http::Request<Body>> for Hangs {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Self::Response, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }
    let authority = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap());
    let server = credentials(&authority, &service("inventory"));
    let incoming = accept(listener, server, ClientAuth::Required, Limits::default());
    tokio::spawn(tonic::transport::Server::builder().add_service(Hangs).serve_with_incoming(incoming));
    let client = credentials(&authority, &service("scheduler"));
    let deadline = Duration::from_millis(300);
    let hanging = channel_with_deadline(&uri, &client, Expect::AnyService, deadline).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), who(hanging)).await;
    let error = answer.expect("the deadline ends the call").unwrap_err();
    assert!(error.to_lowercase().contains("timeout"), "{error}");
}

/// A ramdisk's clock is set by what rackd said before its machine started, and rackd may have started since.
#[test]
fn what_is_backdated_is_good_since_its_authority_is() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut old = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    old.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 2, 1), rcgen::date_time_ymd(2120, 2, 1));
    std::fs::write(dir.path().join("ca.pem"), old.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).unwrap();
    let ca = Authority::load(dir.path()).unwrap();
    let from = |issued: Issued| {
        let credentials = Credentials::from_pem(&issued.cert_pem, &issued.key_pem, ca.cert_pem()).unwrap();
        credentials.validity().from
    };
    let rack = Identity::Rack("r1".to_owned());
    let began = std::time::UNIX_EPOCH + Duration::from_secs(1_580_515_200);
    assert_eq!(from(ca.issue_backdated(&rack, HOUR).unwrap()), began);
    assert!(from(ca.issue(&rack, &[], HOUR).unwrap()) > began);
}
