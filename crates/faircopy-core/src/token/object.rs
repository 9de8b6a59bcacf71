//! A JSON object read strictly: where two readers could see two things, nobody sees any.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Rejection;

/// The members of one object, each still JSON. A key that comes twice makes the whole object unreadable.
pub(super) struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Reads a text that is one object and nothing else.
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        serde_json::from_str(str::from_utf8(json).ok()?).ok()
    }

    /// Whether the key is there, whatever it says.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A member of the type that is asked for; `None` where it is absent or `null`. No other type will do: neither a
    /// text nor a float is a number here, and no list with one text is a text.
    pub(super) fn get<T: Deserialize<'a>>(&self, name: &'static str) -> Result<Option<T>, Rejection> {
        let Some(json) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(json.get()).map_err(|_| Rejection::Claim(name))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry::<String, &'de RawValue>()? {
                    if members.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key came twice"));
                    }
                }
                Ok(Object(members))
            }
        }
        reader.deserialize_map(Members)
    }
}
