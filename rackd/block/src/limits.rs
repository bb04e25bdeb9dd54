//! What strangers may cost.

use std::time::Duration;

/// Bounds of the server. Each has a default that fits a rack.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once, logged in or not.
    pub connections: usize,
    /// Of these, what one address has at most as soon as half of all are taken.
    pub connections_per_address: usize,
    /// Connections that have not logged in yet, or that a refusal keeps waiting: when so many are open, an address
    /// has no more than its share.
    pub logins: usize,
    pub logins_per_address: usize,
    /// The same of discovery sessions, and how long one may last.
    pub discoveries: usize,
    pub discoveries_per_address: usize,
    pub discovery_time: Duration,
    pub sessions_per_target: usize,
    pub sessions_per_initiator: usize,
    /// Bytes held for the commands of one session: write data on its way, reads that wait for a disk. Beyond
    /// it a command hears TASK SET FULL and comes again.
    pub outstanding: usize,
    /// The same of all sessions together: when so much is held, an address holds no more than its share, and a
    /// target never holds more.
    pub outstanding_crowded: usize,
    pub outstanding_share: usize,
    /// Operations that wait for a disk at once, of one address and of one target; more queue behind them.
    pub operations_per_address: usize,
    pub operations_per_target: usize,
    /// From the first byte to the full feature phase.
    pub login_timeout: Duration,
    /// How late a wrong secret is answered.
    pub wrong_secret_delay: Duration,
    /// Silence after which an initiator is asked whether it is there.
    pub idle: Duration,
    /// Silence, or an answer that is not taken: after this long the connection goes.
    pub dead: Duration,
    /// How long a command waits for bytes that come from far; then it hears BUSY and comes again. Less than the
    /// 15 s after which iPXE gives a command up, and the 30 s after which Linux asks to abort it.
    pub arrival_timeout: Duration,
    /// Addresses it is served at: so many target ports each target announces (SPC-4 section 6.37).
    pub portals: u16,
    /// Threads that serve connections; `None`: as many as there are processors, at most four.
    pub threads: Option<usize>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            connections_per_address: 64,
            logins: 256,
            logins_per_address: 32,
            discoveries: 64,
            discoveries_per_address: 4,
            discovery_time: Duration::from_secs(60),
            sessions_per_target: 256,
            sessions_per_initiator: 64,
            outstanding: 64 << 20,
            outstanding_crowded: 256 << 20,
            outstanding_share: 64 << 20,
            operations_per_address: 32,
            operations_per_target: 64,
            login_timeout: Duration::from_secs(15),
            wrong_secret_delay: Duration::from_secs(1),
            idle: Duration::from_secs(60),
            dead: Duration::from_secs(180),
            arrival_timeout: Duration::from_secs(10),
            portals: 1,
            threads: None,
        }
    }
}
