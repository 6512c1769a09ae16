//! Answers that were made before the link they go by stood: they wait for it.
//!
//! A request comes over a link that the other node dialled, through whichever shard it leads to; its answer leaves
//! over the link of the shard that made it, which may come up a moment later, or be dialled anew just now. Who sent
//! the request has no reason to give up, so the answer must not be lost in silence: it waits here, and if that takes
//! too long or too much, everything between the two nodes is broken, which tells them both. What waits for a link
//! when another breaks waits on: it may be younger than that, and who no longer waits for it ignores it.

use std::collections::VecDeque;

use crate::io::Millis;

/// Bytes of all answers of a shard that wait; more only in one letter.
pub(crate) const EARLY_BYTES_MAX: usize = 1024 * 1024;
/// How long an answer waits, milliseconds.
pub(crate) const EARLY_MS_MAX: Millis = 2_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Oldest first.
    letters: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    node: u16,
    since: Millis,
    frame: Vec<u8>,
}

impl Early {
    /// Whether one more may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < EARLY_BYTES_MAX
    }

    /// A frame waits for the link to a node.
    pub(crate) fn push(&mut self, now: Millis, node: u16, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.letters.push_back(Waiting { node, since: now, frame });
    }

    /// The link stands: what waited for it, in order.
    pub(crate) fn take(&mut self, node: u16) -> Vec<u8> {
        let mut frames = Vec::new();
        self.letters.retain(|letter| {
            if letter.node == node {
                frames.extend_from_slice(&letter.frame);
            }
            letter.node != node
        });
        self.bytes -= frames.len();
        frames
    }

    /// When somebody has waited for too long.
    pub(crate) fn poll_timeout(&self) -> Millis {
        self.letters.front().map_or(Millis::MAX, |letter| letter.since + EARLY_MS_MAX)
    }

    /// The node for which something has waited for too long.
    pub(crate) fn overdue(&self, now: Millis) -> Option<u16> {
        self.letters.front().filter(|letter| letter.since + EARLY_MS_MAX <= now).map(|it| it.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_takes_what_waited_for_it_in_order() {
        let mut early = Early::default();
        for (node, text) in [(1, "a"), (2, "b"), (1, "c")] {
            early.push(0, node, text.into());
        }
        assert_eq!(early.take(1), b"ac");
        assert_eq!(early.take(1), b"");
        assert_eq!(early.take(2), b"b");
        assert_eq!((early.bytes, early.poll_timeout()), (0, Millis::MAX));
    }

    #[test]
    fn there_is_room_until_the_bound_is_reached_and_again_when_it_is_left() {
        let mut early = Early::default();
        early.push(0, 1, vec![0; EARLY_BYTES_MAX - 1]);
        assert!(early.has_room());
        early.push(0, 2, vec![0; 5]);
        assert!(!early.has_room());
        early.take(2);
        assert!(early.has_room());
    }

    #[test]
    fn the_oldest_says_when_it_is_too_late() {
        let mut early = Early::default();
        early.push(10, 7, b"a".into());
        early.push(20, 8, b"b".into());
        assert_eq!(early.poll_timeout(), 10 + EARLY_MS_MAX);
        assert_eq!(early.overdue(9 + EARLY_MS_MAX), None);
        assert_eq!(early.overdue(10 + EARLY_MS_MAX), Some(7));
        early.take(7);
        assert_eq!(early.overdue(10 + EARLY_MS_MAX), None);
    }
}
