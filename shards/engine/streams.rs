//! The SSE streams of one legacy session: where they are attached, and what can be replayed on them.
//!
//! Invariants: every event has an id `stream-seq`, unique in the session; a stream's ring holds at most
//! `events_max` events and the session at most `bytes_max` bytes, oldest dropped first; an event is written to
//! one stream only (digest b.10). Stream 0 is the standalone GET stream.

use std::collections::VecDeque;
use std::rc::Rc;

use erlmcp_cluster::letter::session::{EventRecord, StreamRecord};

use super::out::Place;
use super::slots::Key;
use crate::io::Millis;

/// The number of the standalone stream.
pub const STANDALONE: u32 = 0;

/// GET streams a session may have open at once; the newest gets the messages.
pub const GETS_MAX: usize = 4;

/// Request streams a session remembers for resumption, running or finished.
pub const REQUEST_STREAMS_MAX: usize = 32;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct ReplayBounds {
    /// Events per stream.
    pub events_max: usize,
    /// Bytes per session.
    pub bytes_max: usize,
    /// A finished stream is forgotten after this.
    pub ttl_ms: Millis,
}

#[derive(Debug)]
struct Event {
    seq: u32,
    data: Rc<[u8]>,
}

/// One stream: attached to at most one exchange.
#[derive(Debug)]
pub struct Stream {
    /// Its number in the session.
    pub number: u32,
    /// Where it is attached.
    pub place: Option<Place>,
    /// The call it carries; `None` for the standalone stream.
    pub call: Option<Key>,
    ring: VecDeque<Event>,
    next_seq: u32,
    /// Of the last event that was dropped from the ring: who has not seen it has missed something.
    dropped: u32,
    delivered: u32,
    /// Its client knows an id to come back with.
    is_primed: bool,
    finished_at: Option<Millis>,
}

impl Stream {
    fn new(number: u32, place: Option<Place>, call: Option<Key>) -> Self {
        // Sequence 0 is the priming event's.
        Self {
            number,
            place,
            call,
            ring: VecDeque::new(),
            next_seq: 1,
            dropped: 0,
            delivered: 0,
            is_primed: false,
            finished_at: None,
        }
    }

    /// Whether the last message was pushed.
    pub fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }
}

/// All streams of a session. Boxed parts are made when first needed.
#[derive(Debug, Default)]
pub struct Streams {
    gets: Vec<Place>,
    streams: Vec<Stream>,
    last_number: u32,
    bytes: usize,
}

/// What a resume found.
#[derive(Debug, PartialEq, Eq)]
pub enum Resume {
    /// Replay these, then go on with the stream (`number`, finished?).
    Replay {
        /// Events after the given id: (sequence, message).
        events: Vec<(u32, Rc<[u8]>)>,
        /// The stream.
        number: u32,
        /// Nothing more will come after the replay.
        finished: bool,
        /// Where the stream was attached until now.
        replaced: Option<Place>,
    },
    /// Not an id of ours, or evicted.
    Unknown,
}

/// The id of an event.
pub fn event_id(number: u32, seq: u32) -> String {
    format!("{number}-{seq}")
}

fn parse_event_id(text: &str) -> Option<(u32, u32)> {
    let (number, seq) = text.split_once('-')?;
    Some((number.parse().ok()?, seq.parse().ok()?))
}

impl Streams {
    /// Whether anything is attached.
    pub fn is_attached(&self) -> bool {
        !self.gets.is_empty() || self.streams.iter().any(|stream| stream.place.is_some())
    }

    /// Opens a stream for a call; `None` when the session has too many.
    pub fn open_request(
        &mut self,
        call: Key,
        place: Place,
        now: Millis,
        bounds: &ReplayBounds,
    ) -> Option<u32> {
        self.forget_old(now, bounds);
        if self.streams.len() >= REQUEST_STREAMS_MAX {
            let oldest =
                self.streams.iter().position(|s| s.number != STANDALONE && s.is_finished())?;
            self.drop_stream(oldest);
        }
        self.last_number = self.last_number.wrapping_add(1).max(1);
        self.streams.push(Stream::new(self.last_number, Some(place), Some(call)));
        Some(self.last_number)
    }

    /// Attaches a standalone GET; it becomes the one that gets messages. `false` when there are too many.
    pub fn attach_get(&mut self, place: Place) -> bool {
        if self.gets.len() >= GETS_MAX {
            return false;
        }
        self.gets.push(place);
        true
    }

    /// The exchange that standalone messages go to.
    pub fn standalone_place(&self) -> Option<Place> {
        self.gets.last().copied()
    }

