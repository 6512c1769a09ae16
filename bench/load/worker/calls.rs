//! What the callers of a thread shall do, and who of them is next. No socket and no clock.
//!
//! Invariants: an idle caller stands in `idle` once; a call that is due waits in `late` only while no caller is
//! idle.

use std::collections::VecDeque;

use super::super::plan::Work;
use super::super::schedule::Schedule;

/// Calls that are due while no connection is free. More are missed, and counted.
const LATE_MAX: usize = 1_000_000;

/// See the module.
#[derive(Debug)]
pub struct Calls {
    work: Work,
    schedule: Option<Schedule>,
    idle: VecDeque<u32>,
    late: VecDeque<u64>,
}

/// What a caller does that has become free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It makes the call that was due then.
    Call(u64),
    /// It waits to be called upon.
    Wait,
    /// It leaves.
    Leave,
}

impl Calls {
    /// Nothing is to be done.
    pub fn new() -> Self {
        Self { work: Work::Rest, schedule: None, idle: VecDeque::new(), late: VecDeque::new() }
    }

    /// What callers do.
    pub fn work(&self) -> Work {
        self.work
    }

    /// What they do from now on. Those in the list leave.
    pub fn begin(&mut self, work: Work) -> VecDeque<u32> {
        self.work = work;
        self.late.clear();
        self.schedule = match work {
            Work::Rate { from_us, per_s } => Some(Schedule::new(from_us, per_s)),
            _ => None,
        };
        match work {
            Work::Churn => std::mem::take(&mut self.idle),
            _ => VecDeque::new(),
        }
    }

    /// The next call of the rate that is due, and when it was.
    pub fn due(&mut self, now: u64) -> Option<u64> {
        self.schedule.as_mut()?.take(now)
    }

    /// Nobody is free for this call: it waits. `false` if too many do.
    pub fn wait(&mut self, at: u64) -> bool {
        let has_room = self.late.len() < LATE_MAX;
        if has_room {
            self.late.push_back(at);
        }
        has_room
    }

    /// The caller that has waited longest, of those that are still there.
    pub fn next_idle(&mut self, is_there: impl Fn(u32) -> bool) -> Option<u32> {
        loop {
            let client = self.idle.pop_front()?;
            if is_there(client) {
                return Some(client);
            }
        }
    }

    /// A caller is free: what is next?
    pub fn free(&mut self, client: u32, now: u64) -> Next {
        let next = match self.work {
            Work::Closed => Next::Call(now),
            Work::Churn => Next::Leave,
            Work::Rest => Next::Wait,
            Work::Rate { .. } => self.late.pop_front().map_or(Next::Wait, Next::Call),
        };
        if next == Next::Wait {
            self.idle.push_back(client);
        }
        next
    }

    /// Whether callers of a closed loop have not begun yet.
    pub fn is_starting(&self) -> bool {
        self.work == Work::Closed && !self.idle.is_empty()
    }

    /// When the next call is due.
    pub fn next_us(&self) -> Option<u64> {
        self.schedule.map(|schedule| schedule.next_us())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_is_next_unless_it_has_gone() {
        let mut calls = Calls::new();
        for client in 0..4 {
            assert_eq!(calls.free(client, 7), Next::Wait);
        }
        assert_eq!(calls.next_idle(|client| client != 0), Some(1));
        assert_eq!(calls.next_idle(|_| true), Some(2), "who has gone is forgotten");
        assert_eq!(calls.next_idle(|client| client != 3), None);
    }

    #[test]
    fn a_call_that_found_nobody_goes_to_who_is_free_first_and_keeps_its_time() {
        let mut calls = Calls::new();
        calls.begin(Work::Rate { from_us: 1000, per_s: 1000.0 });
        assert_eq!((calls.due(999), calls.next_us()), (None, Some(1000)));
        assert_eq!((calls.due(1000), calls.due(1000)), (Some(1000), None));
        assert!(calls.wait(1000));
        assert_eq!(calls.free(5, 9000), Next::Call(1000));
        assert_eq!(calls.free(5, 9000), Next::Wait);
        assert!(calls.wait(2000));
        assert!(calls.begin(Work::Rest).is_empty());
        assert_eq!(calls.free(6, 9000), Next::Wait, "with other work it is not wanted any more");
    }

    #[test]
    fn so_many_calls_may_wait_and_no_more() {
        let mut calls = Calls::new();
        assert!((0..LATE_MAX as u64).all(|at| calls.wait(at)));
        assert!(!calls.wait(0));
    }

    #[test]
    fn a_closed_loop_calls_at_once_and_churn_sends_away() {
        let mut calls = Calls::new();
        calls.free(1, 0);
        calls.begin(Work::Closed);
        assert!(calls.is_starting());
        assert_eq!(calls.free(2, 30), Next::Call(30));
        assert_eq!(calls.begin(Work::Churn), [1]);
        assert_eq!((calls.free(1, 0), calls.is_starting()), (Next::Leave, false));
    }
}
