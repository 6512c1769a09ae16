//! Time as far as this node was awake.
//!
//! Silence of others only counts while we could hear. A gap between two calls means that we (the process, the core,
//! the host) did not run, and whatever arrived meanwhile still waits to be read. So a gap counts for no more than a
//! bound; and a clock that jumps, either way, does no harm. All deadlines of the machine are in this time.

use crate::Millis;

#[derive(Debug)]
pub(super) struct Awake {
    /// The clock at the last call.
    clock: Millis,
    /// Milliseconds that counted so far.
    awake: Millis,
    /// What one gap counts at most.
    gap_max: Millis,
}

impl Awake {
    pub fn new(clock: Millis, gap_max: Millis) -> Self {
        Self { clock, awake: 0, gap_max }
    }

    /// It is `clock` now.
    pub fn advance(&mut self, clock: Millis) {
        self.awake += clock.saturating_sub(self.clock).min(self.gap_max);
        self.clock = clock;
    }

    pub fn now(&self) -> Millis {
        self.awake
    }

    /// What the clock will show at this awake time, if we stay awake.
    pub fn clock_at(&self, awake: Millis) -> Millis {
        self.clock.saturating_add(awake.saturating_sub(self.awake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_up_to_its_bound_and_a_jump_back_counts_nothing() {
        let mut awake = Awake::new(1_000, 400);
        for (clock, expect) in
            [(1_400, 400), (1_801, 800), (9_000, 1_200), (50, 1_200), (60, 1_210)]
        {
            awake.advance(clock);
            assert_eq!(awake.now(), expect, "clock {clock}");
        }
        assert_eq!(awake.clock_at(1_300), 150);
        assert_eq!(awake.clock_at(0), 60, "what is overdue is due now");
    }
}
