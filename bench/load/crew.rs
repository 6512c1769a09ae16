//! All threads of a load, directed by one that does nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::plan::{Census, Command, Plan, Report, Roamed, Work};
use super::pulse::{Pulse, Window};
use super::roam::Place;
use super::worker::Worker;
use crate::client::Faults;

/// How long all clients may take to tell how they are.
const CENSUS_PATIENCE: Duration = Duration::from_secs(10);

/// Counters of all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Connections under way.
    pub connecting: u64,
    /// Clients that are there.
    pub ready: u64,
    /// Clients that became ready, ever.
    pub arrived: u64,
    /// Connections that did not come about, or whose handshake failed.
    pub failed: u64,
    /// Clients whose connection ended without our doing.
    pub lost: u64,
    /// Calls rightly answered.
    pub right: u64,
    /// Calls wrongly answered, or cut off.
    pub wrong: u64,
    /// Calls that found no free connection for too long.
    pub missed: u64,
    /// Updates that listeners got.
    pub updates: u64,
}

impl Totals {
    /// Everything that went wrong.
    pub fn errors(&self) -> u64 {
        self.failed + self.lost + self.wrong + self.missed
    }

    /// Part of hundred of what was tried (connections and calls) that went well; `None` if nothing was.
    pub fn success_percent(&self) -> Option<f64> {
        // A connection that was lost is counted among those that arrived.
        let good = (self.arrived - self.lost.min(self.arrived)) + self.right;
        let all = good + self.errors();
        (0 < all).then(|| 100.0 * good as f64 / all as f64)
    }
}

/// The threads.
pub struct Crew {
    plan: Arc<Plan>,
    hands: Vec<Hand>,
    reports: Receiver<Report>,
    /// By index; merged over the threads.
    windows: BTreeMap<u64, Window>,
    faults: Faults,
    censuses: Vec<Census>,
    roamed: Vec<Roamed>,
}

