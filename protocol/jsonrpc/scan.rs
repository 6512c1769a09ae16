//! A JSON scanner that borrows: it checks the grammar (RFC 8259) and says where things are, and
//! builds nothing.
//!
//! Invariants: one pass, no recursion and no allocation, however hostile the nesting; what it
//! accepts, `serde_json` parses too (the one exception is a number beyond `f64`, which only its
//! reader can refuse).
//! Refused: `&serde_json::value::RawValue`. Only serde_json may make one without `unsafe`, by
//! scanning the text again and allocating for nested values; [`Raw`] is the same promise, made by
//! this scanner.

use std::borrow::Cow;

use super::checked::ReadMembers;

/// Containers may nest this deep in one message; `serde_json` refuses one more.
pub const DEPTH_MAX: usize = 127;

/// The text of one JSON value inside a message: checked, without white space around it, not yet
/// parsed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Raw<'b>(&'b str);

impl<'b> Raw<'b> {
    /// Checks that `text` is one JSON value, with nothing but white space around it.
    pub fn parse(text: &'b str) -> Option<Raw<'b>> {
        let mut scanner = Scanner::new(text);
        scanner.skip_space();
        let value = scanner.value(0).ok()?;
        scanner.skip_space();
        scanner.is_at_end().then_some(value)
    }

    /// `null`.
    pub(super) const NULL: Raw<'static> = Raw("null");

    /// The JSON text.
    pub fn get(self) -> &'b str {
        self.0
    }

    /// Which kind of value this is.
    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The string this is, unescaped; borrowed unless there was something to unescape.
    pub fn as_str(self) -> Option<Cow<'b, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.as_bytes().contains(&b'\\') {
            serde_json::from_str(self.0).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// The members of the object this is, in order; nothing if it is no object.
    pub fn members(self) -> Members<'b> {
        Members { walker: Walker::new(self.0, b'{') }
    }

    /// The items of the array this is, in order; nothing if it is no array.
    pub fn items(self) -> Items<'b> {
        Items { walker: Walker::new(self.0, b'[') }
    }
}

/// The kinds of JSON values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names are JSON's own.
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// Iterator over the members of an object: unescaped key and value.
pub struct Members<'b> {
    walker: Walker<'b>,
}

impl<'b> ReadMembers<'b> for Members<'b> {
    fn next_key(&mut self) -> Option<Cow<'b, str>> {
        if !self.walker.enter() {
            return None;
        }
        let key = self.walker.key()?;
        self.walker.pass_colon();
        Some(key)
    }

    fn value(&mut self) -> Raw<'b> {
        self.walker.value()
    }

    fn within<T, E>(
        &mut self,
        read: impl FnOnce(&mut Members<'b>) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        if self.walker.peek() != Some(b'{') {
            return None;
        }
        let walker = Walker { text: self.walker.text, at: self.walker.at + 1 };
        let mut inner = Members { walker };
        let done = read(&mut inner);
        // It stopped at the closing brace.
        self.walker.at = inner.walker.at + 1;
        Some(done)
    }
}

impl<'b> Iterator for Members<'b> {
    type Item = (Cow<'b, str>, Raw<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.next_key()?;
        Some((key, self.value()))
    }
}

/// Iterator over the items of an array.
pub struct Items<'b> {
    walker: Walker<'b>,
}

impl<'b> Iterator for Items<'b> {
    type Item = Raw<'b>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walker.enter().then(|| self.walker.value())
    }
}

/// Walks through the container that a [`Raw`] is. Its grammar was checked when the `Raw` was made, so here
/// only ends are looked for: half the work of a [`Scanner`]. On any other text it would give nonsense, yet
/// neither panic nor go on for ever.
struct Walker<'b> {
    text: &'b str,
    at: usize,
}

impl<'b> Walker<'b> {
    /// Inside the container if `text` is one, else at its end.
    fn new(text: &'b str, open: u8) -> Self {
        let is_open = text.as_bytes().first() == Some(&open);
        Self { text, at: if is_open { 1 } else { text.len() } }
    }

