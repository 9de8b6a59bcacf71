//! A strict reader of JSON (RFC 8259) that copies what a rule keeps: one pass, no tree, each token byte for byte.
//!
//! All of the body is checked, also what is left out. Only of what is kept it is asked besides that another reader can
//! take it in: that no text holds half a surrogate pair, that no number is too large for a float, and that nothing nests
//! deeper than [`MAX_DEPTH`].

use std::borrow::Cow;
use std::ops::Range;

use super::rule::Rule;
use super::{Key, Message};

/// How deep what is kept may nest; the event itself is the first level. What is left out may nest at will.
const MAX_DEPTH: usize = 127;

/// Why a body is not the JSON of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("not JSON")]
    Syntax,
    #[error("the JSON ends too early")]
    Early,
    #[error("JSON, but not one object")]
    NoObject,
    #[error("JSON nested too deeply")]
    Deep,
    #[error("JSON with half a surrogate pair")]
    HalfPair,
    #[error("JSON with a number that is too large")]
    Large,
    #[error("JSON, but a key of the event comes twice")]
    Twice,
}

type Result<T = ()> = std::result::Result<T, Fault>;

/// The `type` of an event, or nothing. It may stand after the data whose rule it decides, so it is looked for first,
/// without a check of anything: of what turns out not to be JSON it may be any text.
pub(super) fn event_type(source: &str) -> Cow<'_, str> {
    let bytes = source.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    let (mut key_is_next, mut type_is_next) = (false, false);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let start = at - 1;
                at = text_end(bytes, at);
                if depth == 1 && (key_is_next || type_is_next) {
                    let text = decode(&source[start..at]).unwrap_or_default();
                    if type_is_next {
                        return text;
                    }
                    (key_is_next, type_is_next) = (false, text == "type");
                }
            }
            b'{' | b'[' => {
                depth += 1;
                key_is_next = depth == 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => (key_is_next, type_is_next) = (true, false),
            _ => {}
        }
    }
    Cow::default()
}

/// The `type` of an event where it stands last, as in all that Clerk sends: its keys are in alphabetical order. A guess,
/// since what looks like it may be something else.
pub(super) fn last_type(source: &str) -> Option<&str> {
    let members = source.trim_ascii_end().strip_suffix('}')?.trim_ascii_end();
    let (before, event_type) = members.strip_suffix('"')?.rsplit_once('"')?;
    let key = before.trim_ascii_end().strip_suffix(':')?.trim_ascii_end();
    (key.ends_with("\"type\"") && !event_type.contains('\\')).then_some(event_type)
}

/// Copies of an event what its rule keeps. Where it is not one, says why and where, and repeats nothing of it.
pub(super) fn copy(source: &str, rule: Rule) -> std::result::Result<Message, String> {
    let mut scanner =
        Scanner { source, at: 0, out: String::with_capacity(source.len()), copied: 0, values: [const { 0..0 }; 4] };
    match scanner.event(rule) {
        Ok(()) => Ok(Message { text: scanner.out, values: scanner.values }),
        Err(fault) => {
            let before = &source.as_bytes()[..scanner.at];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
            Err(format!("{fault} (line {line}, column {column})"))
        }
    }
}

/// The text in quotes, or `None` where it is not one.
pub(super) fn decode(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(quoted).map(Cow::Owned).ok() } else { Some(Cow::Borrowed(inner)) }
}

/// Where a text ends: behind the first quote from `at` on that no backslash stands before, or with the source.
pub(super) fn text_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at += plain_length(&bytes[at..]);
        match bytes.get(at) {
            None => return at,
            Some(b'"') => return at + 1,
            Some(b'\\') => at = bytes.len().min(at + 2),
            Some(_) => at += 1,
        }
    }
}

/// How many bytes from the start are neither a quote nor a backslash nor a control character: eight at a time.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // The high bit of each byte that is 0 (and maybe of some behind the first one).
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (control | zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))) & HIGHS;
        if found != 0 {
            return nth * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
    words.len() * 8 + plain
}

