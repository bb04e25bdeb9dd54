//! A rackd renews its certificate before it ends, from the inventory that its configuration names.

use crate::bench::{rackd_config, within};
use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::inventory::{CreateRackRequest, CreateSiteRequest, Rack, Site};
use farrier_proto::rack::GetRackStatusRequest;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_near_its_end_is_replaced_while_rackd_runs() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::init(&dir.path().join("ca"), "test").unwrap();
    let issue = |identity: &Identity, valid| {
        authority.issue(identity, &["127.0.0.1".to_owned()], Duration::from_secs(valid)).unwrap()
    };
    let credentials = |identity: Identity| {
        let issued = issue(&identity, 3600);
        Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap()
    };
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inventory = format!("https://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(farrier_inventory::run(
        farrier_inventory::Config {
            listener,
            credentials: credentials(Identity::Service("inventory".into())),
            database_url: format!("sqlite://{}/inventory.db", dir.path().display()),
            secrets_key: dir.path().join("inventory.key").into(),
            ca_dir: Some(dir.path().join("ca")),
        },
        stop.clone(),
    ));
    let operator = Identity::User { name: "olga".into(), role: Role::Operator, project: String::new() };
    let operator = credentials(operator);
    let to_inventory = channel(&inventory, &operator, Expect::AnyService).unwrap();
    let site = Some(Site { name: "sites/s".into(), ..Site::default() });
    let request = CreateSiteRequest { site, ..Default::default() };
    SiteServiceClient::new(to_inventory.clone()).create_site(request).await.unwrap();
    let rack = Some(Rack { name: "racks/r1".into(), site: "sites/s".into(), ..Rack::default() });
    let request = CreateRackRequest { rack, ..Default::default() };
    RackRegistryServiceClient::new(to_inventory).create_rack(request).await.unwrap();

    // Two minutes are left of seven: certificates begin five minutes before they are made.
    let identity = dir.path().join("identity");
    let rack = Identity::Rack("r1".into());
    write_identity(&identity, &issue(&rack, 120), authority.cert_pem()).unwrap();
    let mine = Credentials::load(&identity).unwrap();
    let mut renewed = mine.generation();
    let watching = tokio::spawn(mine.clone().watch());
    let (old, hosts) = (mine.validity(), mine.hosts());

    let mut config = rackd_config(dir.path(), &identity, "https://127.0.0.1:9");
    config.inventory = Some(inventory);
    let (bound, running) = farrier_rackd::start(config, stop.clone()).await.unwrap();
    let rackd = tokio::spawn(running);
    within(renewed.wait_for(|generation| *generation > 0)).await.unwrap();
    assert!(mine.validity().until > old.until + Duration::from_secs(86_400), "{:?}", mine.validity());
    assert!(mine.validity().until > SystemTime::now() + Duration::from_secs(29 * 86_400));
    assert_eq!((mine.identity(), mine.hosts()), (rack.clone(), hosts));
    assert!(!identity.join("next").exists());

    let uri = format!("https://{}", bound.listen);
    let ask = |expected: Identity| {
        let channel = channel(&uri, &operator, Expect::Exactly(expected)).unwrap();
        async move { RackServiceClient::new(channel).get_rack_status(GetRackStatusRequest {}).await }
    };
    within(ask(rack)).await.unwrap();
    // The server that runs takes over what it finds in its files: told by another name.
    let other = Identity::Rack("r2".into());
    write_identity(&identity, &issue(&other, 3600), authority.cert_pem()).unwrap();
    let taken_over = async {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        while ask(other.clone()).await.is_err() {
            look.tick().await;
        }
    };
    within(taken_over).await;
    watching.abort();
    stop.cancel();
    within(rackd).await.unwrap().unwrap();
    within(served).await.unwrap().unwrap();
}