struct Hand {
    commands: Option<Sender<Command>>,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// Starts so many threads.
    pub fn start(plan: Plan, threads: usize) -> Result<Self, String> {
        let plan = Arc::new(plan);
        let (reports_in, reports) = channel();
        let (booted_in, booted) = channel();
        let mut hands = Vec::new();
        for number in 0..threads {
            let (commands, inbox) = channel();
            let pulse = Arc::new(Pulse::default());
            let (plan, theirs) = (plan.clone(), pulse.clone());
            let (reports, booted) = (reports_in.clone(), booted_in.clone());
            let thread =
                std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
                    match Worker::new(plan, theirs, number, inbox, reports) {
                        Err(why) => drop(booted.send(Err(why))),
                        Ok(worker) => {
                            let _ = booted.send(Ok(()));
                            worker.run();
                        }
                    }
                });
            let thread = Some(thread.map_err(|err| err.to_string())?);
            hands.push(Hand { commands: Some(commands), pulse, thread });
        }
        drop(booted_in);
        let crew = Self {
            plan,
            hands,
            reports,
            windows: BTreeMap::new(),
            faults: Faults::default(),
            censuses: Vec::new(),
            roamed: Vec::new(),
        };
        for _ in 0..threads {
            booted.recv().map_err(|_| "a thread of the load died")??;
        }
        Ok(crew)
    }

    /// What they all know.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// So many clients shall be there, over all threads.
    pub fn open(&self, clients: u32, per_s: Option<f64>) {
        let threads = self.hands.len() as u32;
        for (number, hand) in (0..threads).zip(&self.hands) {
            let share = clients / threads + u32::from(number < clients % threads);
            let per_s = per_s.map(|per_s| per_s / f64::from(threads));
            hand.command(Command::Open { clients: share, per_s });
        }
    }

    /// What callers shall do from now on; a rate is shared by the threads, one after the other.
    pub fn work(&self, work: Work) {
        let threads = self.hands.len() as f64;
        for (number, hand) in self.hands.iter().enumerate() {
            hand.command(Command::Work(match work {
                Work::Rate { from_us, per_s } => Work::Rate {
                    from_us: from_us + (number as f64 * 1e6 / per_s) as u64,
                    per_s: per_s / threads,
                },
                work => work,
            }));
        }
    }

    /// So many listeners stop reading.
    pub fn deafen(&self, listeners: u32) {
        let threads = self.hands.len() as u32;
        for (number, hand) in (0..threads).zip(&self.hands) {
            let share = listeners / threads + u32::from(number < listeners % threads);
            hand.command(Command::Deafen(share));
        }
    }

    /// They read again.
    pub fn hear(&self) {
        self.hands.iter().for_each(|hand| hand.command(Command::Hear));
    }

    /// Everyone leaves.
    pub fn close(&self) {
        self.hands.iter().for_each(|hand| hand.command(Command::Close));
    }

    /// Counters now.
    pub fn totals(&self) -> Totals {
        let sum = |of: fn(&Pulse) -> &std::sync::atomic::AtomicU64| {
            self.hands.iter().map(|hand| of(&hand.pulse).load(Ordering::Relaxed)).sum()
        };
        Totals {
            connecting: sum(|pulse| &pulse.connecting),
            ready: sum(|pulse| &pulse.ready),
            arrived: sum(|pulse| &pulse.arrived),
            failed: sum(|pulse| &pulse.failed),
            lost: sum(|pulse| &pulse.lost),
            right: sum(|pulse| &pulse.right),
            wrong: sum(|pulse| &pulse.wrong),
            missed: sum(|pulse| &pulse.missed),
            updates: sum(|pulse| &pulse.updates),
        }
    }

    /// CPU time of each thread so far, nanoseconds, as of its last window.
    pub fn cpu_ns(&self) -> Vec<u64> {
        self.hands.iter().map(|hand| hand.pulse.cpu_ns.load(Ordering::Relaxed)).collect()
    }

    /// When the latest update came.
    pub fn update_last_us(&self) -> u64 {
        self.max(|pulse| &pulse.update_last_us)
    }

    /// The longest time that a connection was unused before it was used again.
    pub fn unused_us_max(&self) -> u64 {
        self.max(|pulse| &pulse.unused_us_max)
    }

    fn max(&self, of: fn(&Pulse) -> &std::sync::atomic::AtomicU64) -> u64 {
        let all = self.hands.iter().map(|hand| of(&hand.pulse).load(Ordering::Relaxed));
        all.max().unwrap_or(0)
    }

    /// The first window that some thread has not told yet.
    pub fn open_window(&self) -> u64 {
        let all = self.hands.iter().map(|hand| hand.pulse.window.load(Ordering::Acquire));
        all.min().unwrap_or(u64::MAX)
    }

    /// Takes in what the threads told, waiting a moment for it.
    pub fn listen(&mut self, patience: Duration) {
        let mut next = self.reports.recv_timeout(patience).ok();
        while let Some(report) = next {
            match report {
                Report::Window(index, window) => {
                    self.windows.entry(index).or_default().merge(*window)
                }
                Report::Fault(why) => self.faults.add(why),
                Report::Census(census) => self.censuses.push(census),
                Report::Roamed(roamed) => self.roamed.push(roamed),
            }
            next = self.reports.try_recv().ok();
        }
    }

    /// Windows up to this one, as far as they were told.
    pub fn take_windows(&mut self, last: u64) -> Window {
        let later = self.windows.split_off(&(last + 1));
        let mut all = Window::default();
        for window in std::mem::replace(&mut self.windows, later).into_values() {
            all.merge(window);
        }
        all
    }

    /// The first faults, of all threads.
    pub fn faults(&self) -> &[String] {
        &self.faults.first
    }

    /// Looks at all clients; `None` if a thread does not answer.
    pub fn census(&mut self) -> Option<Census> {
        self.censuses.clear();
        self.hands.iter().for_each(|hand| hand.command(Command::Count));
        let deadline = Instant::now() + CENSUS_PATIENCE;
        while self.censuses.len() < self.hands.len() && Instant::now() < deadline {
            self.listen(Duration::from_millis(20));
        }
        if self.censuses.len() < self.hands.len() {
            return None;
        }
        let targets = vec![0; self.plan.targets.len()];
        let mut all = Census { targets, ..Census::default() };
        for one in &self.censuses {
            all.unused_us_max = all.unused_us_max.max(one.unused_us_max);
            all.ready.iter_mut().zip(one.ready).for_each(|(all, one)| *all += one);
            all.targets.iter_mut().zip(&one.targets).for_each(|(all, one)| *all += one);
        }
        Some(all)
    }

    /// Sessions are used from such a place from now on; `None` if a thread does not answer. Only connections that
    /// wait for nothing can be told.
    pub fn roam(&mut self, place: Place) -> Option<Roamed> {
        self.roamed.clear();
        self.hands.iter().for_each(|hand| hand.command(Command::Roam(place)));
        let deadline = Instant::now() + CENSUS_PATIENCE;
        while self.roamed.len() < self.hands.len() {
            if deadline < Instant::now() {
                return None;
            }
            self.listen(Duration::from_millis(20));
        }
        let sum = |of: fn(&Roamed) -> u64| self.roamed.iter().map(of).sum();
        let (placed, left) = (sum(|one| one.placed), sum(|one| one.left));
        Some(Roamed { placed, left, busy: sum(|one| one.busy) })
    }

    /// Whether every thread still runs.
    pub fn is_alive(&self) -> bool {
        self.hands.iter().all(|hand| hand.thread.as_ref().is_some_and(|one| !one.is_finished()))
    }
}

impl Hand {
    fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // A thread that died is found by `is_alive`.
            let _ = commands.send(command);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.hands.iter_mut().for_each(|hand| hand.commands = None);
        for thread in self.hands.iter_mut().filter_map(|hand| hand.thread.take()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn success_is_what_went_well_of_all_that_was_tried() {
        let totals = Totals { arrived: 10, right: 90, ..Totals::default() };
        assert_eq!(totals.success_percent(), Some(100.0));
        let totals = Totals { arrived: 10, lost: 1, right: 89, wrong: 1, ..Totals::default() };
        assert_eq!(totals.success_percent(), Some(98.0));
        assert_eq!(Totals::default().success_percent(), None);
        let totals = Totals { failed: 5, ..Totals::default() };
        assert_eq!(totals.success_percent(), Some(0.0));
    }
}
