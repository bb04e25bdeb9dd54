//! Rubbish on every port, and machines that never finish.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
};

use farrier_netboot::{Boot, Config, EventKind};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, MAC, Running, SERVER_IP, noise, segment, table, text};

#[test]
fn a_storm_of_rubbish_leaves_dhcp_and_tftp_answering() {
    let cable = Cable::addressed();
    let mut config = Config::new(HTTP_PORT);
    config.files.insert("f".into(), noise(5000).into());
    let mut server = Running::start(&cable.server, config, table(segment(), Boot::None));
    cable.client.inside(|| {
        let socket = UdpSocket::bind((CLIENT_IP, 0)).unwrap();
        let rubbish = noise(1 << 16);
        // Real beginnings with rubbish after them get further than rubbish alone.
        let mut discover = vec![0; 240];
        discover[..3].copy_from_slice(&[1, 1, 6]);
        discover[28..34].copy_from_slice(&MAC.0);
        discover[236..].copy_from_slice(&[99, 130, 83, 99]);
        for n in 0..20_000usize {
            let bytes = &rubbish[n * 3 % 60_000..][..n % 700];
            let (prefix, port): (&[u8], u16) = match n % 4 {
                0 => (&[], 67),
                1 => (&discover, 67),
                2 => (&[], 69),
                _ => (&[0, 1], 69),
            };
            let _ = socket.send_to(&[prefix, bytes].concat(), (SERVER_IP, port));
        }
    });
    let url = format!("tftp://{SERVER_IP}/f");
    let output = cable.client.client(20, "curl", "curl", &["-sS", &url]);
    assert!(output.status.success() && output.stdout == noise(5000), "{}", text(&output));
    let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "c0", "-s", "/bin/true"];
    let output = cable.client.client(20, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{}", text(&output));
    server.wait(5, |kind| *kind == EventKind::Ack);
    // Of all that rubbish one packet is in the machine's trace.
    let malformed =
        server.netboot.trace(MAC).into_iter().filter(|e| matches!(e.kind, EventKind::Malformed { .. }));
    let malformed: Vec<_> = malformed.map(|event| (event.node.clone(), event.detail.clone())).collect();
    let [(Some(node), detail)] = &malformed[..] else { panic!("{malformed:?}") };
    assert!(node == "node-1" && detail.contains("expected") && detail.contains("bytes"), "{detail}");
}

#[test]
fn requests_for_the_same_file_from_one_port_are_one_transfer() {
    let cable = Cable::addressed();
    let mut config = Config::new(HTTP_PORT);
    config.files.insert("f".into(), noise(5000).into());
    let _server = Running::start(&cable.server, config, table(segment(), Boot::None));
    cable.client.inside(|| {
        let request = b"\0\x01f\0octet\0";
        let sockets: Vec<_> = (0..9)
            .map(|_| {
                let socket = UdpSocket::bind((CLIENT_IP, 0)).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                for _ in 0..3 {
                    socket.send_to(request, (SERVER_IP, 69)).unwrap();
                }
                let mut buffer = [0; 600];
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                (socket, buffer[..len].to_vec(), from)
            })
            .collect();
        let data = sockets.iter().filter(|(_, answer, _)| answer.starts_with(&[0, 3, 0, 1])).count();
        assert_eq!(data, 9, "an address may stand for many while there is room");
        // The first is still one transfer: its second block comes from the port its first block came from.
        let (socket, _, from) = &sockets[0];
        socket.send_to(&[0, 4, 0, 1], from).unwrap();
        let mut buffer = [0; 600];
        let (_, second) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..4], second), (&[0, 3, 0, 2][..], *from));
    });
}

/// Firmware that asks for the size first, leaves with ERROR 8 when it has it, and asks for the file from the port it has: there
/// is no transfer in its way. So it is where it takes offence at an option and asks again as it did.
#[test]
fn firmware_that_answers_an_oack_with_error_8_and_asks_again_from_its_port_is_served() {
    let cable = Cable::addressed();
    for single in [false, true] {
        let mut config = Config::new(HTTP_PORT);
        config.tftp_single_port = single;
        config.files.insert("f".into(), noise(5000).into());
        let server = Running::start(&cable.server, config, table(segment(), Boot::None));
        cable.client.inside(|| {
            let socket = UdpSocket::bind((CLIENT_IP, 2071)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
            let mut buffer = [0; 1600];
            // It asks until it is answered with this, as firmware does; what is late of before goes by.
            let mut asks = |request: &[u8], begins: &[u8]| {
                let begun = std::time::Instant::now();
                loop {
                    assert!(begun.elapsed().as_secs() < 30, "{:?}", server.kinds());
                    socket.send_to(request, (SERVER_IP, 69)).unwrap();
                    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                        if buffer[..len].starts_with(begins) {
                            return from;
                        }
                    }
                }
            };
            let probe = b"\0\x01f\0octet\0tsize\x000\0blksize\x001456\0";
            let sized = b"\0\x06tsize\x005000\0blksize\x001456\0";
            for message in ["User aborted the transfer", "", "tsize?"] {
                let from = asks(probe, sized);
                let error = [b"\0\x05\0\x08", message.as_bytes(), b"\0"].concat();
                socket.send_to(&error, from).unwrap();
                let from = asks(b"\0\x01f\0octet\0blksize\x001456\0", b"\0\x06blksize\x001456\0");
                socket.send_to(&[b"\0\x05\0\x08", &b"blksize?\0"[..]].concat(), from).unwrap();
                let from = asks(b"\0\x01f\0octet\0", &[&[0, 3, 0, 1][..], &noise(5000)[..512]].concat());
                socket.send_to(&[b"\0\x05\0\0", &b"reset\0"[..]].concat(), from).unwrap();
            }
        });
    }
}

/// A ROM with one port for all it fetches, which is reset in the middle.
#[test]
fn a_port_that_asks_for_another_file_gets_it_at_once() {
    let cable = Cable::addressed();
    let mut config = Config::new(HTTP_PORT);
    for name in ["first", "second"] {
        config.files.insert(name.into(), [name.as_bytes(), &noise(5000)].concat().into());
    }
    let mut server = Running::start(&cable.server, config, table(segment(), Boot::None));
    cable.client.inside(|| {
        let socket = UdpSocket::bind((CLIENT_IP, 2070)).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 600];
        let mut begins = |name: &str, acked: bool| {
            socket.send_to(&[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat(), (SERVER_IP, 69)).unwrap();
            // Of the transfer before, a block may be on its way.
            loop {
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                if buffer[..len].starts_with(&[&[0, 3, 0, 1], name.as_bytes()].concat()) {
                    if acked {
                        socket.send_to(&[0, 4, 0, 1], from).unwrap();
                    }
                    return;
                }
            }
        };
        begins("first", true);
        begins("second", false);
        begins("first", true);
    });
    let broke = server.wait(5, |kind| matches!(kind, EventKind::TftpFailed { .. }));
    assert!(broke.detail.contains("asked anew from the same port"), "{broke:?}");
}

#[test]
fn a_client_that_sends_no_request_is_cut_off() {
    let cable = Cable::addressed();
    let _server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    cable.client.inside(|| {
        let mut stream = TcpStream::connect((SERVER_IP, HTTP_PORT)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /artifacts/x HTTP/1.1\r\nHost: x\r\nX-").unwrap();
        let mut rest = Vec::new();
        // The end of the stream, or a reset: not a time-out of ours.
        let ended = stream.read_to_end(&mut rest);
        let timed_out = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "the server kept the connection");
    });
}
