//! Every capability of every driver, over machines of all vendors: an answer that names the driver, or a refusal that says why.

use super::*;
use farrier_bmc::ipmi::{BmcAddress, IpmiHub};
use farrier_bmc::seamicro::SeaMicroHub;
use farrier_bmc::{Auto, NetworkSettings, ProfileFormat, Unmanaged};
use farrier_sim::bmc::redfish::Personality;
use farrier_sim::bmc::seamicro::{SeaMicroConfig, SeaMicroServer};
use farrier_sim::bmc::{BmcConfig, BmcServer, Chassis};
use std::collections::BTreeMap;
use tokio::net::UdpSocket;

use Capability as C;

/// Which machine, and what it gives, of what there is.
struct Row {
    bmc: Bmc,
    gives: &'static [Capability],
}

const IPMI: &[Capability] = &[
    C::Power,
    C::Interrupt,
    C::BootDevice,
    C::Identity,
    C::Inventory,
    C::Sensors,
    C::PowerDraw,
    C::EventLog,
    C::Console,
    C::Identify,
    C::ResetBmc,
    C::Network,
    C::SetNetwork,
    C::Watchdog,
    C::Accounts,
];
/// Also HPE's: what is its own there is another way to the same.
const REDFISH: &[Capability] = &[
    C::Power,
    C::Interrupt,
    C::BootDevice,
    C::BootMode,
    C::BootOrder,
    C::Identity,
    C::Inventory,
    C::Sensors,
    C::PowerDraw,
    C::EventLog,
    C::Events,
    C::Identify,
    C::ResetBmc,
    C::Network,
    C::SetNetwork,
    C::Accounts,
    C::VirtualMedia,
    C::Bios,
    C::SecureBoot,
    C::Firmware,
];
const IDRAC: &[Capability] = &[
    C::Power,
    C::Interrupt,
    C::BootDevice,
    C::BootMode,
    C::BootOrder,
    C::Identity,
    C::Inventory,
    C::Sensors,
    C::PowerDraw,
    C::EventLog,
    C::Events,
    C::Identify,
    C::ResetBmc,
    C::Network,
    C::SetNetwork,
    C::Accounts,
    C::VirtualMedia,
    C::Bios,
    C::SecureBoot,
    C::Firmware,
    C::Profile,
];
const SEAMICRO: &[Capability] = &[C::Power, C::BootDevice, C::Identity, C::Inventory, C::Vlans, C::Volumes];
const MANUAL: &[Capability] = &[C::Power, C::BootDevice, C::Identity];
const FAKE: &[Capability] = &[C::Power, C::Interrupt, C::BootDevice, C::Identity, C::Identify, C::ResetBmc];
/// What Redfish lacks is IPMI's to give.
const ILO_AND_IPMI: &[Capability] = &[
    C::Power,
    C::Interrupt,
    C::BootDevice,
    C::BootMode,
    C::BootOrder,
    C::Identity,
    C::Inventory,
    C::Sensors,
    C::PowerDraw,
    C::EventLog,
    C::Events,
    C::Console,
    C::Identify,
    C::ResetBmc,
    C::Network,
    C::SetNetwork,
    C::Watchdog,
    C::Accounts,
    C::VirtualMedia,
    C::Bios,
    C::SecureBoot,
    C::Firmware,
];

/// Asks for one thing of a capability, as harmless as it has.
async fn ask(bmc: &Bmc, capability: Capability) -> Result<(), BmcError> {
    let nothing = NetworkSettings::default();
    match capability {
        // What is asked of the machine later needs it on.
        C::Power => {
            bmc.power_on(soon()).await?;
            bmc.power_status(soon()).await.map(drop)
        }
        C::Interrupt => bmc.diagnostic_interrupt(soon()).await,
        C::BootDevice => bmc.boot_device(soon()).await.map(drop),
        C::BootMode => bmc.boot_mode(soon()).await.map(drop),
        C::BootOrder => bmc.boot_order(soon()).await.map(drop),
        C::Identity => bmc.identity(soon()).await.map(drop),
        C::Inventory => bmc.inventory(soon()).await.map(drop),
        C::Sensors => bmc.sensors(soon()).await.map(drop),
        C::PowerDraw => bmc.power_draw(soon()).await.map(drop),
        C::EventLog => bmc.event_log(4, soon()).await.map(drop),
        C::Events => bmc.events(soon()).await.map(drop),
        C::Console => match bmc.open_console(false, soon()).await {
            Ok(line) => {
                line.close().await;
                Ok(())
            }
            Err(error) => Err(error),
        },
        C::Identify => bmc.identify(Led::Off, soon()).await,
        C::ResetBmc => bmc.reset_bmc(soon()).await,
        C::Network => bmc.network(soon()).await.map(drop),
        C::SetNetwork => bmc.set_network(&nothing, soon()).await,
        C::Watchdog => bmc.watchdog(soon()).await.map(drop),
        C::Accounts => bmc.has_account("nobody", soon()).await.map(drop),
        C::VirtualMedia => bmc.media(soon()).await.map(drop),
        C::Bios => bmc.bios(soon()).await.map(drop),
        C::SecureBoot => bmc.secure_boot(soon()).await.map(drop),
        C::Firmware => bmc.firmware(soon()).await.map(drop),
        C::Profile => bmc.export_profile(ProfileFormat::Xml, "", soon()).await.map(drop),
        C::Vlans => bmc.vlans()?.vlans(soon()).await.map(drop),
        C::Volumes => bmc.volumes()?.storage_pools(soon()).await.map(drop),
    }
}

