//! The copies this shard keeps for owners on other nodes. Lives: in each shard. View: keeper.
//!
//! Invariants: of each session at most one copy, that of the highest (term, owner); copies and their bytes are
//! bounded, and a copy that finds no room is not acknowledged; when an owner has said everything again, what it
//! did not name is gone.

use crate::letter::session::{EventRecord, Record, StreamRecord};
use crate::view::View;
use crate::{SessionName, Spot, Table};

/// What a shard may keep for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// Copies.
    pub copies_max: usize,
    /// Bytes of all copies.
    pub bytes_max: usize,
    /// Bytes of events appended to one copy before it is asked for whole.
    pub tail_bytes_max: usize,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept.
    Kept,
    /// Somebody else owns the session by now.
    Old,
    /// There is no room. An earlier revision stays.
    Full,
    /// There is nothing to append to.
    Missing,
}

/// One copy.
#[derive(Debug)]
pub struct Copy {
    owner: Spot,
    epoch: u32,
    term: u32,
    rev: u32,
    round: u32,
    /// A [`Record`].
    head: Box<[u8]>,
    /// Events that came since.
    tail: Vec<Tail>,
    tail_bytes: usize,
}

#[derive(Debug)]
struct Tail {
    stream: u32,
    is_delivered: bool,
    seq: u32,
    message: Box<[u8]>,
}

/// What one copy costs beside the bytes of its content.
const COPY_BYTES: usize = size_of::<Copy>() + size_of::<SessionName>() + 16;

impl Copy {
    /// The session as its owner left it; `None` only if memory lies.
    pub fn record(&self) -> Option<Record<'_>> {
        let mut record: Record<'_> = postcard::from_bytes(&self.head).ok()?;
        for Tail { stream, is_delivered, seq, message } in &self.tail {
            let index = match record.streams.iter().position(|known| known.number == *stream) {
                Some(index) => index,
                None => {
                    record.streams.push(StreamRecord {
                        number: *stream,
                        next_seq: 1,
                        delivered: 0,
                        is_primed: false,
                        awaited: None,
                        finished_ms: None,
                        events: Vec::new(),
                    });
                    record.streams.len() - 1
                }
            };
            let stream = &mut record.streams[index];
            stream.events.push(EventRecord { seq: *seq, message });
            stream.next_seq = seq.saturating_add(1);
            if *is_delivered {
                (stream.delivered, stream.is_primed) = (*seq, true);
            }
        }
        Some(record)
    }

    /// Who owns the session, and in which run of its node.
    pub fn owner(&self) -> (Spot, u32) {
        (self.owner, self.epoch)
    }

    /// Up to which revision it is kept.
    pub fn rev(&self) -> u32 {
        self.rev
    }

    /// How often the session has changed its owner.
    pub fn term(&self) -> u32 {
        self.term
    }

    fn bytes(&self) -> usize {
        COPY_BYTES + self.head.len() + self.tail_bytes
    }

    fn rank(&self) -> (u32, u16) {
        (self.term, self.owner.node)
    }
}

/// All copies of a shard.
#[derive(Debug)]
pub struct Copies {
    limits: CopyLimits,
    copies: Table<SessionName, Copy>,
    bytes: usize,
    /// The round each owner is in. Bounded by the shards of the members.
    rounds: Table<Spot, u32>,
}

