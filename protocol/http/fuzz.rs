//! What the fuzz targets `http_request` and `http_response` call, and the connection they play.

use super::error::HttpError;
use super::field::Method;
use super::limits::Limits;
use super::reader::{Phase, Request, RequestReader};
use super::response::{close_chunk, open_chunk, write_chunk, write_last_chunk};
use crate::Parsed;

/// The first byte says how long the pieces are; the rest is what a client sent. Whole and in pieces
/// it must be the same requests and the same error, and no request may be one that another parser
/// could read differently.
#[doc(hidden)]
pub fn fuzz_request(data: &[u8]) {
    let [seed, stream @ ..] = data else { return };
    let limits = Limits { head_bytes_max: 512, body_bytes_max: 300 };
    let whole = replay(stream, usize::MAX, false, &limits);
    let step = usize::from(*seed & 0x3f) + 1;
    assert_eq!(whole, replay(stream, step, false, &limits), "in steps of {step}");
    assert_eq!(whole, replay(stream, step, true, &limits), "in steps of {step}, reclaiming");
}

/// Whatever is chunked here is read back by our own decoder, byte for byte.
#[doc(hidden)]
pub fn fuzz_response(data: &[u8]) {
    let mut sent = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let size = data.first().map_or(1, |&first| usize::from(first) + 1);
    for (index, payload) in data.chunks(size).enumerate() {
        if index % 2 == 0 {
            write_chunk(&mut sent, payload);
        } else {
            let mark = open_chunk(&mut sent);
            sent.extend_from_slice(payload);
            close_chunk(&mut sent, mark);
        }
    }
    write_last_chunk(&mut sent);
    let len = sent.len();
    match RequestReader::default().read(&mut sent, &Limits::default()) {
        Ok(Parsed::Complete(request, consumed)) => {
            assert_eq!((request.body, consumed), (data, len));
        }
        other => panic!("{other:?}"),
    }
}

/// One request as a connection saw it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub method: Method,
    pub target: String,
    pub keep_alive: bool,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// Feeds a stream in pieces of `step` bytes, as a connection does.
pub(super) fn replay(
    stream: &[u8],
    step: usize,
    reclaim: bool,
    limits: &Limits,
) -> (Vec<Seen>, Option<HttpError>) {
    replay_pieces(stream.chunks(step.min(stream.len()).max(1)), reclaim, limits)
}

/// Feeds these pieces one after the other and checks on the way what must always hold.
pub(super) fn replay_pieces<'p>(
    pieces: impl Iterator<Item = &'p [u8]>,
    reclaim: bool,
    limits: &Limits,
) -> (Vec<Seen>, Option<HttpError>) {
    let (mut reader, mut held, mut seen) = (RequestReader::default(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            match reader.read(&mut held, limits) {
                Ok(Parsed::Complete(request, consumed)) => {
                    assert_unambiguous(&request, limits);
                    let Request { head, body } = request;
                    let fields = head.fields().map(|(name, value)| (name.into(), value.into()));
                    seen.push(Seen {
                        method: head.method,
                        target: head.target.into(),
                        keep_alive: head.keep_alive,
                        fields: fields.collect(),
                        body: body.into(),
                    });
                    held.drain(..consumed);
                    assert_eq!(reader.phase(), Phase::Idle);
                }
                Ok(Parsed::Partial) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        if reclaim {
            if let Some(keep) = reader.reclaim() {
                held.truncate(keep);
            }
            let most = limits.head_bytes_max + limits.body_bytes_max + 2;
            assert!(held.len() <= most, "{} bytes are held", held.len());
        }
    }
    (seen, None)
}

/// Looks at an accepted head with the simplest parser there is: if that one stumbles, a proxy
/// might.
fn assert_unambiguous(request: &Request<'_>, limits: &Limits) {
    let Request { head, body } = request;
    assert!(head.raw.len() <= limits.head_bytes_max && body.len() <= limits.body_bytes_max);
    assert!(head.path.starts_with('/') && head.target.is_ascii());
    let text = String::from_utf8_lossy(head.raw);
    let Some(text) = text.strip_suffix("\r\n\r\n") else { panic!("no blank line: {text:?}") };
    let mut lines = text.split("\r\n");
    assert_eq!(lines.next().map(|line| line.split(' ').count()), Some(3), "{text:?}");
    let (mut hosts, mut framings) = (0, 0);
    for line in lines {
        assert!(!line.contains(|c: char| c.is_ascii_control() && c != '\t'), "{line:?}");
        let Some((name, value)) = line.split_once(':') else { panic!("no colon: {line:?}") };
        assert!(!name.is_empty() && !name.contains([' ', '\t']), "{line:?}");
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "transfer-encoding" => framings += 1,
            "content-length" => {
                framings += 1;
                assert_eq!(value.trim().parse().ok(), Some(body.len()), "{line:?}");
            }
            _ => {}
        }
    }
    assert!(framings <= 1 && hosts <= 1 && (hosts == 1 || head.http_1_0), "{text:?}");
    assert!(framings == 1 || body.is_empty(), "{text:?}");
}
