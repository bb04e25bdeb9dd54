//! Every deadline, pause and bound of the agent, in one place; tests make them short.
use std::time::Duration;

/// How long the agent waits for what, and how much it holds at once.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Chunk downloads in flight, and so chunks in memory. 4 of 4 MiB keep a 10 Gbit/s link busy over
    /// 1 ms round trips and fit into a ramdisk of 512 MiB.
    pub chunks_in_flight: usize,
    /// To rackd's image port: one provisioning network away.
    pub connect_timeout: Duration,
    /// Without a byte, of a response that was asked for.
    pub read_timeout: Duration,
    /// Without a byte on any connection before WriteImage gives up. Longer than a restart of rackd.
    pub download_patience: Duration,
    /// Between two tries of one chunk; doubled from `retry_min` to `retry_max`, with jitter.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// Downloads of one chunk with a wrong digest before WriteImage gives up.
    pub checksum_tries: u32,
    /// For a root disk to appear: RAID controllers take 10 s to probe.
    pub disk_wait: Duration,
    pub disk_poll: Duration,
    /// For the links of an inspection: gigabit Ethernet negotiates for 2 to 4 s.
    pub carrier_wait: Duration,
    /// For neighbours, whatever rackd asks for: they tell every 30 s (IEEE 802.1AB §9.2.5.7), and a minute is two chances.
    pub neighbour_wait_most: Duration,
    /// Between two progress reports of a command.
    pub progress_interval: Duration,
    /// Between two connections to rackd; doubled, with jitter.
    pub reconnect_min: Duration,
    pub reconnect_max: Duration,
    /// For Register and for the session to open.
    pub call_timeout: Duration,
    /// From the moment the answer to PowerOff or Restart is known: then the machine does it, heard or not.
    pub power_off_grace: Duration,
    /// Of a rackd that does not know this boot's token, from the first answer that says so: nobody waits for this ramdisk, and
    /// the machine is switched off, or started again when nobody has described it. Longer than whoever ended its task needs to
    /// switch it off.
    pub unknown_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chunks_in_flight: 4,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
            download_patience: Duration::from_secs(600),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(5),
            checksum_tries: 4,
            disk_wait: Duration::from_secs(20),
            disk_poll: Duration::from_millis(500),
            carrier_wait: Duration::from_secs(5),
            neighbour_wait_most: Duration::from_secs(65),
            progress_interval: Duration::from_millis(400),
            reconnect_min: Duration::from_millis(300),
            reconnect_max: Duration::from_secs(10),
            call_timeout: Duration::from_secs(20),
            power_off_grace: Duration::from_secs(20),
            unknown_patience: Duration::from_secs(300),
        }
    }
}

/// A pause that doubles from `min` to `max`, each with up to half of itself taken off by chance so that
/// a rack full of agents does not knock in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// The pause to take now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.max);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}
