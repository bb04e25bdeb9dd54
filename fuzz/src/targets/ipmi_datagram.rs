//! RMCP, ASF, IPMI 1.5 and RMCP+ packets and every message in them: parse, emit, parse.

use farrier_ipmi::asf::Asf;
use farrier_ipmi::command::BootFlags;
use farrier_ipmi::datagram::Datagram;
use farrier_ipmi::lan::LanMessage;
use farrier_ipmi::open_session::{OpenSessionRequest, OpenSessionResponse};
use farrier_ipmi::rakp::{Rakp1, Rakp2, Rakp3, Rakp4};

macro_rules! round_trip {
    ($bytes:expr; $($kind:ty),+) => {$(
        if let Ok(first) = <$kind>::parse($bytes) {
            let emitted = first.to_bytes();
            let second = <$kind>::parse(&emitted).expect("what we emit we can read");
            assert_eq!(emitted, second.to_bytes());
        }
    )+};
}

fn payload(bytes: &[u8]) {
    round_trip!(bytes; LanMessage, OpenSessionRequest, OpenSessionResponse, Rakp1, Rakp2, Rakp3, Rakp4);
    if let Some(flags) = BootFlags::from_bytes(bytes) {
        assert_eq!(BootFlags::from_bytes(&flags.to_bytes()), Some(flags));
    }
}

pub fn run(data: &[u8]) {
    payload(data);
    match Datagram::parse(data) {
        Ok(Datagram::Asf(asf)) => {
            let again = asf.to_datagram();
            assert!(matches!(
                Datagram::parse(&again),
                Ok(Datagram::Asf(Asf::Ping { .. } | Asf::Pong { .. }))
            ));
        }
        Ok(Datagram::V15(packet)) => payload(packet.payload),
        Ok(Datagram::V20(packet)) => payload(packet.payload),
        Err(error) => drop(error.to_string()),
    }
}
