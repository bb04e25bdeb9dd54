//! A BMC that is given another address.

use std::net::SocketAddr;

use farrier_bmc::ipmi::BmcAddress;
use farrier_bmc::{AddressSource, BmcError, NetworkSettings, NewAddress, PowerState, StaticAddress};
use farrier_sim::bmc::{Faults, Refusal};

use crate::support::{Lab, soon};

fn to(address: [u8; 4]) -> NetworkSettings {
    let address = StaticAddress::new(address.into(), [255, 255, 0, 0].into(), None).unwrap();
    NetworkSettings { address: Some(NewAddress::Static(address)), ..NetworkSettings::default() }
}

/// The answer to the last parameter comes from the old address, the next from the new: there alone it is found.
#[tokio::test]
async fn a_bmc_is_at_its_new_address_and_nowhere_else() {
    let lab = Lab::start(|config| config.moves = true).await;
    let bmc = lab.client();
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    let port = lab.bmc.address().port();
    let [high, low] = port.to_be_bytes();
    // On 127/8 all addresses are this host's, and the port is one that nobody else was given.
    let wanted = to([127, 99, high, low.clamp(1, 254)]);
    bmc.set_network(&wanted, soon()).await.unwrap();
    let Some(NewAddress::Static(address)) = wanted.address else { panic!("no address") };
    let there = SocketAddr::from((address.address(), port));
    let moved = lab.hub.bmc(BmcAddress { addr: there, ..lab.address() });
    let seen = moved.settle_network(&wanted, soon()).await.unwrap();
    assert_eq!((seen.address, seen.source), (Some(address.address()), Some(AddressSource::Static)));
    assert_eq!(moved.power_status(soon()).await, Ok(PowerState::Off));
    // Twice is once, also by the new address.
    moved.set_network(&wanted, soon()).await.unwrap();
    assert!(bmc.power_status(soon()).await.is_err());
    lab.stop().await;
}

#[tokio::test]
async fn a_bmc_that_takes_no_lan_settings_says_so_and_is_as_it_was() {
    let lab = Lab::start(|_| {}).await;
    let bmc = lab.client();
    let before = bmc.network(soon()).await.unwrap();
    let refuse = vec![Refusal { netfn: 0x0C, cmd: 0x01, completion_code: 0xD5 }];
    lab.bmc.set_faults(Faults { refuse, ..Faults::default() });
    let error = bmc.set_network(&to([127, 0, 0, 9]), soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::NetworkPart { .. }), "{error}");
    assert!(error.to_string().contains("all is as it was"), "{error}");
    lab.bmc.set_faults(Faults::default());
    assert_eq!(bmc.network(soon()).await.unwrap(), before);
    let other = NetworkSettings { interface: "eth1".to_owned(), ..to([127, 0, 0, 9]) };
    let error = bmc.set_network(&other, soon()).await.unwrap_err();
    assert!(error.to_string().contains("expected one of these: LAN"), "{error}");
    lab.stop().await;
}
