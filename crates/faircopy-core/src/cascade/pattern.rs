//! What a row is called outside the database: `doc:{id}`.

use std::fmt;

use super::tree::is_identifier;

/// The longest pattern: what it renders is no longer than an id may be, and its columns' names take some.
pub const MAX_PATTERN: usize = 256;
/// Columns in one pattern. A text of 128 characters is then split into columns in a few thousand ways at most
/// ([`Pattern::readings`]).
pub const MAX_COLUMNS: usize = 3;

/// Text with columns in braces. `{{` and `}}` are the braces themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Column(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// More than [`MAX_PATTERN`] bytes.
    #[error("is longer than 256 bytes")]
    TooLong,
    /// A brace without its other; a column that is none.
    #[error("has a brace that does not enclose the name of a column; write `{{{{` and `}}}}` for braces themselves")]
    Brace,
    /// It would be one id for all rows.
    #[error("names no column, and would be the same for every row; write for example `doc:{{id}}`")]
    NoColumn,
    /// More than [`MAX_COLUMNS`].
    #[error("names more than 3 columns")]
    TooManyColumns,
    /// A column twice.
    #[error("names a column twice")]
    Twice,
    /// Two columns with nothing between them.
    #[error("has two columns with nothing between them, so that two rows could have one id")]
    Adjacent,
}

/// Why a row has no id outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrendered {
    /// A column is null or empty: the row has nothing outside.
    #[error("the column {0} is empty")]
    Empty(String),
    /// No service has an id that long.
    #[error("the id would be longer than {0} characters")]
    TooLong(usize),
}

/// One way to read an id: column and value.
pub type Reading<'a> = Vec<(&'a str, &'a str)>;

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternFault> {
        if text.len() > MAX_PATTERN {
            return Err(PatternFault::TooLong);
        }
        let parts = parts_of(text)?;
        let columns: Vec<&str> = parts.iter().filter_map(Part::column).collect();
        if columns.is_empty() {
            return Err(PatternFault::NoColumn);
        }
        if columns.len() > MAX_COLUMNS {
            return Err(PatternFault::TooManyColumns);
        }
        if (1..columns.len()).any(|at| columns[..at].contains(&columns[at])) {
            return Err(PatternFault::Twice);
        }
        if parts.windows(2).any(|pair| pair.iter().all(|part| part.column().is_some())) {
            return Err(PatternFault::Adjacent);
        }
        Ok(Self { parts })
    }

    /// The columns that it names, in its order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(Part::column)
    }

    /// How many characters of each id are the same for all rows.
    #[must_use]
    pub fn text_length(&self) -> usize {
        let text = |part: &Part| if let Part::Text(text) = part { text.chars().count() } else { 0 };
        self.parts.iter().map(text).sum()
    }

    /// The id of a row whose columns are these, of at most `longest` characters.
    pub fn render<'a>(&self, longest: usize, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, Unrendered> {
        let mut id = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => id.push_str(text),
                Part::Column(column) => {
                    let value = value(column).filter(|value| !value.is_empty());
                    id.push_str(value.ok_or_else(|| Unrendered::Empty(column.clone()))?);
                }
            }
        }
        if id.chars().count() > longest { Err(Unrendered::TooLong(longest)) } else { Ok(id) }
    }

    /// The one value that gives this id, where the pattern has one column.
    #[must_use]
    pub fn match_id<'a>(&'a self, id: &'a str) -> Option<(&'a str, &'a str)> {
        let mut readings = if self.columns().count() == 1 { self.readings(id) } else { Vec::new() };
        readings.pop()?.pop()
    }

    /// Every way in which a row could have this id: none, where no row can; more than one only where there are more columns
    /// than one and the text between them is part of their values too.
    #[must_use]
    pub fn readings<'a>(&'a self, id: &'a str) -> Vec<Reading<'a>> {
        let mut found = Vec::new();
        read(&self.parts, id, &mut Vec::new(), &mut found);
        found
    }
}

/// As it was written.
impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => out.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Column(column) => write!(out, "{{{column}}}"),
        })
    }
}

impl Part {
    fn column(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Column(column) => Some(column),
        }
    }
}

fn parts_of(pattern: &str) -> Result<Vec<Part>, PatternFault> {
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), pattern);
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let (column, after) = rest.split_once('}').filter(|_| brace == "{").ok_or(PatternFault::Brace)?;
        if !is_identifier(column) {
            return Err(PatternFault::Brace);
        }
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(Part::Column(column.to_owned()));
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

