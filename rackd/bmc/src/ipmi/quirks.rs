//! Where products differ from the specification, as data: a row a product, chosen by what Get Device ID says (IPMI 2.0 §20.1).
//!
//! What every BMC is sent needs no row: UEFI is a bit of the boot flags that are written as bytes, never through a client's option
//! that some versions lose (ipmitool issue 163), and a BMC that refuses a boot option parameter which it may lack is believed.

use std::ops::RangeInclusive;
use std::time::Duration;

use farrier_ipmi::command::BootDeviceSelector;

/// What one product needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// The selector that makes UEFI firmware boot the disk.
    pub uefi_disk: BootDeviceSelector,
    /// It has boot option parameter 3, which keeps the flags for longer than 60 s (§28.12). Without it they must be used in time.
    pub keeps_flags: bool,
    /// Its machines take so long from a soft power off until they are off; zero: no longer than others.
    pub soft_off: Duration,
    /// For so long after a change that it acknowledged, Get Chassis Status may tell the state before it; zero: it does not.
    pub power_lag: Duration,
}

/// Products and what they need.
struct Row {
    /// IANA's number, 20 bits.
    manufacturer: u32,
    products: RangeInclusive<u16>,
    quirks: Quirks,
}

const ANY: RangeInclusive<u16> = 0..=u16::MAX;

impl Quirks {
    /// By the specification.
    pub const NONE: Self = Self {
        uefi_disk: BootDeviceSelector::DISK,
        keeps_flags: true,
        soft_off: Duration::ZERO,
        power_lag: Duration::ZERO,
    };

    /// UEFI's "disk" is "remote disk" (24h): Ironic's ipmitool driver, OpenStack story 2008241.
    pub const SUPERMICRO: Self = Self { uefi_disk: BootDeviceSelector::REMOTE_DISK, ..Self::NONE };

    /// - phosphor-host-ipmid has no parameter 3
    /// - soft off: its own timer gives the host five minutes (openbmc/openbmc issues 1823 and 1921; 45 in some releases, 2162)
    /// - lag: power commands are answered before systemd has carried them out (chaos/powerman pull request 33); on and off take up to
    ///   a minute on machines with much in them (open-power/op-test pull request 588 saw more)
    pub const OPENBMC: Self = Self {
        keeps_flags: false,
        soft_off: Duration::from_secs(300),
        power_lag: Duration::from_secs(60),
        ..Self::NONE
    };

    /// Of a product, by Get Device ID: the first row that it is in.
    #[must_use]
    pub fn of(manufacturer_id: u32, product_id: u16) -> Self {
        let manufacturer = manufacturer_id & 0xF_FFFF;
        let is_it = |row: &&Row| row.manufacturer == manufacturer && row.products.contains(&product_id);
        TABLE.iter().find(is_it).map_or(Self::NONE, |row| row.quirks)
    }
}

const TABLE: &[Row] = &[
    // Super Micro Computer has two numbers.
    Row { manufacturer: 10_876, products: ANY, quirks: Quirks::SUPERMICRO },
    Row { manufacturer: 47_488, products: ANY, quirks: Quirks::SUPERMICRO },
    // The OpenBMC project's own number.
    Row { manufacturer: 49_871, products: ANY, quirks: Quirks::OPENBMC },
    // The OpenPOWER Foundation's machines with OpenBMC: AC922 (openbmc/openbmc issue 2947) and IC922 (xcat2/xcat-core issue 6541).
    Row { manufacturer: 42_817, products: 0x424F..=0x424F, quirks: Quirks::OPENBMC },
    Row { manufacturer: 42_817, products: 1..=1, quirks: Quirks::OPENBMC },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_chosen_by_its_manufacturer_and_its_number() {
        for (manufacturer, product, quirks) in [
            (10_876, 0x0A1B, Quirks::SUPERMICRO),
            // The four bits above the number's twenty are reserved.
            (47_488 | 0xF0_0000, 1, Quirks::SUPERMICRO),
            (49_871, 0, Quirks::OPENBMC),
            (49_871, u16::MAX, Quirks::OPENBMC),
            (42_817, 0x424F, Quirks::OPENBMC),
            (42_817, 1, Quirks::OPENBMC),
            (42_817, 0, Quirks::NONE),
            (42_817, 2, Quirks::NONE),
            (42_817, 0x424E, Quirks::NONE),
            (42_817, 0x4250, Quirks::NONE),
            (674, 256, Quirks::NONE),
            (0xF_FFFF, 0, Quirks::NONE),
        ] {
            assert_eq!(Quirks::of(manufacturer, product), quirks, "{manufacturer} {product:#06x}");
        }
    }

    /// A row that an earlier one hides would do nothing.
    #[test]
    fn no_row_is_in_anothers_shadow() {
        for (at, row) in TABLE.iter().enumerate() {
            let before = TABLE.iter().take(at).filter(|other| other.manufacturer == row.manufacturer);
            for other in before {
                assert!(
                    other.products.end() < row.products.start()
                        || row.products.end() < other.products.start()
                );
            }
        }
    }
}
