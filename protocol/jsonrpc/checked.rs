//! Members that are checked while they are read: one pass for who looks into a message and must know, too, that
//! it is JSON.

use std::borrow::Cow;

use super::scan::{DEPTH_MAX, NotJson, Raw, Scanner};

/// The members of an object, one after the other, whether their grammar was checked before
/// ([`super::Members`]) or is checked now ([`Checked`]).
pub trait ReadMembers<'b>: Sized {
    /// The next key. Then either [`ReadMembers::value`] or [`ReadMembers::within`] must follow.
    fn next_key(&mut self) -> Option<Cow<'b, str>>;

    /// The value of the key just read.
    fn value(&mut self) -> Raw<'b>;

    /// Reads the members of the object that the value of the key just read is, without looking for its end
    /// first; `None`, and nothing read, if it is no object. `read` must read them all, or fail.
    fn within<T, E>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Option<Result<T, E>>;
}

/// Members of an object of a message that is read for the first time. What was read before a fault means
/// nothing: who made it asks [`Checked::finish`].
pub struct Checked<'s, 'b> {
    scanner: &'s mut Scanner<'b>,
    /// Containers we are in.
    depth: usize,
    is_first: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Broken,
}

impl<'s, 'b> Checked<'s, 'b> {
    /// Enters the object that begins here, inside `outside` containers.
    pub(super) fn enter(scanner: &'s mut Scanner<'b>, outside: usize) -> Self {
        let is_fine = outside < DEPTH_MAX && scanner.eat(b'{');
        let state = if is_fine { State::Reading } else { State::Broken };
        Self { scanner, depth: outside + 1, is_first: true, state }
    }

    /// Whether the object was read to its end.
    pub(super) fn finish(self) -> Result<bool, NotJson> {
        match self.state {
            State::Reading => Ok(false),
            State::Ended => Ok(true),
            State::Broken => Err(NotJson),
        }
    }
}

impl<'b> ReadMembers<'b> for Checked<'_, 'b> {
    fn next_key(&mut self) -> Option<Cow<'b, str>> {
        if self.state != State::Reading {
            return None;
        }
        let key = self.scanner.member_key(&mut self.is_first);
        self.state = match &key {
            Ok(Some(_)) => State::Reading,
            Ok(None) => State::Ended,
            Err(NotJson) => State::Broken,
        };
        key.unwrap_or_default()
    }

    fn value(&mut self) -> Raw<'b> {
        let value = self.scanner.value(self.depth);
        let ended = value.and_then(|value| self.scanner.end_member().map(|()| value));
        ended.unwrap_or_else(|NotJson| {
            self.state = State::Broken;
            Raw::NULL
        })
    }

    fn within<T, E>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        if self.scanner.peek() != Some(b'{') || DEPTH_MAX <= self.depth {
            return None;
        }
        let is_first = std::mem::replace(&mut self.is_first, true);
        self.scanner.eat(b'{');
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        self.is_first = is_first;
        // Who stopped early has failed, and goes on with nothing here.
        if self.state == State::Ended {
            let is_fine = self.scanner.end_member().is_ok();
            self.state = if is_fine { State::Reading } else { State::Broken };
        }
        Some(done)
    }
}
