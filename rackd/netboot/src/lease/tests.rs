//! Pools by example, and a disk that is cut off anywhere.

use proptest::prelude::*;

use super::record::Salt;
use super::*;
use crate::Boot;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn ask(n: u8, wish: Option<Ipv4Addr>) -> Ask {
    Ask { client: ClientKey::Mac(mac(n)), mac: mac(n), wish }
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, n)
}

fn segment(first: u8, last: u8) -> (Segment, Pool) {
    let pool = Pool { first: ip(first), last: ip(last), boot: Boot::None };
    (Segment { gateway: Some(ip(12)), ..Segment::new("lab", "br0", ip(11), 24) }, pool)
}

const HOUR: Duration = Duration::from_secs(3600);

fn bound(ip: Ipv4Addr) -> LeaseChange {
    LeaseChange::Bound { ip, seconds: 3600 }
}

#[test]
fn a_client_keeps_its_address_and_others_get_it_only_when_they_must() {
    let (leases, now, table) = (Leases::default(), SystemTime::now(), BootTable::new());
    let (segment, pool) = segment(20, 21);
    let offer = |n, wish, now| leases.offer(&ask(n, wish), &segment, &pool, &table, now);
    let first = offer(1, None, now).unwrap();
    assert_eq!(offer(1, None, now), Some(first), "an offer is kept");
    let second = offer(2, Some(first), now).unwrap();
    assert_ne!(first, second, "what is offered to one is not offered to another");
    assert_eq!(offer(3, None, now), None);
    assert!(leases.pooled(&ask(1, None), "lab", &bound(first), now).is_some());
    // The second offer has ended unused, the first is a lease.
    let later = now + Duration::from_secs(60);
    assert_eq!(offer(3, Some(first), later), Some(second));
    assert_eq!(leases.list(later).len(), 1);
    assert_eq!(leases.by_ip(first, later).map(|lease| lease.mac), Some(mac(1)));
    // The lease has ended: it is still the first client's before it is anybody's.
    let evening = now + HOUR * 2;
    assert_eq!(offer(1, Some(second), evening), Some(first));
}

/// A host that comes up with its clock behind by a day, and is set right.
#[test]
fn leases_run_as_long_as_they_were_given_for_over_a_step_of_the_clock() {
    let (leases, table) = (Leases::default(), BootTable::new());
    let (segment, pool) = segment(20, 20);
    let (wrong, at) = (SystemTime::now() - HOUR * 24, Instant::now());
    leases.mind_the_clock(wrong, at);
    let given = leases.offer(&ask(1, None), &segment, &pool, &table, wrong).unwrap();
    leases.pooled(&ask(1, None), "lab", &bound(given), wrong).unwrap();
    leases.reserved(mac(9), "lab", &bound(ip(30)), wrong);
    let minute = Duration::from_secs(60);
    leases.mind_the_clock(wrong + minute * 10, at + minute * 10);
    let right = SystemTime::now() + minute * 11;
    leases.mind_the_clock(right, at + minute * 11);
    let offer = |n, now| leases.offer(&ask(n, None), &segment, &pool, &table, now);
    assert_eq!(offer(2, right), None, "it is the first one's, for the rest of its hour");
    assert_eq!(leases.list(right).len(), 2);
    assert_eq!(offer(2, right + minute * 51), Some(given));
}

/// A host without a battery for its clock: what is on disk was given by the right one.
#[tokio::test]
async fn a_clock_that_is_years_behind_makes_no_lease_last_for_years_and_what_it_gave_is_kept_as_long() {
    let (dir, table) = (tempfile::tempdir().unwrap(), BootTable::new());
    let (path, (segment, pool)) = (dir.path().join("leases"), segment(20, 21));
    let (right, wrong, at) = (SystemTime::now(), SystemTime::now() - HOUR * 24 * 365 * 3, Instant::now());
    let leases = Leases::open(&path).unwrap();
    let give = async |leases: &Leases, n, now| {
        let ip = leases.offer(&ask(n, None), &segment, &pool, &table, now)?;
        let record = leases.pooled(&ask(n, None), "lab", &bound(ip), now).unwrap();
        leases.commit(vec![record]).await.unwrap().unwrap();
        Some(ip)
    };
    let before = give(&leases, 1, right).await.unwrap();
    leases.close();
    let leases = Leases::open(&path).unwrap();
    leases.mind_the_clock(wrong, at);
    let then = give(&leases, 2, wrong).await.unwrap();
    assert!(!leases.shifted());
    leases.mind_the_clock(right, at);
    assert!(leases.shifted());
    let check = |leases: &Leases| {
        for ip in [before, then] {
            let until = leases.by_ip(ip, right).map(|lease| lease.expires_at).unwrap();
            assert!(until > right + HOUR / 2 && until < right + HOUR * 2, "{ip}: {until:?}");
        }
    };
    check(&leases);
    // Written when it is closed, if nobody else has it written.
    leases.close();
    let leases = Leases::open(&path).unwrap();
    check(&leases);
    // The clock of a host that was ahead is set back: nobody has an address for years.
    let ahead = right + HOUR * 24 * 365 * 2;
    leases.mind_the_clock(ahead, at);
    assert_eq!(give(&leases, 1, ahead).await, Some(before));
    leases.mind_the_clock(right, at);
    let until = leases.by_ip(before, right).map(|lease| lease.expires_at).unwrap();
    assert!(until > right + HOUR / 2 && until < right + HOUR * 2, "{until:?}");
}

