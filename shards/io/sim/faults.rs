//! What may go wrong, how often, and the dice that decide.

/// Sizes of received pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkLen {
    /// As much as there is, up to a buffer.
    Whole,
    /// Always this many bytes (1: byte by byte), fewer at the end.
    Fixed(usize),
    /// Drawn from 1 to this many for each piece.
    Random(usize),
}

/// How often each thing happens, in percent of its occasions unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Sizes of received pieces.
    pub chunk: ChunkLen,
    /// A receive ends for want of buffers although there are some.
    pub no_buffers: u8,
    /// A multishot receive ends after a piece and wants to be armed again.
    pub rearm: u8,
    /// A completion that is due waits for a later turn: pieces, sends, closes, bells.
    pub stall: u8,
    /// A send is cut short, and the connection is dead afterwards.
    pub short_send: u8,
    /// A connection is reset by the network, in permille of its turns.
    pub reset_permille: u16,
    /// An accept ends with EMFILE; the connection stays in the queue.
    pub accept_error: u8,
    /// A multishot accept ends after a connection and wants to be armed again.
    pub accept_rearm: u8,
    /// A reused slot gets completions of its previous generation.
    pub late: u8,
    /// What one node says reaches another up to so many milliseconds later.
    pub delay_ms: u16,
    /// A connection to another node is refused although somebody listens.
    pub dial_error: u8,
}

impl Faults {
    /// A perfect world.
    pub const fn none() -> Self {
        Self {
            chunk: ChunkLen::Whole,
            no_buffers: 0,
            rearm: 0,
            stall: 0,
            short_send: 0,
            reset_permille: 0,
            accept_error: 0,
            accept_rearm: 0,
            late: 0,
            delay_ms: 0,
            dial_error: 0,
        }
    }

    /// Everything that a correct shard hides from its clients: no byte is lost, no connection dies.
    pub const fn rough() -> Self {
        Self {
            chunk: ChunkLen::Random(700),
            no_buffers: 10,
            rearm: 10,
            stall: 25,
            short_send: 0,
            reset_permille: 0,
            accept_error: 10,
            accept_rearm: 20,
            late: 30,
            delay_ms: 3,
            dial_error: 0,
        }
    }

    /// Everything: connections also die in the middle.
    pub const fn wild() -> Self {
        Self { short_send: 3, reset_permille: 5, dial_error: 10, ..Self::rough() }
    }
}

/// How often each fault happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Receives ended for want of buffers, true or pretended.
    pub no_buffers: u64,
    /// Multishot receives ended.
    pub rearms: u64,
    /// Completions put off.
    pub stalls: u64,
    /// Sends cut short.
    pub short_sends: u64,
    /// Connections reset by the network.
    pub resets: u64,
    /// Accepts ended with EMFILE.
    pub accept_errors: u64,
    /// Connections lost because the table was full.
    pub table_full: u64,
    /// Completions of an old generation.
    pub late: u64,
    /// Connections to other nodes refused.
    pub dial_errors: u64,
    /// Connections to other nodes that got no answer in time.
    pub dial_timeouts: u64,
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// From 0 to `below - 1`; 0 when `below` is 0.
    pub fn below(&mut self, below: usize) -> usize {
        if below == 0 { 0 } else { (self.next() % below as u64) as usize }
    }

    pub fn percent(&mut self, percent: u8) -> bool {
        0 < percent && self.below(100) < usize::from(percent)
    }

    pub fn permille(&mut self, permille: u16) -> bool {
        0 < permille && self.below(1_000) < usize::from(permille)
    }

    /// Bytes of one piece out of `available` (not 0), which fits into `room`.
    pub fn piece(&mut self, chunk: ChunkLen, available: usize, room: usize) -> usize {
        let most = available.min(room);
        match chunk {
            ChunkLen::Whole => most,
            ChunkLen::Fixed(len) => len.clamp(1, most),
            ChunkLen::Random(max) => (1 + self.below(max)).min(most),
        }
    }
}
