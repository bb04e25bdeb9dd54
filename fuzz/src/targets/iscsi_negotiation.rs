//! Text keys and the negotiation of a login.

use farrier_iscsi::{MAX_PAIRS, Offer, Pairs, Params, negotiate};

pub fn run(data: &[u8]) {
    let Ok(pairs) = Pairs::parse(data) else { return };
    assert!(pairs.0.len() <= MAX_PAIRS);
    assert_eq!(Pairs::parse(&pairs.emit()).as_ref(), Ok(&pairs), "what is emitted is read back the same");
    let offer = Offer::default();
    let mut params = Params::default();
    let mut answer = Pairs::default();
    if negotiate(&pairs, &offer, &mut params, &mut answer).is_err() {
        return;
    }
    // An answer for a key at most, and nothing beyond what was offered.
    assert!(answer.0.len() <= pairs.0.len());
    assert!(answer.0.iter().all(|(key, _)| pairs.value(key).is_some()));
    assert!(params.first_burst <= params.max_burst);
    assert!(params.max_burst <= offer.max_burst && params.max_burst >= 512);
    assert!(params.max_send_data >= 512 && params.max_send_data < 1 << 24);
    assert!((1..=offer.max_outstanding_r2t).contains(&params.max_outstanding_r2t));
}
