//! The members of a request's body, each with the type that it must have.

use serde_json::Value;

use super::document::Document;
use super::refusal::Refusal;

/// The most that one kind of metadata may hold, in bytes of JSON: Clerk's limit.
pub(crate) const MAX_METADATA_BYTES: usize = 8 * 1024;

/// A body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(&'a Document);

impl<'a> Fields<'a> {
    /// A body that may have any members; what is not known is not looked at.
    pub(crate) fn any(body: &'a Document) -> Self {
        Self(body)
    }

    /// A body that may have these members alone.
    pub(crate) fn only(body: &'a Document, known: &[&str]) -> Result<Self, Refusal> {
        match body.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(Refusal::unknown(unknown)),
            None => Ok(Self(body)),
        }
    }

    /// Whether a member is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn some(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.some(name).map(|value| value.as_str().ok_or_else(|| Refusal::of_type(name, "string"))).transpose()
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a str, Refusal> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| Refusal::missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.some(name).map(|value| value.as_bool().ok_or_else(|| Refusal::of_type(name, "boolean"))).transpose()
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.some(name).map(|value| value.as_i64().ok_or_else(|| Refusal::of_type(name, "integer"))).transpose()
    }

    /// A number that is not negative.
    pub(crate) fn count(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.number(name)? {
            Some(number) if number < 0 => Err(Refusal::out_of_bounds(name, "greater than or equal to 0")),
            number => Ok(number),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>, Refusal> {
        let Some(value) = self.some(name) else { return Ok(Vec::new()) };
        let wrong = || Refusal::of_type(name, "array");
        value.as_array().ok_or_else(wrong)?.iter().map(|item| item.as_str().ok_or_else(wrong)).collect()
    }

    /// Metadata, which is an object of a bounded size.
    pub(crate) fn metadata(&self, name: &str) -> Result<Option<&'a Document>, Refusal> {
        let Some(value) = self.some(name) else { return Ok(None) };
        let document = value.as_object().ok_or_else(|| Refusal::of_type(name, "object"))?;
        Ok(Some(document))
    }

    /// A time in RFC 3339, in milliseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let time: jiff::Timestamp = text.parse().map_err(|_| Refusal::time(name))?;
        Ok(Some(time.as_millisecond()))
    }
}

/// Merges metadata deeply: what is null goes.
pub(crate) fn merge(into: &mut Document, from: &Document) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (_, Value::Null) => {
                into.remove(key);
            }
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (_, Value::Object(from)) => {
                let mut fresh = Document::new();
                merge(&mut fresh, from);
                into.insert(key.clone(), Value::Object(fresh));
            }
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Refuses metadata that would be too large.
pub(crate) fn check_size(name: &str, metadata: &Document) -> Result<(), Refusal> {
    let length = serde_json::to_vec(metadata).map_or(0, |text| text.len());
    if length <= MAX_METADATA_BYTES {
        return Ok(());
    }
    let words = format!("{name} exceeds the maximum allowed size of {MAX_METADATA_BYTES} bytes.");
    Err(Refusal::param("form_param_exceeds_allowed_size", name, &words))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::merge;

    #[test]
    fn metadata_is_merged_deeply_and_null_removes() {
        let mut into = json!({"a": {"b": 1, "c": 2}, "d": 3, "e": [1]});
        let from = json!({"a": {"b": null, "x": {"y": null}}, "d": {"f": 1}, "e": [2], "g": null});
        let (Value::Object(target), Value::Object(from)) = (&mut into, &from) else { panic!("objects") };
        merge(target, from);
        assert_eq!(into, json!({"a": {"c": 2, "x": {}}, "d": {"f": 1}, "e": [2]}));
    }
}
