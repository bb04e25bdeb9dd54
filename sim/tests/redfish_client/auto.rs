//! Driver `auto`: which of the two a BMC has.

use farrier_bmc::redfish::{Dial, DialError, Stream};
use farrier_bmc::{Auto, ipmi};
use farrier_identity::device::{DeviceError, DeviceTrust, SelfSigned, connect};
use farrier_sim::bmc::{BmcConfig, BmcHandle, BmcServer};
use tokio::net::{TcpStream, UdpSocket};

use super::*;

#[tokio::test]
async fn auto_remembers_what_worked_and_does_not_hide_a_wrong_password() {
    let lab = Lab::start(|_| {}).await;
    // Nobody answers IPMI there.
    let hasty =
        ipmi::Tuning { first_timeout: Duration::from_millis(20), tries: 2, ..ipmi::Tuning::default() };
    let ipmi_hub = ipmi::IpmiHub::bind_with(hasty).await.unwrap();
    let ipmi = || {
        let dead = ipmi::BmcAddress::new(([127, 0, 0, 1], 1).into(), USER, Secret::new(PASSWORD));
        ipmi_hub.bmc(dead)
    };
    let auto = Auto::default();
    let (bmc, passed_over) = auto.open("n1", lab.client(), ipmi(), soon()).await.unwrap();
    assert_eq!((bmc.driver(), passed_over, auto.worked("n1")), ("redfish", None, Some("redfish")));
    // What Redfish has not got would be IPMI's to give, and IPMI was not seen.
    assert_eq!(bmc.driver_of(Capability::Console), None);
    assert_eq!(bmc.driver_of(Capability::Sensors), Some("redfish"));
    let wrong = lab.hub.bmc(RedfishAddress { password: Secret::new("wrong"), ..lab.address() });
    let error = auto.open("n1", wrong, ipmi(), soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    lab.faults(|faults| faults.garbage = true);
    lab.service.forget_sessions().await;
    lab.hub.shutdown().await;
    let hub = RedfishHub::with(Arc::new(PlainDial), quick());
    let error = auto.open("n1", hub.bmc(lab.address()), ipmi(), soon()).await.unwrap_err();
    let BmcError::NoDriver { redfish, ipmi } = &error else { panic!("{error}") };
    assert!(matches!(**redfish, BmcError::NoRedfish { .. }) && error.is_transient(), "{redfish} {ipmi}");
    ipmi_hub.shutdown().await;
    hub.shutdown().await;
    lab.stop().await;
}

/// IPMI in front of the same machine.
async fn ipmi_of(lab: &Lab) -> (BmcHandle, ipmi::BmcAddress) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = BmcConfig::new(USER, Secret::new(PASSWORD));
    let bmc = BmcServer::start(socket, config, lab.chassis.clone()).unwrap();
    let address = ipmi::BmcAddress::new(bmc.address(), USER, Secret::new(PASSWORD));
    (bmc, address)
}

