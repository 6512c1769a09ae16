//! A TOML table that is read key by key, noting every fault and going on.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FileFault;

/// How alike a misspelt name must be to be suggested (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.75;
/// Most faults told at once.
const FAULTS_MAX: usize = 50;

/// Every fault found so far, and the text in which lines are counted.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: RefCell<Vec<(usize, FileFault)>>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Faults<'t> {
        Faults { text, found: RefCell::new(Vec::new()) }
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> u32 {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let newlines = memchr::memchr_iter(b'\n', before).count();
        u32::try_from(newlines + 1).unwrap_or(u32::MAX)
    }

    pub(super) fn add(&self, at: Option<usize>, key: &str, message: String) {
        let mut found = self.found.borrow_mut();
        if found.len() < FAULTS_MAX {
            let line = at.map(|at| self.line(at));
            let fault = FileFault { line, key: key.to_owned(), message };
            found.push((at.unwrap_or(0), fault));
        }
    }

    pub(super) fn any(&self) -> bool {
        !self.found.borrow().is_empty()
    }

    /// By place in the file.
    pub(super) fn into_sorted(self) -> Vec<FileFault> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, fault)| fault).collect()
    }
}

/// One table and where it stands.
pub(super) struct Table<'t> {
    entries: &'t DeTable<'t>,
    faults: &'t Faults<'t>,
    path: String,
    span: Range<usize>,
}

impl<'t> Table<'t> {
    pub(super) fn root(entries: &'t DeTable<'t>, faults: &'t Faults<'t>) -> Table<'t> {
        Table { entries, faults, path: String::new(), span: 0..0 }
    }

    /// Its name, e.g. `tool.annotations`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Notes a fault of one of its keys.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        self.faults.add(Some(self.span_of(key).start), &self.key_path(key), message.into());
    }

    /// Notes a fault of the table as a whole.
    pub(super) fn fault_whole(&self, message: impl Into<String>) {
        self.faults.add(Some(self.span.start), &self.path, message.into());
    }

    /// Where a key's value stands, or the table if it is absent.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.entries.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes every key that is not one of these, with the nearest one that is.
    pub(super) fn only(&self, known: &[&str]) {
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let message = match nearest(name, known) {
                Some(near) => format!("unknown key, did you mean `{near}`?"),
                None => format!("unknown key; known are {}", known.join(", ")),
            };
            self.faults.add(Some(key.span().start), &self.key_path(name), message);
        }
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.entries.get(key)?.get_ref();
        let converted = convert(value);
        if converted.is_none() {
            self.fault(key, format!("must be {expected}, not {}", named_type(value)));
        }
        converted
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some()
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.read(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A string that must be there.
    pub(super) fn required_text(&self, key: &str) -> Option<String> {
        if !self.has(key) {
            self.faults.add(Some(self.span.start), &self.key_path(key), "is missing".into());
        }
        self.text(key)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let number = self.read(key, "a whole number", |value| value.as_integer())?;
        let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let inside = parsed.filter(|number| bounds.contains(number));
        if inside.is_none() {
            self.fault(key, format!("must be from {} to {}", bounds.start(), bounds.end()));
        }
        inside
    }

    /// Strings; each one that is none is a fault of its own.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let items = self.read(key, "an array of strings", |value| value.as_array())?;
        let text = |item: &Spanned<DeValue<'_>>| {
            let text = item.get_ref().as_str().map(str::to_owned);
            if text.is_none() {
                let message = format!("must hold strings, not {}", named_type(item.get_ref()));
                self.faults.add(Some(item.span().start), &self.key_path(key), message);
            }
            text
        };
        // Collected first, so that every fault is noted and not only the first.
        let texts: Vec<Option<String>> = items.iter().map(text).collect();
        texts.into_iter().collect()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = nearest(&text, &known).map(|near| format!(", did you mean {near:?}?"));
        let message = format!("{text:?} is none of {known:?}{}", near.unwrap_or_default());
        self.fault(key, message);
        None
    }

    /// A JSON object: a table, or a string that holds JSON.
    pub(super) fn json_object(&self, key: &str) -> Option<Value> {
        let value = self.entries.get(key)?.get_ref();
        let json = match value.as_str() {
            Some(text) => serde_json::from_str(text).map_err(|err| format!("is not JSON: {err}")),
            None => json(value),
        };
        match json {
            Ok(json) if json.is_object() => Some(json),
            Ok(_) => {
                self.fault(key, "must be a table, or a string with a JSON object");
                None
            }
            Err(message) => {
                self.fault(key, message);
                None
            }
        }
    }

    /// Strings by name.
    pub(super) fn text_map(&self, key: &str) -> Vec<(String, String)> {
        let Some(table) = self.table(key) else { return Vec::new() };
        let names = table.entries.iter().map(|(name, _)| name.get_ref().as_ref());
        names.filter_map(|name| Some((name.to_owned(), table.text(name)?))).collect()
    }

    pub(super) fn table(&self, key: &str) -> Option<Table<'t>> {
        let span = self.span_of(key);
        let entries = self.read(key, "a table", |value| value.as_table())?;
        Some(Table { entries, faults: self.faults, path: self.key_path(key), span })
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&self, key: &str) -> Vec<Table<'t>> {
        let path = self.key_path(key);
        let expected = format!("an array of tables ([[{path}]])");
        let Some(items) = self.read(key, &expected, |value| value.as_array()) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(entries) => tables.push(Table {
                    entries,
                    faults: self.faults,
                    path: path.clone(),
                    span: item.span(),
                }),
                None => self.faults.add(
                    Some(item.span().start),
                    &path,
                    format!("must be a table, not {}", named_type(item.get_ref())),
                ),
            }
        }
        tables
    }
}

fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|&candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| LIKENESS_MIN <= *likeness)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn named_type(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    let article = if name.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// A TOML value as JSON. The parser has bounded the nesting.
fn json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Value::Number(parsed.map_err(|_| format!("{number} is too large"))?.into())
        }
        DeValue::Float(number) => {
            let finite = number.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(finite.ok_or_else(|| format!("{number} is no JSON number"))?)
        }
        DeValue::Datetime(date) => return Err(format!("{date} is a date, which JSON has not")),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(entries) => {
            let entry = |(key, value): (&Spanned<_>, &Spanned<_>)| {
                Ok::<_, String>((
                    AsRef::<str>::as_ref(key.get_ref()).to_owned(),
                    json(value.get_ref())?,
                ))
            };
            Value::Object(entries.iter().map(entry).collect::<Result<Map<_, _>, _>>()?)
        }
    })
}
