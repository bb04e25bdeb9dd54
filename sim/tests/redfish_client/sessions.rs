//! Sessions are few at a BMC, and each is a line in its log.

use super::*;

#[tokio::test]
async fn a_log_in_that_is_given_up_leaves_no_session_behind() {
    let lab = Lab::start(|config| config.max_sessions = 2).await;
    let bmc = lab.client();
    for after in [50, 150, 250, 350, 450, 550].map(Duration::from_millis) {
        // Obeyed at once, answered late: a session that is asked for is there.
        lab.faults(|faults| faults.late = Duration::from_millis(200));
        let _gone = tokio::time::timeout(after, bmc.power_status(soon())).await;
        let _late = bmc.power_status(Deadline::after(after)).await;
        lab.faults(|_| ());
        lab.hub.bmc(lab.address()).power_status(soon()).await.unwrap();
        assert_eq!(lab.service.session_count().await, 1);
        // The next one logs in anew.
        lab.service.forget_sessions().await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn polls_with_pauses_between_them_are_one_log_in_on_a_connection_each() {
    let tuning = Tuning { idle_disconnect: Duration::from_millis(50), ..quick() };
    let lab = Lab::start_with(tuning, |_| {}).await;
    let bmc = lab.client();
    for _ in 0..3 {
        assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
        while lab.service.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!((lab.service.log_ins().await, lab.service.session_count().await), (1, 1));
    drop(bmc);
    while lab.service.session_count().await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.stop().await;
}

/// As many BMCs as connections twice over: each has its turn, and who has none in time is not told that a BMC is away.
#[tokio::test]
async fn connections_to_all_bmcs_together_are_bounded() {
    let tuning = Tuning { max_connections: 2, idle_disconnect: Duration::from_millis(20), ..quick() };
    let hub = RedfishHub::with(Arc::new(PlainDial), tuning);
    let mut labs = Vec::new();
    for _ in 0..6 {
        labs.push(Lab::start(|_| {}).await);
    }
    let bmcs: Vec<_> = labs.iter().map(|lab| hub.bmc(lab.address())).collect();
    for seen in futures::future::join_all(bmcs.iter().map(|bmc| bmc.power_status(soon()))).await {
        assert_eq!(seen, Ok(PowerState::Off));
    }
    for lab in &labs[..2] {
        lab.faults(|faults| faults.silent = true);
    }
    let hanging = bmcs[..2].iter().map(|bmc| bmc.power_status(Deadline::after(Duration::from_secs(2))));
    let waits = async {
        while labs[..2].iter().any(|lab| lab.service.connection_count() == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bmcs[3].power_status(Deadline::after(Duration::from_millis(200))).await
    };
    let (_, none) = tokio::join!(futures::future::join_all(hanging), waits);
    let error = none.unwrap_err();
    assert!(
        matches!(error, BmcError::NoTurn { .. }) && error.is_our_own() && error.is_transient(),
        "{error}"
    );
    assert_eq!(bmcs[3].power_status(soon()).await, Ok(PowerState::Off));
    hub.shutdown().await;
    for lab in labs {
        lab.stop().await;
    }
}
