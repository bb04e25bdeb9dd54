//! The machine's own BMC, asked through the system interface: what it is called on the management network. Where there is none, the
//! firmware's table says where it serves Redfish.
use crate::hardware::HostInterface;
use farrier_proto::types::OwnBmc;
use ipmi_rs::app::{ChannelMediumType, GetChannelInfo};
use ipmi_rs::connection::{Channel, IpmiConnection};
use ipmi_rs::transport::{GetLanConfigParameters, LanConfigParameter};
use ipmi_rs::{File, Ipmi, IpmiError};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Of the drivers ipmi_si and ipmi_devintf.
const DEVICE: &str = "/dev/ipmi0";
/// KCS carries an answer in milliseconds; a BMC that is silent keeps no registration waiting.
const ANSWER: Duration = Duration::from_secs(1);
/// Channels that may be of a network (IPMI 2.0 §6.3).
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=0x0B;
/// 802.1q VLAN ID (IPMI 2.0 table 23-4): enabled, and the id in twelve bits.
const VLAN: LanConfigParameter = LanConfigParameter::Other(20);
const VLAN_ENABLED: u16 = 0x8000;

/// Asked until it has an address, which it does not lose again during a boot.
#[derive(Debug, Default)]
pub(super) struct OwnBmcs(Mutex<Option<OwnBmc>>);

impl OwnBmcs {
    /// Says what there is of it.
    pub(super) fn look(&self, into: &mut Option<OwnBmc>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let asked = ask_device();
            // A table is read again: the BMC itself may answer the next time.
            let is_its_word = asked.as_ref().is_some_and(|bmc| !bmc.ip_address.is_empty());
            let seen = seen(asked, HostInterface::read(Path::new("/")));
            if is_its_word {
                known.clone_from(&seen);
            }
            *into = seen;
        } else {
            into.clone_from(&known);
        }
    }
}

/// What both say. A BMC that answers knows its address, or that it has none yet; of another, that of its Redfish service will do
/// where others can have a way to it (DSP0270 §8.2).
fn seen(asked: Option<OwnBmc>, table: Option<HostInterface>) -> Option<OwnBmc> {
    let asked = asked.filter(|bmc| !bmc.ip_address.is_empty() || !bmc.mac_address.is_empty());
    let Some(table) = table else { return asked };
    let redfish_host_interface = table.service();
    Some(match (asked, table.address()) {
        (Some(asked), _) => OwnBmc { redfish_host_interface, ..asked },
        (None, Some(ip)) => OwnBmc {
            ip_address: ip.to_string(),
            vlan: table.vlan(),
            redfish_host_interface,
            ..OwnBmc::default()
        },
        (None, None) => OwnBmc { redfish_host_interface, ..OwnBmc::default() },
    })
}

fn ask_device() -> Option<OwnBmc> {
    // No BMC, or none that the kernel has a driver for.
    let device = File::new(DEVICE, ANSWER).ok()?;
    match ask(&mut Ipmi::new(device)) {
        Ok(bmc) => bmc,
        Err(error) => {
            tracing::warn!(%error, device = DEVICE, "the BMC does not say its address");
            None
        }
    }
}

/// The first channel of a network that has an address, or else the first that there is.
fn ask<C: IpmiConnection>(ipmi: &mut Ipmi<C>) -> Result<Option<OwnBmc>, C::Error> {
    let mut first = None;
    for channel in CHANNELS.filter_map(Channel::new) {
        let info = heard(ipmi.send_recv(GetChannelInfo::new(channel)))?;
        if info.is_none_or(|info| info.medium_type != ChannelMediumType::Lan802_3) {
            continue;
        }
        let bmc = lan(ipmi, channel)?;
        if !bmc.ip_address.is_empty() {
            return Ok(Some(bmc));
        }
        first.get_or_insert(bmc);
    }
    Ok(first)
}

fn lan<C: IpmiConnection>(ipmi: &mut Ipmi<C>, channel: Channel) -> Result<OwnBmc, C::Error> {
    let mut parameter = |which| -> Result<Vec<u8>, C::Error> {
        let answer = heard(ipmi.send_recv(GetLanConfigParameters::new(channel, which)))?;
        Ok(answer.map(|answer| answer.data).unwrap_or_default())
    };
    let mac = parameter(LanConfigParameter::MacAddress)?;
    let ip = parameter(LanConfigParameter::IpAddress)?;
    let vlan = parameter(VLAN)?;
    let mac = mac.first_chunk::<6>().filter(|mac| mac.iter().any(|byte| *byte != 0));
    let ip = ip.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip)).filter(|ip| !ip.is_unspecified());
    let vlan = vlan.first_chunk::<2>().map(|vlan| u16::from_le_bytes(*vlan));
    Ok(OwnBmc {
        mac_address: mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")).unwrap_or_default(),
        ip_address: ip.map(|ip| ip.to_string()).unwrap_or_default(),
        vlan: vlan.filter(|vlan| vlan & VLAN_ENABLED != 0).map_or(0, |vlan| i32::from(vlan & 0x0FFF)),
        redfish_host_interface: String::new(),
    })
}