#[test]
fn what_was_released_is_free_and_what_was_declined_is_not() {
    let (leases, now, table) = (Leases::default(), SystemTime::now(), BootTable::new());
    let (segment, pool) = segment(20, 20);
    let offer = |n, now| leases.offer(&ask(n, None), &segment, &pool, &table, now);
    let taken = offer(1, now).unwrap();
    leases.pooled(&ask(1, None), "lab", &bound(taken), now).unwrap();
    assert_eq!(offer(2, now), None);
    leases.pooled(&ask(1, None), "lab", &LeaseChange::Released, now).unwrap();
    assert_eq!(offer(2, now), Some(taken), "a search that found nothing does not hide what is free since");
    let declined = LeaseChange::Declined { ip: taken, seconds: 600 };
    leases.pooled(&ask(2, None), "lab", &declined, now).unwrap();
    assert_eq!((offer(1, now), offer(2, now)), (None, None));
    assert_eq!(leases.list(now).first().map(|l| l.kind.clone()), Some(LeaseKind::Declined));
    assert_eq!(offer(2, now + Duration::from_secs(601)), Some(taken));
}

#[test]
fn reserved_addresses_ours_and_the_gateways_are_given_to_nobody() {
    let (leases, now, mut table) = (Leases::default(), SystemTime::now(), BootTable::new());
    let (segment, pool) = segment(10, 13);
    table.publish(crate::BootEntry {
        mac: mac(99),
        node: String::new(),
        hostname: String::new(),
        ip: ip(10),
        network: "lab".into(),
        boot: Boot::None,
    });
    let offer = |n: u8| leases.offer(&ask(n, Some(ip(9 + n))), &segment, &pool, &table, now);
    let given: Vec<_> = (1..=4).filter_map(offer).collect();
    assert_eq!(given, [ip(13)]);
    // An address that becomes reserved while somebody has it goes at the next question.
    table.publish(crate::BootEntry { ip: ip(13), ..(**table.entry(mac(99), "lab").unwrap()).clone() });
    let later = now + Duration::from_secs(2);
    assert_eq!(leases.offer(&ask(1, None), &segment, &pool, &table, later), Some(ip(10)));
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let (now, table) = (SystemTime::now(), BootTable::new());
    let (segment, pool) = segment(20, 40);
    let leases = Leases::open(&path).unwrap();
    assert!(Leases::open(&path).is_err(), "a file has one owner");
    for n in 1..=10 {
        let ip = leases.offer(&ask(n, None), &segment, &pool, &table, now).unwrap();
        let record = leases.pooled(&ask(n, None), "lab", &bound(ip), now).unwrap();
        leases.commit(vec![record]).await.unwrap().unwrap();
    }
    let named = Ask { client: ClientKey::Id(b"\x00name"[..].into()), mac: mac(1), wish: None };
    let ip = leases.offer(&named, &segment, &pool, &table, now).unwrap();
    leases.commit(vec![leases.pooled(&named, "lab", &bound(ip), now).unwrap()]).await.unwrap().unwrap();
    leases.offer(&ask(12, None), &segment, &pool, &table, now).unwrap();
    let before = leases.list(now);
    assert_eq!(before.len(), 11);
    // A handle that somebody still has does not keep the file.
    leases.close();
    let after = Leases::open(&path).unwrap();
    assert!(leases.commit(Vec::new()).await.unwrap().is_err());
    let kept: Vec<_> = after.list(now).into_iter().map(|l| (l.ip, l.mac, l.kind)).collect();
    assert_eq!(kept, before.into_iter().map(|l| (l.ip, l.mac, l.kind)).collect::<Vec<_>>());
    assert_eq!(after.held(&named.client, "lab", now), Some(ip));
}

