//! One table of a configuration file, read key by key; every mistake is kept, with its line.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;

/// Where the text came from, and what is wrong with it so far.
pub struct Source<'t> {
    path: &'t Path,
    text: &'t str,
    /// In the order they were met; [`Source::finish`] sorts them by line.
    problems: Vec<Problem>,
}

impl<'t> Source<'t> {
    /// Nothing read, nothing wrong.
    pub fn new(path: &'t Path, text: &'t str) -> Self {
        Self { path, text, problems: Vec::new() }
    }

    /// Notes a problem at a place in the text.
    pub fn problem(&mut self, span: Range<usize>, key: &str, message: impl Display) {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        self.problems.push(Problem {
            file: Some(self.path.to_owned()),
            line: Some(before.iter().filter(|&&byte| byte == b'\n').count() + 1),
            key: key.to_owned(),
            message: message.to_string(),
        });
    }

    /// Everything that is wrong, in the order of the file.
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }
}

/// One table. Ask for every key there is, then [`Section::finish`]: what nobody asked for is unknown.
pub struct Section<'s, 't, 'd> {
    source: &'s mut Source<'t>,
    name: &'static str,
    table: &'d DeTable<'d>,
    known: Vec<&'static str>,
}

impl<'s, 't, 'd> Section<'s, 't, 'd> {
    /// The table `name`; the whole file has the name `""`.
    pub fn new(source: &'s mut Source<'t>, name: &'static str, table: &'d DeTable<'d>) -> Self {
        Self { source, name, table, known: Vec::new() }
    }

    /// A value of any type.
    pub fn take(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.known.push(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// A whole number within `range`.
    pub fn number<N>(&mut self, key: &'static str, target: &mut N, range: RangeInclusive<u64>)
    where
        N: TryFrom<u64>,
    {
        self.number_that(key, target, &range, |number| range.contains(&number), "");
    }

    /// A whole number within `range`, or 0.
    pub fn number_or_zero<N>(
        &mut self,
        key: &'static str,
        target: &mut N,
        range: RangeInclusive<u64>,
    ) where
        N: TryFrom<u64>,
    {
        let is_good = |number| number == 0 || range.contains(&number);
        self.number_that(key, target, &range, is_good, ", or 0");
    }

    fn number_that<N>(
        &mut self,
        key: &'static str,
        target: &mut N,
        range: &RangeInclusive<u64>,
        is_good: impl Fn(u64) -> bool,
        or: &str,
    ) where
        N: TryFrom<u64>,
    {
        let Some(value) = self.take(key) else { return };
        let Some(integer) = value.get_ref().as_integer() else {
            return self.wrong_type(key, value, "a whole number");
        };
        let digits = integer.as_str().replace('_', "");
        let number = i128::from_str_radix(&digits, integer.radix()).ok();
        let fitting = number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|&number| is_good(number))
            .and_then(|number| N::try_from(number).ok());
        match fitting {
            Some(number) => *target = number,
            None => self.problem_at(
                value.span(),
                key,
                format!("{digits} is not from {} to {}{or}", range.start(), range.end()),
            ),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, target: &mut bool) {
        let Some(value) = self.take(key) else { return };
        match value.get_ref().as_bool() {
            Some(boolean) => *target = boolean,
            None => self.wrong_type(key, value, "true or false"),
        }
    }

    /// A string that `parse` understands.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        let Some(value) = self.take(key) else { return };
        let Some(text) = value.get_ref().as_str() else {
            return self.wrong_type(key, value, "a string");
        };
        match parse(text) {
            Ok(parsed) => *target = parsed,
            Err(why) => self.problem_at(value.span(), key, why),
        }
    }

    /// A list of strings.
    pub fn texts(&mut self, key: &'static str, target: &mut Vec<String>) {
        self.list(key, target, |text| Ok(text.to_owned()));
    }

    /// A list of strings that `parse` understands.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        target: &mut Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        let Some(value) = self.take(key) else { return };
        let Some(items) = value.get_ref().as_array() else {
            return self.wrong_type(key, value, "a list of strings");
        };
        target.clear();
        for item in items.iter() {
            match item.get_ref().as_str().map(&parse) {
                Some(Ok(parsed)) => target.push(parsed),
                Some(Err(why)) => self.problem_at(item.span(), key, why),
                None => self.wrong_type(key, item, "a string"),
            }
        }
    }

    /// A table of its own.
    pub fn table(&mut self, key: &'static str) -> Option<&'d DeTable<'d>> {
        let value = self.take(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, "a table");
        }
        table
    }

    /// Notes a problem with a key.
    pub fn problem_at(&mut self, span: Range<usize>, key: &str, message: impl Display) {
        let key = self.full(key);
        self.source.problem(span, &key, message);
    }

    /// Where the tables of this one are read from.
    pub fn source(&mut self) -> &mut Source<'t> {
        self.source
    }

    /// Whatever was not asked for is a mistake; the nearest name is probably what was meant.
    pub fn finish(mut self) {
        let what = if self.name.is_empty() { "section" } else { "key" };
        for (name, _) in self.table {
            let key: &str = name.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let message = match nearest(key, &self.known) {
                Some(near) => format!("unknown {what}; did you mean {near:?}?"),
                None => format!("unknown {what}; there are {}", self.known.join(", ")),
            };
            self.problem_at(name.span(), key, message);
        }
    }

    fn wrong_type(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.problem_at(value.span(), key, format!("must be {wanted}, found {found}"));
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// The name that `word` is probably a misspelling of.
fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    // Flags are spelt with dashes; in the file the same name has underscores.
    let word = word.replace('-', "_").to_lowercase();
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&word, name), *name))
        .filter(|(distance, name)| {
            *distance <= (name.len() / 3).max(1) || (3 <= word.len() && name.contains(&word))
        })
        .min()
        .map(|(_, name)| name)
}
