//! Several servers under the same load: ratios of one round, and how far rounds lie apart.
//!
//! The first server of `compare.csv` is the subject, the others are its peers. A ratio above one
//! always means that the subject did better: more calls, or less of everything else. Only rows of
//! the same round are compared.

use super::raw::{Measure, Round};
use super::unit::Unit;
use crate::numbers::Spread;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// As it was measured.
    Measured(Measure),
    /// p99 by p50: how much longer the unlucky wait.
    Fairness,
}

impl Compared {
    /// In the order of the page.
    pub const ALL: [Self; 7] = [
        Self::Measured(Measure::Calls),
        Self::Measured(Measure::Cpu),
        Self::Measured(Measure::P50),
        Self::Measured(Measure::P99),
        Self::Fairness,
        Self::Measured(Measure::Rss),
        Self::Measured(Measure::PerConnection),
    ];

    /// For the anchors of the page.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Measured(Measure::Calls) => "compare-calls",
            Self::Measured(Measure::Cpu) => "compare-cpu",
            Self::Measured(Measure::P50) => "compare-p50",
            Self::Measured(Measure::P99) => "compare-p99",
            Self::Measured(Measure::Rss) => "compare-rss",
            Self::Measured(Measure::PerConnection) => "compare-per-connection",
            Self::Fairness => "compare-fairness",
        }
    }

    /// What it is.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Measured(Measure::Calls) => "calls per second",
            Self::Measured(Measure::Cpu) => "CPU per call",
            Self::Measured(Measure::P50) => "latency p50",
            Self::Measured(Measure::P99) => "latency p99",
            Self::Measured(Measure::Rss) => "memory of the server",
            Self::Measured(Measure::PerConnection) => "memory per connection",
            Self::Fairness => "p99 by p50",
        }
    }

    /// What a ratio says.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Measured(Measure::Calls) => "Calls per second: how many times as many",
            Self::Measured(Measure::Cpu) => "CPU per call: how many times less",
            Self::Measured(Measure::P50) => "Latency p50: how many times shorter",
            Self::Measured(Measure::P99) => "Latency p99: how many times shorter",
            Self::Measured(Measure::Rss) => "Memory of the server: how many times less",
            Self::Measured(Measure::PerConnection) => "Memory per connection: how many times less",
            Self::Fairness => "p99 by p50: how many times fairer",
        }
    }

    /// What it counts.
    pub const fn unit(self) -> Unit {
        match self {
            Self::Measured(Measure::Calls) => Unit::PerSecond,
            Self::Measured(Measure::Cpu) => Unit::Microseconds,
            Self::Measured(Measure::P50 | Measure::P99) => Unit::Milliseconds,
            Self::Measured(Measure::Rss | Measure::PerConnection) => Unit::Bytes,
            Self::Fairness => Unit::Times,
        }
    }

    fn of(self, round: &Round) -> Option<f64> {
        match self {
            Self::Measured(measure) => measure.of(round),
            Self::Fairness => {
                let p50 = Measure::P50.of(round).filter(|p50| 0.0 < *p50)?;
                Some(Measure::P99.of(round)? / p50)
            }
        }
    }

    /// How much better the subject did; `None` if one of them did nothing.
    fn ratio(self, subject: &Round, peer: &Round) -> Option<f64> {
        let (subject, peer) = (self.of(subject)?, self.of(peer)?);
        let ratio = match self {
            Self::Measured(Measure::Calls) => subject / peer,
            _ => peer / subject,
        };
        (ratio.is_finite() && 0.0 < ratio).then_some(ratio)
    }
}

/// The rounds of a comparison, by server and by connections.
#[derive(Debug)]
pub struct Comparison<'r> {
    rounds: &'r [Round],
    /// In the order in which they first appear; the subject first.
    pub servers: Vec<&'r str>,
    /// In ascending order.
    pub connections: Vec<u64>,
}

