//! A served server and somebody else's gRPC client that has no `.proto` files: `buf curl`, the stand-in for
//! `grpcurl`. It comes from PyPI (`buf-bin`, a static program in a wheel) at the first run and stays in
//! `target/tmp`; where it cannot be had these tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod buf;

use buf::buf;
use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::server::ClientAuth;
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::inventory::event_service_server::{EventService, EventServiceServer};
use farrier_proto::inventory::{
    Event, ListEventsRequest, ListEventsResponse, ReportEventsRequest, ReportEventsResponse,
};
use farrier_runtime::authz::{Caller, Rule, RuleTable};
use farrier_runtime::health::probe;
use farrier_runtime::serve::{ServeError, Server};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

const SERVICES: &[&str] = &["farrier.inventory.v1.EventService"];
const METHOD: &str = "farrier.inventory.v1.EventService/ListEvents";
const RULES: RuleTable =
    &[(METHOD, Rule::User(Role::Operator)), ("farrier.inventory.v1.EventService/ReportEvents", Rule::Rack)];

struct Events;

#[tonic::async_trait]
impl EventService for Events {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let actor = Caller::of(&request).actor();
        let filter = request.into_inner().filter;
        let event = Event { sequence: 7, actor, detail: filter, ..Event::default() };
        Ok(Response::new(ListEventsResponse { events: vec![event], next_page_token: String::new() }))
    }

    async fn report_events(
        &self,
        _: Request<ReportEventsRequest>,
    ) -> Result<Response<ReportEventsResponse>, Status> {
        Err(Status::unimplemented("nobody reports here"))
    }
}

struct Fixture {
    uri: String,
    dir: tempfile::TempDir,
    _stop: DropGuard,
}

impl Fixture {
    async fn start(auth: ClientAuth) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::generate("test").unwrap();
        let hosts = ["127.0.0.1".to_owned()];
        let issue = |identity: &Identity, to: &Path| {
            let issued = authority.issue(identity, &hosts, Duration::from_secs(600)).unwrap();
            write_identity(to, &issued, authority.cert_pem()).unwrap();
        };
        issue(&Identity::Service("inventory".into()), &dir.path().join("server"));
        for role in [Role::Operator, Role::Reader] {
            let user = Identity::User { name: "ann".into(), role, project: String::new() };
            issue(&user, &dir.path().join(role.as_str()));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}", listener.local_addr().unwrap());
        let server = Server {
            listener,
            credentials: Credentials::load(&dir.path().join("server")).unwrap(),
            client_auth: auth,
            services: SERVICES,
            rules: RULES,
            routes: Routes::new(EventServiceServer::new(Events)),
            probe: probe(|| async { Ok::<(), String>(()) }),
        };
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        Self { uri, dir, _stop: stop.drop_guard() }
    }

    /// `buf curl` as `who` (a directory with an identity), or without a certificate.
    async fn curl(&self, who: Option<&str>, args: &[&str], path: &str) -> Output {
        let mut command = Command::new(buf());
        let home = self.dir.path().join("home");
        command.env_clear().env("HOME", &home).env("XDG_CACHE_HOME", &home);
        command.arg("curl").arg("--cacert").arg(self.dir.path().join("server/ca.pem"));
        if let Some(who) = who {
            let of = |file: &str| self.dir.path().join(who).join(file);
            command.arg("--cert").arg(of("cert.pem")).arg("--key").arg(of("key.pem"));
        }
        command.args(["--protocol", "grpc"]).args(args).arg(format!("{}{path}", self.uri));
        tokio::task::spawn_blocking(move || command.output().expect("buf runs")).await.unwrap()
    }
}

