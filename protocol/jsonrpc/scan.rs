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
        let mut scanner = Scanner::new(self.0);
        let open = scanner.eat(b'{');
        Members { scanner, open, first: true }
    }

    /// The items of the array this is, in order; nothing if it is no array.
    pub fn items(self) -> Items<'b> {
        let mut scanner = Scanner::new(self.0);
        let open = scanner.eat(b'[');
        Items { scanner, open, first: true }
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
    scanner: Scanner<'b>,
    open: bool,
    first: bool,
}

impl<'b> Iterator for Members<'b> {
    type Item = (Cow<'b, str>, Raw<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        let member = self.scanner.member(&mut self.first, 1);
        self.open = matches!(member, Ok(Some(_)));
        member.ok().flatten()
    }
}

/// Iterator over the items of an array.
pub struct Items<'b> {
    scanner: Scanner<'b>,
    open: bool,
    first: bool,
}

impl<'b> Iterator for Items<'b> {
    type Item = Raw<'b>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        let item = self.scanner.item(&mut self.first, 1);
        self.open = matches!(item, Ok(Some(_)));
        item.ok().flatten()
    }
}

/// The text is not JSON, or nests too deep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotJson;

/// A place in a text. Every method leaves it behind what it read.
pub(super) struct Scanner<'b> {
    text: &'b str,
    at: usize,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b str) -> Self {
        Self { text, at: 0 }
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

    /// The next member of an object whose brace is behind us, or `None` past its end. `depth`
    /// counts the containers we are in.
    pub(super) fn member(
        &mut self,
        first: &mut bool,
        depth: usize,
    ) -> Result<Option<(Cow<'b, str>, Raw<'b>)>, NotJson> {
        self.skip_space();
        if self.eat(b'}') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
            self.skip_space();
        }
        let start = self.at;
        self.string()?;
        let key = Raw(&self.text[start..self.at]).as_str().ok_or(NotJson)?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        let value = self.value(depth)?;
        self.skip_space();
        // A comma must be followed by another member: look ahead only as far as the separator.
        match self.peek() {
            Some(b',' | b'}') => Ok(Some((key, value))),
            _ => Err(NotJson),
        }
    }

    /// The next item of an array whose bracket is behind us, or `None` past its end.
    pub(super) fn item(
        &mut self,
        first: &mut bool,
        depth: usize,
    ) -> Result<Option<Raw<'b>>, NotJson> {
        self.skip_space();
        if self.eat(b']') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
            self.skip_space();
        }
        let value = self.value(depth)?;
        self.skip_space();
        match self.peek() {
            Some(b',' | b']') => Ok(Some(value)),
            _ => Err(NotJson),
        }
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
            Some(b'"') => self.string(),
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

    fn string(&mut self) -> Result<(), NotJson> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        loop {
            self.at += plain_len(&bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
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

/// How many leading bytes need no escape in a JSON string: neither quote, backslash nor control
/// character.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    // The lowest flagged byte is exact; flags above it may be borrows, and are not looked at.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
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