/// After a cold start a BMC's IPMI is up a minute before its web server.
#[tokio::test]
async fn redfish_that_comes_late_is_found_and_gives_what_ipmi_lacks() {
    let lab = Lab::start(|_| {}).await;
    let (bmc, address) = ipmi_of(&lab).await;
    let hub = ipmi::IpmiHub::bind().await.unwrap();
    let auto = Auto::default().again_after(Duration::ZERO);
    let open =
        async |auto: &Auto| auto.open("n1", lab.client(), hub.bmc(address.clone()), soon()).await.unwrap();
    lab.faults(|faults| faults.absent = true);
    let (found, passed_over) = open(&auto).await;
    assert_eq!((found.driver(), auto.worked("n1")), ("ipmi", Some("ipmi")));
    assert!(matches!(passed_over, Some(BmcError::NoRedfish { .. })), "{passed_over:?}");
    // Still not, which is no news.
    let (found, passed_over) = open(&auto).await;
    assert_eq!((found.driver(), passed_over), ("ipmi", None));
    lab.faults(|_| ());
    let (found, _) = open(&auto).await;
    assert_eq!((found.driver(), auto.worked("n1")), ("redfish", Some("redfish")));
    assert_eq!(found.driver_of(Capability::VirtualMedia), Some("redfish"));
    assert_eq!(found.driver_of(Capability::Console), Some("ipmi"), "seen to be there");
    // Redfish has an LED without a clock, as it turns out.
    assert_eq!(found.driver_of(Capability::Identify), Some("redfish"));
    found.identify(Led::Seconds(30), soon()).await.unwrap();
    assert_eq!(lab.chassis.identify_state(), ChassisIdentify::Seconds(30));
    assert_eq!(found.driver_of(Capability::Identify), Some("ipmi"), "who gave the last answer");
    // What is remembered of before is asked first, until its time comes or somebody says so.
    let known = Auto::knowing([("n1".to_owned(), "ipmi")]);
    assert_eq!(open(&known).await.0.driver(), "ipmi");
    assert!(!known.is_due("n1"));
    known.reconsider("n1");
    assert!(known.is_due("n1"));
    assert_eq!(open(&known).await.0.driver(), "redfish");
    hub.shutdown().await;
    bmc.shutdown().await;
    lab.stop().await;
}

/// https, as rackd dials it.
struct TlsDial;

#[async_trait::async_trait]
impl Dial for TlsDial {
    async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        let trust = match address.trust {
            Trust::Pin(pin) => DeviceTrust::Pin(pin),
            _ => DeviceTrust::Nothing,
        };
        let stream = TcpStream::connect(address.addr).await?;
        match connect(stream, &address.host, &trust).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(DeviceError::Certificate(seen)) => Err(DialError::Certificate(seen)),
            Err(error @ DeviceError::WeakKey(_)) => Err(DialError::WeakKey(error.to_string())),
            Err(DeviceError::Tls(seen)) => Err(DialError::Tls(seen)),
        }
    }
}

/// Nobody has told the node the certificate of its BMC: its machine is driven all the same, and that somebody should is said
/// each time, until somebody did.
#[tokio::test]
async fn a_redfish_that_nobody_vouches_for_is_told_as_long_as_ipmi_stands_in_for_it() {
    let certificate = SelfSigned::generate(&["127.0.0.1".to_owned()]).unwrap();
    let pin = certificate.fingerprint();
    let lab = Lab::start(|config| config.tls = Some(certificate)).await;
    let (bmc, address) = ipmi_of(&lab).await;
    let hub = ipmi::IpmiHub::bind().await.unwrap();
    let auto = Auto::default().again_after(Duration::ZERO);
    let tls = RedfishHub::with(Arc::new(TlsDial), quick());
    let open = async |trust| {
        let redfish = tls.bmc(RedfishAddress { trust, ..lab.address() });
        auto.open("n1", redfish, hub.bmc(address.clone()), soon()).await.unwrap()
    };
    for _ in 0..2 {
        let (found, passed_over) = open(Trust::Nothing).await;
        assert_eq!(found.driver(), "ipmi");
        let told = passed_over.expect("it is said").to_string();
        assert!(told.contains("--bmc-certificate-sha256"), "{told}");
    }
    let (found, passed_over) = open(Trust::Pin(pin)).await;
    assert_eq!((found.driver(), passed_over), ("redfish", None));
    tls.shutdown().await;
    hub.shutdown().await;
    bmc.shutdown().await;
    lab.stop().await;
}

#[tokio::test]
async fn what_a_bmc_has_not_got_is_not_told_as_something_it_has() {
    let lab = Lab::start(|config| config.events = false).await;
    let bmc = lab.client();
    assert_eq!(bmc.driver_of(Capability::Events), Some("redfish"), "nobody has asked");
    assert!(matches!(bmc.events(soon()).await, Err(BmcError::Unsupported { .. })));
    assert_eq!(lab.client().driver_of(Capability::Events), None);
    lab.stop().await;
}
