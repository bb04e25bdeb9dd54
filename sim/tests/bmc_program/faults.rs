//! The fault script: each fault met by our client and by ipmitool, while healthy neighbours notice nothing.

use farrier_bmc::{BmcError, BootMode, BootOverride, Deadline, Device, PowerState};

use super::ours::{Hubs, later};
use super::*;

/// Number by number.
const SCRIPT: &str = r#"
[[fault]]
bmcs = { numbers = [1] }
what = { delay = "300ms" }

[[fault]]
bmcs = { numbers = [2] }
what = { drop = 9 }

[[fault]]
bmcs = { numbers = [3] }
what = { drop = 1 }

[[fault]]
bmcs = { numbers = [4] }
what = { refuse = 1 }

[[fault]]
bmcs = { numbers = [5] }
what = { refuse = 2 }

[[fault]]
bmcs = { numbers = [6] }
what = { says = "opposite" }

[[fault]]
bmcs = { numbers = [7] }
what = "ignores-button"

[[fault]]
bmcs = { numbers = [8] }
over = ["ipmi"]
what = { reset = { every = 5, deaf = "200ms" } }

[[fault]]
bmcs = { numbers = [8] }
over = ["redfish"]
what = { reset = { every = 12 } }

[[fault]]
bmcs = { numbers = [9] }
what = "garbage"

[[fault]]
bmcs = { numbers = [10] }
what = { lag = "1h" }

[[fault]]
bmcs = { numbers = [11] }
what = "forgets-boot"

[[fault]]
bmcs = { numbers = [12] }
what = "mute"

# Comes, and goes again.
[[fault]]
bmcs = { numbers = [13] }
after = "1s"
for = "2s"
every = "5s"
what = { says = "on" }

# Shuts down slowly.
[[fault]]
bmcs = { numbers = [15] }
what = { slow-soft-off = "1h" }

[[fault]]
bmcs = { numbers = [16] }
what = { slow-soft-off = "1s" }

# Healthy over Redfish.
[[fault]]
bmcs = { numbers = [14] }
over = ["ipmi"]
what = { drop = 1 }
"#;

const COUNT: usize = 40;
const HEALTHY: std::ops::Range<usize> = 17..COUNT;

#[tokio::test]
async fn each_fault_is_met_and_neighbours_notice_nothing() {
    let program = Program::start(COUNT, SCRIPT, &[]).await;
    let hubs = Hubs::start().await;
    let neighbours = async {
        for _ in 0..3 {
            let all = HEALTHY.map(async |number| {
                let bmc = if number % 2 == 0 {
                    hubs.ipmi(&program, number)
                } else {
                    hubs.redfish(&program, number)
                };
                assert_eq!(bmc.power_status(later()).await, Ok(PowerState::Off), "{number}");
            });
            futures::future::join_all(all).await;
        }
    };
    tokio::join!(
        ours_over_ipmi(&program, &hubs),
        ours_over_redfish(&program, &hubs),
        ipmitool(&program),
        neighbours
    );
    hubs.stop().await;
    program.stop().await;
}

fn is_silence(error: &BmcError) -> bool {
    matches!(error, BmcError::Unreachable { .. } | BmcError::Late { .. })
}

/// For what never succeeds.
fn hopeless() -> Deadline {
    Deadline::after(Duration::from_secs(4))
}

