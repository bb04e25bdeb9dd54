//! Seeds out of netboot's golden exchanges: what real firmware and real clients said and were told, read anew each time, so that
//! a new capture is a new seed.

use std::fs;
use std::path::Path;

/// Those for one target, in an order that is always the same; most targets have none.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rackd/netboot/tests/netboot/golden");
    let mut paths: Vec<_> =
        fs::read_dir(dir).expect("golden exchanges").map(|file| file.unwrap().path()).collect();
    paths.sort();
    let mut out: Vec<Vec<u8>> = Vec::new();
    for text in paths.iter().map(|path| fs::read_to_string(path).unwrap()) {
        let of = match target {
            "tftp" => transfers(&text),
            "http_head" => heads(&text),
            _ => datagrams(&text, target),
        };
        out.extend(of);
    }
    // Firmware repeats itself.
    out.sort();
    out.dedup();
    out
}

fn datagrams(text: &str, target: &str) -> Vec<Vec<u8>> {
    let kinds: &[&str] = match target {
        "dhcp" => &["dhcp <", "dhcp4011 <"],
        "dhcp_answer" => &["dhcp >", "dhcp4011 >"],
        "dhcp6" => &["dhcp6 <"],
        "foreign6" => &["dhcp6 >"],
        "boot_trace" => &["dhcp <", "dhcp >", "dhcp4011 <", "dhcp4011 >", "dhcp6 <", "dhcp6 >"],
        _ => &[],
    };
    let its = |line: &&str| kinds.iter().any(|kind| line.starts_with(kind));
    text.lines().filter(its).filter_map(|line| hex::decode(line.rsplit(' ').next()?).ok()).collect()
}

/// As the target reads them: how large the file is, the request, and the client's first messages.
fn transfers(text: &str) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words[..].first(), words.last().map(hex::decode)) {
            (Some(&"tftp"), Some(Ok(request))) => {
                let len = u8::try_from(request.len()).expect("a short request");
                out.push([&[0, 1, 0, len][..], &request].concat());
            }
            (Some(&"<"), Some(Ok(said))) if out.last().is_some_and(|seed| seed.len() < 256) => {
                let len = u8::try_from(said.len()).expect("a short message");
                let seed = out.last_mut().unwrap();
                seed.push(len);
                seed.extend(said);
            }
            _ => {}
        }
    }
    out
}

fn heads(text: &str) -> Vec<Vec<u8>> {
    let asked = text.split("http ").skip(1);
    let lines =
        asked.map(|part| part.lines().filter_map(|line| line.strip_prefix("  << ")).collect::<Vec<_>>());
    lines.map(|lines| (lines.join("\r\n") + "\r\n\r\n").into_bytes()).collect()
}
