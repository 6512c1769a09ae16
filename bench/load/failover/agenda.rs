//! What clients of a cluster shall ask, and when. No socket and no clock.
//!
//! What is due becomes ready ([`Agenda::gather`]); what is ready is taken in its order ([`Agenda::take`]), asked, and
//! comes back to be asked again ([`Agenda::again`]) or is over ([`Agenda::done`]).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::ask::{Ask, Purpose, What};
use super::book::Book;
use crate::load::schedule::Schedule;

/// Calls that wait for a connection.
const READY_MAX: usize = 200_000;
/// Probes under way at once.
const PROBES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Agenda {
    ready: VecDeque<Ask>,
    later: BinaryHeap<Reverse<(u64, Ask)>>,
    load: Option<Schedule>,
    /// Sessions in the order in which the load uses them.
    order: Vec<u32>,
    next: usize,
    probe: Option<Schedule>,
    to_probe: VecDeque<u32>,
    probing: usize,
    sweeping: usize,
    opening: usize,
}

impl Agenda {
    /// One more session shall be opened.
    pub fn open(&mut self, at: Option<u16>, now: u64) {
        self.opening += 1;
        self.ready.push_back(Ask::new(What::Open, at, now));
    }

    /// A session was opened: its client says so before anything else.
    pub fn acknowledge(&mut self, session: u32, now: u64) {
        self.ready.push_front(Ask::new(What::Acknowledge(session), None, now));
    }

    /// These sessions are used in turns from now on; without a schedule no longer.
    pub fn load(&mut self, order: Vec<u32>, schedule: Option<Schedule>) {
        (self.order, self.load) = (order, schedule);
    }

    /// These sessions are asked until they answer.
    pub fn probe(&mut self, sessions: Vec<u32>, schedule: Schedule) {
        (self.to_probe, self.probe) = (sessions.into(), Some(schedule));
    }

    /// This session is used once more.
    pub fn sweep(&mut self, session: u32, at: Option<u16>, now: u64) {
        self.sweeping += 1;
        self.ready.push_back(Ask::new(What::Call(session, Purpose::Sweep), at, now));
    }

    /// Everything that is due becomes ready.
    pub fn gather(&mut self, book: &mut Book, now: u64) {
        while let Some(at) = self.load.as_mut().and_then(|load| load.take(now)) {
            if self.order.is_empty() || READY_MAX <= self.ready.len() {
                book.missed += 1;
                continue;
            }
            let session = self.order[self.next % self.order.len()];
            self.next = self.next.wrapping_add(1);
            self.ready.push_back(Ask::new(What::Call(session, Purpose::Load), None, at));
        }
        while self.later.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, again))) = self.later.pop() else { break };
            // Who has waited goes first.
            self.ready.push_front(again);
        }
        while self.probing < PROBES_MAX && !self.to_probe.is_empty() {
            let Some(at) = self.probe.as_mut().and_then(|probe| probe.take(now)) else { break };
            let Some(session) = self.to_probe.pop_front() else { break };
            // The load may have found it first.
            if book.sessions[session as usize].answered_us.is_none() {
                self.probing += 1;
                self.ready.push_back(Ask::new(What::Call(session, Purpose::Probe), None, at));
            }
        }
    }

    /// The next that is ready.
    pub fn take(&mut self) -> Option<Ask> {
        self.ready.pop_front()
    }

    /// Those found no connection, and keep their places.
    pub fn put_back(&mut self, mut asks: VecDeque<Ask>) {
        while let Some(ask) = asks.pop_back() {
            self.ready.push_front(ask);
        }
    }

    /// It shall be asked again then.
    pub fn again(&mut self, at: u64, ask: Ask) {
        self.later.push(Reverse((at, ask)));
    }

    /// It is over.
    pub fn done(&mut self, what: What) {
        match what {
            What::Open | What::Acknowledge(_) => self.opening -= 1,
            What::Call(_, Purpose::Probe) => self.probing -= 1,
            What::Call(_, Purpose::Sweep) => self.sweeping -= 1,
            What::Call(_, Purpose::Load) | What::Health => {}
        }
    }

    /// Whether something waits for a connection.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sessions that are not there yet.
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// Sessions of sweeps that are not through.
    pub fn sweeping(&self) -> usize {
        self.sweeping
    }

    /// When the next call or probe is due.
    pub fn next_us(&self) -> Option<u64> {
        let due = [self.load, self.probe.filter(|_| !self.to_probe.is_empty())];
        due.into_iter().flatten().map(|one| one.next_us()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(agenda: &mut Agenda) -> Vec<What> {
        std::iter::from_fn(|| agenda.take()).map(|ask| ask.what).collect()
    }

    #[test]
    fn who_has_waited_goes_before_what_is_new() {
        let mut agenda = Agenda::default();
        agenda.load(vec![3, 4], Some(Schedule::new(0, 1000.0)));
        agenda.again(900, Ask::new(What::Open, None, 1));
        agenda.gather(&mut Book::default(), 1000);
        let load = |session| What::Call(session, Purpose::Load);
        assert_eq!(whats(&mut agenda), [What::Open, load(3), load(4)]);
        assert_eq!(agenda.next_us(), Some(2000));
    }

    #[test]
    fn what_found_no_connection_keeps_its_place() {
        let mut agenda = Agenda::default();
        (0..4).for_each(|session| agenda.sweep(session, None, 0));
        let left: VecDeque<Ask> = std::iter::from_fn(|| agenda.take()).take(2).collect();
        agenda.put_back(left);
        let expect: Vec<What> = (0..4).map(|one| What::Call(one, Purpose::Sweep)).collect();
        assert_eq!(whats(&mut agenda), expect);
        assert_eq!(agenda.sweeping(), 4);
        agenda.done(expect[0]);
        assert_eq!(agenda.sweeping(), 3);
    }

    #[test]
    fn so_much_waits_for_a_connection_and_the_rest_is_missed() {
        let (mut agenda, mut book) = (Agenda::default(), Book::default());
        agenda.load(vec![0], Some(Schedule::new(1, 1e6)));
        agenda.gather(&mut book, READY_MAX as u64);
        assert_eq!(book.missed, 0);
        agenda.gather(&mut book, READY_MAX as u64 + 3);
        assert_eq!((book.missed, whats(&mut agenda).len()), (3, READY_MAX));
    }
}