async fn ours_over_ipmi(program: &Program, hubs: &Hubs) {
    let bmc = |number| hubs.ipmi(program, number);
    let off = Ok(PowerState::Off);
    let (slow, lossy, half_busy, resets) = (bmc(1), bmc(2), bmc(5), bmc(8));
    for _ in 0..4 {
        assert_eq!(slow.power_status(later()).await, off);
        assert_eq!(lossy.power_status(later()).await, off);
        assert_eq!(half_busy.power_status(later()).await, off);
    }
    for _ in 0..12 {
        assert_eq!(resets.power_status(later()).await, off, "a session that is gone is opened again");
    }
    let dead = bmc(3).power_status(hopeless()).await.unwrap_err();
    assert!(is_silence(&dead), "{dead}");
    let busy = bmc(4).power_status(hopeless()).await.unwrap_err();
    assert!(busy.to_string().contains("busy"), "{busy}");
    let unreadable = bmc(9).power_status(hopeless()).await.unwrap_err();
    // What it answers is no answer, as often as it is asked.
    assert!(
        is_silence(&unreadable)
            || matches!(unreadable, BmcError::Garbled { .. } | BmcError::Malformed { .. }),
        "{unreadable}"
    );
    let mute = bmc(12).power_status(hopeless()).await.unwrap_err();
    assert!(is_silence(&mute), "{mute}");
    assert_eq!(bmc(6).power_status(later()).await, Ok(PowerState::On), "a liar is believed, for once");
    bmc(7).power_on(later()).await.unwrap();
    let ignored = bmc(7).wait_power(PowerState::On, hopeless()).await;
    assert_eq!(ignored, Ok(false), "a button that does nothing is noticed");
    let wanted = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
    let kept = bmc(11).set_boot_device(wanted, later()).await.unwrap();
    assert_eq!(kept.mode, BootMode::Bios, "what was not kept is told");
    // Twice another, in between.
    let timed = bmc(13);
    let until = async |wanted| {
        while timed.power_status(later()).await != Ok(wanted) {
            tokio::task::yield_now().await;
        }
    };
    soon(until(PowerState::On)).await;
    soon(until(PowerState::Off)).await;
}

async fn ours_over_redfish(program: &Program, hubs: &Hubs) {
    let bmc = |number| hubs.redfish(program, number);
    let off = Ok(PowerState::Off);
    assert_eq!(bmc(1).power_status(later()).await, off);
    assert_eq!(bmc(14).power_status(later()).await, off, "its other protocol is dead");
    let (half_busy, resets) = (bmc(5), bmc(8));
    for _ in 0..4 {
        assert_eq!(half_busy.power_status(later()).await, off);
    }
    let mut read = 0;
    for _ in 0..12 {
        read += usize::from(resets.power_status(later()).await == off);
    }
    assert!(read > 6, "{read} of 12 past its restarts");
    assert!(bmc(4).power_status(hopeless()).await.is_err());
    let garbage = bmc(9).power_status(hopeless()).await.unwrap_err();
    assert!(
        matches!(garbage, BmcError::BadAnswer { .. } | BmcError::Garbled { .. } | BmcError::NoRedfish { .. }),
        "{garbage}"
    );
    assert_eq!(bmc(6).power_status(later()).await, Ok(PowerState::On));
    let wanted = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
    let forgotten = bmc(11).set_boot_device(wanted, later()).await.unwrap_err();
    assert!(matches!(forgotten, BmcError::NotApplied { .. }), "{forgotten}");
    // Its power is on and is said to be off, for an hour: over both.
    bmc(10).power_on(later()).await.unwrap();
    assert_eq!(bmc(10).power_status(later()).await, off);
    assert_eq!(hubs.ipmi(program, 10).power_status(later()).await, off);
}

/// For what never succeeds.
const IMPATIENT: &str = "-C 17 -R 1 -N 1";

async fn ipmitool(program: &Program) {
    program.ipmitool(1, "power status").await.succeeds().says("is off");
    program.ipmitool_with(2, "-C 17 -R 12 -N 1", "power status").await.succeeds().says("is off");
    program.ipmitool_with(3, IMPATIENT, "power status").await.fails().says("Unable to establish");
    program.ipmitool_with(4, IMPATIENT, "power status").await.fails();
    program.ipmitool(6, "power status").await.succeeds().says("is on");
    program.ipmitool(7, "power on").await.succeeds();
    program.ipmitool(7, "power status").await.succeeds().says("is off");
    program.ipmitool_with(9, IMPATIENT, "power status").await.fails();
    program.ipmitool_with(12, IMPATIENT, "power status").await.fails();
    program.ipmitool(20, "power status").await.succeeds().says("is off");
    for number in [15, 16] {
        program.ipmitool(number, "power on").await.succeeds();
        program.ipmitool(number, "sel clear").await.succeeds();
        program.ipmitool(number, "power soft").await.succeeds();
    }
    program.ipmitool(15, "power status").await.succeeds().says("is on");
    program.ipmitool(15, "power off").await.succeeds();
    program.ipmitool(15, "power status").await.succeeds().says("is off");
    let shut_down =
        async { while !program.ipmitool(16, "power status").await.succeeds().text.contains("is off") {} };
    soon(shut_down).await;
    program.ipmitool(16, "sel list").await.says("Power off/down");
}
