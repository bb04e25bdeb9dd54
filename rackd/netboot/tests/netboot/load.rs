//! Many machines at once: what comes of it, not how fast.

use farrier_netboot::{Boot, Config, LeaseKind, Leases, Pool, Segment};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, Running, SERVER_IP, segment, table, text};

/// ISC's perfdhcp as a relay with ever new clients, at a tenth of what is held on a quiet machine. Leases are on disk.
#[test]
fn perfdhcp_loses_no_exchange_at_a_modest_rate() {
    let cable = Cable::addressed();
    for (namespace, link, ip) in [(&cable.server, "s0", SERVER_IP), (&cable.client, "c0", CLIENT_IP)] {
        namespace.sh(&format!("ip addr flush dev {link}; ip addr add {ip}/16 dev {link}"));
    }
    let pool = Pool { first: [10, 77, 16, 0].into(), last: [10, 77, 31, 255].into(), boot: Boot::None };
    let wide = Segment { prefix: 16, pool: Some(pool), ..segment() };
    let mut config = Config::new(HTTP_PORT);
    config.leases = Leases::open(&cable.path("given")).unwrap();
    let server = Running::start(&cable.server, config, table(wide, Boot::None));
    let args = ["-4", "-r", "300", "-R", "1000", "-n", "1200", "-d", "10", "-W", "10000000", "-s", "1"];
    let more = ["-b", "mac=00:0c:01:00:00:00", "-l", CLIENT_IP, SERVER_IP];
    let output = cable.client.client(120, "perfdhcp", "kea-admin", &[&args[..], &more].concat());
    let said = text(&output);
    // It ends with 3 where an exchange was not completed.
    assert!(output.status.success(), "{said}");
    let numbers = |what: &str| -> Vec<u64> {
        said.lines().filter_map(|l| l.strip_prefix(what)?.trim().parse().ok()).collect()
    };
    assert_eq!(numbers("drops:"), [0, 0], "{said}");
    let received = numbers("received packets:");
    assert!(received.len() == 2 && received.iter().all(|count| *count >= 1200), "{said}");
    let leases = server.netboot.leases();
    assert!(
        leases.len() >= 500 && leases.iter().all(|l| matches!(l.kind, LeaseKind::Pool(_))),
        "{}",
        leases.len()
    );
    let mut addresses: Vec<_> = leases.iter().map(|lease| lease.ip).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), leases.len());
}
