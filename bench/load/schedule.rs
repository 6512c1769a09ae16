//! When calls are due in an open loop. A server that answers late does not make the next call later: each has
//! its time from the beginning, and its latency counts from there.

/// Calls at a fixed rate. Feed it the time; it gives the due calls one by one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    from_us: u64,
    per_s: f64,
    begun: u64,
}

impl Schedule {
    /// `per_s` calls a second, the first at `from_us`.
    pub fn new(from_us: u64, per_s: f64) -> Self {
        Self { from_us, per_s, begun: 0 }
    }

    /// When the next call is due. Computed from the number of calls, so that nothing adds up.
    pub fn next_us(&self) -> u64 {
        self.from_us + (self.begun as f64 * 1e6 / self.per_s) as u64
    }

    /// The intended time of the next call, if it has come.
    pub fn take(&mut self, now_us: u64) -> Option<u64> {
        let due = self.next_us();
        (due <= now_us).then(|| {
            self.begun += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_caller_gets_every_call_with_its_intended_time() {
        let mut schedule = Schedule::new(1_000_000, 1000.0);
        assert_eq!(schedule.take(999_999), None);
        assert_eq!(schedule.take(1_000_000), Some(1_000_000));
        // Nothing happened for ten milliseconds.
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take(1_010_000)).collect();
        let expect: Vec<u64> = (1..=10).map(|call| 1_000_000 + call * 1000).collect();
        assert_eq!(due, expect);
    }

    #[test]
    fn a_day_at_an_odd_rate_does_not_slip() {
        for per_s in [3.0, 62_500.0, 33_333.3, 1e6 / 7.0] {
            let seconds = 86_400;
            let mut schedule = Schedule::new(0, per_s);
            schedule.begun = (per_s * f64::from(seconds)).round() as u64;
            let off = schedule.next_us().abs_diff(u64::from(seconds as u32) * 1_000_000);
            assert!(off <= (1e6 / per_s) as u64 + 1, "{per_s}: {off} µs after a day");
        }
    }

    #[test]
    fn however_often_it_is_asked_the_rate_is_the_rate() {
        for step_us in [1, 7, 130, 9_999] {
            let mut schedule = Schedule::new(0, 50_000.0);
            let mut calls = 0;
            for now in (0..1_000_000).step_by(step_us) {
                calls += std::iter::from_fn(|| schedule.take(now)).count();
            }
            calls += std::iter::from_fn(|| schedule.take(999_999)).count();
            assert_eq!(calls, 50_000, "asked every {step_us} µs");
        }
    }
}
