//! What the fuzz targets call (`protocol/fuzz/fuzz_targets/ws_*.rs`), and the oracle they compare
//! with: a decoder that copies everything and starts over on every call. It is slow and short, and
//! being wrong in the same way as the real one would take some effort.

use super::utf8::Utf8Stream;
use super::{Decoder, Event, WsError, check_handshake, select_subprotocol};
use crate::Parsed;

/// The first byte picks the limit, the next 8 how the rest is cut; the rest is what a client sent.
#[doc(hidden)]
pub fn fuzz_read(data: &[u8]) {
    let Some((&[limit, ref cuts @ ..], wire)) = data.split_first_chunk::<9>() else { return };
    let message_bytes_max = [0, 5, 126, 4096][usize::from(limit % 4)];
    let mut cuts = u64::from_le_bytes(*cuts);
    let mut decoder = Decoder::default();
    let (mut fed, mut unread, mut seen) = (0, Vec::new(), Vec::new());
    while fed < wire.len() {
        // Four bits at a time: 1 to 15 bytes, or all the rest.
        let piece = match (cuts % 16) as usize {
            0 => wire.len() - fed,
            size => size.min(wire.len() - fed),
        };
        cuts = cuts.rotate_right(4);
        unread.extend_from_slice(&wire[fed..fed + piece]);
        fed += piece;
        let error = read_all(&mut decoder, &mut unread, message_bytes_max, &mut seen);
        let (expect, expect_error) = oracle(&wire[..fed], message_bytes_max);
        assert_eq!(error, expect_error, "after {fed} bytes");
        assert_eq!(seen, expect, "after {fed} bytes");
        if error.is_some() {
            return;
        }
        assert!(decoder.assembled_bytes() <= message_bytes_max + 64);
    }
}

/// The first byte says how long the pieces are; the rest is text, perhaps.
#[doc(hidden)]
pub fn fuzz_utf8(data: &[u8]) {
    let Some((&size, text)) = data.split_first() else { return };
    let mut stream = Utf8Stream::default();
    let mut pushed = 0;
    for piece in text.chunks(usize::from(size).max(1)) {
        pushed += piece.len();
        let expect_valid = !is_hopeless(&text[..pushed]);
        assert_eq!(stream.push(piece).is_ok(), expect_valid, "after {pushed} bytes");
        if !expect_valid {
            return;
        }
    }
}

/// Lines: `Upgrade`, `Sec-WebSocket-Version`, `Sec-WebSocket-Key`, `Sec-WebSocket-Protocol`.
#[doc(hidden)]
pub fn fuzz_handshake(data: &[u8]) {
    let Ok(fields) = std::str::from_utf8(data) else { return };
    let mut fields = fields.lines();
    let (upgrade, version, key) = (fields.next(), fields.next(), fields.next());
    if let Ok(accept) = check_handshake(true, true, true, upgrade, version, key) {
        assert_eq!(accept.as_str().len(), 28);
        assert!(upgrade.is_some_and(|list| list.to_ascii_lowercase().contains("websocket")));
        assert!(version.is_some_and(|version| version.contains("13")));
        assert!(key.is_some_and(|key| 24 <= key.len() && key.contains("==")));
    }
    let offered = fields.next();
    if select_subprotocol(offered).is_some() {
        assert!(offered.is_some_and(|list| list.contains("mcp")));
    }
}

/// What was understood, one line each.
fn describe(event: Event<'_>) -> Option<String> {
    (event != Event::Fragment).then(|| format!("{event:?}"))
}

fn read_all(
    decoder: &mut Decoder,
    unread: &mut Vec<u8>,
    message_bytes_max: usize,
    seen: &mut Vec<String>,
) -> Option<WsError> {
    let mut consumed = 0;
    let outcome = loop {
        match decoder.read(&mut unread[consumed..], message_bytes_max) {
            Ok(Parsed::Complete(event, used)) => {
                assert!(0 < used, "an event without bytes");
                consumed += used;
                seen.extend(describe(event));
            }
            Ok(Parsed::Partial) => break None,
            Err(err) => break Some(err),
        }
    };
    unread.drain(..consumed);
    outcome
}

/// Everything `input` means, from its first byte, and whether it must be refused by now.
fn oracle(input: &[u8], message_bytes_max: usize) -> (Vec<String>, Option<WsError>) {
    let mut seen = Vec::new();
    let mut begun: Option<(bool, Vec<u8>)> = None;
    let mut at = 0;
    loop {
        match oracle_frame(&input[at..], &mut begun, message_bytes_max, &mut seen) {
            Ok(Some(used)) => at += used,
            Ok(None) => return (seen, None),
            Err(err) => return (seen, Some(err)),
        }
    }
}

