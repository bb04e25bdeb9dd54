//! BMCs among those who ask for an address: by what they call themselves. A guess, and no proof: whoever acts on it asks
//! the address itself.

/// How a maker's BMCs introduce themselves. Empty: they say nothing of their own there.
struct Maker {
    name: &'static str,
    /// Beginnings of the vendor class (option 60), in any case of letters.
    classes: &'static [&'static str],
    /// Beginnings of the host name (option 12), in any case of letters; the rest is a serial number or a MAC address.
    hosts: &'static [&'static str],
}

/// What the BMCs of the field send by default, from their makers' manuals. Data: one more is a line.
const MAKERS: &[Maker] = &[
    Maker { name: "Dell iDRAC", classes: &["idrac"], hosts: &["idrac-", "cmc-"] },
    Maker { name: "HPE iLO", classes: &["cpqrib", "ilo"], hosts: &["ilo"] },
    Maker { name: "Lenovo XCC", classes: &["xcc", "imm2"], hosts: &["xcc-", "imm2-", "imm-"] },
    Maker { name: "Fujitsu iRMC", classes: &["irmc"], hosts: &["irmc"] },
    Maker { name: "NVIDIA BlueField", classes: &["nvidia/bf/bmc", "bf-bmc"], hosts: &["dpu-bmc"] },
    Maker { name: "Supermicro", classes: &["supermicro", "smc-bmc"], hosts: &["smc-bmc"] },
    Maker { name: "AMI MegaRAC", classes: &["megarac"], hosts: &["megarac"] },
    Maker { name: "OpenBMC", classes: &["openbmc"], hosts: &["openbmc", "obmc-"] },
    // What an administrator writes.
    Maker { name: "a BMC", classes: &["bmc", "ipmi"], hosts: &["bmc-", "ipmi-"] },
];

/// Whose BMC it calls itself; `None`: it does not say that it is one.
pub(super) fn maker(vendor_class: &[u8], host_name: &[u8]) -> Option<&'static str> {
    let begins = |text: &[u8], known: &[&str]| {
        known
            .iter()
            .any(|word| text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word.as_bytes())))
    };
    let of = |maker: &&Maker| begins(vendor_class, maker.classes) || begins(host_name, maker.hosts);
    MAKERS.iter().find(of).map(|maker| maker.name)
}

#[cfg(test)]
mod tests {
    use super::maker;

    #[test]
    fn bmcs_are_recognised_by_what_they_call_themselves() {
        let check = |class: &str, host: &str, expect| {
            assert_eq!(maker(class.as_bytes(), host.as_bytes()), expect, "{class:?} {host:?}");
        };
        check("iDRAC", "", Some("Dell iDRAC"));
        check("udhcp 1.24.2", "idrac-ABC1234", Some("Dell iDRAC"));
        check("CPQRIB3", "", Some("HPE iLO"));
        check("", "ILO2M293100R6", Some("HPE iLO"));
        check("", "XCC-7X06-J300A0BC", Some("Lenovo XCC"));
        check("", "bmc-17", Some("a BMC"));
        for (class, host) in
            [("", ""), ("PXEClient:Arch:00007", "web-1"), ("MSFT 5.0", "b"), ("udhcp", "drac")]
        {
            check(class, host, None);
        }
    }
}
