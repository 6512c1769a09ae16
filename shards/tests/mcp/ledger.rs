//! What one client asked and what it heard. Every message is judged as it comes: an answer must be to
//! something asked, be right, and be the first; progress must be complete, in order, and before its answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::{Dice, STEPS};

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// A tool result with this text.
    Text(String),
    /// An error with this code.
    Error(i64),
    /// A result with this member.
    Member(&'static str),
    /// A result that says nothing but that it is one.
    Nothing,
    /// `input_required`, or a failure that says why not.
    Questions,
}

/// What a message was.
#[derive(Debug)]
pub enum Heard {
    /// The answer to the request with this id.
    Answer(String),
    /// The server needs input before it answers the request with this id.
    Questions(String, Value),
    /// Any notification.
    Notice,
    /// A request of the server.
    Request(Value),
}

#[derive(Debug)]
struct Asked {
    expect: Expect,
    /// Whether progress was asked for, and how far it came.
    tracked: bool,
    steps: u64,
    is_answered: bool,
    /// Its answer may have been lost with its connection.
    is_excused: bool,
}

#[derive(Default)]
pub struct Ledger {
    asked: BTreeMap<String, Asked>,
    asked_count: u64,
    /// The server drains: it may refuse.
    pub takes_refusals: bool,
    /// Notifications by method and URI (or nothing).
    pub notices: BTreeMap<(String, String), u64>,
}

impl Ledger {
    /// An id never used before, a number or a string.
    pub fn next_id(&mut self, dice: &mut Dice) -> Value {
        self.asked_count += 1;
        match dice.below(3) {
            0 => json!(format!("id \"{}\" é", self.asked_count)),
            _ => json!(self.asked_count),
        }
    }

    /// Requests ever made.
    pub fn asked_count(&self) -> u64 {
        self.asked_count
    }

    pub fn asked(&mut self, id: &Value, expect: Expect, tracked: bool) {
        let asked = Asked { expect, tracked, steps: 0, is_answered: false, is_excused: false };
        assert!(self.asked.insert(id.to_string(), asked).is_none(), "ids are used once");
    }

    /// Judges a message of the server.
    #[track_caller]
    pub fn hear(&mut self, message: &Value) -> Heard {
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            (Some(_), Some(_)) => Heard::Request(message.clone()),
            (Some("notifications/progress"), None) => {
                self.hear_progress(&message["params"]);
                Heard::Notice
            }
            (Some(method), None) => {
                let uri = message["params"]["uri"].as_str().unwrap_or_default();
                *self.notices.entry((method.into(), uri.into())).or_default() += 1;
                Heard::Notice
            }
            (None, id) => self.hear_answer(&id.cloned().unwrap_or_default().to_string(), message),
        }
    }

    fn hear_progress(&mut self, params: &Value) {
        let token = params["progressToken"].to_string();
        let asked =
            self.asked.get_mut(&token).unwrap_or_else(|| panic!("token of nobody: {token}"));
        assert!(asked.tracked, "nobody wants progress of {token}");
        assert!(!asked.is_answered, "progress of {token} after its answer");
        asked.steps += 1;
        assert_eq!(params["progress"].as_f64(), Some(asked.steps as f64), "{token}: {params}");
    }

    fn hear_answer(&mut self, id: &str, message: &Value) -> Heard {
        let asked = self.asked.get_mut(id).unwrap_or_else(|| panic!("nobody asked: {message}"));
        assert!(!asked.is_answered, "a second answer: {message}");
        asked.is_answered = true;
        let (result, error) = (&message["result"], &message["error"]);
        let text = error["message"].as_str().or(result["content"][0]["text"].as_str());
        if self.takes_refusals && text.is_some_and(is_refusal) {
            return Heard::Answer(id.to_owned());
        }
        match &asked.expect {
            Expect::Text(text) => {
                assert_eq!(result["content"][0]["text"], **text, "{message}");
                let steps = if asked.tracked { STEPS } else { 0 };
                assert_eq!(asked.steps, steps, "progress before {message}");
            }
            Expect::Error(code) => assert_eq!(error["code"], *code, "{message}"),
            Expect::Member(name) => {
                assert!(result.get(name).is_some(), "no `{name}` in {message}");
            }
            Expect::Nothing => assert!(result.is_object(), "{message}"),
            Expect::Questions => {
                assert_eq!(result["resultType"], "input_required", "{message}");
                return Heard::Questions(id.to_owned(), result.clone());
            }
        }
        Heard::Answer(id.to_owned())
    }

    /// The answer to this one need not come any more, but may.
    pub fn excuse(&mut self, id: &str) {
        if let Some(asked) = self.asked.get_mut(id) {
            asked.is_excused = true;
        }
    }

    pub fn excuse_all(&mut self) {
        self.asked.values_mut().for_each(|asked| asked.is_excused = true);
    }

    pub fn is_answered(&self, id: &str) -> bool {
        self.asked.get(id).is_some_and(|asked| asked.is_answered)
    }

    pub fn is_excused(&self, id: &str) -> bool {
        self.asked.get(id).is_some_and(|asked| asked.is_excused)
    }

    /// Everything was answered that must be.
    pub fn is_settled(&self) -> bool {
        self.asked.values().all(|asked| asked.is_answered || asked.is_excused)
    }

    /// Everything was answered.
    pub fn is_complete(&self) -> bool {
        self.asked.values().all(|asked| asked.is_answered)
    }

    /// Those that run for certain: their progress was heard.
    pub fn running(&self) -> Vec<String> {
        let runs = |asked: &Asked| 0 < asked.steps && !asked.is_answered;
        self.asked.iter().filter(|(_, asked)| runs(asked)).map(|(id, _)| id.clone()).collect()
    }

    pub fn answered_count(&self) -> u64 {
        self.asked.values().filter(|asked| asked.is_answered).count() as u64
    }

    /// What is still missing, for failure messages.
    pub fn missing(&self) -> Vec<String> {
        let waits = |asked: &Asked| !asked.is_answered && !asked.is_excused;
        let missing = self.asked.iter().filter(|(_, asked)| waits(asked));
        missing.map(|(id, asked)| format!("{id}: {asked:?}")).collect()
    }

    pub fn updates(&self, uri: &str) -> u64 {
        let key = ("notifications/resources/updated".to_owned(), uri.to_owned());
        self.notices.get(&key).copied().unwrap_or(0)
    }
}

/// What a server that drains may say. A client that was asked something cannot answer if its connections
/// were let go, for there are no new ones.
fn is_refusal(text: &str) -> bool {
    text.contains("draining") || text == "The client did not answer in time"
}
