//! `summary.json`: what was run, where, and how it was judged.

use serde_json::Value;

/// Lines shown of one section: a scenario may tell more than anyone reads.
const LINES_MAX: usize = 400;

/// What the report needs of `summary.json`; the rest is shown as it stands.
#[derive(Debug)]
pub struct Summary {
    /// Name of the scenario.
    pub scenario: String,
    /// The exact command.
    pub command: Option<String>,
    /// How the run was judged.
    pub thresholds: Vec<Threshold>,
    /// Why the generator was the bottleneck; empty if it was not.
    pub generator_limited: Vec<String>,
    /// Facts of the host, as paths and values.
    pub host: Vec<(String, String)>,
    /// Options of the run, defaults included.
    pub options: Vec<(String, String)>,
    /// What the run said of itself, not computed by us.
    pub told: Vec<(String, String)>,
}

/// One limit that the run was held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// What it limits.
    pub name: String,
    /// The limit.
    pub limit: Option<String>,
    /// What was measured.
    pub measured: Option<String>,
    /// Whether it held; `None` if it could not be judged.
    pub passed: Option<bool>,
}

/// All thresholds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All held.
    Passed,
    /// So many did not, or could not be judged.
    Failed(usize),
    /// There were none.
    Unjudged,
}

impl Summary {
    /// Reads a summary; only the name of the scenario must be there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_str(text)
            .map_err(|err| format!("summary.json:{}: {err}", err.line()))?;
        let scenario = document["scenario"].as_str();
        let scenario = scenario.ok_or("summary.json: \"scenario\" is missing")?;
        Ok(Self {
            scenario: scenario.to_owned(),
            command: document["command"].as_str().map(str::to_owned),
            thresholds: thresholds(&document["thresholds"]),
            generator_limited: generator_limited(&document),
            host: lines(&document["host"]),
            options: lines(&document["options"]),
            told: lines(&document["results"]),
        })
    }

    /// What the thresholds say together.
    pub fn verdict(&self) -> Verdict {
        let failed = self.thresholds.iter().filter(|one| one.passed != Some(true)).count();
        match (self.thresholds.len(), failed) {
            (0, _) => Verdict::Unjudged,
            (_, 0) => Verdict::Passed,
            (_, failed) => Verdict::Failed(failed),
        }
    }

    /// A fact of the host, by its path.
    pub fn fact(&self, path: &str) -> Option<&str> {
        let found = self.host.iter().find(|(name, _)| name == path);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// A list of them, or a table by name.
fn thresholds(value: &Value) -> Vec<Threshold> {
    let one = |name: Option<&str>, value: &Value| {
        let text = |names: &[&str]| names.iter().find_map(|name| scalar(&value[*name]));
        Threshold {
            name: name.map_or_else(|| text(&["name"]).unwrap_or_default(), str::to_owned),
            limit: text(&["limit", "required"]),
            measured: text(&["measured", "actual"]),
            passed: value["passed"].as_bool().or(value["ok"].as_bool()),
        }
    };
    match value {
        Value::Array(list) => list.iter().map(|value| one(None, value)).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| one(Some(name), value)).collect(),
        _ => Vec::new(),
    }
}

/// Why the generator was the bottleneck: told right there, or beside what it says of itself.
fn generator_limited(document: &Value) -> Vec<String> {
    let reasons = match &document["generator_limited"] {
        Value::Bool(true) => reasons(&document["results"]["generator"]["limited_because"]),
        value => return reasons(value),
    };
    match reasons.is_empty() {
        true => vec!["the run says so, without a reason".to_owned()],
        false => reasons,
    }
}

/// A reason, or a list of them.
fn reasons(value: &Value) -> Vec<String> {
    match value {
        Value::String(reason) if !reason.is_empty() => vec![reason.clone()],
        Value::Array(list) => list.iter().flat_map(reasons).collect(),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)))
            .map(|(name, value)| format!("{name}: {}", scalar(value).unwrap_or_default()))
            .collect(),
        _ => Vec::new(),
    }
}

/// Every scalar of a document, with its path.
fn lines(value: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    walk("", value, &mut lines);
    lines
}

