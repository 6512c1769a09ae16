//! Clients come, and find the sessions they shall use.

use super::super::plan::{Roamed, Work};
use super::super::roam::Place;
use super::Run;

/// How clients came.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Opened {
    /// Asked for, those that were there before included.
    pub asked: u64,
    /// Ready at the end.
    pub ready: u64,
    /// Came meanwhile.
    pub arrived: u64,
    /// Did not come about.
    pub failed: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// How many came per second.
    pub per_s: Option<f64>,
}

impl Opened {
    /// The two as one, when one came right after the other.
    pub fn then(self, later: Opened) -> Opened {
        let (arrived, seconds) = (self.arrived + later.arrived, self.seconds + later.seconds);
        let per_s = (0.0 < seconds && 0 < arrived).then(|| arrived as f64 / seconds);
        let failed = self.failed + later.failed;
        Opened { arrived, failed, seconds, per_s, ..later }
    }
}

/// Without any new arrival or failure for so long opening is given up.
const OPEN_PATIENCE_S: f64 = 15.0;
/// How long calls under way may take to be answered.
const SETTLE_PATIENCE_US: u64 = 10_000_000;
impl Run {
    /// Opens connections until there are `count`; gives up when nothing comes any more.
    pub fn open(&mut self, count: u32) -> Result<Opened, String> {
        let (before, from) = (self.crew.totals(), self.us());
        // Clients whose connection ended do not come back.
        let wanted = u64::from(count);
        self.asked = count;
        let per_s = self.options.connect_rate.map(|rate| rate.0 as f64);
        self.crew.open(count, per_s);
        let (mut latest, mut done, mut ready) = (from, 0, before.ready);
        self.tick_until(f64::INFINITY, |run| {
            let totals = run.crew.totals();
            let settled = totals.arrived + totals.failed;
            if settled != done {
                (done, latest, ready) = (settled, run.us(), totals.ready);
            }
            let idle_s = (run.us() - latest) as f64 / 1e6;
            wanted <= settled || OPEN_PATIENCE_S < idle_s
        })?;
        if let Some(place) = self.options.roam {
            self.roam(place)?;
        }
        let after = self.crew.totals();
        let seconds = latest.saturating_sub(from) as f64 / 1e6;
        let arrived = after.arrived - before.arrived;
        Ok(Opened {
            asked: wanted,
            ready: ready.max(after.ready),
            arrived,
            failed: after.failed - before.failed,
            seconds,
            per_s: (0.0 < seconds && 0 < arrived).then(|| arrived as f64 / seconds),
        })
    }

    /// Sessions are used from such a place from now on.
    pub fn roam(&mut self, place: Place) -> Result<(), String> {
        self.crew.work(Work::Rest);
        let deadline = self.us() + SETTLE_PATIENCE_US;
        let mut roamed = self.crew.roam(place).ok_or("the threads of the load do not answer")?;
        // Who waits for an answer cannot change its session.
        while 0 < roamed.busy && self.us() < deadline {
            self.tick()?;
            roamed = self.crew.roam(place).ok_or("the threads of the load do not answer")?;
        }
        match roamed {
            Roamed { busy: 1.., .. } => Err("calls are not answered".to_owned()),
            Roamed { placed: 0, .. } => Err(format!(
                "no session can be used from place {place}: are there sessions (--mix session), of our server, \
                 on enough shards and nodes?"
            )),
            Roamed { left: 0, .. } => Ok(()),
            Roamed { placed, left, .. } => Err(format!(
                "only {placed} of {} connections found a session at place {place}: open more of them",
                placed + left
            )),
        }
    }
}
