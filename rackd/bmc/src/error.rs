//! What went wrong with a BMC, in words an operator can act on.

use std::{net::SocketAddr, time::Duration};

use farrier_ipmi::{CipherSuite, RmcpStatus, client::CredentialError, completion::CompletionCode};

use crate::PowerState;
use crate::verdict::{advice, perhaps};

/// Each variant says who is at fault and what to do next. None holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmcError {
    /// What was to be sent cannot be read.
    #[error("nothing was sent to BMC {addr}: cannot read {path}: {seen}; look after the disk of this rack")]
    UnreadFile {
        /// The BMC.
        addr: SocketAddr,
        /// Where it is, or was.
        path: String,
        /// Why.
        seen: String,
    },
    /// Nothing came back.
    #[error(
        "BMC {addr} is unreachable: expected {waiting_for}, seen nothing after {tried} datagrams in \
         {} ms; check that the BMC is powered, its address and the route to it, and that IPMI over \
         LAN is enabled", elapsed.as_millis()
    )]
    Unreachable {
        /// The BMC.
        addr: SocketAddr,
        /// Datagrams sent in this call.
        tried: u32,
        /// How long the call took.
        elapsed: Duration,
        /// The answer that did not come.
        waiting_for: &'static str,
    },
    /// The deadline passed while others had all the places for opening sessions, or connections.
    #[error(
        "rackd was busy with as many BMCs as it may be at a time until the deadline: nothing was sent to BMC {addr}; try again"
    )]
    NoTurn {
        /// The BMC.
        addr: SocketAddr,
    },
    /// This process, or this host, has too many files open.
    #[error(
        "this host has no file left for a connection to BMC {addr}: expected one, seen its limit reached; raise LimitNOFILE of rackd"
    )]
    OutOfFiles {
        /// The BMC.
        addr: SocketAddr,
    },
    /// The call was begun and not ended by its deadline.
    #[error(
        "BMC {addr} is slow: expected an end of the call within {} ms, seen none; give it more time, or restart it",
        elapsed.as_millis()
    )]
    Late {
        /// The BMC.
        addr: SocketAddr,
        /// How long the call took.
        elapsed: Duration,
    },
    /// The deadline passed before the call's turn came.
    #[error("BMC {addr} was busy with earlier calls until the deadline; nothing was sent")]
    StillQueued {
        /// The BMC.
        addr: SocketAddr,
    },
    /// The circuit breaker is open: nothing was sent.
    #[error(
        "{reason}; after {failures} failed calls in a row BMC {addr} is not asked again for {} s",
        next_try_in.as_secs().saturating_add(1)
    )]
    CircuitOpen {
        /// The BMC.
        addr: SocketAddr,
        /// Calls that failed in a row.
        failures: u32,
        /// The last failure.
        reason: Box<BmcError>,
        /// A call from then on is tried again.
        next_try_in: Duration,
    },
    /// The credentials are wrong.
    #[error(
        "BMC {addr} refuses user {user:?}: the password does not match or the user does not exist; \
         correct the node's BMC credentials (repeated tries may lock the account)"
    )]
    WrongPassword {
        /// The BMC.
        addr: SocketAddr,
        /// The user tried.
        user: String,
    },
    /// The account may do nothing but change its password.
    #[error(
        "BMC {addr} lets user {user:?} in only to change the password it came with; give it another with \
         `farrier node rotate-bmc-credentials NODE`"
    )]
    PasswordChangeRequired {
        /// The BMC.
        addr: SocketAddr,
        /// The user.
        user: String,
    },
    /// Two-key login, and the BMC key differs.
    #[error(
        "BMC {addr} accepts the password but not the BMC key (Kg): {}",
        if *had_kg { "correct it with `farrier node update NODE --bmc-kg-file FILE`; 0x in the file takes it away" }
        else { "the BMC seems to have one; give it with `farrier node update NODE --bmc-kg-file FILE`" }
    )]
    WrongKg {
        /// The BMC.
        addr: SocketAddr,
        /// Whether we had a Kg.
        had_kg: bool,
    },
    /// The BMC speaks none of the suites we accept.
    #[error(
        "BMC {addr} refuses cipher suites {tried:?} (status {status}); enable suite 17 or 3 on the \
         BMC; suite 0 is never used because it checks no password"
    )]
    UnsupportedCipher {
        /// The BMC.
        addr: SocketAddr,
        /// Suites tried.
        tried: Vec<CipherSuite>,
        /// The last refusal.
        status: RmcpStatus,
    },
    /// A BMC that has spoken the strong suite speaks it no more.
    #[error(
        "BMC {addr} refuses cipher suite 17, by which it was opened before (status {status}); 3 is not tried by itself, since anybody in between can say no in its name: see whether its firmware was replaced or reset; where it has 3 only, `farrier node update NODE --bmc-cipher-suite 3`"
    )]
    CipherDowngrade {
        /// The BMC.
        addr: SocketAddr,
        /// The refusal.
        status: RmcpStatus,
    },
    /// All session slots of the BMC are taken.
    #[error(
        "BMC {addr} has had no free session for {} ms; other programs and consoles hold them: end those, wait for their time-out \
         (60 s over IPMI, of Redfish what SessionTimeout of its SessionService says, often 30 min), or restart the BMC",
        elapsed.as_millis()
    )]
    NoSessionSlot {
        /// The BMC.
        addr: SocketAddr,
        /// How long we tried.
        elapsed: Duration,
    },
    /// Session set-up failed in some other way.
    #[error("BMC {addr} and we could not open a session: {detail}")]
    SessionRefused {
        /// The BMC.
        addr: SocketAddr,
        /// What happened.
        detail: String,
    },
    /// The BMC answered a command with an error.
    #[error("BMC {addr} refused {command}: completion code {code} ({meaning})")]
    Refused {
        /// The BMC.
        addr: SocketAddr,
        /// The command, in the specification's words.
        command: &'static str,
        /// Its completion code.
        code: CompletionCode,
        /// What the code means for the command.
        meaning: &'static str,
    },
    /// The BMC answered with something that is no answer to the command.
    #[error(
        "BMC {addr} answered {command} with something else: {expected}; seen {seen}; update the BMC's firmware, or \
         use driver redfish"
    )]
    Malformed {
        /// The BMC.
        addr: SocketAddr,
        /// The command.
        command: &'static str,
        /// What the specification says.
        expected: String,
        /// The answer's data, in part.
        seen: String,
    },
    /// What came back is not the protocol.
    #[error(
        "BMC {addr} answers, but not as IPMI 2.0 says: expected {waiting_for}, seen {count} datagrams in {} ms that \
         cannot be read, the last because {last}; check that this is the address of the BMC, then restart the BMC or \
         update its firmware", elapsed.as_millis()
    )]
    Garbled {
        /// The BMC.
        addr: SocketAddr,
        /// The answer that did not come.
        waiting_for: &'static str,
        /// Datagrams that came instead.
        count: u32,
        /// Why the last of them could not be read.
        last: String,
        /// How long the call took.
        elapsed: Duration,
    },
    /// Off and on in place of a command that no driver has for this BMC, which stopped in between.
    #[error(
        "this BMC offers no {wanted}, so that the machine was to be switched off and on in its place, and that stopped: {reason}; \
         {}",
        crate::verdict::half_restarted(*now)
    )]
    HalfRestarted {
        /// What was asked for.
        wanted: &'static str,
        /// The state that was read back last; none: it is not known.
        now: Option<PowerState>,
        /// What stopped it.
        reason: String,
    },
    /// A command that must not be sent twice got no answer: it may or may not have happened.
    #[error(
        "BMC {addr} gave no answer to {command}, which may have happened or not; power read back \
         afterwards: {}; decide by the state of the machine, or use off and on instead",
        power_now.map_or("unknown", PowerState::as_str)
    )]
    AnswerLost {
        /// The BMC.
        addr: SocketAddr,
        /// The command.
        command: &'static str,
        /// The state read afterwards, if it could be.
        power_now: Option<PowerState>,
    },
    /// The BMC said yes, but what it reads back is something else.
    #[error("BMC {addr} accepted {what} but reads back otherwise: expected {expected}, seen {seen}")]
    NotApplied {
        /// The BMC.
        addr: SocketAddr,
        /// What was set.
        what: &'static str,
        /// The value wanted.
        expected: String,
        /// The value read.
        seen: String,
    },
    /// A change of the BMC's own network that stopped before its end.
    #[error(
        "BMC {addr} did not take all that its network shall be: {what} could not be set: {reason}; {left}; look at it with \
         `farrier node bmc-network NODE`, then ask again"
    )]
    NetworkPart {
        /// The BMC.
        addr: SocketAddr,
        /// What could not be set.
        what: &'static str,
        /// Why.
        reason: Box<BmcError>,
        /// What is not as it was, in words.
        left: String,
    },
    /// The credentials cannot be used with IPMI 2.0 at all; nothing was sent.
    #[error("credentials for BMC {addr} cannot be used")]
    BadCredentials {
        /// The BMC.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// No connection to the BMC's HTTP server.
    #[error(
        "BMC {addr} takes no connection: expected {service} there, seen {seen} after {} ms; check that the BMC is \
         powered, its address, port and the route to it, and that {service} is enabled; or use another driver",
        elapsed.as_millis()
    )]
    NoConnection {
        /// The BMC.
        addr: SocketAddr,
        /// The API that was to be spoken.
        service: &'static str,
        /// What happened instead.
        seen: String,
        /// How long the call took.
        elapsed: Duration,
    },
    /// It opens sessions, and takes none of them.
    #[error(
        "BMC {addr} opens a session and refuses it at once: expected an answer to {request}, seen HTTP 401 in one session after \
         another; restart the BMC, or update its firmware"
    )]
    NoSession {
        /// The BMC.
        addr: SocketAddr,
        /// Method and path.
        request: String,
    },
    /// A request was not answered in time.
    #[error(
        "BMC {addr} gave no answer to {request}: expected one within {} ms, seen {seen}; the BMC may be busy or \
         hang: wait, or restart it", elapsed.as_millis()
    )]
    NoAnswer {
        /// The BMC.
        addr: SocketAddr,
        /// Method and path.
        request: String,
        /// What happened instead.
        seen: String,
        /// How long the call took.
        elapsed: Duration,
    },
    /// The BMC shows another certificate than the one that is trusted.
    #[error(
        "BMC {addr} shows the certificate with SHA-256 {seen}: expected {expected}; nothing was sent; compare it with \
         the one on the BMC itself, and if it is the BMC's, give it to the node with --bmc-certificate-sha256"
    )]
    Certificate {
        /// The BMC.
        addr: SocketAddr,
        /// What would have been trusted.
        expected: String,
        /// SHA-256 of the certificate seen, hexadecimal.
        seen: String,
        /// Whether there was something to compare with.
        pinned: bool,
    },
    /// TLS failed in some other way.
    #[error(
        "BMC {addr} and we could not agree on TLS: expected TLS 1.2 or 1.3, seen {seen}; update the BMC's firmware or \
         its certificate; --bmc-scheme http is for BMCs without TLS on a network that nobody else can reach"
    )]
    Tls {
        /// The BMC.
        addr: SocketAddr,
        /// What happened instead.
        seen: String,
    },
    /// There is an HTTP server, but not Redfish.
    #[error(
        "BMC {addr} has no Redfish service: expected one at /redfish/v1/, seen {seen}; enable Redfish on the BMC, or \
         use driver ipmi"
    )]
    NoRedfish {
        /// The BMC.
        addr: SocketAddr,
        /// What was there.
        seen: String,
    },
    /// The system to work on cannot be told.
    #[error(
        "BMC {addr} and the node disagree on the system: expected {expected}, seen {seen}; correct --bmc-system"
    )]
    NoSystem {
        /// The BMC.
        addr: SocketAddr,
        /// What was looked for.
        expected: String,
        /// What is there.
        seen: String,
        /// The BMC says that it has no system at all.
        has_none: bool,
    },
    /// It worked before, and says now what BMCs say in their first minutes.
    #[error("{reason}; BMC {addr} worked before and may be restarting: wait, and look at it if it stays so")]
    Restarting {
        /// The BMC.
        addr: SocketAddr,
        /// What it says.
        reason: Box<BmcError>,
    },
    /// The machine is on its way to the other state, and the BMC takes no order meanwhile.
    #[error(
        "BMC {addr} is not ready to switch {wanted}: expected on or off, seen {seen}; wait until it is there"
    )]
    BetweenStates {
        /// The BMC.
        addr: SocketAddr,
        /// What was asked for.
        wanted: PowerState,
        /// The state in between, in the BMC's words.
        seen: String,
    },
    /// The BMC answered a request with an HTTP error.
    #[error("BMC {addr} refused {request}: expected success, seen HTTP {status}{detail}; {}", advice(*status))]
    Http {
        /// The BMC.
        addr: SocketAddr,
        /// Method and path.
        request: String,
        /// The status code.
        status: u16,
        /// The BMC's own words, after ": "; or nothing.
        detail: String,
    },
    /// The BMC answered with something that is not what the protocol says.
    #[error(
        "BMC {addr} answered {request} with something else: expected {expected}, seen {seen}; update the BMC's \
         firmware, or use another driver"
    )]
    BadAnswer {
        /// The BMC.
        addr: SocketAddr,
        /// Method and path.
        request: String,
        /// What the protocol says.
        expected: &'static str,
        /// What came.
        seen: String,
    },
    /// The BMC does not offer what was asked for.
    #[error(
        "BMC {addr} does not offer {wanted}: expected one of {expected:?}, seen {offered:?}; do it by hand, or use \
         another driver"
    )]
    NotOffered {
        /// The BMC.
        addr: SocketAddr,
        /// What was asked for.
        wanted: &'static str,
        /// Values of ours that would do.
        expected: Vec<&'static str>,
        /// Values of the BMC.
        offered: Vec<String>,
    },
    /// The BMC has some, but none of this name.
    #[error("BMC {addr} has no {what} {wanted:?}: expected one of these: {}", offered.join(", "))]
    NotListed {
        /// The BMC.
        addr: SocketAddr,
        /// What kind of thing.
        what: &'static str,
        /// The name asked for.
        wanted: String,
        /// The names there are.
        offered: Vec<String>,
    },
    /// A licence is missing.
    #[error(
        "BMC {addr} refused {request} for want of a licence: expected {licence}, seen none{detail}; install that licence on \
         the BMC, or do without"
    )]
    Licence {
        /// The BMC.
        addr: SocketAddr,
        /// Method and path.
        request: String,
        /// The licence that has it.
        licence: &'static str,
        /// The BMC's own words, after ": "; or nothing.
        detail: String,
    },
    /// The node names one vendor's driver, and the BMC is another's.
    #[error(
        "BMC {addr} is not the node's: expected one for driver {expected}, seen one for driver {seen}; correct --bmc-driver or --bmc-address"
    )]
    OtherVendor {
        /// The BMC.
        addr: SocketAddr,
        /// The node's driver.
        expected: &'static str,
        /// The one for the BMC that answers.
        seen: &'static str,
    },
    /// Something that the BMC does by itself failed.
    #[error(
        "BMC {addr} has not finished {task}: expected it to complete, seen {seen}; look into the BMC's job queue and log"
    )]
    TaskUnfinished {
        /// The BMC.
        addr: SocketAddr,
        /// The task.
        task: String,
        /// How far it came.
        seen: String,
    },
    /// It does one job at a time, and is at one.
    #[error(
        "BMC {addr} is still at {task}: expected it to complete, seen {seen}; ask again in a minute, or look into its job queue"
    )]
    AtWork {
        /// The BMC.
        addr: SocketAddr,
        /// The task.
        task: String,
        /// How far it came, or the BMC's own words.
        seen: String,
    },
    /// There is no such BIOS setting.
    #[error(
        "BMC {addr} has no BIOS setting {name:?}: expected one that `farrier node bios show NODE` lists{}",
        perhaps(near)
    )]
    NoSetting {
        /// The BMC.
        addr: SocketAddr,
        /// What was asked for.
        name: String,
        /// Names like it.
        near: Vec<String>,
    },
    /// A BIOS setting cannot have this value.
    #[error("BIOS setting {name} of BMC {addr}: expected {expected}, seen something else")]
    BadSetting {
        /// The BMC.
        addr: SocketAddr,
        /// The setting.
        name: String,
        /// What it can be. What was asked for is left out: it may be a password in the wrong place.
        expected: &'static str,
    },
    /// `auto` found no driver that works.
    #[error("no driver works: expected Redfish or IPMI; seen: redfish: {redfish}; ipmi: {ipmi}")]
    NoDriver {
        /// Why not Redfish.
        redfish: Box<BmcError>,
        /// Why not IPMI.
        ipmi: Box<BmcError>,
    },
    /// The BMC's one serial console is somebody else's.
    #[error(
        "BMC {addr} gives its console to one session, and another has it: end that one (`ipmitool sol deactivate` \
         does), or take it over"
    )]
    ConsoleTaken {
        /// The BMC.
        addr: SocketAddr,
    },
    /// All places for accounts are taken, or may not be used.
    #[error(
        "BMC {addr} has no room for another account: expected one of its {slots} places to be free, seen none; take an account \
         away that nobody needs, or change the password of the one that there is"
    )]
    NoAccountSlot {
        /// The BMC.
        addr: SocketAddr,
        /// Places that there are.
        slots: usize,
    },
    /// A program that rackd needs is not on this host.
    #[error(
        "this host has no {program}: expected it for {what}, seen {seen}; install {package} where rackd runs"
    )]
    NoProgram {
        /// What was to be started.
        program: String,
        /// What for.
        what: &'static str,
        /// The package that has it.
        package: &'static str,
        /// Why it did not start.
        seen: String,
    },
    /// The BMC's SSH server shows another key than the one that is trusted.
    #[error(
        "BMC {addr} shows over SSH the host key {seen}: expected {expected}; no password was sent; compare it with the one on \
         the BMC itself, and if it is the BMC's, give it to the node with --bmc-ssh-host-key-sha256"
    )]
    HostKey {
        /// The BMC, and the port of its SSH.
        addr: SocketAddr,
        /// What would have been trusted.
        expected: String,
        /// Fingerprints and types of the keys seen, as OpenSSH says them.
        seen: String,
    },
    /// A console that was open has ended.
    #[error(
        "the console of BMC {addr} over SSH has ended: expected it to stay, seen {seen}; others may have it, or the BMC restarts"
    )]
    LineEnded {
        /// The BMC, and the port of its SSH.
        addr: SocketAddr,
        /// The last that was said of it.
        seen: String,
    },
    /// The driver does not have this capability.
    #[error("driver {driver} has no {capability}; `farrier node capabilities NODE` tells what it has")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// The capability asked for.
        capability: &'static str,
    },
    /// Surely nothing was done.
    #[error(transparent)]
    NotDone(#[from] crate::NotDone),
    /// This host cannot send to that address family.
    #[error("this host has no usable socket for BMC {addr}")]
    NoSocket {
        /// The BMC.
        addr: SocketAddr,
    },
    /// The hub was shut down while the call was waiting.
    #[error("the BMC driver is shutting down")]
    ShuttingDown,
}
