//! A client's bytes, and a reader that uses the decoder as a connection does.

use erlmcp_protocol::Parsed;
use erlmcp_protocol::ws::{Decoder, Event, WsError};

pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// Enough for every case here.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The key of RFC 6455 §5.7.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame: its first byte as given, its length in the fewest bytes.
pub fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame_with_mask(first, payload.as_ref(), MASK)
}

pub fn frame_with_mask(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// A close frame with a code and a reason.
pub fn close_frame(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// What the decoder said, owned; fragments left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

pub fn text(payload: &str) -> Seen {
    Seen::Text(payload.to_owned())
}

pub fn binary(payload: &[u8]) -> Seen {
    Seen::Binary(payload.to_owned())
}

pub fn ping(payload: impl AsRef<[u8]>) -> Seen {
    Seen::Ping(payload.as_ref().to_owned())
}

pub fn pong(payload: impl AsRef<[u8]>) -> Seen {
    Seen::Pong(payload.as_ref().to_owned())
}

/// One connection's receiving half.
pub struct Connection {
    pub decoder: Decoder,
    pub unread: Vec<u8>,
    pub seen: Vec<Seen>,
    pub error: Option<WsError>,
    pub message_bytes_max: usize,
}

impl Connection {
    pub fn new() -> Self {
        Self::with_limit(MESSAGE_BYTES_MAX)
    }

    pub fn with_limit(message_bytes_max: usize) -> Self {
        Self {
            decoder: Decoder::default(),
            unread: Vec::new(),
            seen: Vec::new(),
            error: None,
            message_bytes_max,
        }
    }

    /// Takes what came, reads until there is no more, keeps the rest.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.unread.extend(bytes);
        let mut consumed = 0;
        loop {
            match self.decoder.read(&mut self.unread[consumed..], self.message_bytes_max) {
                Ok(Parsed::Complete(event, used)) => {
                    consumed += used;
                    self.seen.extend(owned(event));
                }
                Ok(Parsed::Partial) => break,
                Err(err) => {
                    self.error = Some(err);
                    break;
                }
            }
        }
        self.unread.drain(..consumed);
    }
}

fn owned(event: Event<'_>) -> Option<Seen> {
    Some(match event {
        Event::Text(payload) => Seen::Text(payload.to_owned()),
        Event::Binary(payload) => Seen::Binary(payload.to_owned()),
        Event::Ping(payload) => Seen::Ping(payload.to_owned()),
        Event::Pong(payload) => Seen::Pong(payload.to_owned()),
        Event::Close { code, reason } => Seen::Close(code, reason.to_owned()),
        Event::Fragment => return None,
    })
}

/// The frames are understood as `expect`, and nothing is left over.
#[track_caller]
pub fn check(case: &str, frames: &[Vec<u8>], expect: &[Seen]) {
    check_ending(case, frames, expect, None);
}

/// The frames are understood as `expect`, then refused.
#[track_caller]
pub fn check_fails(case: &str, frames: &[Vec<u8>], expect: &[Seen], error: WsError) {
    check_ending(case, frames, expect, Some(error));
}

/// Whole, byte by byte, in chops of 997 as Autobahn does it, and (if small) at every cut.
#[track_caller]
fn check_ending(case: &str, frames: &[Vec<u8>], expect: &[Seen], error: Option<WsError>) {
    let input = frames.concat();
    let matches = |connection: &Connection, how: &str| {
        assert_eq!(connection.seen, expect, "case {case}, {how}");
        assert_eq!(connection.error, error, "case {case}, {how}");
        if error.is_none() {
            assert!(connection.unread.is_empty(), "case {case}, {how}");
            assert_eq!(connection.decoder.assembled_bytes(), 0, "case {case}, {how}");
        }
    };
    for chop in [input.len().max(1), 997, 1] {
        let mut connection = Connection::new();
        input.chunks(chop).for_each(|bytes| connection.feed(bytes));
        matches(&connection, &format!("in chops of {chop}"));
    }
    if input.len() <= 1024 {
        for cut in 0..=input.len() {
            let mut connection = Connection::new();
            connection.feed(&input[..cut]);
            connection.feed(&input[cut..]);
            matches(&connection, &format!("cut at {cut}"));
        }
    }
}

/// Fed byte by byte, the frames are refused with the byte at `index` and not before.
#[track_caller]
pub fn check_fails_at(case: &str, frames: &[Vec<u8>], index: usize, error: WsError) {
    let mut connection = Connection::new();
    for (at, byte) in frames.concat().into_iter().enumerate() {
        connection.feed(&[byte]);
        if let Some(err) = connection.error {
            assert_eq!((at, err), (index, error), "case {case}");
            return;
        }
    }
    panic!("case {case}: nothing was refused");
}

/// Small, seeded, good enough to pick sizes (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..=max.
    pub fn up_to(&mut self, max: usize) -> usize {
        (self.next() % (max as u64 + 1)) as usize
    }
}