/// One frame: how many bytes it took, or nothing if no more can be said.
fn oracle_frame(
    input: &[u8],
    begun: &mut Option<(bool, Vec<u8>)>,
    message_bytes_max: usize,
    seen: &mut Vec<String>,
) -> Result<Option<usize>, WsError> {
    let Some(&first) = input.first() else { return Ok(None) };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    let control = 8 <= opcode;
    match first & 0x7f {
        0x10.. => return Err(WsError::ReservedBits),
        3..=7 | 11..=15 => return Err(WsError::ReservedOpcode),
        8..=10 if !fin => return Err(WsError::ControlFragmented),
        _ => {}
    }
    let Some(&second) = input.get(1) else { return Ok(None) };
    let short = usize::from(second & 0x7f);
    if second & 0x80 == 0 {
        return Err(WsError::Unmasked);
    }
    if control && 125 < short {
        return Err(WsError::ControlTooLong);
    }
    let extra = [0, 2, 8][short.saturating_sub(125).min(2)];
    let Some(extended) = input.get(2..2 + extra) else { return Ok(None) };
    let extended = extended.iter().fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
    match extra {
        8 if extended >> 63 == 1 => return Err(WsError::LengthTooLong),
        8 if extended <= 0xffff => return Err(WsError::LengthNotMinimal),
        2 if extended < 126 => return Err(WsError::LengthNotMinimal),
        _ => {}
    }
    let length = if extra == 0 { short as u64 } else { extended };
    let Some(mask) = input.get(2 + extra..6 + extra) else { return Ok(None) };
    match (opcode, &begun) {
        (0, None) => return Err(WsError::UnexpectedContinuation),
        (1 | 2, Some(_)) => return Err(WsError::MessageInterrupted),
        _ => {}
    }
    let (is_text, mut message) = match begun {
        Some(begun) if opcode == 0 => begun.clone(),
        _ => (opcode == 1, Vec::new()),
    };
    if !control && (message_bytes_max as u64) < length + message.len() as u64 {
        return Err(WsError::MessageTooLarge);
    }
    let masked = &input[6 + extra..];
    let masked = &masked[..masked.len().min(length as usize)];
    message.extend(masked.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    let whole = masked.len() as u64 == length;
    let cut_off = whole && fin && std::str::from_utf8(&message).is_err();
    if is_text && (cut_off || is_hopeless(&message)) {
        return Err(WsError::InvalidUtf8);
    }
    if !whole {
        return Ok(None);
    }
    let used = Some(6 + extra + masked.len());
    if opcode == 8 {
        seen.push(oracle_close(&message)?);
        return Ok(None);
    }
    if !fin {
        *begun = Some((is_text, message));
        return Ok(used);
    }
    if !control {
        *begun = None;
    }
    seen.extend(describe(match opcode {
        9 => Event::Ping(&message),
        10 => Event::Pong(&message),
        _ if is_text => Event::Text(std::str::from_utf8(&message).unwrap_or_default()),
        _ => Event::Binary(&message),
    }));
    Ok(used)
}

fn oracle_close(payload: &[u8]) -> Result<String, WsError> {
    let (code, reason) = match payload {
        [] => (None, &[][..]),
        [_] => return Err(WsError::ClosePayload),
        [high, low, reason @ ..] => (Some(u16::from(*high) << 8 | u16::from(*low)), reason),
    };
    if let Some(0..1000 | 1004..1007 | 1015..3000 | 5000..) = code {
        return Err(WsError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WsError::CloseReason)?;
    Ok(format!("{:?}", Event::Close { code, reason }))
}

/// Whether no further bytes can make this valid.
fn is_hopeless(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_err_and(|err| err.error_len().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every file of the corpus, as it is and with some bytes changed, dropped and doubled.
    #[track_caller]
    fn check_corpus(name: &str, rounds: u64, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = std::fs::read_dir(&folder).expect("the corpus is in the repository");
        let mut count = 0;
        for file in files {
            let path = file.expect("a file of the corpus").path();
            let data = std::fs::read(&path).expect("a file of the corpus");
            count += 1;
            run(target, &data, &format!("{}", path.display()));
            for seed in 0..rounds {
                run(target, &mutate(&data, seed), &format!("{} seed {seed}", path.display()));
            }
        }
        assert!(0 < count, "an empty corpus proves nothing");
    }

    /// Prints what was running when the target panics.
    fn run(target: fn(&[u8]), data: &[u8], what: &str) {
        struct Running<'a>(&'a str);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("while running {}", self.0);
                }
            }
        }
        let _running = Running(what);
        target(data);
    }

    fn mutate(data: &[u8], seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below.max(1)
        };
        let mut out = data.to_vec();
        for _ in 0..1 + random(4) {
            let at = random(out.len());
            match random(5) {
                0 => out[at] ^= 1 << random(8),
                1 => out[at] = random(256) as u8,
                2 => drop(out.remove(at)),
                3 => out.insert(at, random(256) as u8),
                _ => out.extend_from_within(at..),
            }
            if out.is_empty() {
                break;
            }
        }
        out
    }

    #[test]
    fn the_decoder_agrees_with_the_oracle_on_the_corpus_and_around_it() {
        check_corpus("ws_read", 3000, fuzz_read);
    }

    #[test]
    fn the_utf8_stream_agrees_with_the_standard_library_on_the_corpus_and_around_it() {
        check_corpus("ws_utf8", 3000, fuzz_utf8);
    }

    #[test]
    fn the_handshake_keeps_its_promises_on_the_corpus_and_around_it() {
        check_corpus("ws_handshake", 3000, fuzz_handshake);
    }
}
