//! What a BMC says in the minutes in which it restarts.

use super::*;

/// What it shows meanwhile, each a final answer of a BMC that nobody knows.
const SHOWS: [fn(&mut RedfishFaults); 4] =
    [|f| f.absent = true, |f| f.garbage = true, |f| f.hides_power = true, |f| f.status = Some(404)];

#[tokio::test]
async fn one_that_worked_before_is_waited_for_and_one_that_never_did_is_not() {
    let tuning = Tuning { tries: 2, ..quick() };
    for shows in SHOWS {
        let lab = Lab::start_with(tuning, |_| {}).await;
        let bmc = lab.client();
        assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
        lab.faults(shows);
        // With its session, and without: it has forgotten it.
        for _ in 0..2 {
            let error = bmc.power_status(soon()).await.unwrap_err();
            assert!(error.is_transient() && !error.is_wrong_password(), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("expected") && text.contains("seen") && text.contains("restarting"),
                "{text}"
            );
            lab.service.forget_sessions().await;
        }
        // Another handle knows it too: the task that goes on is not the one that began.
        drop(bmc);
        let error = lab.client().power_status(soon()).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        let stranger = RedfishHub::with(Arc::new(PlainDial), tuning);
        let error = stranger.bmc(lab.address()).power_status(soon()).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        stranger.shutdown().await;
        lab.faults(|_| ());
        assert_eq!(lab.client().power_status(soon()).await, Ok(PowerState::Off));
        lab.stop().await;
    }
}