#[test]
fn a_file_that_is_none_of_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    std::fs::write(&path, "something of somebody's").unwrap();
    assert!(Leases::open(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"something of somebody's");
}

#[test]
fn a_file_that_grew_is_written_anew_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let now = SystemTime::now();
    let (segment, pool) = segment(20, 20);
    let leases = Leases::open(&path).unwrap();
    leases.offer(&ask(1, None), &segment, &pool, &BootTable::new(), now).unwrap();
    let record = leases.pooled(&ask(1, None), "lab", &bound(ip(20)), now).unwrap();
    let renewals = vec![record; 10_000];
    for _ in 0..20 {
        leases.0.write(&renewals).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() < 3 << 20, "20 times 300 kB were written");
    drop(leases);
    assert_eq!(Leases::open(&path).unwrap().list(now).len(), 1);
}

proptest! {
    /// Killed at any byte of a write, and with rubbish where the write would have gone on: everything before is there,
    /// nothing that never was.
    #[test]
    fn a_torn_file_has_what_was_whole(
        count in 1usize..12, cut in any::<prop::sample::Index>(), rubbish in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        let (mut log, _) = Log::open(&path).unwrap();
        let until = std::time::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let records: Vec<Record> = (0..count).map(|n| {
            let n = n as u8;
            let client = if n.is_multiple_of(2) { ClientKey::Mac(mac(n)) } else { ClientKey::Id(vec![n; 9].into()) };
            Record { network: "lab".into(), ip: ip(n), client, mac: mac(n), state: State::Bound, until }
        }).collect();
        let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
        for record in &records {
            log.append(std::slice::from_ref(record)).unwrap();
            ends.push(std::fs::metadata(&path).unwrap().len());
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let header = ends[0] as usize;
        let at = header + cut.index(whole.len() - header + 1);
        std::fs::write(&path, [&whole[..at], &rubbish].concat()).unwrap();
        let (mut log, read) = Log::open(&path).unwrap();
        let kept = ends.iter().filter(|end| **end <= at as u64).count() - 1;
        // Rubbish may happen to be the byte that was missing.
        prop_assert!(read.len() >= kept && read.len() <= count);
        prop_assert_eq!(&read[..], &records[..read.len()]);
        // And it goes on from there.
        log.append(&records[..1]).unwrap();
        drop(log);
        prop_assert_eq!(Log::open(&path).unwrap().1.len(), read.len() + 1);
    }
}

/// A disk that returns another byte than was written costs the record that it was in, and no other.
#[test]
fn a_file_harmed_in_its_middle_loses_what_is_harmed_and_is_kept_as_it_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let until = std::time::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let records: Vec<Record> = (0..5)
        .map(|n| Record {
            network: "lab".into(),
            ip: ip(n),
            client: ClientKey::Id(vec![n; 9].into()),
            mac: mac(n),
            state: State::Bound,
            until,
        })
        .collect();
    let (mut log, _) = Log::open(&path).unwrap();
    let header = std::fs::metadata(&path).unwrap().len() as usize;
    log.append(&records).unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    let each = (whole.len() - header) / records.len();
    // Every byte of the third: its length, its sum, its content.
    for at in header + 2 * each..header + 3 * each {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        let (mut log, read) = Log::open(&path).unwrap();
        let left: Vec<_> = read.iter().map(|record| record.mac.0[5]).collect();
        assert_eq!(left, [0, 1, 3, 4], "byte {at}");
        assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), bytes);
        std::fs::remove_file(path.with_extension("damaged")).unwrap();
        // And it goes on from there.
        log.append(&records[2..3]).unwrap();
        drop(log);
        assert_eq!(Log::open(&path).unwrap().1.len(), 5);
    }
}

