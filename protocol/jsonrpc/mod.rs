//! JSON-RPC 2.0 envelopes, scanned borrowed (digest a.1–a.3, a.5).
//!
//! [`parse`] makes one pass over a message and copies nothing. A member that stands twice in an
//! envelope is refused: two readers (a proxy and we) could take different ones. An id is compared
//! and echoed as the text it came as, so `1` and `1.0` are two ids, and 64-bit integers stay exact.

use std::borrow::Cow;

use crate::mcp::{RpcError, errors};

mod checked;
mod scan;
mod write;

#[cfg(test)]
mod tests;

pub use checked::{Checked, ReadMembers};
pub use scan::{DEPTH_MAX, Items, Kind, Members, Raw};
pub use write::{
    begin_result, end_result, write_error, write_error_object, write_f64, write_json_str,
    write_notification, write_request, write_result, write_value,
};

use scan::{NotJson, Scanner};

/// Items of one batch (2025-03-26).
pub const BATCH_ITEMS_MAX: usize = 100;
/// Bytes of an id's token: it is stored while its request runs.
pub const ID_BYTES_MAX: usize = 1024;

/// An id as its raw JSON token (`1`, `"a"`), to be echoed verbatim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Id<'b>(&'b str);

impl<'b> Id<'b> {
    /// The token.
    pub fn raw(self) -> &'b str {
        self.0
    }

    /// An id must be a string or a whole number (`1.0` is one, JSON Schema says), and of bounded
    /// length.
    pub fn from_raw(raw: Raw<'b>) -> Option<Id<'b>> {
        let allowed = match raw.kind() {
            Kind::String => true,
            Kind::Number => is_whole(raw.get()),
            _ => false,
        };
        (allowed && raw.get().len() <= ID_BYTES_MAX).then_some(Id(raw.get()))
    }
}

/// One message of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'b> {
    /// Wants an answer.
    Request {
        /// Echoed in the answer.
        id: Id<'b>,
        /// Its method; borrowed unless it was written with escapes (`tools\/call`).
        method: Cow<'b, str>,
        /// An object, if present.
        params: Option<Raw<'b>>,
    },
    /// Wants none.
    Notification {
        /// Its method.
        method: Cow<'b, str>,
        /// An object, if present.
        params: Option<Raw<'b>>,
    },
    /// Answers a request of ours; exactly one of `result` and `error` is there.
    Response {
        /// The id we gave; the token `null` if the client could not read it, so that nobody waits
        /// for it.
        id: Id<'b>,
        /// The result.
        result: Option<Raw<'b>>,
        /// The error object.
        error: Option<Raw<'b>>,
    },
    /// An array, not looked into: see [`batch_items`].
    Batch(&'b [u8]),
}

impl<'b> Message<'b> {
    /// The raw id of a request; nothing else is answered.
    pub fn request_id(&self) -> Option<&'b str> {
        match self {
            Message::Request { id, .. } => Some(id.raw()),
            _ => None,
        }
    }
}

/// Bytes that are no message, and what to answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Malformed {
    /// -32700, -32600 or -32602.
    pub error: RpcError,
    /// The raw id of the request, if it could be read.
    pub id: Option<String>,
}

/// Reads one message. White space around it is fine, anything else is not.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    parse_by(bytes, |scanner| scanner.value(1).map(drop))
}

/// Reads one message and, in the same pass, the members of its params, if they are an object. `read` must read
/// them all, or fail; what it has read of a message that is none means nothing.
pub fn parse_with<'b, E>(
    bytes: &'b [u8],
    mut read: impl FnMut(&mut Checked<'_, 'b>) -> Result<(), E>,
) -> Result<(Message<'b>, Result<(), E>), Malformed> {
    let mut params = Ok(());
    let message = parse_by(bytes, |scanner| {
        let start = scanner.place();
        if scanner.peek() == Some(b'{') {
            let mut members = Checked::enter(scanner, 1);
            params = read(&mut members);
            if members.finish()? {
                return Ok(());
            }
            // It stopped early; whether the message is one must be known all the same.
            scanner.back_to(start);
        }
        scanner.value(1).map(drop)
    })?;
    Ok((message, params))
}

/// `params` moves the scanner behind the value of `params`.
fn parse_by<'b>(
    bytes: &'b [u8],
    params: impl FnMut(&mut Scanner<'b>) -> Result<(), NotJson>,
) -> Result<Message<'b>, Malformed> {
    // RFC 8259 §8.1: JSON text is UTF-8.
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| not_json())?;
    let mut scanner = Scanner::new(text);
    scanner.skip_space();
    match scanner.peek() {
        Some(b'{') => parse_object(scanner, params),
        Some(b'[') => Ok(Message::Batch(bytes)),
        _ => match Raw::parse(text) {
            Some(_) => Err(invalid("A message must be an object", None)),
            None => Err(not_json()),
        },
    }
}

