//! The part of Liveblocks' query language that names rooms: conditions on `roomId` and `metadata['key']`, all of which must
//! hold, with `:` for equal and `^` for "begins with". Whatever else the language has is refused and not ignored: a filter
//! that is not understood must never list too much.

use super::rooms::Room;

/// Bytes of a query: more conditions than a room has metadata make no sense.
const MAX_BYTES: usize = 32 * 1024;

/// Conditions that must all hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<Condition>);

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    /// The key of the metadata, or the room's id if there is none.
    key: Option<String>,
    prefix: bool,
    value: String,
}

impl Query {
    /// Reads a query, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it is longer than {MAX_BYTES} bytes"));
        }
        let mut rest = text.trim_start();
        let mut conditions = Vec::new();
        while !rest.is_empty() {
            let (condition, after) = condition(rest)?;
            conditions.push(condition);
            let spaced = after.trim_start();
            if !after.is_empty() && spaced.len() == after.len() {
                return Err(format!("a space is missing before {}", shown(after)));
            }
            // Liveblocks' own client joins by nothing but a space.
            rest = match word(spaced) {
                ("AND", after) if after.trim_start().is_empty() => return Err("nothing follows AND".into()),
                ("AND", after) => after.trim_start(),
                _ => spaced,
            };
        }
        Ok(Self(conditions))
    }

    /// Whether every condition holds for this room.
    pub(super) fn wants(&self, room: &Room) -> bool {
        self.0.iter().all(|condition| {
            let found = condition.key.as_ref().map_or(Some(room.id.as_str()), |key| room.text(key));
            found.is_some_and(|found| {
                if condition.prefix { found.starts_with(&condition.value) } else { found == condition.value }
            })
        })
    }
}

/// The letters that a text begins with, and the rest.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(text.len()))
}

/// The beginning of what was not understood.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(20).collect();
    format!("`{beginning}`")
}

fn condition(text: &str) -> Result<(Condition, &str), String> {
    let (key, rest) = match word(text) {
        ("roomId", rest) => (None, rest),
        ("metadata", rest) => {
            let (key, rest) = subscript(rest)?;
            (Some(key), rest)
        }
        _ => return Err(format!("{} is neither roomId nor metadata['key']", shown(text))),
    };
    let prefix = match rest.chars().next() {
        Some(':') => false,
        Some('^') => true,
        _ => return Err(format!("{} is neither : nor ^", shown(rest))),
    };
    let (value, rest) = quoted(&rest[1..])?;
    Ok((Condition { key, prefix, value }, rest))
}

fn subscript(text: &str) -> Result<(String, &str), String> {
    let wrong = || format!("metadata is followed by {} and not by ['key']", shown(text));
    let (key, rest) = quoted(text.strip_prefix('[').ok_or_else(wrong)?)?;
    Ok((key, rest.strip_prefix(']').ok_or_else(wrong)?))
}

/// A string in either quotes, with the escapes of JSON.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let wrong = || format!("{} is not a string in quotes", shown(text));
    let quote = text.chars().next().filter(|first| ['\'', '"'].contains(first)).ok_or_else(wrong)?;
    let inner = &text[1..];
    let mut escaped = false;
    let end = inner.find(|letter: char| {
        let ends = letter == quote && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    });
    let end = end.ok_or_else(wrong)?;
    Ok((unescaped(&inner[..end]).ok_or_else(wrong)?, &inner[end + 1..]))
}

/// What is written between quotes. Either quote may stand there bare or escaped.
fn unescaped(text: &str) -> Option<String> {
    let mut json = String::from("\"");
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            ('"', _) => json.push_str("\\\""),
            (_, false) => json.push(letter),
            (_, true) => match letters.next()? {
                '\'' => json.push('\''),
                other => json.extend(['\\', other]),
            },
        }
    }
    json.push('"');
    serde_json::from_str(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::Query;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let conditions = Query::parse(text)?.0.into_iter();
        Ok(conditions
            .map(|condition| {
                let sign = if condition.prefix { '^' } else { ':' };
                format!("{}{sign}{}", condition.key.unwrap_or_else(|| "ID".into()), condition.value)
            })
            .collect())
    }

    #[test]
    fn conditions_are_read_as_people_and_the_client_write_them() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(shown(text).unwrap_or_else(|why| panic!("{text}: {why}")), expected, "{text}");
        };
        check("", &[]);
        check("  ", &[]);
        check("roomId^'org_123:'", &["ID^org_123:"]);
        check("roomId^\"org_123:\"", &["ID^org_123:"]);
        check("roomId:'a b' AND metadata['orgId']:'org_123'", &["ID:a b", "orgId:org_123"]);
        check("metadata[\"k\"]^'v'   roomId^'x'", &["k^v", "ID^x"]);
        check("metadata['k']:'v AND w' AND roomId^''", &["k:v AND w", "ID^"]);
        check(r#"metadata['k']:'say "so"'"#, &[r#"k:say "so""#]);
        check(r#"metadata["it's"]:"a\"b\\c\n""#, &["it's:a\"b\\c\n"]);
        check(r"metadata['k']:'it\'s'", &["k:it's"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "roomId",
            "roomId^",
            "roomId^x",
            "roomId^'x",
            "roomId='x'",
            "roomid^'x'",
            "metadata:'x'",
            "metadata[k]:'x'",
            "metadata['k':'x'",
            "metadata['k']:1",
            "metadata['k']:null",
            "roomId^'a' OR roomId^'b'",
            "roomId^'a' AND",
            "AND roomId^'a'",
            "NOT roomId^'a'",
            "-roomId^'a'",
            "roomId^'a'roomId^'b'",
            "roomId^'a' AND AND roomId^'b'",
            "(roomId^'a')",
            r"roomId^'\'",
            r"roomId^'\x'",
            "createdAt>'2024'",
            "roomId^'ä' ü",
        ] {
            assert!(Query::parse(text).is_err(), "{text} was understood as {:?}", shown(text));
        }
        assert!(Query::parse(&"roomId^'a' ".repeat(10_000)).is_err());
    }
}