/// Who has a whole record in its client identifier, and the luck of a disk that harms what is around it, has written nothing.
#[test]
fn a_record_inside_of_a_client_identifier_is_never_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let until = std::time::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let record = |n: u8, id: &[u8]| {
        let client = ClientKey::Id(id.into());
        Record { network: "lab".into(), ip: ip(n), client, mac: mac(n), state: State::Bound, until }
    };
    let mut forged = Vec::new();
    record(99, b"forged").write(Salt::NONE, &mut forged);
    let (mut log, _) = Log::open(&path).unwrap();
    let header = std::fs::metadata(&path).unwrap().len() as usize;
    log.append(&[record(1, &forged), record(2, b"honest")]).unwrap();
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    let read = |bytes: &[u8]| -> Vec<u8> {
        std::fs::write(&path, bytes).unwrap();
        Log::open(&path).unwrap().1.iter().map(|record| record.mac.0[5]).collect()
    };
    assert_eq!(read(&whole), [1, 2]);
    // Its length, or its sum: the first is lost, and what is in it is looked at.
    for at in header..header + 6 {
        let mut harmed = whole.clone();
        harmed[at] ^= 0x40;
        assert_eq!(read(&harmed), [2], "byte {at}");
    }
    // A file of before the salt is read as it was, and is none any more.
    let mut before = b"farrier leases 1\n".to_vec();
    record(3, &forged).write(Salt::NONE, &mut before);
    assert_eq!(read(&before), [3]);
    let now = std::fs::read(&path).unwrap();
    assert!(now.starts_with(b"farrier leases 2\n"), "{now:?}");
    assert_eq!(read(&now), [3]);
    assert_ne!(std::fs::read(&path).unwrap()[17..25], whole[17..25], "each has its own");
}

/// Nobody waits for it, and the next start knows which machines run.
#[tokio::test]
async fn leases_of_reservations_are_there_after_a_restart() {
    let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
    let path = dir.path().join("leases");
    let leases = Leases::open(&path).unwrap();
    for n in 1..=4 {
        assert!(leases.reserved(mac(n), "lab", &bound(ip(n)), now), "it is to be written");
    }
    leases.reserved(mac(1), "lab", &bound(ip(9)), now);
    leases.commit(Vec::new()).await.unwrap().unwrap();
    leases.reserved(mac(2), "lab", &LeaseChange::Released, now);
    assert!(!leases.reserved(mac(2), "lab", &LeaseChange::Released, now), "there is nothing to write");
    leases.reserved(mac(3), "lab", &LeaseChange::Bound { ip: ip(3), seconds: 60 }, now);
    leases.commit(Vec::new()).await.unwrap().unwrap();
    // As after a power cut: the running one is not asked.
    for name in ["leases", "leases-reserved"] {
        std::fs::copy(dir.path().join(name), dir.path().join(format!("copy-of-{name}"))).unwrap();
    }
    std::fs::rename(dir.path().join("copy-of-leases-reserved"), dir.path().join("copy-reserved")).unwrap();
    let again = Leases::open(&dir.path().join("copy")).unwrap();
    let of = |leases: &Leases, now| -> Vec<_> {
        let all = leases.list(now).into_iter();
        all.map(|lease| (lease.mac.0[5], lease.ip.octets()[3], lease.kind)).collect()
    };
    let kept = [(3, 3), (4, 4), (1, 9)].map(|(mac, ip)| (mac, ip, LeaseKind::Reserved));
    assert_eq!(of(&again, now), kept);
    assert_eq!(of(&again, now + Duration::from_secs(61)), kept[1..], "each ends when it was to end");
    // What ended is forgotten, and the last words are not.
    leases.reserved(mac(5), "lab", &bound(ip(5)), now);
    leases.close();
    drop((leases, again));
    assert_eq!(of(&Leases::open(&path).unwrap(), now).len(), 4);
    // A file that is none of ours is no reason not to start.
    std::fs::write(dir.path().join("leases-reserved"), "something else").unwrap();
    assert_eq!(of(&Leases::open(&path).unwrap(), now), []);
}

/// A machine with addresses of both kinds: its lease ends when neither runs, or when the one that began it says so.
#[test]
fn a_port_has_one_lease_by_whichever_of_both_protocols() {
    let (leases, now) = (Leases::default(), SystemTime::now());
    let runs = || leases.of_port(mac(1), "lab", now).map(|lease| (lease.ip, lease.expires_at));
    let by_six = |change: &LeaseChange| leases.reserved_by_six(mac(1), "lab", change, now);
    let by_four = |change: &LeaseChange| leases.reserved(mac(1), "lab", change, now);
    let hours = |hours: u32| LeaseChange::Bound { ip: ip(1), seconds: 3600 * hours };
    let until = |hours: u32| Some((ip(1), now + HOUR * hours));
    // DHCPv6 alone.
    by_six(&hours(1));
    assert_eq!(runs(), until(1));
    by_six(&hours(2));
    assert_eq!(runs(), until(2), "renewed");
    by_six(&LeaseChange::Released);
    assert_eq!(runs(), None);
    // Firmware by DHCPv6, which gives it back when its system has an IPv4 address already.
    by_six(&hours(1));
    by_four(&hours(2));
    by_six(&LeaseChange::Released);
    assert_eq!(runs(), until(2));
    // A system with both: the longer of them.
    by_six(&hours(1));
    assert_eq!(runs(), until(2));
    by_six(&hours(3));
    assert_eq!(runs(), until(3));
    by_six(&LeaseChange::Released);
    assert_eq!(runs(), until(3), "IPv4 began it");
    by_four(&LeaseChange::Released);
    assert_eq!(runs(), None);
}

