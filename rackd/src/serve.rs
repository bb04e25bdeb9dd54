//! Starting and ending rackd.

use crate::bmc::Bmcs;
use crate::boot_cd::{self, BootCds};
use crate::boot_steps;
use crate::cache::{ImageCache, Room};
use crate::config::{Config, DhcpMode, Role, SegmentConfig, SwitchDriver};
use crate::consoles::Consoles;
use crate::discovery::{self, Discovery};
use crate::disk_access;
use crate::grpc::{AgentApi, BmcApi, ConsoleApi, RackApi};
use crate::homes::{self, Homes};
use crate::housekeeping;
use crate::known::{self, KnownMachines};
use crate::metrics;
use crate::phone_home;
use crate::rack::Rack;
use crate::ramdisks::Ramdisks;
use crate::renewal::Renewal;
use crate::reports::Reporter;
use crate::rules::{AGENT_RULES, AGENT_SERVICES, RULES, SERVICES};
use crate::secure;
use crate::signed::Signer;
use crate::snapshot::Kept;
use crate::snapshots::Snapshots;
use crate::tasks::{self, Tasks};
use crate::volumes::Volumes;
use crate::watch::Watch;
use anyhow::Context as _;
use farrier_block::Portal;
use farrier_identity::ca::Authority;
use farrier_identity::client::{Expect, channel};
use farrier_identity::server::ClientAuth;
use farrier_identity::{Credentials, Identity};
use farrier_journal::Journal;
use farrier_netboot::{
    Boot, BootEntry, BootTable, Dhcp, Leases, MacAddr, Netboot, Pool, Segment, SignedChain, http,
};
use farrier_proto::agent::agent_service_server::AgentServiceServer;
use farrier_proto::rack::bmc_service_server::BmcServiceServer;
use farrier_proto::rack::console_service_server::ConsoleServiceServer;
use farrier_proto::rack::rack_service_server::RackServiceServer;
use farrier_runtime::health;
use farrier_runtime::key::KeySource;
use farrier_runtime::serve::Server;
use farrier_runtime::telemetry::chain;
use farrier_runtime::vault::Vault;
use farrier_switch::{Bridges, Static, Switch};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

/// The agent endpoint's own certificate; made anew at each start, and never on disk. As long as its authority: a rackd
/// that nobody restarts goes on.
const AGENT_CERTIFICATE: Duration = Duration::from_secs(3650 * 86_400);

/// Where a started rackd listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub listen: SocketAddr,
    pub agent: SocketAddr,
    pub http: SocketAddr,
    pub block: SocketAddr,
}

/// Runs rackd until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (_, running) = start(config, shutdown).await?;
    running.await
}

