//! A BMC that asks for two keys: its own (Kg) is given once, sealed, and shown to nobody.

use crate::pretend_site::{Site, ipmitool};
use farrier_proto::types::ProvisionState;
use farrier_sim::bmc::Secret;

/// Not to be found by chance.
const KEY: &str = "kg-5Rv9mQ2t";
/// The same in hexadecimal digits.
const DIGITS: &str = "0x6b672d355276396d513274";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_with_a_key_of_its_own_is_opened_with_it_and_the_key_is_shown_to_nobody() {
    let site = Site::enrolled_with(1, |options| options.bmc.kg = Some(Secret::new(KEY))).await;
    let farrier = |words: &[&str]| site.installation.farrier(words);
    // ipmitool judges that there is one, and which.
    let address = site.nodes[0].bmc_address();
    let told = ipmitool(address, &["-k", KEY, "power", "status"]);
    assert!(told.contains("is off"), "{told}");

    let without = format!("{:#}", farrier(&["node", "manage", "n0", "--wait"]).unwrap_err());
    assert!(without.contains("Kg") || without.contains("key"), "{without}");
    let keep = |name: &str, text: &str| {
        let path = site.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, digits, none) = (keep("key", KEY), keep("digits", DIGITS), keep("none", "0x"));
    farrier(&["node", "update", "n0", "--bmc-kg-file", &key]).unwrap();
    farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    let node = site.client.node("n0").await.unwrap();
    assert_eq!(node.state(), ProvisionState::Manageable);
    let bmc = node.bmc.unwrap();
    assert!(bmc.kg_set && bmc.kg.is_empty() && bmc.password_set, "{bmc:?}");
    let shown = farrier(&["node", "get", "n0", "-o", "json"]).unwrap();
    assert!(!shown.contains(KEY) && shown.contains("\"kg_set\": true"), "{shown}");

    // What asks the BMC without a task has it too; another description of the BMC and a new password leave it alone.
    farrier(&["node", "sensors", "n0"]).unwrap();
    farrier(&["node", "update", "n0", "--bmc-cipher-suite", "17"]).unwrap();
    farrier(&["node", "rotate-bmc-credentials", "n0", "--wait", "--yes"]).unwrap();
    farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    farrier(&["node", "update", "n0", "--bmc-kg-file", &digits]).unwrap();
    farrier(&["node", "power", "off", "n0", "--wait", "--yes"]).unwrap();
    farrier(&["node", "update", "n0", "--bmc-kg-file", &none]).unwrap();
    assert!(!site.client.node("n0").await.unwrap().bmc.unwrap().kg_set);
    let refused = format!("{:#}", farrier(&["node", "sensors", "n0"]).unwrap_err());
    assert!(refused.contains("Kg") || refused.contains("key"), "{refused}");
    for service in farrier_sim::lab::Service::ALL {
        let said = std::fs::read_to_string(site.installation.log(service)).unwrap();
        assert!(!said.contains(KEY) && !said.contains(&DIGITS[2..]), "{} says the key", service.name());
    }
    site.shutdown().await;
}
