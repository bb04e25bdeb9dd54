//! What strangers may cost.

use std::time::Duration;

/// Bounds of the server. Each has a default that fits a rack.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once, logged in or not.
    pub connections: usize,
    /// Connections that have not logged in yet, from one address.
    pub logins_per_address: usize,
    pub sessions_per_target: usize,
    pub sessions_per_initiator: usize,
    /// Bytes held for the commands of one session: write data on its way, reads that wait for a disk. Beyond
    /// it a command hears TASK SET FULL and comes again.
    pub outstanding: usize,
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
    /// Threads that serve connections; `None`: as many as there are processors, at most four.
    pub threads: Option<usize>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            logins_per_address: 64,
            sessions_per_target: 256,
            sessions_per_initiator: 128,
            outstanding: 64 << 20,
            login_timeout: Duration::from_secs(15),
            wrong_secret_delay: Duration::from_secs(1),
            idle: Duration::from_secs(60),
            dead: Duration::from_secs(180),
            arrival_timeout: Duration::from_secs(10),
            threads: None,
        }
    }
}
