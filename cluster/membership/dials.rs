//! Whom to dial, and when: peers of the configuration for ever, members as long as they are known.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::DialFailed;
use super::dice::Dice;
use crate::Millis;
use crate::link::{CONNECT_MS_MAX, HANDSHAKE_MS_MAX};

/// Peers in a configuration.
pub const SEEDS_MAX: usize = 64;
/// The pause after a first failure; it doubles.
pub const REDIAL_MS_MIN: Millis = 100;
/// The longest pause between attempts at an address where nobody is found.
pub const REDIAL_MS_MAX: Millis = 2_000;
/// The longest pause after a refusal: an operator has to act first.
pub const REFUSED_MS_MAX: Millis = 10_000;
/// An attempt without a report after this is forgotten.
const DIAL_MS_MAX: Millis = CONNECT_MS_MAX + HANDSHAKE_MS_MAX + 1_000;
/// A link that lives this long proves that there was nothing wrong with dialling.
const STEADY_MS: Millis = 1_000;

#[derive(Debug, Default)]
pub(super) struct Dials(BTreeMap<SocketAddr, Dial>);

#[derive(Debug)]
struct Dial {
    is_seed: bool,
    /// Who was found there last, or says that it is there.
    node: Option<u16>,
    /// Failures since a link last held.
    failures: u32,
    /// Since when an attempt is under way.
    dialling: Option<Millis>,
    due: Millis,
    /// When a link was last made from here.
    linked: Millis,
    refused: bool,
}

impl Dials {
    pub fn with_seeds(seeds: &[SocketAddr], now: Millis) -> Self {
        let mut dials = Self::default();
        for seed in seeds.iter().take(SEEDS_MAX) {
            dials.0.entry(*seed).or_insert_with(|| Dial::new(None, now)).is_seed = true;
        }
        dials
    }

    /// A node says that it is there: it is worth trying now.
    pub fn add(&mut self, address: SocketAddr, node: u16, now: Millis) {
        let dial = self.0.entry(address).or_insert_with(|| Dial::new(Some(node), now));
        dial.node = Some(node);
        dial.due = dial.due.min(now);
    }

    /// Nobody says any more that this node is there.
    pub fn remove(&mut self, node: u16) {
        self.0.retain(|_, dial| dial.is_seed || dial.node != Some(node));
    }

    /// What to dial now. `wanted` tells whether a link with that node is missing.
    pub fn take_due(&mut self, now: Millis, wanted: impl Fn(u16) -> bool) -> Vec<SocketAddr> {
        let mut due = Vec::new();
        for (address, dial) in &mut self.0 {
            if dial.dialling.is_some_and(|since| since + DIAL_MS_MAX <= now) {
                dial.dialling = None;
            }
            if dial.dialling.is_none() && dial.due <= now && dial.node.is_none_or(&wanted) {
                dial.dialling = Some(now);
                due.push(*address);
            }
        }
        due
    }

    /// When something may be due next.
    pub fn next_due(&self, wanted: impl Fn(u16) -> bool) -> Option<Millis> {
        let waits = |dial: &&Dial| dial.dialling.is_none() && dial.node.is_none_or(&wanted);
        self.0.values().filter(waits).map(|dial| dial.due).min()
    }

    pub fn handle_linked(&mut self, address: SocketAddr, node: u16, now: Millis) {
        if let Some(dial) = self.0.get_mut(&address) {
            (dial.node, dial.dialling, dial.linked, dial.refused) = (Some(node), None, now, false);
        }
    }

    /// Which node was expected there.
    pub fn handle_failed(
        &mut self,
        address: SocketAddr,
        why: DialFailed,
        now: Millis,
        dice: &mut Dice,
    ) -> Option<u16> {
        let dial = self.0.get_mut(&address)?;
        dial.dialling = None;
        dial.refused = why == DialFailed::Handshake;
        dial.pause(now, dice);
        dial.node
    }

    /// The link to this node ended. At once again, unless links to it never hold.
    pub fn handle_unlinked(&mut self, node: u16, now: Millis, dice: &mut Dice) {
        for dial in self.0.values_mut().filter(|dial| dial.node == Some(node)) {
            if dial.linked + STEADY_MS <= now {
                dial.failures = 0;
            }
            if dial.failures == 0 {
                (dial.failures, dial.due) = (1, now);
            } else {
                dial.pause(now, dice);
            }
        }
    }

    /// The node was heard, so there is a way: do not wait long.
    pub fn hasten(&mut self, node: u16, now: Millis) {
        for dial in self.0.values_mut().filter(|dial| dial.node == Some(node) && !dial.refused) {
            dial.due = dial.due.min(now + REDIAL_MS_MIN);
        }
    }

    /// Nothing before then.
    pub fn postpone(&mut self, until: Millis) {
        self.0.values_mut().for_each(|dial| dial.due = dial.due.max(until));
    }
}

impl Dial {
    fn new(node: Option<u16>, due: Millis) -> Self {
        let (is_seed, failures, dialling, linked, refused) = (false, 0, None, 0, false);
        Self { is_seed, node, failures, dialling, due, linked, refused }
    }

    fn pause(&mut self, now: Millis, dice: &mut Dice) {
        let max = if self.refused { REFUSED_MS_MAX } else { REDIAL_MS_MAX };
        let pause = (REDIAL_MS_MIN << self.failures.min(10)).min(max);
        self.failures = self.failures.saturating_add(1);
        // From three quarters of it to all of it, so that nodes do not dial in step.
        self.due = now + pause - dice.below(pause / 4);
    }
}
