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