impl<'r> Comparison<'r> {
    /// Of the rows of `compare.csv`; `None` if there are none.
    pub fn new(rounds: &'r [Round]) -> Option<Self> {
        let mut servers: Vec<&str> = Vec::new();
        let mut connections: Vec<u64> = Vec::new();
        for round in rounds {
            if !servers.contains(&round.server.as_str()) {
                servers.push(&round.server);
            }
            connections.push(round.connections);
        }
        connections.sort_unstable();
        connections.dedup();
        (!servers.is_empty()).then_some(Self { rounds, servers, connections })
    }

    /// Which the others are compared with.
    pub fn subject(&self) -> &'r str {
        self.servers[0]
    }

    /// The others.
    pub fn peers(&self) -> &[&'r str] {
        &self.servers[1..]
    }

    /// What one server did under so many connections.
    pub fn measured(&self, what: Compared, server: &str, connections: u64) -> Option<Spread> {
        Spread::of(self.rows(server, connections).filter_map(|round| what.of(round)))
    }

    /// How much better the subject did than this peer, round by round, and in how many rounds both
    /// were measured.
    pub fn ratio(&self, what: Compared, peer: &str, connections: u64) -> Option<(Spread, usize)> {
        let ratios: Vec<f64> = self
            .rows(peer, connections)
            .filter_map(|peer| {
                let mut subject = self.rows(self.subject(), connections);
                let subject = subject.find(|subject| subject.round == peer.round)?;
                what.ratio(subject, peer)
            })
            .collect();
        Some((Spread::of(ratios.iter().copied())?, ratios.len()))
    }

    fn rows(&self, server: &str, connections: u64) -> impl Iterator<Item = &'r Round> {
        let mine = move |round: &&Round| round.server == server && round.connections == connections;
        self.rounds.iter().filter(mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(round: u64, server: &str, calls: f64, cpu: f64) -> Round {
        let measured = [Some(calls), Some(cpu), Some(1.0), Some(3.0), None, None];
        Round { round, server: server.into(), connections: 64, measured }
    }

    #[test]
    fn above_one_the_subject_did_better() {
        let rounds = [
            round(1, "ours", 100.0, 5.0),
            round(1, "theirs", 20.0, 30.0),
            round(2, "theirs", 25.0, 40.0),
            round(2, "ours", 200.0, 5.0),
            round(3, "theirs", 1.0, 1.0),
        ];
        let comparison = Comparison::new(&rounds).unwrap();
        assert_eq!((comparison.subject(), comparison.peers()), ("ours", ["theirs"].as_slice()));
        let ratio = |what| comparison.ratio(what, "theirs", 64);
        let calls = Spread { median: 6.5, min: 5.0, max: 8.0 };
        assert_eq!(
            ratio(Compared::Measured(Measure::Calls)),
            Some((calls, 2)),
            "round 3 has no pair"
        );
        let cpu = Spread { median: 7.0, min: 6.0, max: 8.0 };
        assert_eq!(ratio(Compared::Measured(Measure::Cpu)), Some((cpu, 2)));
        let even = Spread { median: 1.0, min: 1.0, max: 1.0 };
        assert_eq!(ratio(Compared::Fairness), Some((even, 2)));
        assert_eq!(ratio(Compared::Measured(Measure::Rss)), None);
        assert_eq!(comparison.ratio(Compared::Measured(Measure::Calls), "theirs", 65), None);
        let measured = comparison.measured(Compared::Measured(Measure::Calls), "theirs", 64);
        assert_eq!(measured, Some(Spread { median: 20.0, min: 1.0, max: 25.0 }));
    }

    #[test]
    fn a_server_that_did_nothing_has_no_ratio() {
        let rounds = [round(1, "ours", 100.0, 5.0), round(1, "theirs", 0.0, 0.0)];
        let comparison = Comparison::new(&rounds).unwrap();
        for what in Compared::ALL.into_iter().take(2) {
            assert_eq!(comparison.ratio(what, "theirs", 64), None, "{what:?}");
        }
        assert!(Comparison::new(&[]).is_none());
    }
}
