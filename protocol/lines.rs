//! Newline-delimited messages (TCP and stdio, digest d.1).
//!
//! One line is one message. A line that is too long is dropped up to its end, reported once, and
//! the connection goes on. At end of input an unterminated last line is the caller's: append LF and
//! read once more to get it.

use memchr::memchr;

/// The answer to one [`LineReader::read`]. Drop the consumed bytes from the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'b> {
    /// A line without its terminator, never blank, and how many bytes it took.
    Complete(&'b [u8], usize),
    /// A line longer than allowed: its bytes so far are consumed, the rest of it will be skipped.
    TooLong(usize),
    /// No whole line: keep what was not consumed, append more, call again.
    Partial(usize),
}

/// Splits a byte stream into lines; remembers how far it looked, so that small pieces are linear
/// work.
#[derive(Debug, Clone, Copy, Default)]
pub struct LineReader {
    scanned: usize,
    skipping: bool,
}

impl LineReader {
    /// The next line from the front of `input`: all bytes not yet consumed. LF and CRLF end a line,
    /// blank lines (empty, or spaces and tabs) are skipped. `line_bytes_max` does not count the
    /// terminator.
    pub fn read<'b>(&mut self, input: &'b [u8], line_bytes_max: usize) -> Line<'b> {
        let mut start = 0;
        loop {
            let rest = &input[start..];
            let from = std::mem::take(&mut self.scanned).min(rest.len());
            let Some(end) = memchr(b'\n', &rest[from..]).map(|at| from + at) else {
                return self.partial(rest, start, line_bytes_max);
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            start += end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line_bytes_max < line.len() {
                return Line::TooLong(start);
            }
            if !line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                return Line::Complete(line, start);
            }
        }
    }

    /// Whether the rest of a line that was too long is still to be skipped.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// `rest` holds no line end and begins at `start`.
    fn partial<'b>(&mut self, rest: &[u8], start: usize, line_bytes_max: usize) -> Line<'b> {
        if self.skipping {
            return Line::Partial(start + rest.len());
        }
        // A last CR may belong to the terminator.
        let line = rest.strip_suffix(b"\r").unwrap_or(rest);
        if line_bytes_max < line.len() {
            self.skipping = true;
            return Line::TooLong(start + rest.len());
        }
        self.scanned = rest.len();
        Line::Partial(start)
    }
}

/// Fuzz: fed whole and in pieces, a stream gives the same lines and the same complaints.
#[doc(hidden)]
pub fn fuzz_lines(data: &[u8]) {
    let [seed, max, stream @ ..] = data else { return };
    let (step, max) = (usize::from(*seed) + 1, usize::from(*max));
    assert_eq!(replay(stream, usize::MAX, max), replay(stream, step, max), "steps of {step}");
}

/// Lines as `Some`, complaints as `None`.
fn replay(stream: &[u8], step: usize, line_bytes_max: usize) -> Vec<Option<Vec<u8>>> {
    let (mut reader, mut held, mut seen) = (LineReader::default(), Vec::new(), Vec::new());
    for piece in stream.chunks(step.min(stream.len()).max(1)) {
        held.extend_from_slice(piece);
        loop {
            let consumed = match reader.read(&held, line_bytes_max) {
                Line::Complete(line, consumed) => {
                    assert!(line.len() <= line_bytes_max && !line.contains(&b'\n'));
                    seen.push(Some(line.to_vec()));
                    consumed
                }
                Line::TooLong(consumed) => {
                    seen.push(None);
                    consumed
                }
                Line::Partial(consumed) => {
                    held.drain(..consumed);
                    break;
                }
            };
            held.drain(..consumed);
        }
        assert!(held.len() <= line_bytes_max + 1, "a line of {} bytes is held", held.len());
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of at most eight bytes; `None` is a complaint. Fed whole, at every cut and in every
    /// step.
    #[track_caller]
    fn check(stream: &str, expect: &[Option<&str>]) {
        let expect: Vec<_> =
            expect.iter().map(|line| line.map(|line| line.as_bytes().to_vec())).collect();
        for step in (1..=stream.len()).chain([usize::MAX]) {
            assert_eq!(replay(stream.as_bytes(), step, 8), expect, "{stream:?} in steps of {step}");
        }
    }

    #[test]
    fn lines_end_with_lf_or_crlf() {
        check("", &[]);
        check("{}\n", &[Some("{}")]);
        check("{}\r\n[]\n{}", &[Some("{}"), Some("[]")]);
        check("a\rb\n\rc\r\r\n", &[Some("a\rb"), Some("\rc\r")]);
    }

    #[test]
    fn blank_lines_are_skipped() {
        check("\n\r\n \t\r\n{}\n\n\n[]\n\n", &[Some("{}"), Some("[]")]);
    }

    #[test]
    fn the_limit_holds_from_both_sides() {
        check("12345678\n", &[Some("12345678")]);
        check("12345678\r\n", &[Some("12345678")]);
        check("123456789\n{}\n", &[None, Some("{}")]);
        check("12345678\r1\r\n{}\n", &[None, Some("{}")]);
        check("123456789", &[None]);
        check("12345678\r", &[]);
    }

    #[test]
    fn an_oversize_line_is_reported_once_and_the_next_ones_arrive() {
        let long = "x".repeat(100);
        check(
            &format!("{{}}\n{long}\r\n[]\n{long}\n{long}\n1\n"),
            &[Some("{}"), None, Some("[]"), None, None, Some("1")],
        );
        check(&format!("{long}{long}"), &[None]);
    }

    /// 16 MiB in 2 KiB pieces ends soon only if nothing is looked at twice.
    #[test]
    fn a_long_line_in_small_pieces_is_linear_work() {
        const SIZE: usize = 16 << 20;
        let (mut reader, mut held) = (LineReader::default(), Vec::new());
        for _ in 0..SIZE / 2048 {
            held.extend_from_slice(&[b'x'; 2048]);
            assert_eq!(reader.read(&held, SIZE), Line::Partial(0));
        }
        held.extend_from_slice(b"\n{}");
        assert_eq!(reader.read(&held, SIZE), Line::Complete(&held[..SIZE], SIZE + 1));
        assert_eq!(reader.read(&held[SIZE + 1..], SIZE), Line::Partial(0));
    }
}