    /// Moves to the next key or item; `false` at the end of the container.
    fn enter(&mut self) -> bool {
        self.skip_space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.skip_space();
        }
        !matches!(self.peek(), None | Some(b'}' | b']'))
    }

    /// The key that begins here, unescaped; moves behind it.
    fn key(&mut self) -> Option<Cow<'b, str>> {
        let start = self.at;
        let (end, has_escapes) = self.string_end(start);
        self.at = end;
        match has_escapes {
            false => self.text.get(start + 1..end.checked_sub(1)?).map(Cow::Borrowed),
            true => Raw(self.text.get(start..end)?).as_str(),
        }
    }

    fn pass_colon(&mut self) {
        self.skip_space();
        self.at += 1;
        self.skip_space();
    }

    /// The value that begins here; moves behind it.
    fn value(&mut self) -> Raw<'b> {
        let start = self.at;
        self.at = match self.peek() {
            Some(b'"') => self.string_end(start).0,
            Some(b'{' | b'[') => self.container_end(start),
            _ => self.scalar_end(start),
        };
        Raw(self.text.get(start..self.at).unwrap_or_default())
    }

    /// Behind the string whose quote is at `start`, and whether there are escapes in it.
    fn string_end(&self, start: usize) -> (usize, bool) {
        let mut at = start + 1;
        let mut has_escapes = false;
        loop {
            match self.find(at, |word| zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES)) {
                Some((found, b'"')) => return (found + 1, has_escapes),
                // Whatever is escaped, its first byte is no quote any more.
                Some((found, _)) => {
                    at = found + 2;
                    has_escapes = true;
                }
                None => return (self.text.len(), has_escapes),
            }
        }
    }

    /// Behind the container whose bracket is at `start`.
    fn container_end(&self, start: usize) -> usize {
        // `[` and `{`, `]` and `}` differ in one bit.
        let brackets = |word: u64| {
            let folded = word & FOLD;
            zeros(folded ^ OPENERS) | zeros(folded ^ CLOSERS)
        };
        let (mut at, mut depth) = (start, 0usize);
        loop {
            match self.find(at, |word| zeros(word ^ QUOTES) | brackets(word)) {
                Some((found, b'"')) => at = self.string_end(found).0,
                Some((found, b'{' | b'[')) => {
                    depth += 1;
                    at = found + 1;
                }
                Some((found, b'}' | b']')) => {
                    depth = depth.saturating_sub(1);
                    at = found + 1;
                    if depth == 0 {
                        return at;
                    }
                }
                Some((found, _)) => at = found + 1,
                None => return self.text.len(),
            }
        }
    }

    fn scalar_end(&self, start: usize) -> usize {
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        start + rest.iter().position(is_end).unwrap_or(rest.len())
    }

    /// The first byte from `at` on that `flags` marks in its word of eight, and where it is.
    fn find(&self, at: usize, flags: impl Fn(u64) -> u64) -> Option<(usize, u8)> {
        let bytes = self.text.as_bytes();
        let rest = bytes.get(at..)?;
        let (words, tail) = rest.as_chunks::<8>();
        let found = words.iter().enumerate().find_map(|(index, word)| {
            let marked = flags(u64::from_le_bytes(*word));
            (marked != 0).then(|| index * 8 + marked.trailing_zeros() as usize / 8)
        });
        let found = found.or_else(|| {
            // Zeros mark nothing.
            let mut word = [0; 8];
            word[..tail.len()].copy_from_slice(tail);
            let marked = flags(u64::from_le_bytes(word));
            (marked != 0).then(|| words.len() * 8 + marked.trailing_zeros() as usize / 8)
        })?;
        Some((at + found, rest[found]))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }
}

/// The text is not JSON, or nests too deep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotJson;