/// Starts rackd. The future runs it until `shutdown`; the addresses are bound when this returns.
pub async fn start(
    config: Config,
    shutdown: CancellationToken,
) -> anyhow::Result<(Bound, impl Future<Output = anyhow::Result<()>> + Send)> {
    farrier_identity::swap::complete(&config.identity)?;
    let credentials =
        Credentials::load(&config.identity).context("rackd has no identity: run `rackd join` first")?;
    let expected = Identity::Rack(config.rack.clone());
    anyhow::ensure!(
        credentials.identity() == expected,
        "the certificate in {} is for {}: expected {expected}",
        config.identity.display(),
        credentials.identity()
    );
    let bind = |key: &'static str, address: SocketAddr| async move {
        TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
    };
    let listener = bind("listen", config.listen).await?;
    let agent_listener = bind("agent_listen", config.agent_listen).await?;
    let http_listener = bind("http_listen", config.http_listen).await?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(bind("metrics_listen", address).await?),
        None => None,
    };
    let portal = Portal::bind(config.block_listen)
        .with_context(|| format!("block_listen: cannot listen on {}", config.block_listen))?;
    let bound = Bound {
        block: portal.local_addr()?,
        listen: listener.local_addr()?,
        agent: agent_listener.local_addr()?,
        http: http_listener.local_addr()?,
    };

    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("cannot make {}", config.data.display()))?;
    let key = KeySource::of(config.data.join("secrets.key"), config.secrets_key_command.as_deref());
    // With another key no task that runs could go on, and no deployed machine would have its address.
    let sealed = sealed_before(&config.data.join(URL_KEY));
    let vault = Arc::new(Vault::open_beside(&key, sealed).await.context("cannot open the secrets key")?);
    let journal = open_journal(&config.data).await?;
    let agent_ca = agent_authority(&config.data.join("agent-ca"), &config.rack)?;
    let images =
        channel(&config.images, &credentials, Expect::Exactly(Identity::Service("images".to_owned())))?;
    let ramdisks = Ramdisks::open(&config.ramdisk)?;
    let netboot = start_netboot(&config, bound.http.port(), &ramdisks).await?;
    let tracker = TaskTracker::new();
    let homes = Homes::new(journal.homes().await?);
    let rack = Arc::new(Rack {
        consoles: Consoles::new(
            config.data.join("consoles"),
            config.consoles.log,
            shutdown.clone(),
            tracker.clone(),
        ),
        discovery: Discovery::new(&config, &credentials)?,
        signer: Signer::new(signing_key(&vault, &config.data.join(URL_KEY))?),
        snapshots: Snapshots::new(&config.data, images.clone()),
        cache: ImageCache::new(config.data.join("images"), images, room(&config)),
        switch: switch(&config),
        volumes: Volumes::new(&config, bound.block.port(), vault.clone()),
        boot_cds: BootCds::new(config.virtual_media.clone(), &ramdisks),
        bmc: Arc::new(
            Bmcs::bind(&config.data, config.ssh_helper.clone()).await.context("no UDP socket for IPMI")?,
        ),
        tasks: Tasks::default(),
        beside: crate::watch::Beside::default(),
        moves: crate::bmc::Moves::default(),
        changes: crate::bmc::Changes::default(),
        timeouts: config.timeouts.clone(),
        started: farrier_runtime::time::now(),
        http_port: bound.http.port(),
        agent_port: bound.agent.port(),
        tracker,
        shutdown: shutdown.clone(),
        config,
        journal,
        vault,
        netboot,
        known: KnownMachines::default(),
        homes,
        agent_ca,
        ramdisks,
    });
    report(&rack, &credentials)?;
    watch(&rack, &credentials)?;
    let kept = restore(&rack).await?;
    rack.tracker.spawn(known::follow(rack.clone(), credentials.clone(), kept));
    rack.tracker.spawn(renew_tokens(rack.clone()));
    rack.tracker.spawn(homes::follow(rack.clone()));
    // Before anybody can log in.
    let sessions = rack.volumes.targets().subscribe();
    rack.tracker.spawn(disk_access::renew(rack.clone(), sessions));
    let sessions = rack.volumes.targets().subscribe();
    rack.tracker.spawn(boot_steps::follow_disks(rack.clone(), sessions));
    rack.tracker.spawn(discovery::run(rack.clone()));
    rack.tracker.spawn(housekeeping::keep_room(rack.clone()));
    keep_certificate(&rack, &credentials);

    let agent_credentials = agent_credentials(&rack)?;
    let journal = rack.journal.clone();
    let probe = health::probe(move || ping(journal.clone()));
    let main = Server {
        listener,
        credentials: credentials.clone(),
        client_auth: ClientAuth::Required,
        services: SERVICES,
        rules: RULES,
        routes: Routes::new(RackServiceServer::new(RackApi { rack: rack.clone() }))
            .add_service(ConsoleServiceServer::new(ConsoleApi { rack: rack.clone() }))
            .add_service(BmcServiceServer::new(BmcApi { rack: rack.clone() })),
        probe: probe.clone(),
    };
    let agents = Server {
        listener: agent_listener,
        credentials: agent_credentials,
        client_auth: ClientAuth::Optional,
        services: AGENT_SERVICES,
        rules: AGENT_RULES,
        routes: Routes::new(AgentServiceServer::new(AgentApi { rack: rack.clone() })),
        probe,
    };
    if let Some(listener) = metrics {
        rack.tracker.spawn(metrics::serve(listener, rack.netboot.clone(), shutdown.clone()));
    }
    let router = rack.netboot.router().merge(phone_home::routes(rack.clone()));
    let router = router.merge(boot_cd::routes(rack.clone()));
    if let Some(https) = &rack.config.https {
        let told = (rack.netboot.tls_failures(), rack.netboot.http_crowded());
        let served = secure::serve(https, rack.netboot.router(), told, shutdown.clone());
        rack.tracker.spawn(served.await?);
    }
    let web = http::serve(
        http_listener,
        rack.netboot.http_crowded(),
        router,
        http::Limits::default(),
        shutdown.clone(),
    );
    tracing::info!(rack.id = %rack.config.rack, listen = %bound.listen, agent = %bound.agent, http = %bound.http, block = %bound.block, "rackd listening");
    let running = async move {
        let block = farrier_block::serve(vec![portal], rack.volumes.targets(), shutdown.clone());
        // One that ends takes the others with it: half a rackd looks well and is not, a new one is soon there.
        let (main, agents, (), block) = tokio::join!(
            ending(main.run(shutdown.clone()), &shutdown),
            ending(agents.run(shutdown.clone()), &shutdown),
            ending(web, &shutdown),
            ending(block, &shutdown),
        );
        rack.netboot.shutdown().await;
        rack.bmc.shutdown().await;
        rack.tracker.close();
        rack.tracker.wait().await;
        main.context("the server for the centre failed")?;
        agents.context("the server for ramdisks failed")?;
        block.context("the iSCSI target failed")
    };
    Ok((bound, running))
}

