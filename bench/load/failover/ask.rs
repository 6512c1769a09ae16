//! What clients of a cluster ask, how an answer ends it, and when it is tried again.

use super::book::Ending;
use super::exchange::Answer;
use crate::load::check::{Checker, Verdict};

/// A call is tried for so long.
const CALL_PATIENCE_US: u64 = 30_000_000;
/// Where the server does not say when to come again.
const AGAIN_US: u64 = 100_000;
/// A probe does not wait for what it is told: it shall find out when a session answers.
const PROBE_AGAIN_US: u64 = 50_000;

/// Why a session is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The steady load.
    Load,
    /// To find out whether a session of the node that failed answers.
    Probe,
    /// To find out whether every session is there.
    Sweep,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A new session.
    Open,
    /// A session's `notifications/initialized`.
    Acknowledge(u32),
    /// A call in a session.
    Call(u32, Purpose),
    /// Whether the node is well.
    Health,
}

/// Something to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// What.
    pub what: What,
    /// Only there.
    pub at: Option<u16>,
    /// When it should first have been sent.
    pub due_us: u64,
    /// When it was sent, the last time.
    pub sent_us: u64,
    /// Of the request.
    pub id: u64,
}

/// What becomes of something that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is over.
    Done,
    /// It is asked again then.
    Again(u64),
    /// It was tried for long enough.
    GivenUp,
}

impl Ask {
    /// Not sent yet.
    pub fn new(what: What, at: Option<u16>, due_us: u64) -> Self {
        Self { what, at, due_us, sent_us: 0, id: 0 }
    }

    /// The session that it is for, if there is one.
    pub fn session(&self) -> Option<u32> {
        match self.what {
            What::Acknowledge(session) | What::Call(session, _) => Some(session),
            What::Open | What::Health => None,
        }
    }

    /// How this answer ends the attempt.
    pub fn judge(&self, answer: &Answer, checker: &mut Checker) -> Ending {
        match (self.what, answer.status) {
            (_, 429 | 503) => Ending::Again(answer.retry_after_s, answer.complaint()),
            (What::Open | What::Health, 200) => Ending::Right,
            (What::Acknowledge(_), 200..=299) => Ending::Right,
            (What::Call(..), 200) => match checker.check(&answer.message, self.id) {
                Verdict::Right => Ending::Right,
                _ if answer.is_retryable() => {
                    Ending::Again(answer.retry_after_s, answer.complaint())
                }
                Verdict::Wrong(why) => Ending::Wrong(why),
                Verdict::Other => Ending::Wrong("a stream without the answer".to_owned()),
            },
            (What::Call(..) | What::Acknowledge(_), 404) => Ending::Gone(answer.complaint()),
            _ if answer.is_retryable() => Ending::Again(answer.retry_after_s, answer.complaint()),
            _ => Ending::Wrong(answer.complaint()),
        }
    }

    /// What becomes of it when an attempt has ended so.
    pub fn fate(&self, ending: &Ending, now: u64) -> Fate {
        let wait = match (self.what, ending) {
            (_, Ending::Right) => return Fate::Done,
            // A client whose session is gone has nothing to try again.
            (What::Call(_, Purpose::Load | Purpose::Sweep), Ending::Gone(_)) => return Fate::Done,
            _ if self.due_us + CALL_PATIENCE_US <= now => return Fate::GivenUp,
            (What::Call(_, Purpose::Probe), _) => PROBE_AGAIN_US,
            (_, Ending::Again(Some(seconds), _)) => u64::from(*seconds) * 1_000_000,
            (_, Ending::Cut(_) | Ending::Late) => 0,
            _ => AGAIN_US,
        };
        Fate::Again(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(what: What, ending: Ending, expect: Fate) {
        assert_eq!(Ask::new(what, None, 7).fate(&ending, 1000), expect);
    }

    #[test]
    fn what_failed_is_tried_again_as_the_server_says_and_probes_do_not_wait_for_it() {
        let again = |seconds| Ending::Again(seconds, "503".to_owned());
        check(What::Open, again(Some(2)), Fate::Again(2_001_000));
        check(What::Open, again(None), Fate::Again(1000 + AGAIN_US));
        check(What::Acknowledge(1), Ending::Late, Fate::Again(1000));
        check(What::Call(1, Purpose::Probe), again(Some(2)), Fate::Again(1000 + PROBE_AGAIN_US));
        check(What::Call(1, Purpose::Load), Ending::Right, Fate::Done);
    }

    #[test]
    fn a_session_that_is_gone_is_only_probed_again() {
        let gone = || Ending::Gone("404".to_owned());
        check(What::Call(1, Purpose::Load), gone(), Fate::Done);
        check(What::Call(1, Purpose::Sweep), gone(), Fate::Done);
        check(What::Call(1, Purpose::Probe), gone(), Fate::Again(1000 + PROBE_AGAIN_US));
    }

    #[test]
    fn nothing_is_tried_for_ever() {
        let call = Ask::new(What::Call(1, Purpose::Load), None, 7);
        let end = 7 + CALL_PATIENCE_US;
        assert_eq!(call.fate(&Ending::Late, end - 1), Fate::Again(end - 1));
        assert_eq!(call.fate(&Ending::Late, end), Fate::GivenUp);
        assert_eq!(call.fate(&Ending::Right, end), Fate::Done);
    }
}
