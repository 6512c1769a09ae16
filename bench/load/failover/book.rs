//! Every session, what became of every attempt to use it, and whose fault it was when one failed.
//!
//! An attempt is one request on one connection. A call is made of attempts until one is answered rightly: clients try
//! again where they were told to, or where the connection broke. So a call fails only when it was given up.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::roam::Home;

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: Box<str>,
    /// What its id says of where it lives, if it is one of ours.
    pub home: Option<Home>,
    /// The target at which it was opened.
    pub target: u16,
    /// First right answer to an attempt that began after the fault, microseconds of the run.
    pub answered_us: Option<u64>,
    /// Attempts since the fault until then.
    pub attempts: u32,
    /// What was last said instead of a right answer.
    pub refusal: Option<String>,
    /// A node said that there is no such session.
    pub is_lost: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Rightly.
    Right,
    /// The server says: again, after so many seconds.
    Again(Option<u32>, String),
    /// The connection ended.
    Cut(String),
    /// No answer came in time.
    Late,
    /// There is no such session.
    Gone(String),
    /// Anything else.
    Wrong(String),
}

impl Ending {
    /// As results name it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Ending::Right => "right",
            Ending::Again(..) => "told_to_retry",
            Ending::Cut(_) => "connection_ended",
            Ending::Late => "no_answer",
            Ending::Gone(_) => "session_not_found",
            Ending::Wrong(_) => "wrong",
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Ending::Right => None,
            Ending::Late => Some("no answer in time"),
            Ending::Again(_, text)
            | Ending::Cut(text)
            | Ending::Gone(text)
            | Ending::Wrong(text) => Some(text),
        }
    }
}

/// What a failed attempt has to do with the node that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// It was under way to the node, or to a session on it, when the node failed.
    InFlight,
    /// It was sent to the node itself afterwards.
    ToTheNode,
    /// It was for one of the node's sessions, afterwards, before that had moved.
    ItsSession,
    /// Nothing: this must not happen.
    None,
}

impl Blame {
    /// All of them.
    pub const ALL: [Blame; 4] = [Blame::InFlight, Blame::ToTheNode, Blame::ItsSession, Blame::None];

    /// As results name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::InFlight => "in_flight",
            Blame::ToTheNode => "to_the_node",
            Blame::ItsSession => "its_session",
            Blame::None => "none",
        }
    }
}

/// An attempt that ended.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Index of the session; `None` when one was to be opened.
    pub session: Option<u32>,
    /// The target it was sent to.
    pub target: u16,
    /// When.
    pub sent_us: u64,
}

/// A node's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The target.
    pub target: u16,
    /// When.
    pub at_us: u64,
    /// How many sessions there were, over all nodes; those that came later did not have to move.
    pub sessions: usize,
}

/// A tenth of a second of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beat {
    /// Right answers.
    pub right: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// The longest that a right answer took from when it was due, microseconds.
    pub longest_us: u64,
}

/// Length of a beat.
pub const BEAT_US: u64 = 100_000;
/// Beats kept: an hour.
const BEATS_MAX: usize = 36_000;
/// Different texts kept.
const TEXTS_MAX: usize = 64;
/// Bytes of a text kept.
const TEXT_BYTES_MAX: usize = 200;

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    /// All sessions that were opened.
    pub sessions: Vec<Session>,
    /// The node that failed.
    pub fault: Option<Failure>,
    /// Since when it serves again.
    pub healed_us: Option<u64>,
    /// Right answers.
    pub right: u64,
    /// Calls that were given up.
    pub given_up: u64,
    /// Calls that were due and that nobody could make in time.
    pub missed: u64,
    /// Failed attempts.
    pub failed: BTreeMap<(Blame, &'static str), u64>,
    /// What was said, and how often.
    pub texts: BTreeMap<String, u64>,
    /// The course of the run.
    pub beats: Vec<Beat>,
}

