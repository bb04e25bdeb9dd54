//! Ways in which a BMC misbehaves, set while it runs.

use std::num::NonZeroU32;
use std::time::Duration;

use farrier_ipmi::command::ChassisStatus;

/// The default is a healthy BMC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every nth datagram is lost, in either direction.
    pub drop_every: Option<NonZeroU32>,
    /// Answers are sent so much later.
    pub delay: Duration,
    /// Commands that are refused.
    pub refuse: Vec<Refusal>,
    /// The BMC is dead: nothing is received, nothing sent.
    pub silent: bool,
    /// Commands are carried out but their answers are lost.
    pub mute: bool,
    /// Whoever proposes suite 17 gets no answer, as from BMCs that ignore what they do not know.
    pub deaf_to_sha256: bool,
    /// Every answer is sent as bytes that are no RMCP.
    pub garbled: bool,
    /// Commands, by network function and number, that are carried out and not answered.
    pub unanswered: Vec<(u8, u8)>,
    /// Commands, by network function and number, that do not arrive.
    pub lost: Vec<(u8, u8)>,
    /// Activate Payload is refused also in the session that has the console already: a repetition is not known for one.
    pub activates_once: bool,
    /// Boot flags are stored without their EFI bit.
    pub forgets_efi: bool,
    /// Boot flags are stored as for every boot.
    pub boots_for_ever: bool,
    /// When the sensors' records were last changed, in seconds of its clock.
    pub records_changed: u32,
    /// What Get Chassis Status tells besides power and LED.
    pub chassis: ChassisStatus,
    /// The GUID of another board that is there now.
    pub guid: Option<[u8; 16]>,
    /// Commands whose answers end after so many bytes of data.
    pub cut: Vec<Cut>,
    /// Every nth command in a session is refused with this completion code.
    pub busy_every: Option<(NonZeroU32, u8)>,
    /// It starts again while it is being used.
    pub resets: Option<Resets>,
    /// Every answer is sent with bytes that are wrong, too few or too many, some behind an intact beginning.
    pub mangled: bool,
}

/// A BMC that starts again after so many requests, sessions forgotten and the answer lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resets {
    /// Requests in sessions between one start and the next.
    pub every: NonZeroU32,
    /// It says nothing for so long.
    pub deaf: Duration,
}

/// End one command's answers too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Network function of the request.
    pub netfn: u8,
    /// Command number.
    pub cmd: u8,
    /// Bytes of data, without the completion code, that are left.
    pub keep: usize,
}

/// Refuse one command with a completion code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Network function of the request.
    pub netfn: u8,
    /// Command number.
    pub cmd: u8,
    /// The completion code to give.
    pub completion_code: u8,
}
