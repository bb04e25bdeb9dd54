//! Events that a service tells by itself.

use super::*;

#[tokio::test]
async fn what_happens_is_told_to_who_listens_while_other_calls_go_on() {
    let lab = Lab::start(|_| ()).await;
    let (bmc, other) = (lab.client(), lab.client());
    let mut events = bmc.events(soon()).await.unwrap();
    while lab.service.listeners().await == 0 {
        tokio::task::yield_now().await;
    }
    for (on, word) in [(true, "ResourcePoweredOn"), (false, "ResourcePoweredOff")] {
        if on {
            other.power_on(soon()).await.unwrap()
        } else {
            other.power_off(soon()).await.unwrap()
        }
        let told = events.next().await.unwrap();
        assert!(told.message_id.ends_with(word), "{told:?}");
        assert!(told.message.contains("/redfish/v1/Systems/1"), "{told:?}");
    }
    assert_eq!(lab.service.log_ins().await, 1, "the stream has the session of the calls");
    drop(events);
    while lab.service.listeners().await > 0 {
        // It notices when it has something to tell.
        other.power_cycle(soon()).await.ok();
        other.power_on(soon()).await.ok();
        other.power_off(soon()).await.unwrap();
        tokio::task::yield_now().await;
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_or_never_was_says_why() {
    let lab = Lab::start(|_| ()).await;
    let bmc = lab.client();
    let mut events = bmc.events(soon()).await.unwrap();
    while lab.service.listeners().await == 0 {
        tokio::task::yield_now().await;
    }
    lab.service.shutdown().await;
    let ended = events.next().await.unwrap_err();
    assert!(matches!(ended, BmcError::NoAnswer { .. }), "{ended}");
    lab.hub.shutdown().await;

    let lab = Lab::start(|config| config.events = false).await;
    let absent = lab.client().events(soon()).await.unwrap_err();
    assert!(matches!(absent, BmcError::Unsupported { .. }), "{absent}");
    lab.stop().await;

    // Somewhere else's answer is no stream.
    let lab = Lab::start(|_| ()).await;
    let bmc = lab.client();
    bmc.power_status(soon()).await.unwrap();
    let mut events = bmc.events(soon()).await.unwrap();
    lab.faults(|f| f.status = Some(404));
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, BmcError::Http { status: 404, .. }), "{error}");
    lab.stop().await;
}