#[tokio::test]
async fn a_server_does_not_start_under_another_services_certificate() {
    let (authority, _) = Authority::generate("test").unwrap();
    let images = Identity::Service("images".into());
    let issued = authority.issue(&images, &["127.0.0.1".to_owned()], Duration::from_secs(600)).unwrap();
    let server = Server {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        credentials: Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap(),
        client_auth: ClientAuth::Required,
        services: SERVICES,
        rules: RULES,
        routes: Routes::new(EventServiceServer::new(Events)),
        probe: probe(|| async { Ok::<(), String>(()) }),
    };
    let refused = server.run(CancellationToken::new()).await.unwrap_err().to_string();
    assert!(refused.contains("spiffe://farrier/service/images"), "{refused}");
    assert!(refused.contains("farrier.inventory.v1."), "{refused}");
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

#[tokio::test]
async fn a_method_is_called_with_no_files_over_both_reflections() {
    let f = Fixture::start(ClientAuth::Required).await;
    for protocol in ["grpc-v1", "grpc-v1alpha"] {
        let reflect = ["--reflect-protocol", protocol, "-d", r#"{"filter":"by hand"}"#];
        let said = good(&f.curl(Some("operator"), &reflect, &format!("/{METHOD}")).await);
        assert!(said.contains("by hand") && said.contains("spiffe://farrier/user/ann"), "{protocol}: {said}");
        let list = ["--reflect-protocol", protocol, "--list-methods"];
        let said = good(&f.curl(Some("reader"), &list, "").await);
        for method in [METHOD, "grpc.health.v1.Health/Check"] {
            assert!(said.contains(method), "{protocol}: {said}");
        }
    }
}

#[tokio::test]
async fn health_is_told_for_the_server_and_for_each_service() {
    let f = Fixture::start(ClientAuth::Required).await;
    for service in ["", SERVICES[0]] {
        let body = format!(r#"{{"service":"{service}"}}"#);
        let said = good(&f.curl(Some("reader"), &["-d", &body], "/grpc.health.v1.Health/Check").await);
        assert!(said.contains("SERVING"), "{said}");
    }
    let body = r#"{"service":"no.such.Service"}"#;
    let unknown = f.curl(Some("reader"), &["-d", body], "/grpc.health.v1.Health/Check").await;
    assert!(!unknown.status.success() && text(&unknown).contains("not_found"), "{}", text(&unknown));
}

#[tokio::test]
async fn a_refusal_has_its_reason() {
    let f = Fixture::start(ClientAuth::Required).await;
    let refused = f.curl(Some("reader"), &["-d", "{}"], &format!("/{METHOD}")).await;
    let said = text(&refused);
    assert!(!refused.status.success() && said.contains("permission_denied"), "{said}");
    assert!(said.contains("spiffe://farrier/user/ann may not call"), "{said}");
    assert!(said.contains("NOT_ALLOWED") || said.contains("google.rpc.ErrorInfo"), "{said}");
}

#[tokio::test]
async fn without_a_certificate_there_is_nothing() {
    let required = Fixture::start(ClientAuth::Required).await;
    let refused = required.curl(None, &["-d", "{}"], "/grpc.health.v1.Health/Check").await;
    assert!(!refused.status.success(), "{}", text(&refused));
    // Where a joiner may connect without one, it learns no more: not even which methods there are.
    let optional = Fixture::start(ClientAuth::Optional).await;
    let said = text(&optional.curl(None, &["--list-methods"], "").await);
    assert!(said.contains("unauthenticated") || said.contains("not authenticated"), "{said}");
    // With the schema in a file buf needs no reflection: it is the call itself that is refused.
    let schemas = [
        ("health.binpb", tonic_health::pb::FILE_DESCRIPTOR_SET, "grpc.health.v1.Health/Check"),
        ("farrier.binpb", farrier_proto::DESCRIPTORS, METHOD),
    ];
    for (file, descriptors, method) in schemas {
        let schema = optional.dir.path().join(file);
        std::fs::write(&schema, descriptors).unwrap();
        let args = ["--schema", schema.to_str().unwrap(), "-d", "{}"];
        let refused = optional.curl(None, &args, &format!("/{method}")).await;
        let said = text(&refused);
        assert!(!refused.status.success() && said.contains("unauthenticated"), "{method}: {said}");
    }
}

#[tokio::test]
async fn a_server_with_a_hole_in_its_rules_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::init(&dir.path().join("ca"), "test").unwrap();
    let issued =
        authority.issue(&Identity::Service("inventory".into()), &[], Duration::from_secs(60)).unwrap();
    let gone = ("farrier.inventory.v1.EventService/Gone", Rule::Rack);
    let one_too_many: Vec<_> = RULES.iter().copied().chain([gone]).collect();
    for (rules, names) in [(&[][..], "has no rule"), (one_too_many.leak(), "is no method")] {
        let server = Server {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            credentials: Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem())
                .unwrap(),
            client_auth: ClientAuth::Required,
            services: SERVICES,
            rules,
            routes: Routes::new(EventServiceServer::new(Events)),
            probe: probe(|| async { Ok::<(), String>(()) }),
        };
        let error = server.run(CancellationToken::new()).await.unwrap_err();
        assert!(matches!(&error, ServeError::Rules(holes) if holes[0].contains(names)), "{error}");
    }
}