struct Scanner<'a> {
    source: &'a str,
    /// The next byte; where something is wrong, that byte.
    at: usize,
    out: String,
    /// What stands before is in `out`, or was cut.
    copied: usize,
    values: [Range<usize>; 4],
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result {
        if self.eat(byte) { Ok(()) } else { Err(self.fault()) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// The next byte is not what JSON has there.
    #[cold]
    fn fault(&self) -> Fault {
        if self.at < self.source.len() { Fault::Syntax } else { Fault::Early }
    }

    #[cold]
    fn fault_at(&mut self, at: usize, fault: Fault) -> Fault {
        self.at = at;
        fault
    }

    /// Leaves a part of the source out of the copy: what stands between two such parts is copied in one piece.
    #[inline]
    fn cut(&mut self, part: Range<usize>) {
        if part.start != part.end {
            self.copy_up_to(part.start);
            self.copied = part.end;
        }
    }

    #[inline(never)]
    fn copy_up_to(&mut self, end: usize) {
        self.out.push_str(&self.source[self.copied..end]);
    }

    fn cut_space(&mut self) {
        let start = self.at;
        self.space();
        self.cut(start..self.at);
    }

    /// The length that the copy has so far.
    fn kept(&self) -> usize {
        self.out.len() + self.at - self.copied
    }

    fn event(&mut self, rule: Rule) -> Result {
        self.cut_space();
        let start = self.at;
        if self.peek() != Some(b'{') {
            self.left_out()?;
            return Err(self.fault_at(start, Fault::NoObject));
        }
        self.value(rule, 1)?;
        self.cut_space();
        if self.at < self.source.len() {
            return Err(Fault::Syntax);
        }
        self.copy_up_to(self.at);
        Ok(())
    }

    /// Copies the value that starts here.
    fn value(&mut self, rule: Rule, depth: usize) -> Result {
        match self.peek() {
            Some(b'{' | b'[') if depth > MAX_DEPTH => Err(Fault::Deep),
            Some(b'{') => self.object(rule, depth),
            Some(b'[') => self.array(rule, depth),
            _ => self.scalar(true),
        }
    }

    fn object(&mut self, rule: Rule, depth: usize) -> Result {
        self.at += 1;
        // Where what is kept ends so far, and the last comma, which is kept with the member behind it.
        let (mut end, mut comma, mut empty) = (self.at, self.at, true);
        self.space();
        let mut more = self.peek() != Some(b'}');
        while more {
            let start = self.at;
            self.expect(b'"')?;
            let escaped = self.text(true)?;
            let quoted = &self.source[start..self.at];
            let decoded = if escaped { Some(decode(quoted).ok_or(Fault::Syntax)?) } else { None };
            let key = decoded.as_deref().unwrap_or(&quoted[1..quoted.len() - 1]);
            let (key_end, colon) = (self.at, self.colon()?);
            if let Some(rule) = rule.for_key(key) {
                if empty {
                    self.cut(end..start);
                } else {
                    self.cut(end..comma);
                    self.cut(comma + 1..start);
                }
                self.cut(key_end..colon);
                self.cut(colon + 1..self.at);
                let value = self.kept();
                self.value(rule, depth + 1)?;
                if depth == 1
                    && let Some(key) = Key::of(key)
                {
                    let value = value..self.kept();
                    if !std::mem::replace(&mut self.values[key as usize], value).is_empty() {
                        return Err(self.fault_at(start, Fault::Twice));
                    }
                }
                (end, empty) = (self.at, false);
            } else {
                self.left_out()?;
            }
            self.space();
            comma = self.at;
            more = self.eat(b',');
            if more {
                self.space();
            }
        }
        self.cut(end..self.at);
        self.expect(b'}')
    }

    fn array(&mut self, rule: Rule, depth: usize) -> Result {
        self.at += 1;
        self.cut_space();
        let mut more = self.peek() != Some(b']');
        while more {
            self.value(rule, depth + 1)?;
            self.cut_space();
            more = self.eat(b',');
            if more {
                self.cut_space();
            }
        }
        self.expect(b']')
    }

    /// Where the colon behind a key stands.
    fn colon(&mut self) -> Result<usize> {
        self.space();
        let at = self.at;
        self.expect(b':')?;
        self.space();
        Ok(at)
    }

    /// Passes over the value that starts here, however deep it nests.
    fn left_out(&mut self) -> Result {
        // The brackets that are to come.
        let mut open = Vec::new();
        loop {
            let close = match self.peek() {
                Some(b'{') => Some(b'}'),
                Some(b'[') => Some(b']'),
                _ => None,
            };
            if let Some(close) = close {
                self.at += 1;
                self.space();
                if !self.eat(close) {
                    open.push(close);
                    self.left_out_key(close)?;
                    continue;
                }
            } else {
                self.scalar(false)?;
            }
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                self.space();
                if self.eat(b',') {
                    self.space();
                    self.left_out_key(close)?;
                    break;
                }
                self.expect(close)?;
                open.pop();
            }
        }
    }

    /// The key of the next member, where it is an object that is to be closed.
    fn left_out_key(&mut self, close: u8) -> Result {
        if close == b'}' {
            self.expect(b'"')?;
            self.text(false)?;
            self.colon()?;
        }
        Ok(())
    }

    /// A value that is no object and no array. More is asked of one that is kept.
    fn scalar(&mut self, kept: bool) -> Result {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.text(kept)?;
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(kept),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => Err(self.fault()),
        }
    }

    fn literal(&mut self, letters: &[u8]) -> Result {
        letters.iter().try_for_each(|letter| self.expect(*letter))
    }

    /// A text from behind its first quote on. Says whether it holds escapes.
    fn text(&mut self, kept: bool) -> Result<bool> {
        let mut escaped = false;
        loop {
            self.at += plain_length(&self.source.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => self.escape(kept)?,
                _ => return Err(self.fault()),
            }
            escaped = true;
        }
    }

    fn escape(&mut self, kept: bool) -> Result {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let whole = match self.code_unit()? {
                    0xdc00..=0xdfff => false,
                    0xd800..=0xdbff if kept && self.eat(b'\\') => matches!(self.code_unit()?, 0xdc00..=0xdfff),
                    unit => !(0xd800..=0xdbff).contains(&unit),
                };
                if kept && !whole {
                    return Err(self.fault_at(start, Fault::HalfPair));
                }
            }
            _ => return Err(self.fault()),
        }
        Ok(())
    }

    /// A `u` and four hexadecimal digits.
    fn code_unit(&mut self) -> Result<u32> {
        self.expect(b'u')?;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(|| self.fault())?;
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self, kept: bool) -> Result {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        let exponent = self.eat(b'e') || self.eat(b'E');
        if exponent {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        // The largest float has 309 digits.
        let may_overflow = kept && (exponent || self.at - start >= 309);
        if may_overflow && !self.source[start..self.at].parse().is_ok_and(f64::is_finite) {
            return Err(self.fault_at(start, Fault::Large));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault()) }
    }
}
