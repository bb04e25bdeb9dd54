//! What real firmware asks, as QEMU recorded it beside dnsmasq: a DHCPDISCOVER each.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::{BootFiles, Client, Request, SignedChain, decide};
use crate::{Boot, BootEntry, BootTable, Dhcp, EventKind, KernelArgs, MacAddr, Ramdisk, Segment};

#[test]
fn recorded_firmware_is_read_as_it_is_and_answered_with_its_file() {
    let mac = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
    let boot = Boot::Script(
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "i".parse().unwrap(), args: KernelArgs::new() }
            .into(),
    );
    let segment = Segment::new("lab", "br0", Ipv4Addr::new(10, 77, 0, 1), 24);
    let mut table = BootTable::new();
    let ip = Ipv4Addr::new(10, 77, 0, 50);
    let (node, network) = ("n".to_owned(), "lab".to_owned());
    table.publish(BootEntry { mac, node, hostname: String::new(), ip, network, boot });
    let script = "http://10.77.0.1:80/boot/52-54-00-77-00-01.ipxe";
    for (hex, client, architecture, file) in [
        (IPXE_BIOS, Client::Ipxe, 0, script),
        (OVMF_PXE, Client::Pxe, 7, "snponly.efi"),
        (OVMF_HTTP, Client::Http, 16, "http://10.77.0.1:80/firmware/snponly.efi"),
    ] {
        let request = Request::parse(&bytes(hex)).unwrap();
        assert_eq!((request.kind, request.mac), (MessageType::Discover, mac));
        assert_eq!((request.client, request.architecture), (client, Some(architecture)));
        for (dhcp, address) in [(Dhcp::Ours, ip), (Dhcp::Proxy, Ipv4Addr::UNSPECIFIED)] {
            let segment = Segment { dhcp, ..segment.clone() };
            let decision = decide(&segment, &table, &BootFiles::new(80), &request, None);
            let message = decision.reply.unwrap().message;
            assert_eq!(message.yiaddr(), address);
            assert_eq!(message.fname_str().unwrap().unwrap().trim_end_matches('\0'), file);
        }
    }
}

/// The same machines, told to boot signed programs only.
#[test]
fn locked_firmware_is_sent_shim_by_pxe_and_told_why_not_by_http() {
    let mac = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
    let boot = Boot::Signed(
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "i".parse().unwrap(), args: KernelArgs::new() }
            .into(),
    );
    let segment = Segment::new("lab", "br0", Ipv4Addr::new(10, 77, 0, 1), 24);
    let mut table = BootTable::new();
    let ip = Ipv4Addr::new(10, 77, 0, 50);
    table.publish(BootEntry {
        mac,
        node: "n".into(),
        hostname: String::new(),
        ip,
        network: "lab".into(),
        boot,
    });
    let mut files = BootFiles::new(80);
    let answer = |files: &BootFiles, hex| {
        let decision = decide(&segment, &table, files, &Request::parse(&bytes(hex)).unwrap(), None);
        let why = decision
            .events
            .into_iter()
            .find(|(kind, _)| matches!(kind, EventKind::UnknownArchitecture { .. }));
        let message = decision.reply.unwrap().message;
        assert_eq!(message.yiaddr(), ip);
        let file = message.fname_str().transpose().unwrap().unwrap_or_default();
        (file.trim_end_matches('\0').to_owned(), why.map(|(_, why)| why).unwrap_or_default())
    };
    let none = String::new;
    assert_eq!(answer(&files, OVMF_PXE), (none(), "no signed boot file for this firmware".into()));
    files.signed.push(SignedChain::X64);
    assert_eq!(answer(&files, OVMF_PXE), ("shimx64.efi".into(), none()));
    let script = "http://10.77.0.1:80/boot/52-54-00-77-00-01.ipxe";
    assert_eq!(answer(&files, IPXE_BIOS), (script.into(), none()));
    let (file, why) = answer(&files, OVMF_HTTP);
    assert!(file.is_empty() && why.contains("let it boot by PXE"), "{file} {why}");
}

/// Where there is no iPXE for a firmware, what starts a kernel on a locked one starts it there, too.
#[test]
fn firmware_without_an_ipxe_is_sent_shim() {
    let mac = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
    let segment = Segment::new("lab", "br0", Ipv4Addr::new(10, 77, 0, 1), 24);
    let (ip, names) = (Ipv4Addr::new(10, 77, 0, 50), || ("k".parse().unwrap(), "i".parse().unwrap()));
    let mut files = BootFiles::new(80);
    files.keep(|file| file != "snponly.efi");
    let answer = |files: &BootFiles, boot: Boot, hex| {
        let mut table = BootTable::new();
        let (node, hostname, network) = ("n".into(), String::new(), "lab".into());
        table.publish(BootEntry { mac, node, hostname, ip, network, boot });
        let request = Request::parse(&bytes(hex)).unwrap();
        let message = decide(&segment, &table, files, &request, None).reply.unwrap().message;
        let file = message.fname_str().transpose().unwrap().unwrap_or_default();
        file.trim_end_matches('\0').to_owned()
    };
    let ramdisk = || {
        let (kernel, initrd) = names();
        Boot::Script(Ramdisk { kernel, initrd, args: KernelArgs::new() }.into())
    };
    assert_eq!(answer(&files, ramdisk(), OVMF_PXE), "", "there is neither");
    files.signed.push(SignedChain::X64);
    assert_eq!(answer(&files, ramdisk(), OVMF_PXE), "shimx64.efi");
    // GRUB goes on by TFTP alone, and has no iSCSI.
    assert_eq!(answer(&files, ramdisk(), OVMF_HTTP), "");
    assert_eq!(answer(&files, Boot::Wait, OVMF_PXE), "");
    assert_eq!(
        answer(&BootFiles { signed: vec![SignedChain::X64], ..BootFiles::new(80) }, ramdisk(), OVMF_PXE),
        "snponly.efi"
    );
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// iPXE of QEMU in a BIOS machine.
const IPXE_BIOS: &str = "
01010600ff6c873d00040000000000000000000000000000000000005254007700010000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000063825363
350101390205c05d0200005e030102013c20505845436c69656e743a417263683a30303030303a554e44493a30303230
30314d04695058453717010306070c0f111a2b3c4243778081828384858687afcbaf30b105011af41000eb0301000017
01012201011301011101012701011901012901011001022101011501011801011201013d070152540077000161110000
000000000000000000000000000000ff";

/// OVMF by PXE.
const OVMF_PXE: &str = "
010106003b06d2ff00008000000000000000000000000000000000005254007700010000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000063825363
350101390205c037230102030405060c0d0f111216171c28292a2b3233363a3b3c424361808182838485868761110000
0000000000000000000000000000005e030103005d0200073c20505845436c69656e743a417263683a30303030373a55
4e44493a303033303030ff";

/// OVMF's HTTP boot.
const OVMF_HTTP: &str = "
0101060025bb25e300008000000000000000000000000000000000005254007700010000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000000000000000000000000063825363
350101390205c0371b0102030405060c0d0f111216171c28292a2b3233363a3b3ceb4361611100000000000000000000
000000000000005e030103005d0200103c2148545450436c69656e743a417263683a30303031363a554e44493a303033
303030ff";
