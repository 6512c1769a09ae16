//! Whether an answer is right: the id that was asked, a result, no error, the text that was sent.
//!
//! The first answer is read as JSON and checked whole. A server under load says the same thing with another
//! id over and over, so later ones are compared with it byte by byte, and read as JSON only if they differ.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::say::CallShape;
use crate::request::{ID_DIGITS, write_digits};

/// Checks answers to one kind of call.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    text: Option<String>,
    pattern: Option<Pattern>,
}

/// An answer that was right, and where its id is.
#[derive(Debug, Clone)]
struct Pattern {
    body: Vec<u8>,
    id_at: usize,
}

#[derive(Deserialize)]
struct Message<'a> {
    jsonrpc: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult {
    #[serde(default)]
    is_error: bool,
    content: Option<Vec<Block>>,
}

#[derive(Deserialize)]
struct Block {
    text: Option<String>,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The right answer.
    Right,
    /// A notification or a request of the server: not the answer.
    Other,
    /// An answer, and not the right one; why.
    Wrong(String),
}

impl Checker {
    /// For calls of this shape.
    pub fn new(shape: &CallShape) -> Self {
        Self { text: shape.text.clone(), pattern: None }
    }

    /// For answers of which only the id is known.
    pub fn of_any_result() -> Self {
        Self::default()
    }

    /// Judges one message that came while the answer to `id` was awaited.
    pub fn check(&mut self, body: &[u8], id: u64) -> Verdict {
        let mut digits = [0; ID_DIGITS];
        write_digits(&mut digits, id);
        if let Some(pattern) = &self.pattern
            && pattern.fits(body, &digits)
        {
            return Verdict::Right;
        }
        let verdict = self.read(body, &digits);
        if verdict == Verdict::Right && self.text.is_some() {
            self.pattern = Pattern::learn(body, &digits);
        }
        verdict
    }

    fn read(&self, body: &[u8], id: &[u8; ID_DIGITS]) -> Verdict {
        let wrong = |what: &str| {
            let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
            Verdict::Wrong(format!("{what}: {shown}"))
        };
        let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
            return wrong("the answer is not a JSON-RPC message");
        };
        if message.jsonrpc != Some("2.0") {
            return wrong("the answer is not JSON-RPC 2.0");
        }
        if message.method.is_some() {
            return Verdict::Other;
        }
        if message.id.map(|id| id.get().as_bytes()) != Some(id) {
            return wrong("the answer has another id");
        }
        if message.error.is_some() {
            return wrong("the answer is an error");
        }
        let Some(result) = message.result else { return wrong("the answer has no result") };
        let Some(text) = &self.text else { return Verdict::Right };
        let Ok(result) = serde_json::from_str::<CallResult>(result.get()) else {
            return wrong("the result is not that of a tool");
        };
        let first = result.content.iter().flatten().next().and_then(|block| block.text.as_ref());
        match () {
            () if result.is_error => wrong("the tool failed"),
            () if first != Some(text) => wrong("the text of the result is not what was expected"),
            () => Verdict::Right,
        }
    }
}

impl Pattern {
    /// `None` when the id occurs more than once: such answers are always read.
    fn learn(body: &[u8], digits: &[u8]) -> Option<Self> {
        let mut found = memchr::memmem::find_iter(body, digits);
        let id_at = found.next()?;
        found.next().is_none().then(|| Self { body: body.to_vec(), id_at })
    }

    fn fits(&self, body: &[u8], digits: &[u8; ID_DIGITS]) -> bool {
        let end = self.id_at + ID_DIGITS;
        body.len() == self.body.len()
            && body[self.id_at..end] == digits[..]
            && body[..self.id_at] == self.body[..self.id_at]
            && body[end..] == self.body[end..]
    }
}

/// Of a wrong answer.
const SHOWN_BYTES_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ID_FIRST;

    #[track_caller]
    fn check(body: &str, expect: &str) {
        // Once as the first answer, once after a right one has been learnt.
        let right = format!(
            r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"result":{{"content":[{{"type":"text","text":"hi"}}]}}}}"#
        );
        for learnt in [false, true] {
            let shape = CallShape { text: Some("hi".into()), ..CallShape::echo(None) };
            let mut checker = Checker::new(&shape);
            if learnt {
                assert_eq!(checker.check(right.as_bytes(), ID_FIRST), Verdict::Right);
            }
            let body = body.replace("ID", &(ID_FIRST + 1).to_string());
            match checker.check(body.as_bytes(), ID_FIRST + 1) {
                Verdict::Right => assert_eq!(expect, "right", "{body}"),
                Verdict::Other => assert_eq!(expect, "other", "{body}"),
                Verdict::Wrong(why) => assert!(why.starts_with(expect), "{body}: {why}"),
            }
        }
    }

    #[test]
    fn right_is_the_id_that_was_asked_a_result_and_the_text() {
        check(
            r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"hi"}]}}"#,
            "right",
        );
        check(
            r#"{"result":{"isError":false,"content":[{"text":"hi"},{"text":"x"}],"_meta":{}},"id":ID,"jsonrpc":"2.0"}"#,
            "right",
        );
        check(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#, "other");
    }

    #[test]
    fn everything_else_is_wrong_and_says_why() {
        check(
            r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"hi"}]}}"#,
            "the answer has another id",
        );
        check(
            r#"{"jsonrpc":"2.0","id":"ID","result":{"content":[{"text":"hi"}]}}"#,
            "the answer has another id",
        );
        check(
            r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"x"}}"#,
            "the answer is an error",
        );
        check(r#"{"jsonrpc":"2.0","id":ID}"#, "the answer has no result");
        check(r#"{"jsonrpc":"1.0","id":ID,"result":{}}"#, "the answer is not JSON-RPC 2.0");
        check(
            r#"{"jsonrpc":"2.0","id":ID,"result":{"isError":true,"content":[{"text":"hi"}]}}"#,
            "the tool failed",
        );
        check(r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"text":"ho"}]}}"#, "the text");
        check(r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#, "the text");
        check("[]", "the answer is not a JSON-RPC message");
        check("<html>", "the answer is not a JSON-RPC message");
    }

    #[test]
    fn an_id_that_occurs_twice_is_never_a_pattern() {
        let digits = ID_FIRST.to_string();
        assert!(
            Pattern::learn(format!("{digits} {digits}").as_bytes(), digits.as_bytes()).is_none()
        );
    }
}
