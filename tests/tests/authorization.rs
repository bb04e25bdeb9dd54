//! Who may call what: every RPC of the descriptors, as every kind of caller, over real mTLS.
//!
//! `docs/authorization.md` is the expected matrix. A changed rule fails the first test until the page is
//! written anew (`FARRIER_WRITE_DOCS=1 cargo test -p farrier-tests --test main authorization`), so that it is a
//! line in a review. The other tests hold the servers to the page's table, call by call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use crate::bench::rackd_config;
use farrier_identity::agent::PinnedCa;
use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::client::{Expect, channel, pinned_channel};
use farrier_identity::server::ClientAuth;
use farrier_identity::{Credentials, Identity, Role};
use farrier_runtime::authz::{RuleTable, methods, unruled};
use farrier_runtime::error::reason_of;
use farrier_runtime::health::probe;
use farrier_runtime::serve::Server;
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Bytes;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A server of ours: its name, what it serves, and whether it lets callers in without a certificate.
struct Table {
    server: &'static str,
    /// Who it is on the wire.
    identity: fn() -> Identity,
    services: &'static [&'static str],
    rules: RuleTable,
    auth: ClientAuth,
}

const TABLES: &[Table] = &[
    Table {
        server: "inventory",
        identity: || Identity::Service("inventory".into()),
        services: farrier_inventory::rules::SERVICES,
        rules: farrier_inventory::rules::RULES,
        auth: ClientAuth::Optional,
    },
    Table {
        server: "scheduler",
        identity: || Identity::Service("scheduler".into()),
        services: farrier_scheduler::rules::SERVICES,
        rules: farrier_scheduler::rules::RULES,
        auth: ClientAuth::Required,
    },
    Table {
        server: "images",
        identity: || Identity::Service("images".into()),
        services: farrier_images::SERVICES,
        rules: farrier_images::RULES,
        auth: ClientAuth::Required,
    },
    Table {
        server: "rackd",
        identity: || Identity::Rack("r1".into()),
        services: farrier_rackd::SERVICES,
        rules: farrier_rackd::RULES,
        auth: ClientAuth::Required,
    },
    Table {
        server: "rackd, for agents",
        identity: || Identity::Rack("r1".into()),
        services: farrier_rackd::AGENT_SERVICES,
        rules: farrier_rackd::AGENT_RULES,
        auth: ClientAuth::Optional,
    },
];

/// Every kind of caller, by the heading of its column.
fn callers() -> Vec<(&'static str, Option<Identity>)> {
    let user = |role| Some(Identity::User { name: "u".into(), role, project: "p".into() });
    let service = |name: &str| Some(Identity::Service(name.into()));
    vec![
        ("nobody", None),
        ("reader", user(Role::Reader)),
        ("member", user(Role::Member)),
        ("operator", user(Role::Operator)),
        ("admin", user(Role::Admin)),
        ("inventory", service("inventory")),
        ("scheduler", service("scheduler")),
        ("images", service("images")),
        ("console", service("console")),
        ("other service", service("stranger")),
        ("rack", Some(Identity::Rack("r1".into()))),
        ("node", Some(Identity::Node("n1".into()))),
    ]
}

fn page() -> String {
    let mut out = String::from(
        "# Who may call what\n\n\
         Generated from the rule tables by `tests/tests/authorization.rs`; a change of a rule fails that test\n\
         until this page is written anew (`FARRIER_WRITE_DOCS=1`). A caller that passes here may still be refused\n\
         by the object it names: see [security.md](security.md).\n\n\
         Columns: `nobody` has no certificate; `reader` to `admin` are users; `inventory` to `other service`\n\
         are services; `rack` and `node` are any rack's and any ramdisk agent's certificate.\n",
    );
    let callers = callers();
    for table in TABLES {
        let _ = writeln!(out, "\n## {}\n", table.server);
        let _ = writeln!(
            out,
            "{}\n",
            match table.auth {
                ClientAuth::Required => "No connection without a certificate.",
                ClientAuth::Optional => "A caller without a certificate is let in, to the calls that say so.",
            }
        );
        let heads: Vec<&str> = callers.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(out, "| RPC | {} |\n|---|{}", heads.join(" | "), ":-:|".repeat(heads.len()));
        for (method, rule) in table.rules {
            let cells: Vec<&str> =
                callers.iter().map(|(_, who)| if rule.admits(who.as_ref()) { "yes" } else { "" }).collect();
            let short = method.strip_prefix("farrier.").unwrap_or(method);
            let _ = writeln!(out, "| `{short}` | {} |", cells.join(" | "));
        }
    }
    out
}