/// A place in a text. Every method leaves it behind what it read.
pub(super) struct Scanner<'b> {
    text: &'b str,
    at: usize,
    /// There is no escape in the text and no control character, so that each string ends at the next quote. One
    /// quick look at the whole saves a closer one at each string.
    is_plain: bool,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b str) -> Self {
        Self { text, at: 0, is_plain: is_plain(text.as_bytes()) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Eats `byte` if it is next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.eat(byte) { Ok(()) } else { Err(NotJson) }
    }

    /// The key of the next member of an object whose brace is behind us, or `None` past its end. Its value must
    /// be read next, then [`Scanner::end_member`].
    pub(super) fn member_key(&mut self, first: &mut bool) -> Result<Option<Cow<'b, str>>, NotJson> {
        self.skip_space();
        if self.eat(b'}') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
            self.skip_space();
        }
        let start = self.at;
        let key = match self.string()? {
            // Without escapes the key is what stands between the quotes.
            false => Cow::Borrowed(&self.text[start + 1..self.at - 1]),
            true => Raw(&self.text[start..self.at]).as_str().ok_or(NotJson)?,
        };
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(Some(key))
    }

    /// A member has ended: another one follows, or the object ends.
    pub(super) fn end_member(&mut self) -> Result<(), NotJson> {
        self.skip_space();
        match self.peek() {
            Some(b',' | b'}') => Ok(()),
            _ => Err(NotJson),
        }
    }

    /// Where we are, for [`Scanner::since`] and [`Scanner::back_to`].
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// The value that began at a place and ended here.
    pub(super) fn since(&self, start: usize) -> Raw<'b> {
        Raw(&self.text[start..self.at])
    }

    /// Reads again from an earlier place.
    pub(super) fn back_to(&mut self, start: usize) {
        self.at = start;
    }

    /// One value of any kind, inside `depth` containers.
    pub(super) fn value(&mut self, depth: usize) -> Result<Raw<'b>, NotJson> {
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') => self.container(depth)?,
            _ => self.scalar()?,
        }
        Ok(Raw(&self.text[start..self.at]))
    }

    fn scalar(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(NotJson),
        }
    }

    /// An object or array with all that is in it. What encloses us is a stack of bits: 1 for an
    /// object.
    fn container(&mut self, depth: usize) -> Result<(), NotJson> {
        let mut enclosing = Enclosing { bits: 0, count: 0 };
        loop {
            // Here a value is due.
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    enclosing.push(open == b'{', depth)?;
                    self.skip_space();
                    let close = if open == b'{' { b'}' } else { b']' };
                    if !self.eat(close) {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    enclosing.pop();
                }
                _ => self.scalar()?,
            }
            // Here a value has ended: so may any number of containers.
            loop {
                if enclosing.count == 0 {
                    return Ok(());
                }
                self.skip_space();
                let in_object = enclosing.is_object();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_space();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => enclosing.pop(),
                    Some(b']') if !in_object => enclosing.pop(),
                    _ => return Err(NotJson),
                }
                self.at += 1;
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), NotJson> {
        self.string()?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(())
    }

    /// A string; whether there are escapes in it.
    fn string(&mut self) -> Result<bool, NotJson> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        if self.is_plain {
            let end = quote_at(&bytes[self.at..]).ok_or(NotJson)?;
            self.at += end + 1;
            return Ok(false);
        }
        let mut has_escapes = false;
        loop {
            self.at += plain_len(&bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                _ => return Err(NotJson), // A control character, or the end.
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        let kind = self.peek().ok_or(NotJson)?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex4()? {
                // RFC 8259 §8.2: half a surrogate pair is no character; serde_json refuses it too.
                0xD800..=0xDBFF => {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    if (0xDC00..=0xDFFF).contains(&self.hex4()?) { Ok(()) } else { Err(NotJson) }
                }
                0xDC00..=0xDFFF => Err(NotJson),
                _ => Ok(()),
            },
            _ => Err(NotJson),
        }
    }

    fn hex4(&mut self) -> Result<u32, NotJson> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(NotJson)?;
        let mut value = 0;
        for digit in digits {
            value = value << 4 | char::from(*digit).to_digit(16).ok_or(NotJson)?;
        }
        self.at += 4;
        Ok(value)
    }

    fn number(&mut self) -> Result<(), NotJson> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if start < self.at { Ok(()) } else { Err(NotJson) }
    }

    fn word(&mut self, word: &str) -> Result<(), NotJson> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(NotJson)
        }
    }
}

/// The containers around a place, innermost in the lowest bit.
struct Enclosing {
    bits: u128,
    count: usize,
}

const _: () = assert!(DEPTH_MAX <= u128::BITS as usize, "the stack of containers is one u128");

impl Enclosing {
    fn push(&mut self, object: bool, outside: usize) -> Result<(), NotJson> {
        if DEPTH_MAX <= self.count + outside {
            return Err(NotJson);
        }
        self.bits = self.bits << 1 | u128::from(object);
        self.count += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.count -= 1;
    }

    fn is_object(&self) -> bool {
        self.bits & 1 == 1
    }
}

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;
const QUOTES: u64 = ONES * b'"' as u64;
const BACKSLASHES: u64 = ONES * b'\\' as u64;
const OPENERS: u64 = ONES * b'[' as u64;
const CLOSERS: u64 = ONES * b']' as u64;
/// Takes away what braces have and brackets have not.
const FOLD: u64 = ONES * 0xdf;

/// Marks the bytes of a word that are zero. The lowest mark is exact; marks above it may be borrows, and are
/// not to be looked at.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// Bytes of a text that are looked at together.
const LOOK_BYTES: usize = 4096;

/// Whether there is no backslash and no control character, white space between values included.
fn is_plain(bytes: &[u8]) -> bool {
    // Without a way out of the inner loop it is one that compilers make wide.
    let is_special = |found, byte: &u8| found | (*byte < 0x20) | (*byte == b'\\');
    !bytes.chunks(LOOK_BYTES).any(|chunk| chunk.iter().fold(false, is_special))
}

/// Where the first quote is.
fn quote_at(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let quotes = zeros(u64::from_le_bytes(*word) ^ QUOTES);
        if quotes != 0 {
            return Some(index * 8 + quotes.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| *byte == b'"')?;
    Some(words.len() * 8 + at)
}

/// How many leading bytes need no escape in a JSON string: neither quote, backslash nor control
/// character.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = zeros(word ^ QUOTES)
            | zeros(word ^ BACKSLASHES)
            | word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}
