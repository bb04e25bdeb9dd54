//! What a deploy is measured by: the same ten instants for both chains, and the figures made of them.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use serde::Serialize;

/// When what happened, in seconds since the request.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Marks {
    /// The BMC was told to switch on into the ramdisk.
    pub(super) power_on: f64,
    /// The ramdisk's first program speaks on the console.
    pub(super) init: f64,
    /// It has a network and takes orders.
    pub(super) agent: f64,
    /// The image begins to be written.
    pub(super) write: f64,
    /// All of it is on the disk, flushed.
    pub(super) written: f64,
    /// The ramdisk has switched the machine off.
    pub(super) off: f64,
    /// The BMC was told to switch on into the system.
    pub(super) start: f64,
    /// The system says on the console that it is up.
    pub(super) up: f64,
    /// The system has called the rack.
    pub(super) called: f64,
    /// Whoever asked has the answer.
    pub(super) done: f64,
}

impl Marks {
    /// Two clocks, or a step that was watched too late, would show here.
    pub(super) fn ensure_in_order(&self) -> Result<()> {
        let Self { power_on, init, agent, write, written, off, start, called, done, .. } = *self;
        let order = [0.0, power_on, init, agent, write, written, off, start, called, done];
        let sorted = order.is_sorted_by(|a, b| a <= b);
        ensure!(sorted && self.up >= start, "expected the instants of a deploy in order, saw {self:?}");
        Ok(())
    }

    /// Firmware, boot loaders, kernels and the system's own start, of both boots.
    fn machine(&self) -> f64 {
        (self.init - self.power_on) + (self.called - self.start)
    }

    fn data(&self) -> f64 {
        self.written - self.write
    }

    /// All that is neither machine nor data.
    fn control_plane(&self) -> f64 {
        self.done - self.machine() - self.data()
    }
}

/// Seconds from one instant to another; negative when they are the other way round.
pub(super) fn between(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(later) => later.as_secs_f64(),
        Err(earlier) => -earlier.duration().as_secs_f64(),
    }
}

/// A row of the result.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) of: fn(&Marks) -> f64,
}

/// The rows, in order.
pub(super) const FIGURES: &[Figure] = &[
    Figure { name: "request → ramdisk's first program", of: |m| m.init },
    Figure { name: "**request → agent ready**", of: |m| m.agent },
    Figure { name: "request → image on disk", of: |m| m.written },
    Figure { name: "request → system up", of: |m| m.up },
    Figure { name: "request → system has called, everybody knows", of: |m| m.done },
    Figure { name: "**image alone**", of: Marks::data },
    Figure { name: "firmware, kernels, systems of both boots", of: Marks::machine },
    Figure { name: "**control plane**, the sum of:", of: Marks::control_plane },
    Figure { name: "– request → power", of: |m| m.power_on },
    Figure { name: "– ramdisk's first program → image begins", of: |m| m.write - m.init },
    Figure { name: "– image on disk → machine off", of: |m| m.off - m.written },
    Figure { name: "– machine off → power", of: |m| m.start - m.off },
    Figure { name: "– system's call → the answer", of: |m| m.done - m.called },
];

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        power_on: 0.5,
        init: 4.5,
        agent: 5.0,
        write: 5.25,
        written: 7.25,
        off: 8.0,
        start: 8.5,
        up: 11.0,
        called: 12.5,
        done: 12.75,
    };

    #[test]
    fn the_parts_of_the_control_plane_are_the_whole_less_machine_and_data() {
        let parts: f64 = FIGURES.iter().filter(|f| f.name.starts_with('–')).map(|f| (f.of)(&MARKS)).sum();
        assert!((parts - MARKS.control_plane()).abs() < 1e-9, "{parts} {}", MARKS.control_plane());
        assert!((parts - 2.75).abs() < 1e-9, "{parts}");
    }

    #[test]
    fn instants_out_of_order_are_no_result() {
        assert!(MARKS.ensure_in_order().is_ok());
        assert!(Marks { agent: 4.0, ..MARKS }.ensure_in_order().is_err());
        assert!(Marks { up: 8.0, ..MARKS }.ensure_in_order().is_err());
        // A Debian says that its sshd is up before or after it calls.
        assert!(Marks { up: 12.6, ..MARKS }.ensure_in_order().is_ok());
    }
}
