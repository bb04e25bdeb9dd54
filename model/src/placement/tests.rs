use super::*;
use proptest::prelude::*;

fn node(name: &str) -> Candidate {
    Candidate {
        node: name.into(),
        rack: "r1".into(),
        site: "s1".into(),
        state: State::Available,
        maintenance: false,
        architecture: "x86_64".into(),
        cpu_count: 8,
        memory_bytes: 32 << 30,
        disks: vec![disk("/dev/sda", 100 << 30), disk("/dev/sdb", 10 << 30)],
        root_device: Hints::default(),
        resource_class: "general".into(),
        traits: vec!["NVME".into()],
        labels: BTreeMap::from([("row".into(), "a".into())]),
        owner: String::new(),
        bootable: true,
        bmc_problem: String::new(),
        idle_since: 0,
    }
}

fn disk(name: &str, size_bytes: u64) -> Disk {
    Disk { name: name.into(), size_bytes, ..Disk::default() }
}

/// Each row: a change to a node that fits, and the word its rejection must begin with.
#[test]
fn each_filter_says_what_was_asked_and_what_is_there() {
    type Change = fn(&mut Candidate, &mut Demand);
    let rows: &[(&str, Change)] = &[
        ("node: asked for other, has n", |_, d| d.node = "other".into()),
        ("site: asked for s2, has s1", |_, d| d.site = "s2".into()),
        ("rack: asked for r2, has r1", |_, d| d.rack = "r2".into()),
        ("owner:", |c, _| c.owner = "theirs".into()),
        ("state: must be available, is active", |c, _| c.state = State::Active),
        ("maintenance:", |c, _| c.maintenance = true),
        ("ports:", |c, _| c.bootable = false),
        ("BMC: must answer, its rack saw: no answer", |c, _| c.bmc_problem = "no answer".into()),
        ("architecture: asked for aarch64, has x86_64", |_, d| d.architecture = "aarch64".into()),
        ("architecture of the image: asked for aarch64", |_, d| d.image_architecture = "aarch64".into()),
        ("CPUs: asked for 9, has 8", |_, d| d.cpu_count = 9),
        ("memory: asked for", |_, d| d.memory_bytes = 33 << 30),
        (
            "disk: asked for 108447924224 bytes on the root disk, but /dev/sda has 107374182400 bytes",
            |_, d| d.disk_bytes = 101 << 30,
        ),
        ("disk: asked for 21474836480 bytes on the root disk, but /dev/sda name is", |c, d| {
            c.root_device.name = "/dev/sdb".into();
            d.disk_bytes = 20 << 30;
        }),
        ("disk: asked for 1 bytes on the root disk, has none recorded (was it inspected?)", |c, d| {
            c.disks.clear();
            d.disk_bytes = 1;
        }),
        ("resource class: asked for gpu, has general", |_, d| d.resource_class = "gpu".into()),
        ("traits: lacks GPU", |_, d| d.traits = vec!["NVME".into(), "GPU".into()]),
        ("label row: asked for b, has a", |_, d| drop(d.labels.insert("row".into(), "b".into()))),
    ];
    for (expected, change) in rows {
        let (mut candidate, mut demand) = (node("n"), Demand { project: "mine".into(), ..Demand::default() });
        assert_eq!(place(&demand, std::slice::from_ref(&candidate)).fits, ["n"]);
        change(&mut candidate, &mut demand);
        let placement = place(&demand, &[candidate]);
        let reason = placement.rejections.first().map(|r| r.reason.as_str()).unwrap_or_default();
        assert!(reason.starts_with(expected), "expected {expected:?}, saw {reason:?}");
    }
}

#[test]
fn racks_are_filled_evenly_and_small_machines_first() {
    let mut busy = node("busy");
    busy.state = State::Active;
    let mut elsewhere = node("elsewhere");
    elsewhere.rack = "r2".into();
    let mut big = node("big");
    big.memory_bytes = 512 << 30;
    big.rack = "r2".into();
    let placement = place(&Demand::default(), &[busy, node("here"), big, elsewhere]);
    assert_eq!(placement.fits, ["elsewhere", "big", "here"]);
}

proptest! {
    #[test]
    fn the_order_of_rows_does_not_matter_and_nobody_is_lost(
        memory in proptest::collection::vec(1u64..64, 1..20), asked in 0u64..64, seed in any::<u64>()
    ) {
        let candidates: Vec<_> = memory.iter().enumerate().map(|(i, gib)| {
            let mut c = node(&format!("n{i}"));
            c.memory_bytes = gib << 30;
            c
        }).collect();
        let demand = Demand { memory_bytes: asked << 30, ..Demand::default() };
        let one = place(&demand, &candidates);
        prop_assert_eq!(one.fits.len() + one.rejections.len(), candidates.len());
        let mut shuffled = candidates.clone();
        let n = shuffled.len() as u64;
        for i in 0..shuffled.len() {
            shuffled.swap(i, (seed.wrapping_mul(i as u64 + 1) % n) as usize);
        }
        prop_assert_eq!(place(&demand, &shuffled).fits, one.fits);
    }
}