impl Book {
    /// An attempt ended; `due_us` is when its call should first have been made.
    pub fn end(&mut self, attempt: Attempt, ending: &Ending, due_us: u64, now_us: u64) {
        let blame = self.blame(attempt);
        let after_fault = self.fault.is_some_and(|fault| fault.at_us <= attempt.sent_us);
        let beat = self.beat(now_us);
        match ending {
            Ending::Right => {
                beat.right += 1;
                beat.longest_us = beat.longest_us.max(now_us.saturating_sub(due_us));
                self.right += 1;
            }
            ending => {
                beat.failed += 1;
                *self.failed.entry((blame, ending.as_str())).or_default() += 1;
            }
        }
        let text = ending.text().map(shortened);
        if let Some(text) = &text
            && (self.texts.len() < TEXTS_MAX || self.texts.contains_key(text))
        {
            *self.texts.entry(text.clone()).or_default() += 1;
        }
        let Some(session) = attempt.session else { return };
        let Some(session) = self.sessions.get_mut(session as usize) else { return };
        session.is_lost = matches!(ending, Ending::Gone(_));
        if after_fault && session.answered_us.is_none() {
            session.attempts += 1;
            match text {
                None => session.answered_us = Some(now_us),
                Some(text) => session.refusal = Some(text),
            }
        }
    }

    fn blame(&self, attempt: Attempt) -> Blame {
        let Some(Failure { target: victim, at_us: at, sessions }) = self.fault else {
            return Blame::None;
        };
        let old = attempt.session.filter(|index| (*index as usize) < sessions);
        let session = old.and_then(|index| self.sessions.get(index as usize));
        let is_there = attempt.target == victim;
        let is_its = session.is_some_and(|session| session.target == victim);
        let has_moved = session.is_some_and(|session| session.answered_us.is_some());
        let was_up = self.healed_us.is_some_and(|healed| healed <= attempt.sent_us);
        match () {
            () if was_up => Blame::None,
            () if attempt.sent_us < at && (is_there || is_its) => Blame::InFlight,
            () if attempt.sent_us < at => Blame::None,
            () if is_there => Blame::ToTheNode,
            () if is_its && !has_moved => Blame::ItsSession,
            () => Blame::None,
        }
    }

    fn beat(&mut self, now_us: u64) -> &mut Beat {
        let index = ((now_us / BEAT_US) as usize).min(BEATS_MAX - 1);
        if self.beats.len() <= index {
            self.beats.resize(index + 1, Beat::default());
        }
        &mut self.beats[index]
    }

    /// Failed attempts with this blame.
    pub fn failed_by(&self, blame: Blame) -> u64 {
        self.failed.iter().filter(|((by, _), _)| *by == blame).map(|(_, count)| count).sum()
    }

    /// All failed attempts.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Sessions of the node that failed.
    pub fn of_victim(&self) -> impl Iterator<Item = (u32, &Session)> {
        let fault = self.fault;
        let all = (0..).zip(&self.sessions).take(fault.map_or(0, |fault| fault.sessions));
        all.filter(move |(_, session)| fault.is_some_and(|fault| fault.target == session.target))
    }

    /// Sessions of the node that failed which have not answered since.
    pub fn waiting(&self) -> usize {
        self.of_victim().filter(|(_, session)| session.answered_us.is_none()).count()
    }