/// The page's own word: is `caller` admitted to `method`?
fn matrix() -> BTreeMap<(String, String), bool> {
    let text = std::fs::read_to_string(golden()).expect("docs/authorization.md");
    let mut heads: Vec<String> = Vec::new();
    let mut out = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("| ")) {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`').to_owned()).collect();
        if cells[0] == "RPC" {
            heads = cells[1..].to_vec();
            continue;
        }
        for (head, cell) in heads.iter().zip(&cells[1..]) {
            out.insert((format!("farrier.{}", cells[0]), head.clone()), cell == "yes");
        }
    }
    out
}

fn golden() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/authorization.md"))
}

#[test]
fn the_page_is_the_rules() {
    let page = page();
    if std::env::var_os("FARRIER_WRITE_DOCS").is_some() {
        std::fs::write(golden(), &page).unwrap();
    }
    let written = std::fs::read_to_string(golden()).unwrap_or_default();
    assert!(
        written == page,
        "docs/authorization.md is not what the rules say: is the change meant? Then write it anew with \
         FARRIER_WRITE_DOCS=1"
    );
}

#[test]
fn every_service_of_the_contract_is_in_one_table_and_every_method_has_a_rule() {
    let set = prost_types::FileDescriptorSet::decode(farrier_proto::DESCRIPTORS).unwrap();
    let mut all: Vec<String> = set
        .file
        .iter()
        .filter(|f| f.package().starts_with("farrier."))
        .flat_map(|f| f.service.iter().map(|s| format!("{}.{}", f.package(), s.name())))
        .collect();
    let mut served: Vec<String> =
        TABLES.iter().flat_map(|t| t.services.iter().map(|s| (*s).to_owned())).collect();
    all.sort();
    served.sort();
    assert_eq!(served, all);
    for table in TABLES {
        assert_eq!(unruled(table.services, table.rules), Vec::<String>::new(), "{}", table.server);
        // Only what must be answered before there is an identity is answered without one.
        let open: Vec<&str> =
            table.rules.iter().filter(|(_, rule)| rule.admits(None)).map(|(method, _)| *method).collect();
        let expected: &[&str] = match table.server {
            "inventory" => &["farrier.inventory.v1.JoinService/Join"],
            "rackd, for agents" => &["farrier.agent.v1.AgentService/Register"],
            _ => &[],
        };
        assert_eq!(open, expected, "{}", table.server);
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// One authority, and a certificate for each caller.
struct World {
    authority: Authority,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { authority: Authority::init(&dir.path().join("ca"), "test").unwrap(), dir }
    }

    fn credentials(&self, identity: &Identity) -> Credentials {
        let hosts = ["127.0.0.1".to_owned()];
        let issued = self.authority.issue(identity, &hosts, HOUR).unwrap();
        Credentials::from_pem(&issued.cert_pem, &issued.key_pem, self.authority.cert_pem()).unwrap()
    }

    fn channel(&self, uri: &str, who: Option<&Credentials>) -> Channel {
        match who {
            Some(credentials) => channel(uri, credentials, Expect::AnyServer).unwrap(),
            None => pinned_channel(uri, PinnedCa::of(self.authority.cert_der()).bytes()).unwrap(),
        }
    }

    /// Calls every method of the table as every caller and compares with the page. An admitted call must
    /// answer as `admitted` says.
    async fn walk(&self, table: &Table, uri: &str, admitted: impl Fn(&Result<(), Status>) -> bool) {
        let matrix = matrix();
        let mut calls = 0;
        for (head, who) in callers() {
            let who = who.map(|identity| self.credentials(&identity));
            for method in methods(table.services).unwrap() {
                // A connection of its own for each call: an ended one must not colour the next answer.
                let answer = call(self.channel(uri, who.as_ref()), &method).await;
                let expect = matrix[&(method.clone(), head.to_owned())];
                assert_eq!(
                    is_refusal(&answer, who.is_none(), table.auth),
                    !expect,
                    "{method} as {head}: {answer:?}"
                );
                assert!(!expect || admitted(&answer), "{method} as {head}: {answer:?}");
                calls += 1;
            }
        }
        assert!(calls >= callers().len() * table.services.len());
    }
}

/// Whether the rules (not a handler) sent the caller away.
fn is_refusal(answer: &Result<(), Status>, anonymous: bool, auth: ClientAuth) -> bool {
    let Err(status) = answer else { return false };
    if anonymous && auth == ClientAuth::Required {
        // No connection, so no answer of the server's either.
        let broken = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
        return broken.contains(&status.code()) && reason_of(status).is_none();
    }
    let code = if anonymous { Code::Unauthenticated } else { Code::PermissionDenied };
    status.code() == code
        && reason_of(status).as_deref() == Some("NOT_ALLOWED")
        && status.message().contains(" may not call ")
}

/// Far longer than a loaded machine takes: slowness is no answer.
const ANSWER: Duration = Duration::from_secs(120);

/// Any method with one empty message, whatever it streams.
async fn call(channel: Channel, method: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
    let one = tonic::Request::new(tokio_stream::once(Bytes::new()));
    // A refusal, of the rules or of a handler, comes instead of an answer's headers. A stream that was let in
    // sends those at once, also when it has nothing to say yet.
    match tokio::time::timeout(ANSWER, grpc.streaming(one, path, Raw)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => panic!("{method}: neither let in nor refused within {ANSWER:?}"),
    }
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use tokio_util::bytes::BufMut as _;
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use tokio_util::bytes::Buf as _;
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap());
    (listener, uri)
}

/// The rule layer of every server, with nothing behind it: what passes finds no handler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_table_on_the_wire_does_what_the_page_says() {
    let world = World::new();
    for table in TABLES {
        let (listener, uri) = listen().await;
        let server = Server {
            listener,
            credentials: world.credentials(&(table.identity)()),
            client_auth: table.auth,
            services: table.services,
            rules: table.rules,
            routes: Routes::default(),
            probe: probe(|| async { Ok::<(), String>(()) }),
        };
        let stop = CancellationToken::new();
        let _stop: DropGuard = stop.clone().drop_guard();
        tokio::spawn(server.run(stop));
        let no_handler = |a: &Result<(), Status>| a.as_ref().is_err_and(|s| s.code() == Code::Unimplemented);
        world.walk(table, &uri, no_handler).await;
        let admin = Identity::User { name: "u".into(), role: Role::Admin, project: String::new() };
        let channel = world.channel(&uri, Some(&world.credentials(&admin)));
        let unknown = call(channel, "farrier.inventory.v1.NodeService/NoSuchMethod").await;
        assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    }
}

/// The same against the services themselves: a handler of a refused call never runs, one of an admitted call
/// does, and says what is wrong with an empty request rather than failing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_themselves_do_what_the_page_says() {
    let world = World::new();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let database = |name: &str| format!("sqlite://{}", world.dir.path().join(name).display());
    let (listener, inventory) = listen().await;
    tokio::spawn(farrier_inventory::run(
        farrier_inventory::Config {
            listener,
            credentials: world.credentials(&(TABLES[0].identity)()),
            database_url: database("inventory.db"),
            secrets_key: world.dir.path().join("key").into(),
            ca_dir: Some(world.dir.path().join("ca")),
        },
        stop.clone(),
    ));
    let (listener, images) = listen().await;
    tokio::spawn(farrier_images::run(
        farrier_images::Config {
            listener,
            credentials: world.credentials(&(TABLES[2].identity)()),
            database_url: database("images.db"),
            data_dir: world.dir.path().join("images"),
            max_image_bytes: 1 << 20,
        },
        stop.clone(),
    ));
    let (listener, scheduler) = listen().await;
    tokio::spawn(farrier_scheduler::run(
        farrier_scheduler::Config {
            listener,
            credentials: world.credentials(&(TABLES[1].identity)()),
            database_url: database("scheduler.db"),
            secrets_key: world.dir.path().join("scheduler.key").into(),
            inventory: inventory.clone(),
            images: images.clone(),
        },
        stop.clone(),
    ));
    let identity = world.dir.path().join("rack");
    let issued = world.authority.issue(&(TABLES[3].identity)(), &["127.0.0.1".to_owned()], HOUR).unwrap();
    write_identity(&identity, &issued, world.authority.cert_pem()).unwrap();
    let config = rackd_config(world.dir.path(), &identity, &images);
    let (bound, running) = farrier_rackd::start(config, stop.clone()).await.unwrap();
    tokio::spawn(running);
    let rackd = format!("https://{}", bound.listen);
    let handled = |answer: &Result<(), Status>| match answer {
        Ok(()) => true,
        Err(status) => {
            !matches!(status.code(), Code::Internal | Code::Unknown | Code::Unimplemented | Code::Unavailable)
        }
    };
    for (table, uri) in TABLES.iter().zip([inventory, scheduler, images, rackd]) {
        world.walk(table, &uri, handled).await;
    }
    // Ramdisks trust the rack's own authority and are known by it: so is every caller there.
    let authority = Authority::load(&world.dir.path().join("rackd/agent-ca")).unwrap();
    let ramdisks = World { authority, dir: tempfile::tempdir().unwrap() };
    ramdisks.walk(&TABLES[4], &format!("https://{}", bound.agent), handled).await;
    assert_eq!(TABLES.len(), 5, "each table has been walked");
}