fn room(config: &Config) -> Room {
    let mib = |count: u64| count.saturating_mul(1 << 20);
    Room { most: config.cache.most_mib.map_or(u64::MAX, mib), free: mib(config.cache.keep_free_mib) }
}

/// What a server comes to; the others are told to end when it does.
async fn ending<T>(server: impl Future<Output = T>, shutdown: &CancellationToken) -> T {
    let outcome = server.await;
    shutdown.cancel();
    outcome
}

/// The certificate is renewed before it ends, where there is somebody to ask.
fn keep_certificate(rack: &Rack, credentials: &Credentials) {
    let Some(inventory) = rack.config.inventory.clone() else {
        tracing::info!("no `inventory` in the configuration: the certificate is somebody else's to renew");
        return;
    };
    let identity = rack.config.identity.clone();
    let renewal = Renewal { inventory, identity, credentials: credentials.clone() };
    rack.tracker.spawn(renewal.keep(rack.shutdown.clone()));
}

/// What the target sees of strangers becomes history, where there is somebody to tell.
fn report(rack: &Arc<Rack>, credentials: &Credentials) -> anyhow::Result<()> {
    let Some(inventory) = &rack.config.inventory else { return Ok(()) };
    let reporter = Reporter::new(inventory, credentials)?;
    let events = rack.volumes.targets().subscribe();
    rack.tracker.spawn(reporter.run(rack.clone(), events, rack.volumes.offers()));
    Ok(())
}

/// What the machines' BMCs say without a task is looked at, where there is somebody to tell.
fn watch(rack: &Arc<Rack>, credentials: &Credentials) -> anyhow::Result<()> {
    let every = Duration::from_secs(rack.config.watch.every_seconds.into());
    let Some(inventory) = rack.config.inventory.as_ref().filter(|_| !every.is_zero()) else {
        // Passwords that nobody needs are on no disk.
        crate::watch::forget_kept(&rack.config.data);
        return Ok(());
    };
    rack.tracker.spawn(Watch::new(inventory, credentials, every)?.run(rack.clone()));
    Ok(())
}

/// Every boot script that is given out is followed by one with a new token: a token lives for one boot. No storm of
/// events makes it miss one.
async fn renew_tokens(rack: Arc<Rack>) {
    while let Some(nodes) = rack.shutdown.run_until_cancelled(rack.netboot.scripts_given()).await {
        for node in nodes {
            if let Some(mac) = discovery::port_of(&node) {
                discovery::script_given(&rack, mac).await;
            }
            for task in rack.tasks.of_node(&node).iter().filter(|t| t.serves_ramdisk.load(Ordering::Acquire))
            {
                tasks::renew_boot_token(&rack, task).await;
            }
        }
    }
}

