//! WebSocket frames as a server sends them (RFC 6455 §5.2): not masked, not in fragments.

use erlmcp_protocol::Parsed;

use super::http::BODY_BYTES_MAX;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'i> {
    /// A message, of text.
    Message(&'i [u8]),
    /// Wants a pong with the same bytes.
    Ping(&'i [u8]),
    /// Wants nothing.
    Pong,
    /// Good-bye, and why.
    Close(Option<u16>),
}

/// Reads the first frame of the input.
pub fn read_frame(input: &[u8]) -> Result<Parsed<Frame<'_>>, String> {
    let [first, second, rest @ ..] = input else { return Ok(Parsed::Partial) };
    let (head, length) = match (*second, rest) {
        (length @ 0..=125, _) => (2, usize::from(length)),
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (10, usize::try_from(length).unwrap_or(usize::MAX))
        }
        (126 | 127, _) => return Ok(Parsed::Partial),
        _ => return Err("a masked frame from a server".to_owned()),
    };
    if BODY_BYTES_MAX < length {
        return Err(format!("a frame of {length} bytes"));
    }
    let Some(payload) = input.get(head..head + length) else { return Ok(Parsed::Partial) };
    let frame = match first {
        0x81 => Frame::Message(payload),
        0x89 => Frame::Ping(payload),
        0x8a => Frame::Pong,
        0x88 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        other => return Err(format!("a frame that begins with {other:#x}")),
    };
    Ok(Parsed::Complete(frame, head + length))
}

/// Appends the answer to a ping, which has at most 125 bytes (§5.5); masked with zeroes, as a client's must be.
pub fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x8a, 0x80 | payload.len().min(125) as u8, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], payload: usize, expect: Frame<'static>) {
        let input = [head, &vec![3; payload]].concat();
        for cut in 0..input.len() {
            assert_eq!(read_frame(&input[..cut]), Ok(Parsed::Partial), "cut at {cut}");
        }
        assert_eq!(read_frame(&input), Ok(Parsed::Complete(expect, input.len())));
    }

    #[test]
    fn a_frame_is_whole_or_waited_for() {
        const BYTES: &[u8] = &[3; 70_000];
        check(&[0x81, 0], 0, Frame::Message(b""));
        check(&[0x81, 125], 125, Frame::Message(&BYTES[..125]));
        check(&[0x81, 126, 0, 126], 126, Frame::Message(&BYTES[..126]));
        check(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1], 65_537, Frame::Message(&BYTES[..65_537]));
        check(&[0x89, 2], 2, Frame::Ping(&[3, 3]));
        check(&[0x8a, 1], 1, Frame::Pong);
        check(&[0x88, 0], 0, Frame::Close(None));
        check(&[0x88, 2], 2, Frame::Close(Some(0x0303)));
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        for (input, says) in [
            (&[0x81, 0x80][..], "masked"),
            (&[0x01, 0], "begins with 0x1"),
            (&[0x81, 127, 0, 0, 0, 0, 1, 0, 0, 1], "a frame of 16777217 bytes"),
            (&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255], "a frame of"),
        ] {
            assert!(read_frame(input).unwrap_err().contains(says), "{input:?}");
        }
    }
}