impl Copies {
    /// None yet.
    pub fn new(limits: CopyLimits) -> Self {
        Self { limits, copies: Table::default(), bytes: 0, rounds: Table::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a whole session for its owner. `epoch`: which run of the owner's node.
    pub fn keep(&mut self, owner: Spot, epoch: u32, record: &Record<'_>) -> Verdict {
        let name = record.token.name;
        let round = self.rounds.get(&owner).copied().unwrap_or(0);
        if let Some(known) = self.copies.get_mut(&name)
            && (known.owner, known.epoch) == (owner, epoch)
            && (known.term, known.rev) == (record.term, record.rev)
        {
            // Said again after a link came up, and here already.
            known.round = round;
            return Verdict::Kept;
        }
        let known = self.copies.get(&name);
        if known.is_some_and(|copy| (record.term, owner.node) < copy.rank()) {
            return Verdict::Old;
        }
        let Ok(head) = postcard::to_allocvec(record) else { return Verdict::Full };
        let copy = Copy {
            owner,
            epoch,
            term: record.term,
            rev: record.rev,
            round,
            head: head.into(),
            tail: Vec::new(),
            tail_bytes: 0,
        };
        let bytes = self.bytes - known.map_or(0, Copy::bytes) + copy.bytes();
        let is_one_more = known.is_none();
        if self.limits.bytes_max < bytes
            || (is_one_more && self.limits.copies_max <= self.copies.len())
        {
            // What is here is an earlier revision. Its owner has named it, and says when it is not needed any more.
            let known = self.copies.get_mut(&name);
            if let Some(known) = known.filter(|copy| (copy.owner, copy.epoch) == (owner, epoch)) {
                known.round = round;
            }
            return Verdict::Full;
        }
        self.bytes = bytes;
        self.copies.insert(name, copy);
        Verdict::Kept
    }

    /// Appends an event to a copy that has the revision before.
    #[allow(clippy::too_many_arguments)] // The parts of one letter.
    pub fn append(
        &mut self,
        owner: Spot,
        name: &SessionName,
        term: u32,
        rev: u32,
        stream: u32,
        is_delivered: bool,
        event: EventRecord<'_>,
    ) -> Verdict {
        let Some(copy) = self.copies.get_mut(name) else { return Verdict::Missing };
        if (term, owner.node) < copy.rank() {
            return Verdict::Old;
        }
        let bytes = event.message.len() + size_of::<Tail>();
        let follows = (copy.owner, copy.term, copy.rev.wrapping_add(1)) == (owner, term, rev);
        let fits = copy.tail_bytes + bytes <= self.limits.tail_bytes_max
            && self.bytes + bytes <= self.limits.bytes_max;
        if !follows || !fits {
            return Verdict::Missing;
        }
        let message = event.message.into();
        copy.tail.push(Tail { stream, is_delivered, seq: event.seq, message });
        copy.tail_bytes += bytes;
        copy.rev = rev;
        self.bytes += bytes;
        Verdict::Kept
    }

    /// The owner has another keeper now.
    pub fn drop_copy(&mut self, owner: Spot, name: &SessionName, term: u32) {
        let is_its = |copy: &Copy| copy.owner == owner && copy.term <= term;
        if self.copies.get(name).is_some_and(is_its) {
            self.take(name);
        }
    }

    /// The session is over, or has moved on under a higher (term, owner).
    pub fn outdated(&mut self, name: &SessionName, rank: (u32, u16)) {
        if self.copies.get(name).is_some_and(|copy| copy.rank() <= rank) {
            self.take(name);
        }
    }

    /// Somebody owns the session under this (term, owner): a copy for another owner of a lower one is outdated.
    pub fn superseded(&mut self, name: &SessionName, rank: (u32, u16)) {
        if self.copies.get(name).is_some_and(|copy| copy.rank() < rank) {
            self.take(name);
        }
    }

    /// An owner begins to say everything again.
    pub fn begin(&mut self, owner: Spot, round: u32) {
        self.rounds.insert(owner, round);
    }

    /// It has said everything; returns how many copies it did not name. Those of another run of its node are
    /// orphans, and none of its business.
    pub fn end(&mut self, owner: Spot, epoch: u32, round: u32) -> usize {
        let is_stale =
            |copy: &Copy| (copy.owner, copy.epoch) == (owner, epoch) && copy.round != round;
        let stale: Vec<SessionName> =
            self.copies.iter().filter(|(_, copy)| is_stale(copy)).map(|(name, _)| *name).collect();
        for name in &stale {
            self.take(name);
        }
        stale.len()
    }

    /// Sessions whose owner is gone.
    pub fn orphans(&mut self, view: &View) -> Vec<SessionName> {
        self.rounds.retain(|owner, _| view.member(owner.node).is_some_and(|m| m.owns()));
        let is_orphan = |copy: &Copy| view.home(copy.owner.node, copy.epoch).is_none();
        let orphans = self.copies.iter().filter(|(_, copy)| is_orphan(copy));
        orphans.map(|(name, _)| *name).collect()
    }

    /// The copy of a session.
    pub fn get(&self, name: &SessionName) -> Option<&Copy> {
        self.copies.get(name)
    }

    /// Puts a copy back that was taken out in vain.
    pub fn put_back(&mut self, name: SessionName, copy: Copy) {
        self.bytes += copy.bytes();
        if let Some(other) = self.copies.insert(name, copy) {
            self.bytes -= other.bytes();
        }
    }

    /// Takes a copy out.
    pub fn take(&mut self, name: &SessionName) -> Option<Copy> {
        let copy = self.copies.remove(name)?;
        self.bytes -= copy.bytes();
        Some(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::route::Token;

    const OWNER: Spot = Spot { node: 2, shard: 0 };
    const OTHER: Spot = Spot { node: 3, shard: 0 };

    fn record(name: u8, term: u32, rev: u32) -> Record<'static> {
        let token = Token { at: OWNER, epoch: 1, slot: 0, generation: 0, name: [name; 16] };
        Record {
            token,
            term,
            rev,
            version: "2025-11-25",
            capabilities: 5,
            log_level: "info",
            next_request: 3,
            idle_ms: 4,
            subscriptions: vec!["a://b"],
            last_stream: 1,
            streams: Vec::new(),
        }
    }

    fn copies(copies_max: usize, bytes_max: usize, tail_bytes_max: usize) -> Copies {
        Copies::new(CopyLimits { copies_max, bytes_max, tail_bytes_max })
    }

    fn event(copies: &mut Copies, rev: u32, message: &[u8]) -> Verdict {
        let event = EventRecord { seq: rev, message };
        copies.append(OWNER, &[1; 16], 0, rev, 0, true, event)
    }

    #[test]
    fn copies_are_bounded_by_number_and_by_bytes() {
        let mut some = copies(2, 1 << 20, 0);
        assert_eq!(some.keep(OWNER, 1, &record(1, 0, 1)), Verdict::Kept);
        assert_eq!(some.keep(OWNER, 1, &record(2, 0, 1)), Verdict::Kept);
        assert_eq!(some.keep(OWNER, 1, &record(3, 0, 1)), Verdict::Full);
        assert_eq!(some.keep(OWNER, 1, &record(2, 0, 2)), Verdict::Kept, "not one more");
        let each = some.bytes() / 2;
        let mut few = copies(9, each * 2 + each / 2, 0);
        let kept = (1..9).filter(|name| few.keep(OWNER, 1, &record(*name, 0, 1)) == Verdict::Kept);
        assert_eq!(kept.count(), 2);
        assert!(few.take(&[1; 16]).is_some() && few.take(&[1; 16]).is_none());
        assert_eq!(few.keep(OWNER, 1, &record(8, 0, 1)), Verdict::Kept);
    }

    #[test]
    fn a_copy_that_has_no_room_to_grow_stays_as_it_was() {
        let mut some = copies(9, 1 << 20, 0);
        some.keep(OWNER, 1, &record(1, 0, 1));
        let mut few = copies(9, some.bytes() + 5, 0);
        assert_eq!(few.keep(OWNER, 1, &record(1, 0, 1)), Verdict::Kept);
        let larger = Record { subscriptions: vec!["a://b", "c://d"], ..record(1, 0, 2) };
        few.begin(OWNER, 7);
        assert_eq!(few.keep(OWNER, 1, &larger), Verdict::Full);
        assert_eq!(few.end(OWNER, 1, 7), 0, "it was named");
        assert_eq!(few.get(&[1; 16]).map(Copy::rev), Some(1));
        let mut more = copies(9, some.bytes() + 6, 0);
        more.keep(OWNER, 1, &record(1, 0, 1));
        assert_eq!(more.keep(OWNER, 1, &larger), Verdict::Kept);
        assert_eq!(more.get(&[1; 16]).map(Copy::rev), Some(2));
    }

    #[test]
    fn events_are_appended_in_order_until_there_are_too_many() {
        let each = size_of::<Tail>() + 5;
        let mut some = copies(9, 1 << 20, 2 * each);
        assert_eq!(event(&mut some, 2, b"early"), Verdict::Missing);
        some.keep(OWNER, 1, &record(1, 0, 1));
        assert_eq!(event(&mut some, 3, b"a gap"), Verdict::Missing);
        assert_eq!(event(&mut some, 2, b"first"), Verdict::Kept);
        assert_eq!(event(&mut some, 3, b"other"), Verdict::Kept);
        assert_eq!(event(&mut some, 4, b""), Verdict::Missing, "the tail is full");
        let record = some.get(&[1; 16]).and_then(Copy::record).expect("kept");
        let stream = &record.streams[0];
        assert_eq!((stream.next_seq, stream.delivered, stream.is_primed), (4, 3, true));
        let messages: Vec<&[u8]> = stream.events.iter().map(|event| event.message).collect();
        assert_eq!(messages, [b"first", b"other"]);
    }

    #[test]
    fn the_higher_owner_is_believed() {
        let mut some = copies(9, 1 << 20, 100);
        assert_eq!(some.keep(OWNER, 1, &record(1, 1, 1)), Verdict::Kept);
        assert_eq!(some.keep(OTHER, 1, &record(1, 0, 9)), Verdict::Old);
        assert_eq!(some.keep(OTHER, 1, &record(1, 1, 1)), Verdict::Kept);
        some.drop_copy(OWNER, &[1; 16], 9);
        assert_eq!(some.len(), 1, "only its owner drops it");
        some.outdated(&[1; 16], (1, 2));
        assert_eq!(some.len(), 1);
        some.outdated(&[1; 16], (1, 3));
        assert_eq!((some.len(), some.bytes()), (0, 0));
    }

    #[test]
    fn a_new_run_of_an_owner_ends_nothing_that_an_earlier_one_left() {
        let mut some = copies(3, 1 << 20, 0);
        some.keep(OWNER, 1, &record(1, 0, 1));
        some.begin(OWNER, 7);
        some.keep(OWNER, 2, &record(2, 0, 1));
        assert_eq!((some.end(OWNER, 2, 7), some.len()), (0, 2), "the orphan stays");
        some.begin(OWNER, 8);
        assert_eq!((some.end(OWNER, 2, 8), some.len()), (1, 1));
    }
}