    /// Sessions whose last attempt said that there is no such session.
    pub fn lost(&self) -> usize {
        self.sessions.iter().filter(|session| session.is_lost).count()
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT_US: u64 = 1_000_000;

    /// Three sessions, one opened at each of three targets; target 1 failed.
    fn book() -> Book {
        let session = |target| Session {
            id: "s".into(),
            home: None,
            target,
            answered_us: None,
            attempts: 0,
            refusal: None,
            is_lost: false,
        };
        Book {
            sessions: (0..3).map(session).collect(),
            fault: Some(Failure { target: 1, at_us: FAULT_US, sessions: 3 }),
            ..Book::default()
        }
    }

    fn attempt(session: u32, target: u16, sent_us: u64) -> Attempt {
        Attempt { session: Some(session), target, sent_us }
    }

    #[track_caller]
    fn check(attempt: Attempt, expect: Blame) {
        let mut book = book();
        book.end(attempt, &Ending::Late, 0, FAULT_US + 5);
        assert_eq!(book.failed_by(expect), 1, "{attempt:?}: {:?}", book.failed);
        assert_eq!(book.failures(), 1);
    }

    #[test]
    fn a_failure_is_the_nodes_or_nobodys() {
        let (before, after) = (FAULT_US - 1, FAULT_US);
        check(attempt(0, 1, before), Blame::InFlight);
        check(attempt(1, 0, before), Blame::InFlight);
        check(attempt(0, 2, before), Blame::None);
        check(attempt(0, 1, after), Blame::ToTheNode);
        check(attempt(1, 0, after), Blame::ItsSession);
        check(attempt(2, 0, after), Blame::None);
    }

    #[test]
    fn a_session_that_has_moved_has_no_excuse_and_neither_has_a_node_that_is_back() {
        let mut book = book();
        book.end(attempt(1, 0, FAULT_US), &Ending::Again(None, "moving".into()), 0, FAULT_US + 10);
        assert_eq!((book.waiting(), book.failed_by(Blame::ItsSession)), (1, 1));
        book.end(attempt(1, 0, FAULT_US + 20), &Ending::Right, FAULT_US + 20, FAULT_US + 30);
        assert_eq!((book.waiting(), book.sessions[1].attempts), (0, 2));
        assert_eq!(book.sessions[1].answered_us, Some(FAULT_US + 30));
        assert_eq!(book.sessions[1].refusal.as_deref(), Some("moving"));
        book.end(attempt(1, 0, FAULT_US + 40), &Ending::Gone("404".into()), 0, FAULT_US + 50);
        assert_eq!((book.failed_by(Blame::None), book.lost()), (1, 1));
        book.end(attempt(1, 2, FAULT_US + 60), &Ending::Right, 0, FAULT_US + 70);
        assert_eq!(book.lost(), 0, "it was only not found for a while");
        book.healed_us = Some(FAULT_US + 100);
        book.end(attempt(0, 1, FAULT_US + 100), &Ending::Late, 0, FAULT_US + 200);
        assert_eq!(book.failed_by(Blame::None), 2);
    }

    #[test]
    fn answers_before_the_fault_say_nothing_of_what_comes_after() {
        let mut book = book();
        book.end(attempt(1, 0, FAULT_US - 1), &Ending::Right, FAULT_US - 1, FAULT_US + 1);
        assert_eq!(book.waiting(), 1);
        let beat = Beat { right: 1, failed: 0, longest_us: 2 };
        assert_eq!(book.beats[(FAULT_US / BEAT_US) as usize], beat);
    }

    #[test]
    fn sessions_that_came_after_the_fault_did_not_have_to_move() {
        let mut book = book();
        let later = Session { target: 1, ..book.sessions[1].clone() };
        book.sessions.push(later);
        assert_eq!((book.of_victim().count(), book.waiting()), (1, 1));
        book.end(attempt(3, 0, FAULT_US + 1), &Ending::Late, 0, FAULT_US + 2);
        assert_eq!(book.failed_by(Blame::None), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut book = book();
        for number in 0..1000 {
            let text = format!("{number}{}", "x".repeat(10_000));
            book.end(attempt(0, 0, 0), &Ending::Wrong(text), 0, u64::MAX);
        }
        assert_eq!((book.texts.len(), book.beats.len()), (TEXTS_MAX, BEATS_MAX));
        assert!(book.texts.keys().all(|text| text.len() <= TEXT_BYTES_MAX));
    }
}