/// The one that restarts the BMC comes last.
fn in_order() -> impl Iterator<Item = Capability> {
    let rest = Capability::ALL.iter().copied().filter(|one| *one != C::ResetBmc);
    rest.chain([C::ResetBmc])
}

#[tokio::test]
async fn every_capability_of_every_driver_is_given_by_name_or_refused_with_a_reason() {
    let labs = [
        Lab::start(|_| {}).await,
        Lab::start(|config| *config = config.clone().of(Personality::Ilo)).await,
        Lab::start(|config| *config = config.clone().of(Personality::Idrac)).await,
        // Its IPMI is beside it.
        Lab::start(|config| *config = config.clone().of(Personality::Ilo)).await,
    ];
    let chassis: Arc<dyn Chassis> = Arc::new(MemoryChassis::new());
    let mut bmcs = Vec::new();
    for _ in 0..2 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = BmcConfig::new(USER, Secret::new(PASSWORD));
        bmcs.push(BmcServer::start(socket, config, Arc::new(MemoryChassis::new())).unwrap());
    }
    let config = SeaMicroConfig {
        user: USER.into(),
        password: Secret::new(PASSWORD),
        servers: vec![("0/0".into(), chassis, vec!["02:00:00:00:00:09".into()])],
        pools: BTreeMap::from([("0/pool".into(), 100)]),
    };
    let sea = SeaMicroServer::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), config).unwrap();
    let (ipmi, seamicro) = (IpmiHub::bind().await.unwrap(), SeaMicroHub::with(Arc::new(PlainDial), quick()));
    let over_ipmi = |n: usize| ipmi.bmc(BmcAddress::new(bmcs[n].address(), USER, Secret::new(PASSWORD)));
    let server = RedfishAddress::new(sea.address(), USER, Secret::new(PASSWORD), Trust::Plain);
    let recognised = async |lab: &Lab| lab.client().recognised(soon()).await.unwrap();
    let (auto, _) = Auto::default().open("n1", labs[3].client(), over_ipmi(1), soon()).await.unwrap();
    let unmanaged = Unmanaged::default();
    let fleet = [
        ("ipmi", Row { bmc: over_ipmi(0), gives: IPMI }),
        ("redfish", Row { bmc: recognised(&labs[0]).await, gives: REDFISH }),
        ("ilo", Row { bmc: recognised(&labs[1]).await, gives: REDFISH }),
        ("idrac", Row { bmc: recognised(&labs[2]).await, gives: IDRAC }),
        (
            "seamicro",
            Row { bmc: seamicro.bmc(RedfishAddress { system: "0/0".into(), ..server }), gives: SEAMICRO },
        ),
        ("manual", Row { bmc: unmanaged.manual("n1"), gives: MANUAL }),
        ("fake", Row { bmc: unmanaged.fake("n2"), gives: FAKE }),
        ("ilo", Row { bmc: auto, gives: ILO_AND_IPMI }),
    ];
    let mut wrong = Vec::new();
    for (name, Row { bmc, gives }) in &fleet {
        assert_eq!(bmc.driver(), *name);
        let second = (gives.len() == ILO_AND_IPMI.len() && gives == &ILO_AND_IPMI).then_some("ipmi");
        for capability in in_order() {
            let is_given = gives.contains(&capability);
            match ask(bmc, capability).await {
                // Named, by the driver that gave it.
                Ok(()) => {
                    let by = bmc.driver_of(capability);
                    let is_named = by == Some(*name) || by.is_some() && by == second;
                    if !is_given || !is_named {
                        wrong.push(format!("{name} gives {capability} by {by:?}"));
                    }
                }
                // In words for people, of the driver or of what the BMC has not got.
                Err(error) => {
                    let told = error.to_string();
                    let is_reason = match &error {
                        BmcError::Unsupported { driver, capability: lacks } => {
                            driver == name && *lacks == capability.as_str() && told.contains(*name)
                        }
                        BmcError::NotOffered { .. } => told.contains("expected"),
                        _ => false,
                    };
                    if is_given || !is_reason || bmc.driver_of(capability).is_some() {
                        wrong.push(format!("{name} refuses {capability} with {error:?}: {told}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for lab in labs {
        lab.stop().await;
    }
    ipmi.shutdown().await;
    seamicro.shutdown().await;
    sea.shutdown().await;
    for bmc in bmcs {
        bmc.shutdown().await;
    }
}
