use super::*;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

const EACH: &str = r#"
seed = 7

[[fault]]
bmcs = { numbers = [0, 3] }
what = { delay = "250ms" }

[[fault]]
bmcs = { from = 10, to = 20, step = 2 }
over = ["ipmi"]
after = "5s"
for = "2s"
every = "10s"
what = { drop = 1 }

[[fault]]
bmcs = { from = 100, share = 0.25 }
what = { says = "opposite" }

[[fault]]
bmcs = { numbers = [5] }
what = { reset = { every = 3, deaf = "1s" } }

[[fault]]
bmcs = { numbers = [6] }
over = ["redfish"]
what = "garbage"

[[fault]]
bmcs = { numbers = [7] }
what = { slow-soft-off = "5m" }

[[fault]]
bmcs = { numbers = [7] }
what = { lag = "20s" }
"#;

#[test]
fn each_bmc_has_what_is_said_of_it_when_it_is_said() {
    let script = Script::parse(EACH).unwrap();
    let delayed = script.at(3, Duration::ZERO);
    assert_eq!(delayed.ipmi.delay, Duration::from_millis(250));
    assert_eq!(delayed.redfish.delay, Duration::from_millis(250));
    assert_eq!(script.at(1, Duration::ZERO), Active::default(), "a healthy neighbour");

    let silent = |bmc, at| script.at(bmc, seconds(at)).ipmi.silent;
    assert_eq!(
        [4, 5, 6, 7, 15, 16, 17].map(|at| silent(12, at)),
        [false, true, true, false, true, true, false]
    );
    assert!(!silent(11, 5) && !silent(20, 5) && !silent(8, 5));
    assert!(!script.at(12, seconds(5)).redfish.silent, "only over IPMI");

    let liars = (100..1100).filter(|bmc| script.at(*bmc, Duration::ZERO).machine.says.is_some()).count();
    assert!((200..300).contains(&liars), "{liars} of 1000");
    let again = Script::parse(EACH).unwrap();
    assert!(
        (100..1100).all(|bmc| again.at(bmc, seconds(1)) == script.at(bmc, seconds(1))),
        "by chance, once"
    );

    assert_eq!(script.at(5, seconds(1)).ipmi.resets.unwrap().deaf, seconds(1));
    let slow = script.at(7, seconds(1)).machine;
    assert_eq!((slow.soft_takes, slow.lag), (seconds(300), seconds(20)), "faults add up");
    assert!(script.at(6, seconds(1)).redfish.garbage && !script.at(6, seconds(1)).ipmi.mangled);
}

#[test]
fn the_next_change_is_where_a_fault_begins_or_ends() {
    let script = Script::parse(EACH).unwrap();
    let mut at = Duration::ZERO;
    let mut changes = Vec::new();
    for _ in 0..5 {
        at = script.next_change(at).unwrap();
        changes.push(at);
    }
    assert_eq!(changes, [5, 7, 15, 17, 25].map(seconds));
    assert_eq!(Script::default().next_change(seconds(1)), None);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let refused = |text: &str| {
        let error = Script::parse(text).unwrap_err();
        std::error::Error::source(&error).map_or(error.to_string(), |source| format!("{error}: {source}"))
    };
    assert!(refused("[[fault]]\nwhat = \"explode\"").contains("explode"));
    assert!(refused("[[fault]]\nwhat = { delay = \"5 parsecs\" }").contains("no time"));
    assert!(refused("[[fault]]\nwhat = { drop = 0 }").contains("zero"));
    assert!(refused("[[fault]]\nbmc = 3\nwhat = \"mute\"").contains("bmc"));
    assert!(refused("[[fault]]\nevery = \"1s\"\nfor = \"2s\"\nwhat = \"mute\"").contains("never ends"));
    assert!(refused("[[fault]]\nbmcs = { share = 1.5 }\nwhat = \"mute\"").contains("0 to 1"));
}
