//! Sessions of a cluster while one of its nodes fails: who is asked what, over which connection, and what came of it.
//!
//! [`exchange`] is one request and its answer without a socket; [`lines`] are connections to all nodes on one ring;
//! [`book`] knows every session and counts what went wrong, and whose fault it was; [`ask`] is what is asked, and what
//! follows from its answer; [`agenda`] says what is next; [`clients`] joins them into clients that call, retry and find
//! their way round a node that is down; [`watch`] asks the survivors what they see; [`course`] writes down how it went,
//! half second by half second.

pub mod agenda;
pub mod ask;
pub mod book;
pub mod clients;
pub mod course;
pub mod dice;
pub mod exchange;
pub mod lines;
pub mod watch;

use std::str::FromStr;

use rustix::process::Signal;

/// How a node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// At once and for good.
    Kill,
    /// It does nothing for a while.
    Stop,
    /// It is asked to go.
    Term,
}

impl Fault {
    /// The signal that does it.
    pub fn signal(self) -> Signal {
        match self {
            Fault::Kill => Signal::KILL,
            Fault::Stop => Signal::STOP,
            Fault::Term => Signal::TERM,
        }
    }

    /// As the command line names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "KILL",
            Fault::Stop => "STOP",
            Fault::Term => "TERM",
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Fault::Kill, Fault::Stop, Fault::Term];
        let found = all.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "a node fails by KILL, STOP or TERM".to_owned())
    }
}
