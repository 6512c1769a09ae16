//! Who of a thread's clients connects next, when, and to whom. No socket and no clock.

use std::collections::VecDeque;

use super::super::kind::{Deal, Kind, Mix};
use super::super::schedule::Schedule;

/// See the module.
#[derive(Debug)]
pub struct Arrivals {
    /// Clients that there shall be.
    wanted: u32,
    pace: Option<Schedule>,
    /// Clients that shall connect again.
    back: VecDeque<u32>,
    deal: Deal,
    spread: Spread,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// One that was there before.
    Again(u32),
    /// A new client of this kind, of this target.
    New(Kind, u16),
}

impl Arrivals {
    /// Nobody, until [`Arrivals::want`]. Threads begin with different targets.
    pub fn new(mix: &Mix, thread: usize, targets: usize) -> Self {
        let spread = Spread::new(thread, targets);
        Self { wanted: 0, pace: None, back: VecDeque::new(), deal: mix.deal(), spread }
    }

    /// So many shall be there; at most so many new ones a second.
    pub fn want(&mut self, clients: u32, per_s: Option<f64>, now: u64) {
        self.wanted = clients;
        self.pace = per_s.map(|per_s| Schedule::new(now, per_s));
    }

    /// Nobody shall come any more.
    pub fn stop(&mut self) {
        self.wanted = 0;
        self.back.clear();
    }

    /// This one shall connect again.
    pub fn again(&mut self, client: u32) {
        self.back.push_back(client);
    }

    /// Whether anybody is missing, of whom so many have been there.
    pub fn is_open(&self, there: u32) -> bool {
        there < self.wanted || !self.back.is_empty()
    }

    /// Who is next, of whom so many have been there: nobody if none is missing, or it is too early.
    pub fn next(&mut self, there: u32, now: u64) -> Option<Arrival> {
        if !self.is_open(there) {
            return None;
        }
        if let Some(pace) = &mut self.pace {
            pace.take(now)?;
        }
        Some(match self.back.pop_front() {
            Some(client) => Arrival::Again(client),
            None => {
                let kind = self.deal.next().unwrap_or(Kind::Http);
                Arrival::New(kind, self.spread.next(kind))
            }
        })
    }

    /// When the next may come; `None`: at once.
    pub fn next_us(&self) -> Option<u64> {
        self.pace.map(|pace| pace.next_us())
    }
}

/// Whom each client of a thread talks to: of every kind as many to each target, and threads do not all begin
/// with the same.
#[derive(Debug)]
struct Spread {
    next: [usize; 6],
    targets: usize,
}

impl Spread {
    fn new(thread: usize, targets: usize) -> Self {
        Self { next: std::array::from_fn(|kind| thread + kind), targets }
    }

    fn next(&mut self, kind: Kind) -> u16 {
        let next = &mut self.next[kind as usize];
        let target = *next % self.targets;
        *next += 1;
        target as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(targets: usize) -> Arrivals {
        Arrivals::new(&"http=1,tcp=1".parse().unwrap(), 0, targets)
    }

    #[test]
    fn of_every_kind_as_many_come_to_each_target() {
        let mut arrivals = arrivals(3);
        arrivals.want(600, None, 0);
        let mut counts = std::collections::BTreeMap::new();
        for there in 0..600 {
            let Some(Arrival::New(kind, target)) = arrivals.next(there, 0) else { panic!() };
            *counts.entry((kind as usize, target)).or_insert(0) += 1;
        }
        assert_eq!(arrivals.next(600, 0), None);
        assert_eq!((counts.len(), counts.values().all(|count| *count == 100)), (6, true));
    }

    #[test]
    fn who_comes_again_goes_before_who_is_new_and_nobody_before_the_pace() {
        let mut arrivals = arrivals(1);
        arrivals.want(8, Some(1000.0), 5000);
        arrivals.again(7);
        assert_eq!(arrivals.next(0, 4999), None);
        assert_eq!(arrivals.next(0, 5000), Some(Arrival::Again(7)));
        assert_eq!((arrivals.next(0, 5000), arrivals.next_us()), (None, Some(6000)));
        assert!(matches!(arrivals.next(0, 6000), Some(Arrival::New(_, 0))));
        arrivals.again(7);
        arrivals.stop();
        assert!(!arrivals.is_open(0) && arrivals.next(0, 9000).is_none());
    }
}
