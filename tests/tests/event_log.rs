//! What a node's BMC knows, from the command line to the BMC on the wire.

use crate::pretend_site::Site;
use farrier_sim::pretend::Event;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_reads_what_a_bmc_wrote_down_and_clears_it() {
    let site = Site::enrolled(1).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).unwrap();
    assert_eq!(farrier(&["node", "sel", "n0", "-o", "json"]).trim(), "[]");
    farrier(&["node", "manage", "n0", "--wait"]);
    farrier(&["node", "power", "on", "n0", "--wait"]);
    farrier(&["node", "power", "off", "n0", "--wait", "--yes"]);
    let told = farrier(&["node", "sel", "n0", "-o", "json"]);
    let events: serde_json::Value = serde_json::from_str(&told).unwrap();
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 2, "{told}");
    assert_eq!(
        (&events[0]["direction"], &events[1]["direction"]),
        (&"deasserted".into(), &"asserted".into())
    );
    assert!(events[1]["sensor"].as_str().unwrap().starts_with("Power Unit"), "{told}");
    assert!(events[1]["time"].as_str().unwrap().starts_with("20"), "{told}");
    let newest = farrier(&["node", "sel", "n0", "--last", "1"]);
    assert_eq!(newest.lines().count(), 2, "{newest}");
    farrier(&["node", "sel", "n0", "--clear", "--yes"]);
    assert_eq!(farrier(&["node", "sel", "n0", "-o", "json"]).trim(), "[]");
    let history = farrier(&["event", "list", "--resource", "n0"]);
    assert!(history.contains("clear bmc event log"), "{history}");
    site.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_reads_sensors_and_says_why_it_cannot() {
    let site = Site::enrolled(1).await;
    let farrier = |args: &[&str]| site.installation.farrier(args);
    farrier(&["node", "manage", "n0", "--wait"]).unwrap();
    farrier(&["node", "power", "on", "n0", "--wait"]).unwrap();
    let told = farrier(&["node", "sensors", "n0"]).unwrap();
    for words in ["CPU Temp", "47 °C", "12.033 V", "5400 rpm", "180 W", "PS1 Status", "DIMM3", "ok"] {
        assert!(told.contains(words), "expected {words:?} in\n{told}");
    }
    let told = farrier(&["node", "inventory", "n0", "-o", "json"]).unwrap();
    let inventory: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&inventory["model"], &inventory["driver"]),
        (&"Simulated Server".into(), &"ipmi".into()),
        "{told}"
    );
    assert_eq!(inventory["firmware"][0]["name"], "BMC", "{told}");
    let told = farrier(&["node", "power-draw", "n0", "-o", "json"]).unwrap();
    let draw: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&draw["now_watts"], &draw["driver"]), (&180.0.into(), &"ipmi".into()), "{told}");
    let told = farrier(&["node", "capabilities", "n0"]).unwrap();
    assert!(told.contains("diagnostic interrupt  ipmi"), "{told}");
    farrier(&["node", "nmi", "n0", "--yes"]).unwrap();
    assert!(site.nodes[0].events().contains(&Event::Interrupted));
    farrier(&["node", "reset-bmc", "n0", "--yes"]).unwrap();
    let history = farrier(&["event", "list", "--resource", "n0"]).unwrap();
    assert!(history.contains("diagnostic interrupt") && history.contains("reset bmc"), "{history}");
    // What a driver lacks is refused by its name.
    let lacks = farrier(&["node", "virtual-media", "show", "n0"]).unwrap_err().to_string();
    assert!(lacks.contains("driver ipmi has no virtual media"), "{lacks}");
    let nobody = farrier(&["node", "sensors", "nobody"]).unwrap_err().to_string();
    assert!(nobody.contains("nodes/nobody") && nobody.contains("farrier node list"), "{nobody}");
    site.shutdown().await;
}
