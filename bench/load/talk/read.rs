//! What arrives for a conversation, in whatever pieces: cut into responses, events, frames and lines, and judged.

use erlmcp_protocol::Parsed;

use super::super::check::Verdict;
use super::super::http::{BODY_BYTES_MAX, Chunks, Framing, Piece, split_events};
use super::super::kind::Kind;
use super::super::voice::Voice;
use super::super::ws::{self, Frame};
use super::{Event, NO_ANSWER, Stage, Talk};

/// A body that arrives in pieces.
#[derive(Debug)]
pub struct Body {
    status: u16,
    /// `None`: until the connection ends.
    chunks: Option<Chunks>,
    is_events: bool,
    /// What has come and is not whole.
    kept: Vec<u8>,
    verdict: Option<Verdict>,
}

impl Talk {
    /// Reads what it understands of the input: how many bytes it took, and what they meant. 0: more is needed.
    /// An error is the end of the conversation.
    pub fn read(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        match (self.kind, self.stage) {
            (_, Stage::Connecting) => Err("bytes before anything was said".to_owned()),
            (Kind::Tcp, _) => self.read_line(voice, input),
            (Kind::Ws, stage) if stage != Stage::Upgrading => self.read_frame(voice, input, out),
            _ if self.body.is_some() => self.read_body(voice, input, out),
            _ => self.read_head(voice, input, out),
        }
    }

    fn read_head(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        let Parsed::Complete(head, used) = voice.heads.read(input)? else {
            return Ok((0, Event::Quiet));
        };
        let (status, is_events, is_last) = (head.status, head.is_events, head.is_last);
        let chunks = match head.framing {
            Framing::Length(length) => {
                let Some(body) = input.get(used..used + length) else {
                    return Ok((0, Event::Quiet));
                };
                if self.stage == Stage::Initializing {
                    self.session = head.session.clone();
                }
                let verdict = match is_events {
                    false => self.judge(voice, status, body),
                    true => {
                        let mut verdict = None;
                        split_events(&mut Vec::new(), body, |data| {
                            self.judge_event(voice, data, &mut verdict);
                            Ok(())
                        })?;
                        verdict
                    }
                };
                let event = self.conclude(voice, status, verdict, out)?;
                if is_last && event != Event::Ready {
                    return Err(format!("the server closes after each answer: {event:?}"));
                }
                return Ok((used + length, event));
            }
            Framing::Chunked => Some(Chunks::default()),
            Framing::UntilClose => None,
        };
        if self.stage == Stage::Initializing {
            self.session = head.session.clone();
        }
        let body = Body { status, chunks, is_events, kept: Vec::new(), verdict: None };
        self.body = Some(Box::new(body));
        if self.stage != Stage::Opening || status != 200 || !is_events {
            return Ok((used, Event::Quiet));
        }
        if self.kind == Kind::Listen {
            self.stage = Stage::Acknowledging;
            return Ok((used, Event::Quiet));
        }
        self.stage = Stage::Ready;
        Ok((used, Event::Ready))
    }

    /// One piece of a body.
    fn read_body(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        let Some(mut body) = self.body.take() else { return Ok((0, Event::Quiet)) };
        let (piece, used) = match &mut body.chunks {
            None => (Piece::Data(input), input.len()),
            Some(chunks) => match chunks.read(input)? {
                Parsed::Complete(piece, used) => (piece, used),
                Parsed::Partial => {
                    self.body = Some(body);
                    return Ok((0, Event::Quiet));
                }
            },
        };
        match piece {
            Piece::Framing => {}
            Piece::Data(data) if body.is_events => {
                let (mut kept, mut verdict) = (std::mem::take(&mut body.kept), body.verdict.take());
                let (mut updates, mut is_ready) = (0, false);
                let listens = matches!(self.kind, Kind::Listen | Kind::Stream);
                split_events(&mut kept, data, |event| {
                    match (listens, self.stage) {
                        (true, Stage::Acknowledging) => {
                            voice.acknowledged(event)?;
                            self.stage = Stage::Ready;
                            is_ready = true;
                        }
                        (true, Stage::Ready) => updates += voice.updates_in(event)?,
                        _ => self.judge_event(voice, event, &mut verdict),
                    }
                    Ok(())
                })?;
                (body.kept, body.verdict) = (kept, verdict);
                self.body = Some(body);
                let event = match (is_ready, updates) {
                    (true, _) => Event::Ready,
                    (false, 0) => Event::Quiet,
                    (false, updates) => Event::Updates(updates),
                };
                return Ok((used, event));
            }
            Piece::Data(data) => {
                if BODY_BYTES_MAX < body.kept.len() + data.len() {
                    return Err("an answer does not end".to_owned());
                }
                body.kept.extend_from_slice(data);
            }
            Piece::End => {
                if self.kind == Kind::Listen || self.stage == Stage::Ready {
                    return Err("the server ended the stream".to_owned());
                }
                let verdict = match body.is_events {
                    true => body.verdict.or(Some(Verdict::Wrong(NO_ANSWER.to_owned()))),
                    false => self.judge(voice, body.status, &body.kept),
                };
                let event = self.conclude(voice, body.status, verdict, out)?;
                return Ok((used, event));
            }
        }
        self.body = Some(body);
        Ok((used, Event::Quiet))
    }

    fn read_line(&mut self, voice: &mut Voice, input: &[u8]) -> Result<(usize, Event), String> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return match BODY_BYTES_MAX < input.len() {
                true => Err("a line does not end".to_owned()),
                false => Ok((0, Event::Quiet)),
            };
        };
        let event = self.take_message(voice, input[..end].trim_ascii())?;
        Ok((end + 1, event))
    }

    fn read_frame(
        &mut self,
        voice: &mut Voice,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event), String> {
        let Parsed::Complete(frame, used) = ws::read_frame(input)? else {
            return Ok((0, Event::Quiet));
        };
        let event = match frame {
            Frame::Message(message) => self.take_message(voice, message)?,
            Frame::Ping(payload) => {
                ws::write_pong(payload, out);
                Event::Quiet
            }
            Frame::Pong => Event::Quiet,
            Frame::Close(code) => return Err(format!("the server closed the WebSocket: {code:?}")),
        };
        Ok((used, event))
    }

    /// A message on a pipe: the answer, or something the server says of itself.
    fn take_message(&mut self, voice: &mut Voice, message: &[u8]) -> Result<Event, String> {
        if self.called().is_none() {
            return Ok(Event::Quiet);
        }
        match voice.check(self.called(), self.id, message) {
            Verdict::Other => Ok(Event::Quiet),
            verdict => self.answered(verdict),
        }
    }

    /// What a whole body says to the request in flight.
    fn judge(&self, voice: &mut Voice, status: u16, body: &[u8]) -> Option<Verdict> {
        match self.stage {
            Stage::Initialized | Stage::Upgrading => None,
            _ => Some(voice.judge(self.called(), self.id, status, body)),
        }
    }

    fn judge_event(&self, voice: &mut Voice, data: &[u8], verdict: &mut Option<Verdict>) {
        match voice.check(self.called(), self.id, data) {
            Verdict::Other => {}
            found => *verdict = Some(found),
        }
    }
}
