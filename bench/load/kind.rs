//! Kinds of clients, and how many of each there shall be.

use std::fmt;
use std::str::FromStr;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Calls over keep-alive HTTP, without a session.
    Http,
    /// A legacy session: initialize, initialized, calls that carry its id.
    Session,
    /// A legacy session that holds its GET stream and is subscribed to a resource.
    Stream,
    /// A `subscriptions/listen` stream.
    Listen,
    /// A WebSocket.
    Ws,
    /// Lines of JSON over TCP.
    Tcp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Http, Kind::Session, Kind::Stream, Kind::Listen, Kind::Ws, Kind::Tcp];

    /// As the command line names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::Session => "session",
            Kind::Stream => "stream",
            Kind::Listen => "listen",
            Kind::Ws => "ws",
            Kind::Tcp => "tcp",
        }
    }

    /// Whether calls go over its connection; the others hold theirs open and listen.
    pub const fn is_caller(self) -> bool {
        !matches!(self, Kind::Stream | Kind::Listen)
    }
}

/// Weights of the kinds, in the order of [`Kind::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix([u32; 6]);

impl Mix {
    /// Only this kind.
    pub fn only(kind: Kind) -> Self {
        let mut weights = [0; 6];
        weights[kind as usize] = 1;
        Self(weights)
    }

    /// The kinds that occur.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| self.0[*kind as usize] != 0)
    }

    /// Whether this kind occurs.
    pub fn has(&self, kind: Kind) -> bool {
        self.0[kind as usize] != 0
    }

    /// The kind of each client, in the order in which they arrive: whenever one looks, the kinds are there in
    /// their proportion.
    pub fn deal(&self) -> Deal {
        Deal { weights: self.0.map(i64::from), credit: [0; 6] }
    }
}

/// Smooth weighted round robin.
#[derive(Debug, Clone)]
pub struct Deal {
    weights: [i64; 6],
    credit: [i64; 6],
}

impl Iterator for Deal {
    type Item = Kind;

    fn next(&mut self) -> Option<Kind> {
        let total: i64 = self.weights.iter().sum();
        for (credit, weight) in self.credit.iter_mut().zip(self.weights) {
            *credit += weight;
        }
        let richest = (0..6).rev().max_by_key(|index| self.credit[*index])?;
        self.credit[richest] -= total;
        Some(Kind::ALL[richest])
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = [0; 6];
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, weight) = word.split_once('=').unwrap_or((word, "1"));
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name.trim());
            let kind = kind.ok_or_else(|| {
                format!("there is no kind of client called {name:?}; {}", known_kinds())
            })?;
            let weight: u32 = weight.trim().parse().map_err(|_| format!("{word:?}: {HOW}"))?;
            weights[kind as usize] = weight.min(WEIGHT_MAX);
        }
        if weights.iter().all(|weight| *weight == 0) {
            return Err(HOW.to_owned());
        }
        Ok(Self(weights))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.kinds().map(|kind| format!("{}={}", kind.as_str(), self.0[kind as usize]));
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

/// Sums of weights stay far from any bound.
const WEIGHT_MAX: u32 = 1_000_000;
const HOW: &str = "say a mix like http=40,ws=20,tcp=20,listen=10,session=10";

fn known_kinds() -> String {
    format!("there are {}", Kind::ALL.map(Kind::as_str).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hundred_clients_are_the_mix() {
        let mix: Mix = "http=40,ws=20,tcp=20,listen=10,session=10".parse().unwrap();
        let mut deal = mix.deal();
        for round in 0..3 {
            let mut seen = [0; 6];
            for _ in 0..100 {
                seen[deal.next().unwrap() as usize] += 1;
            }
            assert_eq!(seen, [40, 10, 0, 10, 20, 20], "round {round}");
        }
        let kinds: Vec<Kind> = mix.deal().take(3).collect();
        assert!(kinds.windows(2).any(|pair| pair[0] != pair[1]), "interleaved: {kinds:?}");
        assert_eq!(mix.to_string(), "http=40,session=10,listen=10,ws=20,tcp=20");
    }

    #[test]
    fn a_mix_may_be_one_word_and_must_be_of_known_kinds() {
        assert_eq!("ws".parse(), Ok(Mix::only(Kind::Ws)));
        for text in ["", "http=0", "http=x", "smtp=1"] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }
}