async fn ping(journal: Journal) -> Result<(), String> {
    journal.ping().await.map_err(|error| chain(&error))
}

async fn start_netboot(config: &Config, http_port: u16, ramdisks: &Ramdisks) -> anyhow::Result<Netboot> {
    let mut netboot = farrier_netboot::Config::new(http_port);
    if let Some(dir) = &config.boot_files {
        netboot.load_files(dir).with_context(|| format!("cannot read boot files in {}", dir.display()))?;
    }
    let signed = &config.signed_boot;
    for (name, chain, files) in
        [("x86_64", SignedChain::X64, &signed.x86_64), ("arm64", SignedChain::ARM64, &signed.arm64)]
    {
        if let Some(files) = files {
            netboot
                .load_signed(chain, &files.shim, &files.grub)
                .with_context(|| format!("signed_boot.{name}: cannot read shim and GRUB"))?;
        }
    }
    netboot.tftp_single_port = config.tftp_single_port;
    netboot.boot_files.https = config.https.as_ref().map(farrier_netboot::Https::from);
    let leases = config.data.join("leases");
    netboot.leases = Leases::open(&leases).with_context(|| format!("cannot use {}", leases.display()))?;
    if let Some(machines) = ramdisks.machines() {
        // Others would start one again and again; they get an address, and it is told why no more.
        let starts = |architecture: &u16| machines.iter().any(|machine| machine.starts_on(*architecture));
        let names = machines.iter().map(|machine| machine.name()).collect::<Vec<_>>().join(" and ");
        netboot.boot_files.by_architecture.retain(|(architecture, _)| starts(architecture));
        netboot.boot_files.signed.retain(|chain| chain.architectures.iter().any(starts));
        anyhow::ensure!(
            !config.discovery.secure_boot || !netboot.boot_files.signed.is_empty(),
            "discovery.secure_boot: expected shim and GRUB of the ramdisk's architecture, {names}, in [signed_boot], saw those \
             of another alone"
        );
        tracing::info!(ramdisks = names, "machines of other architectures are given no boot file");
    }
    let mut table = BootTable::new();
    for (network, (mac, ip)) in reservations(config) {
        let (node, hostname) = (String::new(), String::new());
        table.publish(BootEntry { mac, node, hostname, ip, network, boot: Boot::None });
    }
    ramdisks.publish(&mut table);
    Ok(Netboot::start(netboot, table).await)
}

/// All that was served is served again, and machines are answered from then on.
async fn restore(rack: &Arc<Rack>) -> anyhow::Result<Kept> {
    tasks::resume(rack, RESTORES).await?;
    // After what tasks left.
    let kept = known::open(rack, &rack.config.data.join(known::FILE)).await;
    open_segments(rack).await;
    Ok(kept)
}

/// From now on machines are answered, since the table has all that are known: one that asks before would be taken for a
/// stranger, and lose the address that it runs with.
async fn open_segments(rack: &Rack) {
    // Those without an interface have somebody else's DHCP; netboot still needs to know them for scripts.
    rack.netboot.open(rack.config.segments.iter().map(segment).collect()).await;
    for status in rack.netboot.segments() {
        if let Some(error) = status.error {
            tracing::error!(interface = %status.interface, %error, "segment not served as it shall be, trying again");
        }
    }
}

/// So long nobody is answered at most, for disks that are not there yet: firmware asks for a minute, and a running machine that
/// finds no disk of its own at first asks again for two.
const RESTORES: Duration = Duration::from_secs(10);

/// Of BMCs, by their networks.
fn reservations(config: &Config) -> impl Iterator<Item = (String, (MacAddr, Ipv4Addr))> {
    let of = |s: &SegmentConfig| {
        let name = s.name.clone();
        s.reservations.clone().into_iter().map(move |reserved| (name.clone(), reserved))
    };
    config.segments.iter().flat_map(of)
}

