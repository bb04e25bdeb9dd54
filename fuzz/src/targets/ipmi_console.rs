//! Our end of a serial console: a BMC that has our session says what it likes about it, in packets that are sealed as they should be.

use super::ipmi_network::{Conduct, talk, usual};
use super::redfish_client::{soon, told};
use crate::{head, messages};
use farrier_bmc::{ConsoleEvent, ConsoleInput};
use farrier_ipmi::command::Activated;
use farrier_ipmi::server::{Request, Server};
use farrier_ipmi::sol::{Acknowledgement, Packet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Packets of one input.
const PACKETS: usize = 48;
/// Between two looks for a packet that may have come.
const PATIENCE: Duration = Duration::from_millis(25);
/// Datagrams that a console may send: each is repeated so often, and what is answered may ask for more.
const MOST_DATAGRAMS: usize = 2000;

pub fn run(data: &[u8]) {
    let ([typed, size], script) = head::<2>(data);
    let mut script: Vec<Vec<u8>> = messages(script).take(PACKETS).map(<[u8]>::to_vec).collect();
    script.reverse();
    let script = Arc::new(Mutex::new(script));
    let said = Arc::new(AtomicUsize::new(0));
    let (left, counted) = (Arc::clone(&script), Arc::clone(&said));
    let mut last = 0;
    // Each packet of ours is answered with some of theirs: a greeting begins it, and repetitions keep it going.
    let sol = move |session: u32, server: &mut Server| {
        let mut entropy = |buffer: &mut [u8]| buffer.fill(0x5A);
        let mut datagrams = Vec::new();
        for _ in 0..4 {
            let Some(next) = left.lock().unwrap().pop() else { break };
            let ([what], rest) = head::<1>(&next);
            let packet = match what % 4 {
                // As it comes: any sequence, any acknowledgement, any bits, reserved ones too.
                0 => rest.to_vec(),
                1 => {
                    let ([sequence, accepted, bits], _) = head::<3>(rest);
                    let ack = Some(Acknowledgement { sequence: sequence & 15, accepted });
                    Packet { sequence: 0, ack, bits, chars: Vec::new() }.to_bytes()
                }
                2 => {
                    last = last % 15 + 1;
                    let ([bits], chars) = head::<1>(rest);
                    Packet { sequence: last, ack: None, bits, chars: chars.to_vec() }.to_bytes()
                }
                // Not sealed, and nobody's.
                _ => {
                    datagrams.push(rest.to_vec());
                    continue;
                }
            };
            counted.fetch_add(packet.len(), Ordering::Relaxed);
            datagrams.extend(server.seal_sol(session, &packet, &mut entropy));
        }
        datagrams
    };
    let answer = move |asked: &Request| match (asked.message.netfn, asked.message.cmd) {
        // Activate Payload.
        (0x06, 0x48) => {
            let activated = Activated { inbound_size: u16::from(size), outbound_size: 259, port: 623 };
            Some((0, activated.to_bytes().to_vec()))
        }
        (netfn, cmd) => Some(usual(netfn, cmd)),
    };
    let datagrams = talk(Conduct { answer, sol }, async |handle| {
        let Ok(mut line) = handle.open_console(false, soon()).await.map_err(told) else { return };
        let _full = line.input.try_send(ConsoleInput::Chars(vec![b'x'; usize::from(typed)]));
        if typed & 1 != 0 {
            let _full = line.input.try_send(ConsoleInput::MagicSysRq(b'h'));
        }
        let mut heard = 0;
        while !script.lock().unwrap().is_empty() {
            match tokio::time::timeout(PATIENCE, line.events.recv()).await {
                Ok(Some(ConsoleEvent::Output(chars))) => {
                    assert!(!chars.is_empty() && chars.len() <= 255, "{}", chars.len());
                    heard += chars.len();
                }
                Ok(Some(ConsoleEvent::Ended(error))) => {
                    told(error);
                    break;
                }
                Ok(Some(_)) => {}
                // It is over, or nobody says anything any more: a key has the BMC say more.
                Ok(None) => break,
                Err(_) => {
                    if line.input.try_send(ConsoleInput::Chars(b"y".to_vec())).is_err() {
                        break;
                    }
                }
            }
        }
        // Nobody hears more than was said, however often it was.
        assert!(heard <= said.load(Ordering::Relaxed), "{heard}");
        line.close().await;
    });
    assert!(datagrams < MOST_DATAGRAMS, "{datagrams}");
}
