//! The BMC's LAN channel (IPMI 2.0 §23.2, Table 23-4): the one that it is asked through.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use ipmi_rs_core::connection::Channel;
use ipmi_rs_core::transport::{GetLanConfigParameters, LanConfigParameter};

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::{AddressSource, BmcError, BmcNetwork, Deadline, NetworkInterface, ReadNetwork};

#[async_trait]
impl ReadNetwork for IpmiBmc {
    async fn network(&self, deadline: Deadline) -> Result<BmcNetwork, BmcError> {
        self.read(&self.kept.reads.network, deadline, |link, call| Box::pin(link.network(call))).await
    }
}

/// One parameter: its name, its number, and what it says.
struct Parameter {
    name: &'static str,
    selector: LanConfigParameter,
    /// `None`: it cannot be read.
    read: fn(&mut NetworkInterface, &[u8]) -> Option<()>,
}

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "address",
        selector: LanConfigParameter::IpAddress,
        read: |seen, data| {
            seen.address = ipv4(data)?;
            Some(())
        },
    },
    Parameter {
        name: "address source",
        selector: LanConfigParameter::IpAddressSource,
        read: |seen, data| {
            seen.source = match data.first()? & 0x0F {
                1 => Some(AddressSource::Static),
                2 => Some(AddressSource::Dhcp),
                3 => Some(AddressSource::Bios),
                4 => Some(AddressSource::Other),
                // Unspecified, or reserved.
                _ => None,
            };
            Some(())
        },
    },
    Parameter {
        name: "MAC address",
        selector: LanConfigParameter::MacAddress,
        read: |seen, data| {
            seen.mac = Some(*data.first_chunk()?);
            Some(())
        },
    },
    Parameter {
        name: "subnet mask",
        selector: LanConfigParameter::SubnetMask,
        read: |seen, data| {
            seen.subnet_mask = ipv4(data)?;
            Some(())
        },
    },
    Parameter {
        name: "gateway",
        selector: LanConfigParameter::DefaultGatewayAddress,
        read: |seen, data| {
            seen.gateway = ipv4(data)?;
            Some(())
        },
    },
    Parameter {
        name: "VLAN",
        selector: LanConfigParameter::Other(20),
        read: |seen, data| {
            let [low, high] = *data.first_chunk()?;
            // Bit 15: it is in force; 12 bits of a number.
            seen.vlan = (high & 0x80 != 0).then(|| u16::from_le_bytes([low, high & 0x0F]));
            Some(())
        },
    },
];

impl Link {
    pub(super) async fn network(&mut self, call: &mut Call) -> Result<BmcNetwork, BmcError> {
        let mut network = BmcNetwork::default();
        let mut seen = NetworkInterface { name: super::lan::NAME.to_owned(), ..NetworkInterface::default() };
        for Parameter { name, selector, read } in PARAMETERS {
            let command = GetLanConfigParameters::new(Channel::Current, *selector);
            match self.command(call, command).await {
                Ok(answer) if read(&mut seen, &answer.data).is_some() => {}
                Ok(answer) => network.warnings.push(format!("{name}: saw {} bytes only", answer.data.len())),
                // Many are optional.
                Err(error @ BmcError::Refused { .. }) => network.warnings.push(format!("{name}: {error}")),
                Err(error) => return Err(error),
            }
        }
        network.interfaces.push(seen);
        Ok(network)
    }
}

/// Zeros are none.
fn ipv4(data: &[u8]) -> Option<Option<Ipv4Addr>> {
    let bytes: [u8; 4] = *data.first_chunk()?;
    Some(Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_the_table_has_them_and_short_ones_are_not() {
        let read = |number: usize, data: &[u8]| {
            let mut seen = NetworkInterface::default();
            (PARAMETERS[number].read)(&mut seen, data).map(|()| seen)
        };
        assert_eq!(read(0, &[192, 0, 2, 7]).unwrap().address, Some([192, 0, 2, 7].into()));
        assert_eq!(read(4, &[0; 4]).unwrap().gateway, None);
        assert_eq!(read(1, &[0x12]).unwrap().source, Some(AddressSource::Dhcp));
        assert_eq!(read(5, &[0x64, 0x80]).unwrap().vlan, Some(100));
        assert_eq!(read(5, &[0x64, 0x00]).unwrap().vlan, None);
        for (number, _) in PARAMETERS.iter().enumerate() {
            assert!(read(number, &[]).is_none());
        }
    }
}
