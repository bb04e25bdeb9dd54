//! The agent's iSCSI initiator, whose target says anything.

use farrier_iscsi::initiator::{Event, Initiator, Login};
use farrier_iscsi::{Credentials, Secret};

pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let secret = Secret::new(b"0123456789abcdef".to_vec());
    let chap = (how & 1 == 1).then(|| Credentials { user: "n1".into(), secret });
    let login = Login { initiator: "iqn.i".into(), target: "iqn.t".into(), chap, isid: [1, 2, 3] };
    let mut initiator = Initiator::new(login);
    let mut out = Vec::new();
    initiator.login(&mut out);
    // Pieces of any size, with reads in between once it may.
    for piece in data.chunks(usize::from(how >> 1).max(1)) {
        out.clear();
        let Ok(events) = initiator.receive(piece, &mut out) else { return };
        let carried: usize = events
            .iter()
            .map(|event| match event {
                Event::Data { data, .. } => data.len(),
                Event::Ended { sense, .. } => sense.len(),
                Event::LoggedIn | Event::Leaving => 0,
            })
            .sum();
        assert!(carried <= data.len(), "more data came out than went in");
        if initiator.may_send() {
            initiator.read(0, 0, 8, 512, &mut out);
        }
    }
}
