//! What a working thread tells the one that directs it: counters at any time, and histograms twice a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use super::kind::Kind;

/// Length of a window, microseconds.
pub const WINDOW_US: u64 = 500_000;
/// Longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;

/// The time of a run, the same on all threads.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    /// Seconds since 1970 when it began.
    pub epoch: f64,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), epoch: since.as_secs_f64() }
    }

    /// Microseconds since it began.
    pub fn us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// The wall clock when it began.
    pub fn start_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(self.epoch)
    }
}

/// Counters of one thread; it alone writes them.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Connections under way.
    pub connecting: AtomicU64,
    /// Clients that are there.
    pub ready: AtomicU64,
    /// Clients that became ready, ever.
    pub arrived: AtomicU64,
    /// Connections that did not come about, or whose handshake failed.
    pub failed: AtomicU64,
    /// Clients that were ready and whose connection ended without our doing.
    pub lost: AtomicU64,
    /// Calls that were rightly answered.
    pub right: AtomicU64,
    /// Calls that were wrongly answered, or not at all because the connection ended.
    pub wrong: AtomicU64,
    /// Calls that were due and for which no connection was free for too long.
    pub missed: AtomicU64,
    /// Updates that listeners got.
    pub updates: AtomicU64,
    /// When the last one came.
    pub update_last_us: AtomicU64,
    /// The window that is open; those before it have been told.
    pub window: AtomicU64,
    /// CPU time of the thread, nanoseconds.
    pub cpu_ns: AtomicU64,
    /// Longest time that a connection was not used before it was used again.
    pub unused_us_max: AtomicU64,
}

/// Adds to a counter that this thread alone writes.
pub fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// Takes from a counter that this thread alone writes.
pub fn take(counter: &AtomicU64, less: u64) {
    counter.store(counter.load(Ordering::Relaxed).saturating_sub(less), Ordering::Relaxed);
}

/// What happened in one window, on one thread or on all.
#[derive(Debug, Default)]
pub struct Window {
    /// Latencies of right answers in microseconds, by kind.
    pub calls: [Option<Box<Histogram<u64>>>; 6],
    /// Time until clients were ready, microseconds.
    pub connects: Option<Box<Histogram<u64>>>,
    /// How much later than intended calls were sent because *we* were late, microseconds.
    pub lags: Option<Box<Histogram<u64>>>,
    /// Time of updates since they were published, microseconds.
    pub updates: Option<Box<Histogram<u64>>>,
    /// Wrong answers.
    pub wrong: u64,
}

impl Window {
    /// A right answer.
    pub fn call(&mut self, kind: Kind, us: u64) {
        record(&mut self.calls[kind as usize], us);
    }

    /// A client that became ready.
    pub fn connect(&mut self, us: u64) {
        record(&mut self.connects, us);
    }

    /// A call that was sent so much later than intended.
    pub fn lag(&mut self, us: u64) {
        record(&mut self.lags, us);
    }

    /// An update.
    pub fn update(&mut self, us: u64) {
        record(&mut self.updates, us);
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.calls.iter().all(Option::is_none)
            && self.connects.is_none()
            && self.lags.is_none()
            && self.updates.is_none()
            && self.wrong == 0
    }

    /// Adds another.
    pub fn merge(&mut self, other: Window) {
        for (into, from) in self.calls.iter_mut().zip(other.calls) {
            merge(into, from);
        }
        merge(&mut self.connects, other.connects);
        merge(&mut self.lags, other.lags);
        merge(&mut self.updates, other.updates);
        self.wrong += other.wrong;
    }

    /// Latencies of all kinds together.
    pub fn all_calls(&self) -> Option<Histogram<u64>> {
        let mut all: Option<Histogram<u64>> = None;
        for one in self.calls.iter().flatten() {
            match &mut all {
                None => all = Some((**one).clone()),
                Some(all) => add_histogram(all, one),
            }
        }
        all
    }
}

/// An empty histogram of latencies.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds that hdrhistogram accepts")
}

/// Adds a histogram made by [`histogram`] to another.
pub fn add_histogram(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from).expect("histograms of the same bounds");
}

fn record(into: &mut Option<Box<Histogram<u64>>>, us: u64) {
    into.get_or_insert_with(|| Box::new(histogram())).saturating_record(us);
}

fn merge(into: &mut Option<Box<Histogram<u64>>>, from: Option<Box<Histogram<u64>>>) {
    match (into.as_mut(), from) {
        (_, None) => {}
        (None, from) => *into = from,
        (Some(into), Some(from)) => add_histogram(into, &from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_add_up() {
        let mut all = Window::default();
        assert!(all.is_empty() && all.all_calls().is_none());
        for (kind, us) in [(Kind::Http, 100), (Kind::Ws, 300), (Kind::Http, 200)] {
            let mut one = Window::default();
            one.call(kind, us);
            one.wrong = 1;
            all.merge(one);
        }
        let calls = all.all_calls().unwrap();
        assert_eq!((calls.len(), calls.max(), all.wrong), (3, 300, 3));
        assert_eq!(all.calls[Kind::Http as usize].as_ref().unwrap().len(), 2);
    }

    #[test]
    fn a_latency_beyond_the_last_bucket_is_kept_in_it() {
        let mut one = Window::default();
        one.call(Kind::Tcp, u64::MAX);
        assert_eq!(one.all_calls().unwrap().len(), 1);
    }
}