/// Reads one item of a batch: as [`parse`], but an array in an array is no message (-32600).
pub fn parse_item(item: Raw<'_>) -> Result<Message<'_>, Malformed> {
    match item.kind() {
        Kind::Array => Err(invalid("A batch cannot hold a batch", None)),
        _ => parse(item.get().as_bytes()),
    }
}

/// The items of a batch, unread (see [`parse_item`]): one to [`BATCH_ITEMS_MAX`] of them, else
/// -32600.
pub fn batch_items(bytes: &[u8]) -> Result<Vec<Raw<'_>>, RpcError> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| errors::parse_error())?;
    let array = Raw::parse(text).ok_or_else(errors::parse_error)?;
    if array.kind() != Kind::Array {
        return Err(errors::invalid_request("A batch must be an array"));
    }
    let items: Vec<Raw<'_>> = array.items().take(BATCH_ITEMS_MAX + 1).collect();
    match items.len() {
        0 => Err(errors::invalid_request("Empty batch")),
        1..=BATCH_ITEMS_MAX => Ok(items),
        _ => Err(errors::invalid_request("Too many messages in one batch")),
    }
}

/// The members of an envelope, as found.
#[derive(Default)]
struct Envelope<'b> {
    jsonrpc: Option<Raw<'b>>,
    id: Option<Raw<'b>>,
    method: Option<Raw<'b>>,
    params: Option<Raw<'b>>,
    result: Option<Raw<'b>>,
    error: Option<Raw<'b>>,
    twice: bool,
}

fn parse_object<'b>(
    mut scanner: Scanner<'b>,
    params: impl FnMut(&mut Scanner<'b>) -> Result<(), NotJson>,
) -> Result<Message<'b>, Malformed> {
    let mut envelope = Envelope::default();
    envelope.fill(&mut scanner, params).map_err(|NotJson| not_json())?;
    envelope.judge()
}