fn segment(config: &SegmentConfig) -> Segment {
    let mut segment = Segment::new(&config.name, &config.interface, config.address, config.prefix);
    segment.behind_relay = config.behind_relay;
    segment.gateway = config.gateway;
    segment.dns.clone_from(&config.dns);
    segment.dns6.clone_from(&config.dns6);
    segment.domain.clone_from(&config.domain);
    segment.lease_seconds = config.lease_seconds;
    segment.dhcp = match config.dhcp {
        DhcpMode::Authoritative | DhcpMode::Reservations => Dhcp::Ours,
        DhcpMode::Proxy => Dhcp::Proxy,
        DhcpMode::Off => Dhcp::Off,
    };
    segment.dhcp6 = config.dhcp6;
    segment.pool = config.strangers().map(|(first, last)| Pool { first, last, boot: Boot::None });
    segment.boots = config.role != Role::Management;
    segment.conflict_check = config.conflict_check;
    segment.router_advertisements = config.router_advertisements;
    segment
}

fn switch(config: &Config) -> Arc<dyn Switch> {
    match config.switch {
        SwitchDriver::None => Arc::new(Static),
        SwitchDriver::Bridge => Arc::new(Bridges::new(
            config.segments.iter().map(|s| (s.name.clone(), s.interface.clone())).collect(),
        )),
    }
}

/// What tasks left is there and nowhere else.
async fn open_journal(data: &Path) -> anyhow::Result<Journal> {
    let path = data.join("journal.db");
    let journal = Journal::open(&path).await;
    journal.with_context(|| {
        format!(
            "cannot open {}: expected the journal of what tasks left; put it right, or the whole of {} back. Until then \
             `rackd --standalone {}` serves the machines that start from their disks",
            path.display(),
            data.display(),
            data.join(known::FILE).display()
        )
    })
}

fn agent_authority(dir: &Path, rack: &str) -> anyhow::Result<Authority> {
    if dir.join("ca.pem").exists() {
        return Ok(Authority::load(dir)?);
    }
    // Half an authority is left when rackd was killed while making it: nobody has seen it yet.
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(Authority::init(dir, &format!("Farrier ramdisks of {rack}"))?)
}

fn agent_credentials(rack: &Rack) -> anyhow::Result<Credentials> {
    let identity = Identity::Rack(rack.config.rack.clone());
    // A ramdisk's clock may be as far behind as its machine took to start, and this rackd may have started since.
    let issued = rack.agent_ca.issue_backdated(&identity, AGENT_CERTIFICATE)?;
    Ok(Credentials::from_pem(&issued.cert_pem, &issued.key_pem, rack.agent_ca.cert_pem())?)
}

/// The file of the key that signs image URLs, and what it is sealed for.
const URL_KEY: &str = "url.key";

/// The key that signs image URLs, sealed beside the journal.
fn signing_key(vault: &Vault, path: &Path) -> anyhow::Result<[u8; 32]> {
    if let Ok(sealed) = std::fs::read(path)
        && let Ok(key) = vault.open(URL_KEY, &sealed)
        && let Ok(key) = key.as_slice().try_into()
    {
        return Ok(key);
    }
    let key: [u8; 32] = rand::random();
    let tmp = path.with_extension("new");
    let mut file = std::fs::File::create(&tmp)?;
    file.write_all(&vault.seal(URL_KEY, &key)?)?;
    // By this file it is known whether the secrets key is the right one: not one that lost its end with the power.
    file.sync_all()?;
    std::fs::rename(&tmp, path)?;
    Ok(key)
}

