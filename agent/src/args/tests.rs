use super::*;
use proptest::prelude::*;

const CA: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn line(extra: &str) -> String {
    format!(
        "initrd=ramdisk console=ttyS0 farrier.url=https://10.90.0.1:8443 farrier.ca={CA} \
         farrier.token=s3cret farrier.node=n17 {extra}\n"
    )
}

#[test]
fn reads_every_argument_of_a_boot_script() {
    let args = KernelArgs::parse(&line(
        "farrier.ip=10.90.0.17/24,10.90.0.1 farrier.time=1795000000 BOOTIF=01-52-54-00-AB-cd-0e",
    ))
    .unwrap();
    assert_eq!(args.url.to_string(), "https://10.90.0.1:8443/");
    assert_eq!(args.token.reveal(), "s3cret");
    assert_eq!(args.node, "n17");
    assert_eq!(args.time, Some(1_795_000_000));
    assert_eq!(args.boot_mac, Some([0x52, 0x54, 0, 0xab, 0xcd, 0x0e]));
    let address = args.address.unwrap();
    assert_eq!((address.ip.to_string(), address.prefix_len), ("10.90.0.17".into(), 24));
    assert_eq!(address.gateway.unwrap().to_string(), "10.90.0.1");
}

#[test]
fn gateway_may_be_empty_and_addresses_may_be_ipv6() {
    let args = KernelArgs::parse(&line("farrier.ip=fd00::17/64,")).unwrap();
    assert_eq!(args.address.unwrap().gateway, None);
}

#[test]
fn refuses_what_it_cannot_use() {
    for bad in [
        "farrier.ip=10.90.0.17",
        "farrier.ip=10.90.0.17/33,",
        "farrier.ip=10.90.0.17/24,fd00::1",
        "farrier.ip=0.0.0.0/24,",
        "farrier.time=12",
        "farrier.time=soon",
        "BOOTIF=01-52-54-00-ab-cd",
        "BOOTIF=02-52-54-00-ab-cd-0e",
    ] {
        assert!(KernelArgs::parse(&line(bad)).is_err(), "{bad}");
    }
    for url in ["http://10.90.0.1", "https://u@10.90.0.1", "https://10.90.0.1/x", "10.90.0.1", "https://"] {
        let text = line("").replace("https://10.90.0.1:8443", url);
        assert!(KernelArgs::parse(&text).is_err(), "{url}");
    }
}

#[test]
fn names_the_missing_argument() {
    let error = KernelArgs::parse("farrier.url=https://10.90.0.1:1").unwrap_err();
    assert_eq!(error, ArgsError::Missing { name: "farrier.ca" });
}

#[test]
fn the_first_of_two_equal_arguments_wins() {
    let args = KernelArgs::parse(&line("farrier.node=evil")).unwrap();
    assert!(!args.is_discovery());
    let stranger = line("").replace("=n17", "=discovered/52-54-00-00-00-01");
    assert!(KernelArgs::parse(&stranger).unwrap().is_discovery());
    assert_eq!(args.node, "n17");
}

#[test]
fn token_is_never_printed() {
    let args = KernelArgs::parse(&line("")).unwrap();
    assert!(!format!("{args:?}").contains("s3cret"));
    let long = line("").replace("s3cret", &"s3cret".repeat(200));
    assert!(!KernelArgs::parse(&long).unwrap_err().to_string().contains("s3cret"));
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,300}") {
        let _ = KernelArgs::parse(&text);
        let _ = KernelArgs::parse(&line(&text));
    }

    #[test]
    fn any_mac_survives(mac: [u8; 6]) {
        let dashed = mac.map(|b| format!("{b:02x}")).join("-");
        let args = KernelArgs::parse(&line(&format!("BOOTIF=01-{dashed}"))).unwrap();
        prop_assert_eq!(args.boot_mac, Some(mac));
    }

    #[test]
    fn any_ipv4_address_survives(ip in 1u32..0xe000_0000, prefix in 1u8..=32) {
        let ip = std::net::Ipv4Addr::from(ip);
        let args = KernelArgs::parse(&line(&format!("farrier.ip={ip}/{prefix},"))).unwrap();
        prop_assert_eq!(args.address.unwrap().ip, IpAddr::V4(ip));
    }
}