impl<'b> Envelope<'b> {
    /// All members are read before any is judged, so that an error can carry the id.
    fn fill(
        &mut self,
        scanner: &mut Scanner<'b>,
        mut params: impl FnMut(&mut Scanner<'b>) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        scanner.eat(b'{');
        let mut first = true;
        while let Some(key) = scanner.member_key(&mut first)? {
            let start = scanner.place();
            match key.as_ref() {
                "params" => params(scanner)?,
                _ => drop(scanner.value(1)?),
            }
            let value = scanner.since(start);
            scanner.end_member()?;
            let slot = match key.as_ref() {
                "jsonrpc" => &mut self.jsonrpc,
                "id" => &mut self.id,
                "method" => &mut self.method,
                "params" => &mut self.params,
                "result" => &mut self.result,
                "error" => &mut self.error,
                _ => continue, // Objects are open (digest a.1).
            };
            self.twice |= slot.replace(value).is_some();
        }
        scanner.skip_space();
        if scanner.is_at_end() { Ok(()) } else { Err(NotJson) }
    }

    fn judge(self) -> Result<Message<'b>, Malformed> {
        let id = self.id.and_then(Id::from_raw);
        // Said twice, an id is not known.
        let readable = if self.twice { None } else { id };
        let refuse = |message: &'static str| Err(invalid(message, readable));
        if self.twice {
            return refuse("A member of the envelope stands twice");
        }
        if self.jsonrpc.map(Raw::get) != Some(r#""2.0""#) {
            return refuse("jsonrpc must be \"2.0\"");
        }
        // Sloppy writers put `"error":null` next to a result.
        let is_value = |raw: &Raw<'_>| raw.kind() != Kind::Null;
        let error = self.error.filter(is_value);
        let result = self.result.filter(|raw| error.is_none() || is_value(raw));
        let Some(method) = self.method else {
            return match (&result, &error) {
                (None, None) => refuse("Neither method nor result nor error"),
                (Some(_), Some(_)) => refuse("Both result and error"),
                _ => match (id, self.id) {
                    (Some(id), _) => Ok(Message::Response { id, result, error }),
                    (None, None) => Ok(Message::Response { id: Id("null"), result, error }),
                    (None, Some(raw)) if raw.kind() == Kind::Null => {
                        Ok(Message::Response { id: Id("null"), result, error })
                    }
                    (None, Some(_)) => refuse("id must be a string or an integer"),
                },
            };
        };
        if result.as_ref().is_some_and(is_value) || error.is_some() {
            return refuse("A request has no result and no error");
        }
        if self.id.is_some() && id.is_none() {
            return refuse("id must be a string or an integer");
        }
        let Some(method) = method.as_str() else {
            return refuse("method must be a string");
        };
        match self.params.map(Raw::kind) {
            None | Some(Kind::Object) => {}
            // JSON-RPC knows positional params, MCP does not.
            Some(Kind::Array) => {
                let error = errors::invalid_params("params must be an object");
                return Err(Malformed { error, id: readable.map(|id| id.raw().to_owned()) });
            }
            Some(_) => return refuse("params must be an object"),
        }
        Ok(match id {
            Some(id) => Message::Request { id, method, params: self.params },
            None => Message::Notification { method, params: self.params },
        })
    }
}

fn not_json() -> Malformed {
    Malformed { error: errors::parse_error(), id: None }
}

fn invalid(message: &'static str, id: Option<Id<'_>>) -> Malformed {
    let id = id.map(|id| id.raw().to_owned());
    Malformed { error: errors::invalid_request(message), id }
}

/// Whether a JSON number (of valid grammar) has an integer value: no digit but 0 is left of the
/// fraction after the exponent has moved the point.
fn is_whole(token: &str) -> bool {
    if token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return true;
    }
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (token, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    if digits.bytes().all(|digit| digit == b'0') {
        return true;
    }
    // Far beyond any id, and beyond what could be compared: refuse rather than compute.
    let Ok(exponent) = exponent.parse::<i32>() else { return false };
    let last = digits.trim_end_matches('0').len() as i64;
    last <= whole.trim_start_matches('-').len() as i64 + i64::from(exponent)
}

/// [`parse`] against serde_json: what one reads the other reads, and what an envelope holds is the
/// same.
pub fn fuzz_parse(data: &[u8]) {
    let value = serde_json::from_slice::<serde_json::Value>(data);
    let message = match parse(data) {
        // Its syntax is looked at by `batch_items`.
        Ok(Message::Batch(bytes)) => {
            let items = batch_items(bytes);
            let not_json = items.is_err_and(|err| err == errors::parse_error());
            return assert_same_syntax(!not_json, &value);
        }
        message => message,
    };
    let not_json = matches!(&message, Err(malformed) if malformed.error == errors::parse_error());
    assert_same_syntax(!not_json, &value);
    let (Ok(message), Ok(value)) = (message, value) else { return };
    let same = |raw: Option<Raw<'_>>, key: &str| {
        let Some(raw) = raw else { return };
        let read: serde_json::Value = serde_json::from_str(raw.get()).expect("checked JSON");
        assert_eq!(Some(&read), value.get(key));
        assert_eq!(Raw::parse(raw.get()), Some(raw));
        assert_walkable(raw);
    };
    match message {
        Message::Request { id, method, params } => {
            same(Raw::parse(id.raw()), "id");
            assert_eq!(value["method"], *method);
            same(params, "params");
        }
        Message::Notification { method, params } => {
            assert_eq!(value["method"], *method);
            assert!(value.get("id").is_none());
            same(params, "params");
        }
        Message::Response { result, error, .. } => {
            same(result, "result");
            same(error, "error");
        }
        Message::Batch(_) => {}
    }
}

/// What walking finds inside a value are values again, and as many as serde_json finds.
fn assert_walkable(raw: Raw<'_>) {
    let mut inside = 0;
    let mut check = |inner: Raw<'_>| {
        assert_eq!(Raw::parse(inner.get()), Some(inner), "in {}", raw.get());
        inside += 1;
        // One level of nesting a level of recursion: a message nests 127 deep at most.
        assert_walkable(inner);
    };
    raw.items().for_each(&mut check);
    raw.members().for_each(|(_, value)| check(value));
    let value: serde_json::Value = serde_json::from_str(raw.get()).expect("checked JSON");
    match value {
        serde_json::Value::Array(items) => assert_eq!(raw.items().count(), items.len()),
        // A key may stand twice in the text.
        serde_json::Value::Object(members) => {
            let keys: std::collections::BTreeSet<_> = raw.members().map(|(key, _)| key).collect();
            assert!(keys.iter().eq(members.keys()), "{}", raw.get());
        }
        _ => assert_eq!(inside, 0),
    }
}

fn assert_same_syntax(ours: bool, theirs: &Result<serde_json::Value, serde_json::Error>) {
    // Its reader of values refuses numbers beyond f64; they are JSON all the same.
    let out_of_range = |err: &serde_json::Error| err.to_string().starts_with("number out of range");
    match theirs {
        Err(err) if out_of_range(err) => {}
        theirs => assert_eq!(ours, theirs.is_ok(), "{:?}", theirs.as_ref().err()),
    }
}