fn walk(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let under = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    if LINES_MAX <= lines.len() {
        return;
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| walk(&under(key), value, lines)),
        Value::Array(list) if list.iter().any(|value| value.is_object() || value.is_array()) => {
            let each = list.iter().enumerate();
            each.for_each(|(index, value)| walk(&under(&index.to_string()), value, lines));
        }
        Value::Array(list) => {
            let words: Vec<String> = list.iter().filter_map(scalar).collect();
            lines.push((path.to_owned(), words.join(", ")));
        }
        Value::Null if path.is_empty() => {}
        value => lines.push((path.to_owned(), scalar(value).unwrap_or_default())),
    }
}

/// A value that is one word; `null` is none: it was not measured.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(more: Value) -> Summary {
        let mut document = json!({ "scenario": "hold" });
        let fields = document.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        Summary::parse(&document.to_string()).unwrap()
    }

    #[test]
    fn only_the_scenario_must_be_there() {
        let summary = summary(json!({}));
        assert_eq!((summary.scenario.as_str(), summary.verdict()), ("hold", Verdict::Unjudged));
        assert_eq!(summary.command, None);
        assert!(summary.generator_limited.is_empty() && summary.told.is_empty());
        assert_eq!(Summary::parse("{}").unwrap_err(), "summary.json: \"scenario\" is missing");
        let wrong = Summary::parse("{\n\"scenario\": }").unwrap_err();
        assert!(wrong.starts_with("summary.json:2: "), "{wrong}");
    }

    #[test]
    fn a_threshold_that_could_not_be_judged_has_not_passed() {
        let verdict = |passed: Value| {
            let one =
                json!({ "name": "max_p99_ms", "limit": 50, "measured": null, "passed": passed });
            let good =
                json!({ "name": "min_success", "limit": 99.9, "measured": 100, "passed": true });
            summary(json!({ "thresholds": [one, good] })).verdict()
        };
        assert_eq!(verdict(json!(true)), Verdict::Passed);
        assert_eq!(verdict(json!(false)), Verdict::Failed(1));
        assert_eq!(verdict(json!(null)), Verdict::Failed(1));
    }

    #[test]
    fn thresholds_may_be_a_list_or_a_table() {
        let expect = [Threshold {
            name: "max_p99_ms".into(),
            limit: Some("50".into()),
            measured: Some("61.5".into()),
            passed: Some(false),
        }];
        let table = json!({ "max_p99_ms": { "required": 50, "actual": 61.5, "ok": false } });
        assert_eq!(summary(json!({ "thresholds": table })).thresholds, expect);
        let list =
            json!([{ "name": "max_p99_ms", "limit": "50", "measured": 61.5, "passed": false }]);
        assert_eq!(summary(json!({ "thresholds": list })).thresholds, expect);
    }

    #[test]
    fn a_generator_that_was_the_bottleneck_says_why() {
        let limited =
            |value: Value| summary(json!({ "generator_limited": value })).generator_limited;
        assert!(limited(json!(false)).is_empty());
        assert!(limited(json!([])).is_empty());
        assert!(limited(json!({ "cpu": false })).is_empty());
        assert_eq!(limited(json!(true)).len(), 1);
        assert_eq!(limited(json!("it ran late")), ["it ran late"]);
        assert_eq!(limited(json!(["a", "b"])), ["a", "b"]);
        let because = json!({ "generator": { "limited_because": ["it sent late"] } });
        let told = summary(json!({ "generator_limited": true, "results": because }));
        assert_eq!(told.generator_limited, ["it sent late"]);
        assert_eq!(limited(json!({ "send_lag_p99_ms": 12.5 })), ["send_lag_p99_ms: 12.5"]);
    }

    #[test]
    fn nested_values_are_told_by_their_path_and_bounded() {
        let results = json!({ "a": { "b": 1, "c": [1, 2] }, "d": [{ "e": "x" }, { "e": null }] });
        let told = summary(json!({ "results": results })).told;
        let told: Vec<_> =
            told.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
        assert_eq!(told, [("a.b", "1"), ("a.c", "1, 2"), ("d.0.e", "x"), ("d.1.e", "")]);
        let many: Vec<Value> = (0..LINES_MAX + 1).map(|n| json!({ "n": n })).collect();
        assert_eq!(summary(json!({ "results": many })).told.len(), LINES_MAX);
    }
}
