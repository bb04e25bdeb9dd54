//! The leases on disk, of pools and of reservations, harmed in any way.

use std::time::UNIX_EPOCH;

use farrier_netboot::{Lease, Leases};

pub fn run(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("leases");
    // As a rackd wrote it that had no salt yet, and with a salt that is known here.
    for (name, begin) in
        [("leases", &b"farrier leases 1\n"[..]), ("leases-reserved", b"farrier leases 2\n\0\0\0\0\0\0\0\0")]
    {
        std::fs::write(dir.path().join(name), [begin, data].concat()).expect("a file");
    }
    // What begins like one is taken, as far as it is whole.
    let first = Leases::open(&path).expect("a file of leases").list(UNIX_EPOCH);
    let again = Leases::open(&path).expect("what was cut off is gone").list(UNIX_EPOCH);
    // Two ports of one address, which a whole file does not have, come in any order.
    let sorted = |leases: &[Lease]| {
        let mut told: Vec<String> = leases.iter().map(|lease| format!("{lease:?}")).collect();
        told.sort();
        told
    };
    assert_eq!(sorted(&first), sorted(&again));
    assert!(first.iter().all(|lease| lease.network.len() <= 255));
}