/// Reads what is left of an id with what is left of a pattern; `known` is what stands before.
fn read<'a>(parts: &'a [Part], id: &'a str, known: &mut Reading<'a>, found: &mut Vec<Reading<'a>>) {
    match parts {
        [] if id.is_empty() => found.push(known.clone()),
        [] => {}
        [Part::Text(text), rest @ ..] => {
            if let Some(after) = id.strip_prefix(text.as_str()) {
                read(rest, after, known, found);
            }
        }
        // The last column takes all that is left; another one ends before each place where the next text begins.
        [Part::Column(column)] => {
            if !id.is_empty() {
                known.push((column, id));
                found.push(known.clone());
                known.pop();
            }
        }
        [Part::Column(column), rest @ ..] => {
            for (end, _) in id.char_indices().skip(1) {
                known.push((column, &id[..end]));
                read(rest, &id[end..], known, found);
                known.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_text_with_columns_in_braces() {
        let check = |text: &str, expected: Result<&[&str], PatternFault>| {
            let parsed = Pattern::parse(text);
            let columns = parsed.as_ref().map(|pattern| pattern.columns().collect::<Vec<_>>());
            assert_eq!(columns, expected.as_ref().map(|columns| columns.to_vec()), "{text}");
            if let Ok(pattern) = &parsed {
                assert_eq!(pattern.to_string(), text);
            }
        };
        check("doc:{id}", Ok(&["id"]));
        check("{id}", Ok(&["id"]));
        check("{workspace_id}:doc:{id}", Ok(&["workspace_id", "id"]));
        check("{{{id}}}", Ok(&["id"]));
        check("größe-{id}", Ok(&["id"]));
        check("", Err(PatternFault::NoColumn));
        check("doc", Err(PatternFault::NoColumn));
        check("{{id}}", Err(PatternFault::NoColumn));
        check("{", Err(PatternFault::Brace));
        check("{}", Err(PatternFault::Brace));
        check("{id", Err(PatternFault::Brace));
        check("id}", Err(PatternFault::Brace));
        check("{id} }", Err(PatternFault::Brace));
        check("{i d}", Err(PatternFault::Brace));
        check("{a;DROP TABLE b}", Err(PatternFault::Brace));
        check("{id}-{id}", Err(PatternFault::Twice));
        check("{a}{b}", Err(PatternFault::Adjacent));
        check("{a}.{b}.{c}.{d}", Err(PatternFault::TooManyColumns));
        check(&format!("{{id}}{}", "x".repeat(MAX_PATTERN)), Err(PatternFault::TooLong));
    }

    #[test]
    fn an_id_is_rendered_within_its_bound() {
        let pattern = Pattern::parse("doc:{id}").unwrap();
        let render = |value: Option<&str>| pattern.render(8, |column| value.filter(|_| column == "id"));
        assert_eq!(render(Some("abc")), Ok("doc:abc".into()));
        assert_eq!(render(Some("öäüß")), Ok("doc:öäüß".into()), "characters, not bytes");
        assert_eq!(render(Some("abcde")), Err(Unrendered::TooLong(8)));
        assert_eq!(render(None), Err(Unrendered::Empty("id".into())));
        assert_eq!(render(Some("")), Err(Unrendered::Empty("id".into())));
    }

    #[test]
    fn an_id_is_read_backwards() {
        let check = |pattern: &str, id: &str, expected: &[&[(&str, &str)]]| {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.readings(id), expected, "{pattern} {id}");
            let one = expected.first().filter(|_| pattern.columns().count() == 1).map(|reading| reading[0]);
            assert_eq!(pattern.match_id(id), one);
        };
        check("doc:{id}", "doc:abc", &[&[("id", "abc")]]);
        check("doc:{id}", "doc:doc:", &[&[("id", "doc:")]]);
        check("doc:{id}", "doc:", &[]);
        check("doc:{id}", "code:abc", &[]);
        check("{id}.doc", "a.doc.doc", &[&[("id", "a.doc")]]);
        check("{id}.doc", ".doc", &[]);
        check("{{{id}}}", "{x}", &[&[("id", "x")]]);
        check("{w}:{id}", "a:b", &[&[("w", "a"), ("id", "b")]]);
        check("{w}:{id}", "a:b:c", &[&[("w", "a"), ("id", "b:c")], &[("w", "a:b"), ("id", "c")]]);
        check("{w}:{id}", "ab", &[]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_it_panic(pattern in "[{}a-z_:ö]{0,20}", id in "[{}a-z_:ö]{0,20}") {
            if let Ok(parsed) = Pattern::parse(&pattern) {
                prop_assert_eq!(parsed.to_string(), pattern);
                let _ = parsed.readings(&id);
            }
        }

        /// What is rendered is read again, among its readings; and each reading renders to what was read.
        #[test]
        fn rendering_and_reading_are_each_others_reverse(
            before in "[a:ö{}]{0,3}",
            between in "[a:ö{}]{1,3}",
            after in "[a:ö{}]{0,3}",
            two in any::<bool>(),
            first in "[a:ö{}]{1,6}",
            second in "[a:ö{}]{1,6}",
        ) {
            let quoted = |text: &str| text.replace('{', "{{").replace('}', "}}");
            let columns = if two { format!("{{x}}{}{{y}}", quoted(&between)) } else { "{x}".to_owned() };
            let pattern = Pattern::parse(&format!("{}{columns}{}", quoted(&before), quoted(&after))).unwrap();
            let id = pattern.render(128, |column| Some(if column == "x" { &first } else { &second })).unwrap();
            let values = first.chars().count() + if two { second.chars().count() } else { 0 };
            prop_assert_eq!(id.chars().count(), pattern.text_length() + values);
            let readings = pattern.readings(&id);
            prop_assert!(readings.iter().any(|reading| reading[0].1 == first && (!two || reading[1].1 == second)));
            for reading in &readings {
                let value = |column: &str| reading.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
                prop_assert_eq!(pattern.render(128, value), Ok(id.clone()));
            }
        }
    }
}
