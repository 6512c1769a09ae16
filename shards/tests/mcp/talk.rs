//! A client of some kind, in conversation with the world.

use super::http::Http;
use super::ledger::Ledger;
use super::world::{Dice, World};

/// A conversation. It judges what it hears as it hears it, and panics when that is wrong.
pub trait Talk {
    /// Says a little more, hears what there is. `world` is only there to connect to.
    fn go_on(&mut self, world: &World, dice: &mut Dice);
    /// All is said, and everything that must be heard was. Connections that died are excuses.
    fn is_over(&self) -> bool;
    /// Nothing was excused: only in a world where nothing is lost.
    fn is_complete(&self) -> bool;
    /// Says nothing new, and takes a refusal for an answer: the server drains.
    fn wind_down(&mut self);
    /// All connections end, as the dice want it.
    fn leave(&mut self, dice: &mut Dice);
    /// Calls that run for certain.
    fn running(&self) -> Vec<String>;
    fn ledger(&self) -> &Ledger;
}

/// A connection, and what is done on it.
pub struct Lane<J> {
    pub http: Http,
    pub job: Option<J>,
}

/// A few connections of one client, each with at most one job.
pub struct Lanes<J> {
    pub all: Vec<Lane<J>>,
    most: usize,
}

impl<J> Lanes<J> {
    pub fn new(most: usize) -> Self {
        Self { all: Vec::new(), most }
    }

    /// A connection with nothing to do, to whichever shard; `None` when all are busy.
    pub fn free(&mut self, world: &World, dice: &mut Dice) -> Option<&mut Lane<J>> {
        let idle = |lane: &Lane<J>| lane.job.is_none() && !lane.http.wire.is_dead();
        let has_idle = self.all.iter().any(idle);
        if self.all.len() < self.most && (!has_idle || dice.percent(30)) {
            self.all.push(Lane { http: Http::new(&world.net, dice.shard()), job: None });
            return self.all.last_mut();
        }
        self.all.iter_mut().find(|lane| idle(lane))
    }

    /// Forgets connections that ended while nothing was done on them.
    pub fn bury(&mut self) {
        self.all.retain(|lane| lane.job.is_some() || !lane.http.is_dead());
    }

    pub fn leave(&mut self, dice: &mut Dice) {
        self.all.iter_mut().for_each(|lane| lane.http.wire.leave(dice));
    }
}