/// What was sealed here by the secrets key, where anything was. An empty file is what a lost power left of one, and proves
/// nothing.
fn sealed_before(path: &Path) -> Option<(String, Vec<u8>)> {
    let sealed = std::fs::read(path).ok().filter(|sealed| !sealed.is_empty())?;
    Some((URL_KEY.to_owned(), sealed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Machine;

    #[tokio::test]
    async fn who_nobody_described_needs_a_shim_that_starts_the_ramdisk() {
        let dir = tempfile::tempdir().unwrap();
        let shim = dir.path().join("shim");
        std::fs::write(&shim, "x").unwrap();
        let text = format!(
            "rack = \"r1\"\ndata = {data:?}\nidentity = \"/none\"\nimages = \"https://images:7300\"\n\
             inventory = \"https://inventory:7100\"\nramdisk = {{ kernel = \"/none/k\", initrd = \"/none/i\" }}\n\
             discovery = {{ mode = \"wait\", secure_boot = true }}\n\
             signed_boot = {{ arm64 = {{ shim = {shim:?}, grub = {shim:?} }} }}\n\
             [[segment]]\nname = \"row-1\"\nrole = \"provisioning\"\naddress = \"10.90.1.1/24\"\n\
             pool = \"10.90.1.10-10.90.1.18\"\n",
            data = dir.path()
        );
        let config = Config::parse(&text).unwrap();
        let start = async |machine| {
            let ramdisks = Ramdisks::of(&config.ramdisk, machine, None).unwrap();
            start_netboot(&config, 80, &ramdisks).await
        };
        let error = start(Some(Machine::X86)).await.map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with("discovery.secure_boot: expected shim and GRUB") && error.contains("x86"),
            "{error}"
        );
        for machine in [Some(Machine::Arm64), None] {
            start(machine).await.unwrap().shutdown().await;
        }
    }

    #[tokio::test]
    async fn boot_files_are_for_the_architectures_that_there_is_a_ramdisk_for() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["undionly.kpxe", "snponly.efi", "snponly-arm64.efi"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let text = format!(
            "rack = \"r1\"\ndata = {data:?}\nidentity = \"/none\"\nimages = \"https://images:7300\"\n\
             boot_files = {data:?}\n[ramdisk]\nkernel = \"/none/k\"\ninitrd = \"/none/i\"\n\
             [[segment]]\nname = \"row-1\"\nrole = \"provisioning\"\naddress = \"10.90.1.1/24\"\n\
             pool = \"10.90.1.10-10.90.1.18\"\n",
            data = dir.path()
        );
        let two =
            text.replace("[[segment]]", "[ramdisk.arm64]\nkernel = \"/k\"\ninitrd = \"/i\"\n[[segment]]");
        let (x86, arm64) = (Some(Machine::X86), Some(Machine::Arm64));
        for (text, first, second, given) in [
            (&text, x86, None, &[0, 7, 9, 16][..]),
            (&text, arm64, None, &[11, 19]),
            (&text, None, None, &[0, 7, 9, 11, 16, 19]),
            (&two, x86, arm64, &[0, 7, 9, 11, 16, 19]),
        ] {
            let config = Config::parse(text).unwrap();
            let ramdisks = Ramdisks::of(&config.ramdisk, first, second).unwrap();
            let netboot = start_netboot(&config, 80, &ramdisks).await.unwrap();
            let seen: Vec<u16> =
                (0..40).filter(|architecture| netboot.has_boot_file(*architecture)).collect();
            assert_eq!(seen, given, "{first:?} {second:?}");
            let served = |name: &str| netboot.table().artifact(&name.parse().unwrap()).is_some();
            assert!(served("kernel") && served("kernel-arm64") == second.is_some());
            netboot.shutdown().await;
        }
    }

    #[tokio::test]
    async fn a_damaged_journal_is_told_with_what_serves_meanwhile_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, damaged) = (dir.path().join("journal.db"), b"what a dying disk made of it".repeat(99));
        std::fs::write(&path, &damaged).unwrap();
        let error = format!("{:#}", open_journal(dir.path()).await.unwrap_err());
        let snapshot = format!("rackd --standalone {}", dir.path().join(known::FILE).display());
        assert!(error.contains(&snapshot) && error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }

    #[tokio::test]
    async fn another_key_than_sealed_what_is_there_opens_nothing_and_an_empty_file_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join(URL_KEY), |name: &str| KeySource::from(dir.path().join(name)));
        let open = async |name: &str| Vault::open_beside(&key(name), sealed_before(&path)).await;
        let signs = signing_key(&open("ours").await.unwrap(), &path).unwrap();
        assert_eq!(signing_key(&open("ours").await.unwrap(), &path).unwrap(), signs);
        Vault::open_or_create(&dir.path().join("other")).unwrap();
        assert!(open("other").await.is_err() && open("gone").await.is_err());
        std::fs::write(&path, "").unwrap();
        assert_ne!(signing_key(&open("other").await.unwrap(), &path).unwrap(), signs);
    }
}
