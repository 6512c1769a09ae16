//! Bytes of one connection to messages and control frames.

use super::frame::{FrameHead, Opcode, parse_head, unmask};
use super::utf8::Utf8Stream;
use super::{WsError, close};
use crate::Parsed;

/// What the client said. Payloads are unmasked; they live in the input, or in the decoder where a
/// message came in fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'b> {
    /// A whole text message.
    Text(&'b str),
    /// A whole binary message.
    Binary(&'b [u8]),
    /// Answer with a pong of the same payload.
    Ping(&'b [u8]),
    /// The client is alive.
    Pong(&'b [u8]),
    /// The client closes, or answers our close. Whatever follows it is discarded.
    Close {
        /// The code, if it gave one; always one that may be sent.
        code: Option<u16>,
        /// Its words; empty when there were none.
        reason: &'b str,
    },
    /// Bytes were consumed and there is nothing to deliver yet.
    Fragment,
}

/// The decoder's state for one connection: 24 bytes while no fragmented message is underway.
///
/// Call [`Decoder::read`] with all unread bytes until it answers `Partial`, each time without those
/// it consumed. After an error or a close it consumes and discards everything.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The fragmented message underway, or the one just delivered.
    assembly: Option<Box<Assembly>>,
    /// How much of the payload of the frame at the start of the input is unmasked already.
    unmasked_bytes: usize,
    /// The text message underway, over all its fragments.
    utf8: Utf8Stream,
    /// The assembled message was handed out; the next read frees it.
    delivered: bool,
    /// A close or an error was reported.
    ended: bool,
}

#[derive(Debug)]
struct Assembly {
    is_text: bool,
    bytes: Vec<u8>,
}

const _: () = assert!(size_of::<Decoder>() <= 32, "an idle connection must stay cheap");

impl Decoder {
    /// Reads one frame.
    ///
    /// `input` holds every unread byte; it begins where the last `Complete` left off. On `Partial`
    /// call again with the same bytes and more behind them. They may have been unmasked in place by
    /// then: move them if need be, but keep them as they are.
    ///
    /// A message assembled from fragments is freed by the next call, so read until `Partial` even if
    /// nothing is left (an empty input is `Partial`).
    ///
    /// `message_bytes_max` bounds one message, over all its fragments.
    ///
    /// # Panics
    /// If the input became shorter after `Partial`: that is a fault of the caller, not of the client.
    pub fn read<'b>(
        &'b mut self,
        input: &'b mut [u8],
        message_bytes_max: usize,
    ) -> Result<Parsed<Event<'b>>, WsError> {
        if self.delivered {
            self.assembly = None;
            self.delivered = false;
        }
        if self.ended {
            // RFC 6455 §5.5.1, §7.1.7: after a close or a failure no further data is processed.
            let discarded = input.len();
            return Ok(match discarded {
                0 => Parsed::Partial,
                _ => Parsed::Complete(Event::Fragment, discarded),
            });
        }
        let (head, start, end) = match self.receive(input, message_bytes_max) {
            Ok(Parsed::Complete((head, start), end)) => (head, start, end),
            Ok(Parsed::Partial) => return Ok(Parsed::Partial),
            Err(err) => {
                self.end();
                return Err(err);
            }
        };
        let payload = &input[start..end];
        let event = match head.opcode {
            Opcode::Ping => Ok(Event::Ping(payload)),
            Opcode::Pong => Ok(Event::Pong(payload)),
            Opcode::Close => {
                self.end();
                read_close(payload)
            }
            Opcode::Binary if head.fin => Ok(Event::Binary(payload)),
            Opcode::Text if head.fin => text(payload),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let assembly = self.assembly.get_or_insert_with(|| {
                    Box::new(Assembly { is_text: head.opcode == Opcode::Text, bytes: Vec::new() })
                });
                assembly.append(payload, message_bytes_max);
                if !head.fin {
                    Ok(Event::Fragment)
                } else {
                    self.delivered = true;
                    match assembly.is_text {
                        true => text(&assembly.bytes),
                        false => Ok(Event::Binary(&assembly.bytes)),
                    }
                }
            }
        };
        match event {
            Ok(event) => Ok(Parsed::Complete(event, end)),
            Err(err) => {
                self.ended = true;
                Err(err)
            }
        }
    }

    /// Heap bytes held by a fragmented message.
    pub fn assembled_bytes(&self) -> usize {
        self.assembly
            .as_ref()
            .map_or(0, |assembly| size_of::<Assembly>() + assembly.bytes.capacity())
    }

    /// Whether a fragmented message has begun and not ended: the client owes us more.
    pub fn is_mid_message(&self) -> bool {
        self.assembly.is_some() && !self.delivered
    }

    /// Checks the frame at the start of the input and unmasks what has come of it. Complete when all
    /// of it has: its head, where the payload starts, and where it ends.
    fn receive(
        &mut self,
        input: &mut [u8],
        message_bytes_max: usize,
    ) -> Result<Parsed<(FrameHead, usize)>, WsError> {
        let Parsed::Complete(head, start) = parse_head(input)? else { return Ok(Parsed::Partial) };
        let in_fragments = self.assembly.is_some();
        if !head.opcode.is_control() {
            match (head.opcode, in_fragments) {
                (Opcode::Continuation, false) => return Err(WsError::UnexpectedContinuation),
                (Opcode::Text | Opcode::Binary, true) => return Err(WsError::MessageInterrupted),
                _ => {}
            }
            let before = self.assembly.as_ref().map_or(0, |assembly| assembly.bytes.len());
            let room = message_bytes_max.saturating_sub(before);
            if head.payload_bytes > room as u64 {
                return Err(WsError::MessageTooLarge);
            }
        }
        // At most `message_bytes_max` or 125, so it fits.
        let payload_bytes = head.payload_bytes as usize;
        let came = payload_bytes.min(input.len() - start);
        let whole = came == payload_bytes;
        let fresh = &mut input[start + self.unmasked_bytes..start + came];
        unmask(fresh, head.mask, self.unmasked_bytes);
        let is_text = match head.opcode {
            Opcode::Text => true,
            Opcode::Continuation => self.assembly.as_ref().is_some_and(|assembly| assembly.is_text),
            _ => false,
        };
        // A text that came in one piece is checked once, when it becomes a `str`.
        let at_once = whole && head.fin && !in_fragments && self.unmasked_bytes == 0;
        if is_text && !at_once {
            self.utf8.push(fresh).map_err(|_| WsError::InvalidUtf8)?;
        }
        if !whole {
            self.unmasked_bytes = came;
            return Ok(Parsed::Partial);
        }
        self.unmasked_bytes = 0;
        // From here on the stream is as good as new: it waits for nothing.
        if is_text && head.fin && !self.utf8.is_whole() {
            return Err(WsError::InvalidUtf8);
        }
        Ok(Parsed::Complete((head, start), start + payload_bytes))
    }

    fn end(&mut self) {
        self.ended = true;
        self.assembly = None;
    }
}

impl Assembly {
    /// Grows by doubling, but never beyond the limit the message was checked against.
    fn append(&mut self, payload: &[u8], message_bytes_max: usize) {
        let needed = self.bytes.len() + payload.len();
        if self.bytes.capacity() < needed {
            let wanted = (self.bytes.capacity() * 2).min(message_bytes_max).max(needed);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
    }
}

fn text(payload: &[u8]) -> Result<Event<'_>, WsError> {
    simdutf8::basic::from_utf8(payload).map(Event::Text).map_err(|_| WsError::InvalidUtf8)
}

/// RFC 6455 §5.5.1: if there is a body, its first two bytes are a code, the rest is a UTF-8 reason.
fn read_close(payload: &[u8]) -> Result<Event<'_>, WsError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close { code: None, reason: "" }),
            _ => Err(WsError::ClosePayload),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(WsError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WsError::CloseReason)?;
    Ok(Event::Close { code: Some(code), reason })
}

/// RFC 6455 §7.4 and the IANA registry. 1004 is reserved; 1005, 1006 and 1015 are for local use.
fn may_be_sent(code: u16) -> bool {
    matches!(code, close::NORMAL..=close::UNSUPPORTED | 1007..=1014 | 3000..=4999)
}