/// Which protocol began a lease is known after a restart: by a file that was grown, and by one that was written anew.
#[tokio::test]
async fn what_dhcpv6_alone_began_it_may_give_back_after_a_restart() {
    let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
    let path = dir.path().join("leases");
    for anew in [false, true] {
        let leases = Leases::open(&path).unwrap();
        for n in [1, 2] {
            leases.reserved_by_six(mac(n), "lab", &bound(ip(n)), now);
        }
        leases.reserved(mac(3), "lab", &bound(ip(3)), now);
        leases.commit(Vec::new()).await.unwrap().unwrap();
        // Its system has an IPv4 address, too, and that goes on when firmware gives its own back.
        leases.reserved(mac(2), "lab", &bound(ip(2)), now);
        if anew {
            // As after a clock that was set.
            leases.0.reserved.shift(now..now, Step::Forward(HOUR));
        }
        leases.close();
        drop(leases);
        let leases = Leases::open(&path).unwrap();
        let run = || leases.list(now).into_iter().map(|lease| lease.mac.0[5]).collect::<Vec<_>>();
        assert_eq!(run(), [1, 2, 3]);
        for n in [1, 2, 3] {
            leases.reserved_by_six(mac(n), "lab", &LeaseChange::Released, now);
        }
        assert_eq!(run(), [2, 3], "IPv4 has said something of those");
        leases.close();
        drop(leases);
        assert_eq!(Leases::open(&path).unwrap().list(now).len(), 2, "what was given back is given back");
    }
}

/// As the last rackd before wrote and read it: it looks at port, network, address and end, and never at the client.
#[test]
fn leases_of_reservations_are_the_same_to_an_older_rackd() {
    let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
    let path = dir.path().join("leases");
    let until = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let (mut log, _) = Log::open(&dir.path().join("leases-reserved")).unwrap();
    let (network, client) = ("lab".to_owned(), ClientKey::Mac(mac(1)));
    let old = Record { network, ip: ip(1), client, mac: mac(1), state: State::Bound, until };
    log.append(&[old]).unwrap();
    drop(log);
    let leases = Leases::open(&path).unwrap();
    leases.reserved_by_six(mac(1), "lab", &LeaseChange::Released, now);
    assert_eq!(leases.of_port(mac(1), "lab", now).map(|lease| lease.expires_at), Some(until));
    leases.reserved_by_six(mac(2), "lab", &bound(ip(2)), now);
    leases.close();
    drop(leases);
    let (_, records) = Log::open(&dir.path().join("leases-reserved")).unwrap();
    let seen: Vec<_> =
        records.iter().map(|r| (r.mac, r.network.as_str(), r.ip, r.state, r.until > now)).collect();
    assert_eq!(seen, [1, 2].map(|n| (mac(n), "lab", ip(n), State::Bound, true)));
}

/// A disk with room for what is new, and none for all of it again.
#[test]
fn where_a_second_file_does_not_fit_what_is_new_is_written_behind_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leases");
    let record = |n: u32| Record {
        network: "n".repeat(63),
        ip: Ipv4Addr::from_bits(n % 8),
        client: ClientKey::Id(vec![7; 255].into()),
        mac: mac(1),
        state: State::Bound,
        until: SystemTime::now() + HOUR,
    };
    let (mut log, _) = Log::open(&path).unwrap();
    let many: Vec<_> = (0..20_000).map(record).collect();
    log.append(&many).unwrap();
    assert!(log.wants_rewrite(8));
    // Where it would be written, there is a directory.
    std::fs::create_dir(path.with_extension("new")).unwrap();
    log.rewrite(&many[..8]).unwrap_err();
    assert!(!log.wants_rewrite(8), "not at each lease");
    drop(log);
    let leases = Leases::open(&path).unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    leases.0.write(&[record(8)]).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > before);
    std::fs::remove_dir(path.with_extension("new")).unwrap();
}
