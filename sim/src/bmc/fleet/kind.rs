//! Whose BMC a simulated one pretends to be, over both protocols: a row each.

use crate::bmc::redfish::Personality;

/// What a vendor's BMC is known by, and has otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The word for it on the command line.
    pub word: &'static str,
    /// Its Redfish.
    pub redfish: Personality,
    /// In Get Device ID: the IANA number of who made it.
    pub manufacturer_id: u32,
    /// In FRU and Redfish: who made the machine, and what it is.
    pub board: (&'static str, &'static str),
    /// Boot option parameters 3 and 4 exist over IPMI.
    pub boot_parameters_3_and_4: bool,
    /// Bytes of a sensor record at once over IPMI.
    pub largest_sdr_part: u8,
    /// Redfish tells sensors in a collection (2020 and later), not in Thermal and Power.
    pub sensor_collection: bool,
    /// Redfish tells reset types by an ActionInfo.
    pub action_info: bool,
}

/// Nobody's in particular.
const PLAIN: Kind = Kind {
    word: "plain",
    redfish: Personality::Plain,
    manufacturer_id: 0xF_FFFF,
    board: ("Farrier", "Simulated Server"),
    boot_parameters_3_and_4: true,
    largest_sdr_part: 255,
    sensor_collection: false,
    action_info: false,
};

/// All there are.
pub const KINDS: &[Kind] = &[
    PLAIN,
    Kind {
        word: "ilo",
        redfish: Personality::Ilo,
        manufacturer_id: 47_196,
        board: ("HPE", "ProLiant DL360 Gen10"),
        ..PLAIN
    },
    Kind {
        word: "idrac",
        redfish: Personality::Idrac,
        manufacturer_id: 674,
        board: ("Dell Inc.", "PowerEdge R640"),
        ..PLAIN
    },
    // Asks for its sensor records in small pieces, and tells reset types elsewhere.
    Kind {
        word: "supermicro",
        manufacturer_id: 10_876,
        board: ("Supermicro", "SYS-1029U-TR4"),
        largest_sdr_part: 32,
        action_info: true,
        ..PLAIN
    },
    // Lacks a boot option parameter, and speaks the later Redfish.
    Kind {
        word: "openbmc",
        manufacturer_id: 49_871,
        board: ("OpenBMC", "Reference"),
        boot_parameters_3_and_4: false,
        sensor_collection: true,
        action_info: true,
        ..PLAIN
    },
];

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let words = || KINDS.iter().map(|kind| kind.word).collect::<Vec<_>>().join(", ");
        let found = KINDS.iter().find(|kind| kind.word == word).copied();
        found.ok_or_else(|| format!("{word:?} is no personality; expected one of {}", words()))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word)
    }
}
