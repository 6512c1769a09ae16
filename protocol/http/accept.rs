//! What a client takes and what it sends: `Accept` (RFC 9110 §12.5.1) and `Content-Type`, digest
//! b.13.

use super::field::{Field, trim_ows};

/// Which of our two representations a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub sse: bool,
}

impl Accepts {
    const BOTH: Self = Self { json: true, sse: true };
}

/// Judges an `Accept` field. Absent or empty means anything. Sent in several lines it counts as
/// anything too; [`super::Head::accepts`] reads those lines.
pub fn accepts(accept: &Field<'_>) -> Accepts {
    match *accept {
        Field::Absent | Field::Many => Accepts::BOTH,
        Field::One(value) => match value {
            b"application/json, text/event-stream" | b"*/*" | b"" => Accepts::BOTH,
            value => accepts_any_of(std::iter::once(value)),
        },
    }
}

/// The same over several lists that count as one.
pub(super) fn accepts_any_of<'b>(lists: impl Iterator<Item = &'b [u8]>) -> Accepts {
    let (mut json, mut sse) = (Best::default(), Best::default());
    let mut empty = true;
    for range in lists.flat_map(|list| Pieces { rest: Some(list), separator: b',' }) {
        let mut pieces = Pieces { rest: Some(range), separator: b';' };
        let media = pieces.next().unwrap_or_default();
        if media.is_empty() {
            continue;
        }
        empty = false;
        let wanted = pieces.find_map(quality).unwrap_or(true);
        json.consider(media, b"application/json", b"application/*", wanted);
        sse.consider(media, b"text/event-stream", b"text/*", wanted);
    }
    if empty { Accepts::BOTH } else { Accepts { json: json.wanted, sse: sse.wanted } }
}

/// Whether the essence of `Content-Type` is `application/json`; parameters are ignored.
pub fn is_json(content_type: &Field<'_>) -> bool {
    content_type.one().is_some_and(|value| {
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        trim_ows(essence).eq_ignore_ascii_case(b"application/json")
    })
}

/// RFC 9110 §12.5.1: the most specific range that matches decides, wherever it stands in the list.
#[derive(Default)]
struct Best {
    specificity: u8,
    wanted: bool,
}

impl Best {
    fn consider(&mut self, range: &[u8], exact: &[u8], family: &[u8], wanted: bool) {
        let specificity = match range {
            // The lone star is what Java's URLConnection sends.
            b"*/*" | b"*" => 1,
            _ if range.eq_ignore_ascii_case(family) => 2,
            _ if range.eq_ignore_ascii_case(exact) => 3,
            _ => return,
        };
        if self.specificity < specificity {
            *self = Self { specificity, wanted };
        } else if self.specificity == specificity {
            self.wanted |= wanted;
        }
    }
}

/// `q=0`, `q=0.0`… is false; any other q is true; another parameter is `None`.
fn quality(parameter: &[u8]) -> Option<bool> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else { return None };
    Some(!value.starts_with(b"0") || value.iter().any(|digit| matches!(digit, b'1'..=b'9')))
}

/// Splits at a separator outside of quoted strings; pieces are trimmed.
struct Pieces<'b> {
    rest: Option<&'b [u8]>,
    separator: u8,
}

impl<'b> Iterator for Pieces<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let rest = self.rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.iter().position(|&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if byte == self.separator && !quoted => return true,
                _ => {}
            }
            false
        });
        let (piece, rest) = match end {
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        self.rest = rest;
        Some(trim_ows(piece))
    }
}

/// Fuzz: never panics, and an unrelated type at the end of a list changes nothing.
#[doc(hidden)]
pub fn fuzz_accept(data: &[u8]) {
    let alone = accepts(&Field::One(data));
    let _ = is_json(&Field::One(data));
    // Unless the list named no type at all, which means anything, or the end is inside quotes.
    let quotes = data.iter().filter(|&&byte| byte == b'"').count();
    let blank = data.iter().all(|byte| matches!(byte, b' ' | b'\t' | b',' | b';'));
    if quotes == 0 && !blank {
        let mut longer = data.to_vec();
        longer.extend_from_slice(b", image/png");
        let with_more = accepts(&Field::One(&longer));
        let only_parameters =
            alone == Accepts::BOTH && with_more == Accepts { json: false, sse: false };
        assert!(alone == with_more || only_parameters, "{}", data.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, json: bool, sse: bool) {
        assert_eq!(accepts(&Field::One(accept.as_bytes())), Accepts { json, sse }, "{accept:?}");
    }

    #[test]
    fn silence_accepts_anything() {
        assert_eq!(accepts(&Field::Absent), Accepts::BOTH);
        check("", true, true);
        check(" , ,", true, true);
    }

    #[test]
    fn types_and_wildcards_match() {
        check("application/json, text/event-stream", true, true);
        check("text/event-stream,application/json", true, true);
        check("Application/JSON", true, false);
        check("text/event-stream", false, true);
        check("*/*", true, true);
        check("application/*", true, false);
        check("text/*", false, true);
        check("text/html, image/gif, *; q=.2, */*; q=.2", true, true);
        check("application/json; charset=utf-8;q=0.5 ;x=y", true, false);
    }

    #[test]
    fn other_types_do_not_match() {
        check("text/html", false, false);
        check("application/jsonp", false, false);
        check("application/json-seq, text/event-streams", false, false);
        check("text/html;x=\"application/json, */*\"", false, false);
        check("text/html;x=\"\\\", */*\"", false, false);
        check("\u{e9}/json", false, false);
    }

    #[test]
    fn q_0_refuses_and_the_most_specific_range_decides() {
        check("application/json;q=0", false, false);
        check("application/json;q=0.000, text/event-stream;q=0.001", false, true);
        check("*/*, application/json;q=0", false, true);
        check("application/json;q=0, */*", false, true);
        check("text/*;q=0, */*", true, false);
        check("*/*;q=0, application/*", true, false);
        check("application/json;q=1.0;Q=0", true, false);
    }

    #[test]
    fn content_type_is_judged_by_its_essence() {
        let check = |value: &str, expect| {
            assert_eq!(is_json(&Field::One(value.as_bytes())), expect, "{value:?}")
        };
        check("application/json", true);
        check("application/json;charset=utf-8", true);
        check("APPLICATION/Json ; x", true);
        check("application/json-rpc", false);
        check("application/jso", false);
        check("text/plain", false);
        check("", false);
        assert!(!is_json(&Field::Absent));
        assert!(!is_json(&Field::Many));
    }
}
