//! A rack without interfaces, BMCs and a centre, for tests of what it serves to whom.

use crate::bmc::Bmcs;
use crate::boot_cd::BootCds;
use crate::cache::{ImageCache, Room};
use crate::config::{Config, SegmentConfig};
use crate::consoles::Consoles;
use crate::discovery::Discovery;
use crate::homes::Homes;
use crate::known::KnownMachines;
use crate::rack::Rack;
use crate::ramdisks::Ramdisks;
use crate::signed::Signer;
use crate::snapshots::Snapshots;
use crate::tasks::Tasks;
use crate::volumes::Volumes;
use farrier_identity::ca::Authority;
use farrier_journal::Journal;
use farrier_netboot::{BootTable, Netboot, Segment};
use farrier_runtime::vault::Vault;
use farrier_switch::Static;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;

/// Its provisioning networks, row-1 and so on, have so many addresses each.
pub(crate) async fn rack(data: &Path, pools: &[u8]) -> Arc<Rack> {
    let rows = pools.iter().zip(1..).map(|(size, n)| {
        format!(
            "[[segment]]\nname = \"row-{n}\"\nrole = \"provisioning\"\naddress = \"10.90.{n}.1/24\"\n\
             pool = \"10.90.{n}.10-10.90.{n}.{}\"\n",
            size + 9
        )
    });
    let text = format!(
        "rack = \"r1\"\ndata = {data:?}\nidentity = \"/none\"\nimages = \"https://images:7300\"\n\
         ramdisk = {{ kernel = \"/none/k\", initrd = \"/none/i\" }}\n{}",
        rows.collect::<String>()
    );
    let config = Config::parse(&text).unwrap();
    let mut table = BootTable::new();
    let segment = |s: &SegmentConfig| Segment::new(&s.name, &s.interface, s.address, s.prefix);
    table.set_segments(config.segments.iter().map(segment).collect());
    let images = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let vault = Arc::new(Vault::open_or_create(&data.join("secrets.key")).unwrap());
    let ramdisks = Ramdisks::of(&config.ramdisk, None, None).unwrap();
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    Arc::new(Rack {
        consoles: Consoles::new(
            data.join("consoles"),
            config.consoles.log,
            shutdown.clone(),
            tracker.clone(),
        ),
        discovery: Discovery::off(data),
        signer: Signer::new([0; 32]),
        snapshots: Snapshots::new(data, images.clone()),
        cache: ImageCache::new(data.join("images"), images, Room { most: u64::MAX, free: 0 }),
        switch: Arc::new(Static),
        volumes: Volumes::new(&config, 3260, vault.clone()),
        boot_cds: BootCds::new(None, &ramdisks),
        bmc: Arc::new(Bmcs::bind(data, None).await.unwrap()),
        moves: crate::bmc::Moves::default(),
        changes: crate::bmc::Changes::default(),
        tasks: Tasks::default(),
        beside: crate::watch::Beside::default(),
        timeouts: config.timeouts.clone(),
        started: farrier_runtime::time::now(),
        http_port: 80,
        agent_port: 7401,
        tracker,
        shutdown,
        journal: Journal::open(&data.join("journal.db")).await.unwrap(),
        vault,
        netboot: Netboot::start(farrier_netboot::Config::new(80), table).await,
        known: KnownMachines::default(),
        homes: Homes::default(),
        agent_ca: Authority::generate("ramdisks").unwrap().0,
        ramdisks,
        config,
    })
}
