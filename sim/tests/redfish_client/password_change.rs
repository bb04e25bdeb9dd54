//! An account that must change its password before anything else, as many BMCs come.

use super::*;

#[tokio::test]
async fn the_password_a_bmc_came_with_is_changed_where_nothing_else_is_let_in() {
    for restricted_sessions in [true, false] {
        let lab = Lab::start(|config| config.restricted_sessions = restricted_sessions).await;
        lab.accounts.require_change();
        let bmc = lab.client();
        let refused = bmc.power_status(soon()).await.unwrap_err();
        assert!(matches!(refused, BmcError::PasswordChangeRequired { .. }), "{refused}");
        assert!(!refused.is_wrong_password() && !refused.is_transient());
        assert_eq!(bmc.inventory(soon()).await.unwrap_err(), refused);
        bmc.set_password(&Secret::new("another-One-4now"), soon()).await.unwrap();
        let new = RedfishAddress { password: Secret::new("another-One-4now"), ..lab.address() };
        assert_eq!(lab.hub.bmc(new).power_status(soon()).await, Ok(PowerState::Off));
        lab.stop().await;
    }
}

/// The driver is the right one: IPMI behind it is not asked, and the handle changes the password.
#[tokio::test]
async fn auto_takes_such_a_bmc_for_redfish() {
    let lab = Lab::start(|_| {}).await;
    lab.accounts.require_change();
    let hub = farrier_bmc::ipmi::IpmiHub::bind().await.unwrap();
    let nobody = farrier_bmc::ipmi::BmcAddress::new(([127, 0, 0, 1], 1).into(), USER, Secret::new(PASSWORD));
    let auto = farrier_bmc::Auto::default();
    let (bmc, _) = auto.open("n1", lab.client(), hub.bmc(nobody), soon()).await.unwrap();
    assert_eq!(bmc.driver(), "redfish");
    bmc.set_password(&Secret::new("another-One-4now"), soon()).await.unwrap();
    hub.shutdown().await;
    lab.stop().await;
}