/// A BMC that refuses, or that says what it should not, says nothing; without an answer it is not asked further.
fn heard<T, C, E>(answer: Result<T, IpmiError<C, E>>) -> Result<Option<T>, C> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(IpmiError::Connection(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipmi_rs::connection::{Message, Request, Response};
    use std::collections::HashMap;

    /// Answers by command and data, as they are written in the specification; everything else is refused.
    struct Board(HashMap<(u8, Vec<u8>), Vec<u8>>);

    impl IpmiConnection for Board {
        type SendError = std::io::Error;
        type RecvError = std::io::Error;
        type Error = std::io::Error;

        fn send(&mut self, _: &mut Request) -> std::io::Result<()> {
            Err(std::io::ErrorKind::Unsupported.into())
        }

        fn recv(&mut self) -> std::io::Result<Response> {
            Err(std::io::ErrorKind::Unsupported.into())
        }

        fn send_recv(&mut self, request: &mut Request) -> std::io::Result<Response> {
            let key = (request.cmd(), request.data().to_vec());
            let silent = self.0.is_empty();
            let data = self.0.get(&key).cloned().unwrap_or_else(|| vec![0xC1]);
            let answer = Message::new_response(request.netfn(), request.cmd(), data);
            let answer = (!silent).then(|| Response::new(answer, 0)).flatten();
            answer.ok_or_else(|| std::io::ErrorKind::TimedOut.into())
        }
    }

    fn board(answers: &[(u8, &str, &str)]) -> Ipmi<Board> {
        let bytes = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
        let answers = answers.iter().map(|(cmd, ask, answer)| ((*cmd, bytes(ask)), bytes(answer)));
        Ipmi::new(Board(answers.collect()))
    }

    /// Get Channel Info: one of IPMB, a serial one, two of a network (IPMI 2.0 tables 22-29, 6-3).
    const NETWORKS: [(u8, &str, &str); 4] = [
        (0x42, "01", "00 01 01 01 00 f21b00 0000"),
        (0x42, "02", "00 02 05 02 80 f21b00 0000"),
        (0x42, "03", "00 03 04 01 80 f21b00 0000"),
        (0x42, "08", "00 08 04 01 80 f21b00 0000"),
    ];

    fn with(more: &[(u8, &str, &str)]) -> Option<OwnBmc> {
        ask(&mut board(&[&NETWORKS, more].concat())).unwrap()
    }

    #[test]
    fn the_network_that_has_an_address_is_told() {
        let seen = with(&[
            (2, "03 05 00 00", "00 11 525400000099"),
            (2, "03 03 00 00", "00 11 00000000"),
            (2, "08 05 00 00", "00 11 5254000000a9"),
            (2, "08 03 00 00", "00 11 0a000917"),
            (2, "08 14 00 00", "00 11 6780"),
        ]);
        let expect = OwnBmc {
            mac_address: "52:54:00:00:00:a9".into(),
            ip_address: "10.0.9.23".into(),
            vlan: 0x067,
            redfish_host_interface: String::new(),
        };
        assert_eq!(seen, Some(expect));
    }

    /// A table as firmware leaves it for the kernel: type 42 alone, of a PCI device, the service at 10.0.9.23 in VLAN 103.
    #[test]
    fn without_a_system_interface_the_firmwares_table_says_where_it_is() {
        let (zero, mask) = ([0_u8; 16], [&[255_u8; 3][..], &[0; 13]].concat());
        let host = [&[10, 0, 9, 22][..], &[0; 12]].concat();
        let service = [&[10, 0, 9, 23][..], &[0; 12]].concat();
        let record =
            [&zero[..], &[1, 1], &host, &mask, &[1, 1], &service, &mask, &[0xBB, 1], &[103, 0, 0, 0], &[0]]
                .concat();
        let data = [5, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        let area = [&[0x40, 10][..], &data, &[1, 4, u8::try_from(record.len()).unwrap()], &record].concat();
        let length = u8::try_from(4 + area.len()).unwrap();
        let table = [&[42, length, 1, 0][..], &area, &[0, 0], &[127, 4, 2, 0, 0, 0]].concat();
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sys/firmware/dmi/tables");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("DMI"), table).unwrap();
        let table = || HostInterface::read(root.path());
        let alone = seen(None, table()).unwrap();
        assert_eq!((alone.ip_address.as_str(), alone.vlan), ("10.0.9.23", 103));
        assert_eq!(alone.redfish_host_interface, "10.0.9.23:443");
        // One that answers is asked no second time: it has no address yet.
        let asked = OwnBmc { mac_address: "52:54:00:00:00:a9".into(), ..OwnBmc::default() };
        let both = seen(Some(asked.clone()), table()).unwrap();
        assert_eq!((both.ip_address.as_str(), both.vlan, &both.mac_address), ("", 0, &asked.mac_address));
        assert_eq!(both.redfish_host_interface, "10.0.9.23:443");
        // One that says nothing of itself is as good as none.
        assert_eq!(seen(Some(OwnBmc::default()), table()).unwrap().ip_address, "10.0.9.23");
        assert_eq!((seen(Some(asked.clone()), None), seen(None, None)), (Some(asked), None));
    }

    #[test]
    fn what_is_refused_or_cut_is_not_told() {
        let seen =
            with(&[(2, "03 05 00 00", "00 11 525400000099"), (2, "03 03 00 00", "00 11 0a00")]).unwrap();
        assert_eq!((seen.mac_address.as_str(), seen.ip_address.as_str()), ("52:54:00:00:00:99", ""));
        let seen = with(&[(2, "03 14 00 00", "00 11 6700"), (2, "03 05 00 00", "00")]).unwrap();
        assert_eq!((seen.vlan, seen.mac_address.as_str()), (0, ""), "the VLAN is off");
        assert_eq!(ask(&mut board(&NETWORKS[..2])).unwrap(), None, "no network");
        assert_eq!(ask(&mut board(&[])).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }
}
