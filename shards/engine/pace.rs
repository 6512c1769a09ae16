//! How fast what only waits is ended: one after the other over a window, so that its clients do not all come back
//! to the other nodes in the same moment. Without clock or I/O.

use crate::io::Millis;

/// So few end at once.
pub const AT_ONCE_MAX: usize = 8;
/// The longest window, milliseconds.
pub const WINDOW_MS_MAX: Millis = 5_000;
/// The window is at most this part of the time until the drain's deadline.
const WINDOW_PART: Millis = 4;
/// Between two looks pass at least so many milliseconds.
const TICK_MS: Millis = 20;

/// The pace of a crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    begun: Millis,
    window_ms: Millis,
    count: usize,
    ended: usize,
}

impl Pace {
    /// Of so many, who must have left well before `until`.
    pub fn new(now: Millis, until: Millis, count: usize) -> Self {
        let part = until.saturating_sub(now) / WINDOW_PART;
        let window_ms = if count <= AT_ONCE_MAX { 0 } else { part.min(WINDOW_MS_MAX) };
        Self { begun: now, window_ms, count, ended: 0 }
    }

    /// How many more end now. They are taken for ended.
    pub fn end(&mut self, now: Millis) -> usize {
        let elapsed = now.saturating_sub(self.begun);
        let target = if self.window_ms <= elapsed {
            self.count
        } else {
            let share = self.count as u64 * elapsed / self.window_ms;
            self.count.min(share as usize + 1)
        };
        let more = target.saturating_sub(self.ended);
        self.ended += more;
        more
    }

    /// When to look again; `None`: all have ended.
    pub fn next(&self, now: Millis) -> Option<Millis> {
        let is_over = self.count <= self.ended;
        let share = || (self.ended as u64 * self.window_ms).div_ceil(self.count.max(1) as u64);
        (!is_over).then(|| (self.begun + share()).max(now + TICK_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of them ends, after the beginning.
    fn ends(deadline_ms: Millis, count: usize) -> Vec<Millis> {
        let begun = 1_000;
        let mut pace = Pace::new(begun, begun + deadline_ms, count);
        let (mut now, mut ends) = (begun, Vec::new());
        loop {
            let more = pace.end(now);
            ends.extend(std::iter::repeat_n(now - begun, more));
            match pace.next(now) {
                Some(at) => now = at,
                None => return ends,
            }
        }
    }

    #[test]
    fn few_end_at_once_and_one_more_does_not() {
        assert_eq!(ends(20_000, AT_ONCE_MAX), [0; AT_ONCE_MAX]);
        let paced = ends(20_000, AT_ONCE_MAX + 1);
        assert_eq!(paced.iter().filter(|at| **at == 0).count(), 1);
        assert_eq!(paced.len(), AT_ONCE_MAX + 1);
    }

    #[test]
    fn a_crowd_is_spread_evenly_over_the_window() {
        for (deadline_ms, count, window_ms) in
            [(20_000, 5000, 5_000), (400, 100, 100), (3_600_000, 100_000, WINDOW_MS_MAX)]
        {
            let ends = ends(deadline_ms, count);
            assert_eq!(ends.len(), count);
            assert!(ends.last().is_some_and(|last| *last <= window_ms + TICK_MS));
            let half = ends.iter().filter(|at| **at < window_ms / 2).count();
            assert!((count * 2 / 5..=count * 3 / 5).contains(&half), "{half} of {count}");
        }
    }

    #[test]
    fn without_time_all_end_at_once() {
        assert_eq!(ends(0, 100), [0; 100]);
        assert_eq!(ends(3, 100), [0; 100]);
        assert!(ends(20_000, 0).is_empty());
    }
}