    /// Standalone messages that were never written to any exchange; they count as delivered now.
    pub fn take_undelivered(&mut self) -> Vec<(u32, Rc<[u8]>)> {
        let Some(stream) = self.streams.iter_mut().find(|s| s.number == STANDALONE) else {
            return Vec::new();
        };
        let from = stream.delivered;
        stream.delivered = stream.next_seq - 1;
        stream.ring.iter().filter(|e| e.seq > from).map(|e| (e.seq, e.data.clone())).collect()
    }

    /// Appends a message to a stream: returns its sequence number and where to write it now.
    pub fn push(
        &mut self,
        number: u32,
        data: &Rc<[u8]>,
        now: Millis,
        bounds: &ReplayBounds,
    ) -> Option<(u32, Option<Place>)> {
        let standalone = self.standalone_place();
        let index = match self.streams.iter().position(|s| s.number == number) {
            Some(index) => index,
            None if number == STANDALONE => {
                self.streams.push(Stream::new(STANDALONE, None, None));
                self.streams.len() - 1
            }
            None => return None,
        };
        let stream = &mut self.streams[index];
        let place = if number == STANDALONE { standalone } else { stream.place };
        let seq = stream.next_seq;
        stream.next_seq += 1;
        if place.is_some() {
            stream.delivered = seq;
            stream.is_primed = true;
        }
        stream.ring.push_back(Event { seq, data: data.clone() });
        self.bytes += data.len();
        self.trim(index, now, bounds);
        Some((seq, place))
    }

    /// Whether its client has yet to be given an id; from now on it has one.
    pub fn prime(&mut self, number: u32) -> bool {
        let stream = self.streams.iter_mut().find(|s| s.number == number);
        stream.is_some_and(|stream| !std::mem::replace(&mut stream.is_primed, true))
    }

