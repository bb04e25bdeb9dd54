//! A BMC that is given another address over Redfish.

use farrier_bmc::{AddressSource, BmcError, NetworkSettings, NewAddress, StaticAddress};

use super::{Lab, soon};

#[tokio::test]
async fn the_bmcs_own_interface_is_changed_as_a_whole_and_read_back() {
    for needs_etag in [false, true] {
        let lab = Lab::start(|config| config.needs_etag = needs_etag).await;
        let bmc = lab.client();
        let address = StaticAddress::parse("127.0.0.9", "255.255.0.0", "127.0.0.1").unwrap();
        let fixed = NetworkSettings {
            address: Some(NewAddress::Static(address)),
            vlan: Some(Some(100)),
            ..NetworkSettings::default()
        };
        bmc.set_network(&fixed, soon()).await.unwrap();
        let seen = bmc.settle_network(&fixed, soon()).await.unwrap();
        assert_eq!(
            (seen.address, seen.subnet_mask, seen.gateway, seen.vlan),
            (
                Some([127, 0, 0, 9].into()),
                Some([255, 255, 0, 0].into()),
                Some([127, 0, 0, 1].into()),
                Some(100)
            )
        );
        let dhcp = NetworkSettings {
            address: Some(NewAddress::Dhcp),
            interface: "eth0".to_owned(),
            vlan: Some(None),
        };
        let unlike = bmc.settle_network(&dhcp, soon()).await.unwrap_err();
        assert!(matches!(unlike, BmcError::NotApplied { .. }), "{unlike}");
        bmc.set_network(&dhcp, soon()).await.unwrap();
        let seen = bmc.settle_network(&dhcp, soon()).await.unwrap();
        assert_eq!((seen.source, seen.vlan), (Some(AddressSource::Dhcp), None));
        let nowhere = NetworkSettings { interface: "eth7".to_owned(), ..dhcp };
        let error = bmc.set_network(&nowhere, soon()).await.unwrap_err();
        assert!(error.to_string().contains("expected one of these: eth0"), "{error}");
        lab.stop().await;
    }
}
