//! Mail that must arrive and found no room: the answer to a forwarded request, or the news that its client has
//! left. Were it dropped, a client would wait for ever, or a session would believe in a stream that is gone.
//!
//! Invariants: letters to one shard leave in their order, and nothing overtakes them; at most [`LETTERS_MAX`].
//! What is in here is bounded by requests in flight first of all: while a letter waits, no new request is
//! forwarded to its shard.

use std::collections::VecDeque;

/// Letters that may wait. Beyond that the receiver is not slow but dead.
pub const LETTERS_MAX: usize = 65_536;

/// Letters that wait for room, by the shard they go to.
pub struct Unsent<M> {
    lanes: Vec<VecDeque<M>>,
    count: usize,
}

// Derived `Default` would ask for `M: Default`.
impl<M> Default for Unsent<M> {
    fn default() -> Self {
        Self { lanes: Vec::new(), count: 0 }
    }
}

impl<M> Unsent<M> {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether something waits for this shard.
    pub fn holds(&self, to: u16) -> bool {
        self.lanes.get(usize::from(to)).is_some_and(|lane| !lane.is_empty())
    }

    /// Keeps a letter; `false`, and the letter is lost, when too many wait.
    pub fn push(&mut self, to: u16, letter: M) -> bool {
        if self.count >= LETTERS_MAX {
            return false;
        }
        let to = usize::from(to);
        if self.lanes.len() <= to {
            self.lanes.resize_with(to + 1, VecDeque::new);
        }
        self.lanes[to].push_back(letter);
        self.count += 1;
        true
    }

    /// Sends what can be sent now. `Err` gives a letter back, and its shard is left alone until the next time.
    pub fn flush(&mut self, mut send: impl FnMut(u16, M) -> Result<(), M>) {
        for (to, lane) in self.lanes.iter_mut().enumerate() {
            while let Some(letter) = lane.pop_front() {
                if let Err(letter) = send(to as u16, letter) {
                    lane.push_front(letter);
                    break;
                }
                self.count -= 1;
            }
            if lane.is_empty() {
                *lane = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_leave_in_order_and_a_full_inbox_holds_up_only_its_own() {
        let mut unsent = Unsent::default();
        for (to, letter) in [(1, 'a'), (2, 'b'), (1, 'c'), (2, 'd')] {
            assert!(unsent.push(to, letter));
        }
        assert_eq!((unsent.holds(0), unsent.holds(1), unsent.holds(2)), (false, true, true));
        let mut sent = Vec::new();
        unsent.flush(|to, letter| {
            if to == 1 {
                return Err(letter);
            }
            sent.push(letter);
            Ok(())
        });
        assert_eq!(
            (sent.as_slice(), unsent.holds(1), unsent.holds(2)),
            (&['b', 'd'][..], true, false)
        );
        unsent.flush(|_, letter| {
            sent.push(letter);
            Ok(())
        });
        assert_eq!((sent.as_slice(), unsent.is_empty()), (&['b', 'd', 'a', 'c'][..], true));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut unsent = Unsent::default();
        let kept = (0..LETTERS_MAX + 10).filter(|letter| unsent.push(0, *letter)).count();
        assert_eq!(kept, LETTERS_MAX);
        let mut sent = 0;
        unsent.flush(|_, _| {
            sent += 1;
            Ok(())
        });
        assert_eq!((sent, unsent.push(0, 0)), (LETTERS_MAX, true));
    }
}