    /// Marks a stream's last message as pushed; it stays resumable for a while.
    pub fn finish(&mut self, number: u32, now: Millis) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.number == number) {
            stream.finished_at = Some(now);
            stream.place = None;
            stream.call = None;
        }
    }

    /// The stream with this number.
    pub fn get(&self, number: u32) -> Option<&Stream> {
        self.streams.iter().find(|s| s.number == number)
    }

    /// Takes a stream off its exchange, keeping it resumable.
    pub fn detach(&mut self, number: u32) -> Option<Place> {
        self.streams.iter_mut().find(|s| s.number == number)?.place.take()
    }

    /// An exchange has gone. Returns whether it was one of ours.
    pub fn handle_gone(&mut self, place: Place) -> bool {
        if let Some(index) = self.gets.iter().position(|get| *get == place) {
            self.gets.remove(index);
            return true;
        }
        match self.streams.iter_mut().find(|s| s.place == Some(place)) {
            Some(stream) => {
                stream.place = None;
                true
            }
            None => false,
        }
    }

    /// `Last-Event-ID`: what to replay, and onto which stream the new exchange is attached.
    pub fn resume(
        &mut self,
        last_event_id: &str,
        place: Place,
        now: Millis,
        bounds: &ReplayBounds,
    ) -> Resume {
        self.forget_old(now, bounds);
        let Some((number, seq)) = parse_event_id(last_event_id) else { return Resume::Unknown };
        let Some(stream) = self.streams.iter_mut().find(|s| s.number == number) else {
            return Resume::Unknown;
        };
        // A gap between what the client has and what is kept would lose messages silently.
        if seq >= stream.next_seq || seq < stream.dropped {
            return Resume::Unknown;
        }
        let events: Vec<_> =
            stream.ring.iter().filter(|e| e.seq > seq).map(|e| (e.seq, e.data.clone())).collect();
        stream.delivered = stream.next_seq - 1;
        let finished = stream.is_finished();
        let mut replaced = None;
        if number == STANDALONE {
            if !self.attach_get(place) {
                return Resume::Unknown;
            }
        } else if !finished {
            replaced = stream.place.replace(place);
        }
        Resume::Replay { events, number, finished, replaced }
    }

    /// Whether a standalone GET is open.
    pub fn has_gets(&self) -> bool {
        !self.gets.is_empty()
    }

    /// The standalone GETs, which are detached.
    pub fn take_gets(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.gets)
    }

    /// Everything attached, and forgets it all: the session ends.
    pub fn take_places(&mut self) -> Vec<Place> {
        let mut places = std::mem::take(&mut self.gets);
        places.extend(self.streams.iter_mut().filter_map(|s| s.place.take()));
        places
    }

    /// The number of the last stream that was opened.
    pub fn last_number(&self) -> u32 {
        self.last_number
    }

    /// What another node needs to go on with these streams. `awaited`: the raw id of a call that still runs.
    pub fn records<'b>(
        &'b self,
        now: Millis,
        awaited: impl Fn(Key) -> Option<&'b str>,
    ) -> Vec<StreamRecord<'b>> {
        let record = |stream: &'b Stream| StreamRecord {
            number: stream.number,
            next_seq: stream.next_seq,
            delivered: stream.delivered,
            is_primed: stream.is_primed,
            awaited: stream.call.and_then(&awaited),
            finished_ms: stream.finished_at.map(|at| now.saturating_sub(at)),
            events: stream
                .ring
                .iter()
                .map(|event| EventRecord { seq: event.seq, message: &event.data })
                .collect(),
        };
        self.streams.iter().map(record).collect()
    }

    /// The streams of a session that comes from another node. `leap`: numbers that its last owner may have given
    /// out since, and that are not given out again, for streams and for the events of each.
    pub fn restore(
        last_number: u32,
        records: &[StreamRecord<'_>],
        leap: u32,
        now: Millis,
        bounds: &ReplayBounds,
    ) -> Self {
        let last_number = last_number.wrapping_add(leap);
        let mut streams = Self { last_number, ..Self::default() };
        for record in records.iter().take(REQUEST_STREAMS_MAX + 1) {
            let first = record.events.first().map_or(record.next_seq, |event| event.seq);
            let data =
                |event: &EventRecord<'_>| Event { seq: event.seq, data: event.message.into() };
            streams.streams.push(Stream {
                ring: record.events.iter().map(data).collect(),
                next_seq: record.next_seq.saturating_add(leap),
                dropped: first.saturating_sub(1),
                delivered: record.delivered,
                is_primed: record.is_primed,
                finished_at: record.finished_ms.map(|ms| now.saturating_sub(ms)),
                ..Stream::new(record.number, None, None)
            });
            streams.bytes += record.events.iter().map(|event| event.message.len()).sum::<usize>();
            streams.trim(streams.streams.len() - 1, now, bounds);
        }
        if 0 < leap && streams.get(STANDALONE).is_none() {
            let next_seq = 1 + leap;
            streams.streams.push(Stream { next_seq, ..Stream::new(STANDALONE, None, None) });
        }
        streams
    }

    /// Numbers of the streams whose calls have not been answered.
    pub fn unfinished(&self) -> Vec<u32> {
        let open = |stream: &&Stream| stream.number != STANDALONE && !stream.is_finished();
        self.streams.iter().filter(open).map(|stream| stream.number).collect()
    }

    fn trim(&mut self, index: usize, now: Millis, bounds: &ReplayBounds) {
        while self.streams[index].ring.len() > bounds.events_max {
            self.drop_oldest(index);
        }
        if self.bytes > bounds.bytes_max {
            self.forget_old(now, bounds);
        }
        // The forgetting may have moved streams; the largest ring pays.
        while self.bytes > bounds.bytes_max {
            let Some(largest) = (0..self.streams.len()).max_by_key(|&i| self.streams[i].ring.len())
            else {
                return;
            };
            if self.streams[largest].ring.is_empty() {
                return;
            }
            self.drop_oldest(largest);
        }
    }

    fn drop_oldest(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if let Some(event) = stream.ring.pop_front() {
            stream.dropped = event.seq;
            self.bytes -= event.data.len();
        }
    }

    fn forget_old(&mut self, now: Millis, bounds: &ReplayBounds) {
        let mut index = 0;
        while index < self.streams.len() {
            let expired =
                self.streams[index].finished_at.is_some_and(|at| at + bounds.ttl_ms <= now);
            if expired { self.drop_stream(index) } else { index += 1 }
        }
    }

    fn drop_stream(&mut self, index: usize) {
        let stream = self.streams.swap_remove(index);
        self.bytes -= stream.ring.iter().map(|event| event.data.len()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ConnId;
    use crate::net::Exchange;
    use erlmcp_cluster::Spot;

    const BOUNDS: ReplayBounds = ReplayBounds { events_max: 3, bytes_max: 100, ttl_ms: 1000 };
    const CALL: Key = Key { slot: 0, generation: 0 };

    fn place(slot: u32) -> Place {
        let conn = ConnId { slot, generation: 0 };
        let exchange = Exchange { conn, seq: 0 };
        Place { at: Spot { node: 0, shard: 0 }, epoch: 0, exchange }
    }

    fn message(text: &str) -> Rc<[u8]> {
        Rc::from(text.as_bytes())
    }

    #[track_caller]
    fn replayed(resume: Resume) -> Vec<u32> {
        match resume {
            Resume::Replay { events, .. } => events.into_iter().map(|(seq, _)| seq).collect(),
            Resume::Unknown => panic!("the id should have been known"),
        }
    }

    #[test]
    fn messages_wait_for_the_first_get_and_are_written_once() {
        let mut streams = Streams::default();
        assert_eq!(streams.push(STANDALONE, &message("a"), 0, &BOUNDS), Some((1, None)));
        assert!(streams.attach_get(place(1)));
        assert_eq!(streams.take_undelivered().len(), 1);
        assert_eq!(streams.take_undelivered().len(), 0);
        let (seq, at) = streams.push(STANDALONE, &message("b"), 0, &BOUNDS).expect("stream 0");
        assert_eq!((seq, at), (2, Some(place(1))));
    }

    #[test]
    fn the_newest_get_is_the_one_that_is_written_to() {
        let mut streams = Streams::default();
        assert!(streams.attach_get(place(1)));
        assert!(streams.attach_get(place(2)));
        assert_eq!(streams.standalone_place(), Some(place(2)));
        assert!(streams.handle_gone(place(2)));
        assert_eq!(streams.standalone_place(), Some(place(1)));
        assert!(!streams.handle_gone(place(2)));
    }

    #[test]
    fn a_resume_replays_what_came_after_and_reattaches() {
        let mut streams = Streams::default();
        let number = streams.open_request(CALL, place(1), 0, &BOUNDS).expect("room");
        streams.push(number, &message("a"), 0, &BOUNDS);
        streams.detach(number);
        assert_eq!(streams.push(number, &message("b"), 0, &BOUNDS), Some((2, None)));
        let resume = streams.resume(&event_id(number, 1), place(2), 0, &BOUNDS);
        assert_eq!(replayed(resume), [2]);
        assert_eq!(streams.push(number, &message("c"), 0, &BOUNDS), Some((3, Some(place(2)))));
    }

    #[test]
    fn numbers_go_on_further_even_where_the_record_knows_of_no_stream() {
        let mut streams = Streams::restore(0, &[], 1000, 0, &BOUNDS);
        assert_eq!(streams.push(STANDALONE, &message("a"), 0, &BOUNDS), Some((1001, None)));
        let number = streams.open_request(CALL, place(1), 0, &BOUNDS).expect("room");
        assert_eq!(number, 1001);
        assert_eq!(replayed(streams.resume("0-1", place(2), 0, &BOUNDS)), [1001]);
    }

    #[test]
    fn an_evicted_id_is_unknown_rather_than_a_silent_gap() {
        let mut streams = Streams::default();
        let number = streams.open_request(CALL, place(1), 0, &BOUNDS).expect("room");
        for _ in 0..5 {
            streams.push(number, &message("x"), 0, &BOUNDS);
        }
        // Events 3, 4, 5 are kept: id 2 can be resumed, id 1 cannot.
        let resume = streams.resume(&event_id(number, 1), place(2), 0, &BOUNDS);
        assert_eq!(resume, Resume::Unknown);
        assert_eq!(replayed(streams.resume(&event_id(number, 2), place(2), 0, &BOUNDS)), [3, 4, 5]);
        assert_eq!(streams.resume("7", place(2), 0, &BOUNDS), Resume::Unknown);
        assert_eq!(streams.resume("9-1", place(2), 0, &BOUNDS), Resume::Unknown);
    }

    #[test]
    fn a_finished_stream_is_kept_until_its_time_is_over() {
        let mut streams = Streams::default();
        let number = streams.open_request(CALL, place(1), 0, &BOUNDS).expect("room");
        streams.push(number, &message("answer"), 0, &BOUNDS);
        streams.finish(number, 10);
        let just_in_time = streams.resume(&event_id(number, 0), place(2), 1009, &BOUNDS);
        assert!(matches!(just_in_time, Resume::Replay { finished: true, .. }));
        let too_late = streams.resume(&event_id(number, 0), place(2), 1010, &BOUNDS);
        assert_eq!(too_late, Resume::Unknown);
    }

    #[test]
    fn bytes_are_bounded_over_all_streams() {
        let mut streams = Streams::default();
        let number = streams.open_request(CALL, place(1), 0, &BOUNDS).expect("room");
        for _ in 0..3 {
            streams.push(STANDALONE, &message(&"s".repeat(20)), 0, &BOUNDS);
            streams.push(number, &message(&"r".repeat(20)), 0, &BOUNDS);
            assert!(streams.bytes <= BOUNDS.bytes_max);
        }
        assert_eq!(streams.bytes, 100);
    }
}
