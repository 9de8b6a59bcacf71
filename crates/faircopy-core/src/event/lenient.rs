//! Reading what Clerk sends, and what it might send tomorrow: a part of an unexpected type counts as absent.
//!
//! Clerk's own generated models break on real data (unlisted values, missing parts), so nothing here is closed. What
//! is still refused is a key that comes twice in one object: two readers would take different ones.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What was found where a value was hoped for.
macro_rules! ignore_other_types {
    ($($visit:ident($type:ty)),+) => {
        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> { Ok(Default::default()) })+
    };
}

/// A type that takes any value. What its visitor finds may live longer than what is asked for.
macro_rules! lenient {
    (impl<$($lifetimes:lifetime $(: $longer:lifetime)?),+> $type:ty: $found:ty { $($body:tt)* }) => {
        impl<$($lifetimes $(: $longer)?),+> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> Visitor<'de> for Reader {
                    type Value = $found;
                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str("any JSON value")
                    }
                    fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok(Default::default()) }
                    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                        while items.next_element::<IgnoredAny>()?.is_some() {}
                        Ok(Default::default())
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        Ok(Default::default())
                    }
                    $($body)*
                }
                reader.deserialize_any(Reader)
            }
        }
    };
}

/// A text, or nothing. Borrowed from the body where it holds no escape.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Option<Cow<'a, str>>);

impl Text<'_> {
    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

lenient!(impl<'de: 'a, 'a> Text<'a>: Text<'de> {
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> { Ok(Text(Some(Cow::Borrowed(text)))) }
    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> { Ok(Text(Some(Cow::Owned(text.to_owned())))) }
    ignore_other_types!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));
});

/// A yes or no, or nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(pub(super) Option<bool>);

lenient!(impl<'de> Flag: Flag {
    fn visit_bool<E>(self, value: bool) -> Result<Flag, E> { Ok(Flag(Some(value))) }
    ignore_other_types!(visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64));
});

/// A number that should be a time. Whole numbers also come as floats and as texts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    #[default]
    Absent,
    Whole(i64),
    /// A number or a text that is no whole number within 64 bits.
    Unusable,
}

lenient!(impl<'de> Number: Number {
    ignore_other_types!(visit_bool(bool));
    fn visit_i64<E>(self, value: i64) -> Result<Number, E> { Ok(Number::Whole(value)) }
    fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
        Ok(i64::try_from(value).map_or(Number::Unusable, Number::Whole))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
        // Beyond 2^53 a float no longer names one millisecond.
        let usable = value.abs() < 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "the fraction of a millisecond is dropped on purpose")]
        let whole = value as i64;
        Ok(if usable { Number::Whole(whole) } else { Number::Unusable })
    }
    fn visit_str<E>(self, text: &str) -> Result<Number, E> {
        Ok(text.trim().parse().map_or(Number::Unusable, Number::Whole))
    }
});

/// An object of the expected shape, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Object<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Object(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(|object| Object(Some(object)))
            }
            ignore_other_types!(visit_bool(bool), visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64));
        }
        reader.deserialize_any(Reader(PhantomData))
    }
}

/// A list; anything else is an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = List<T>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(List::default())
            }
            ignore_other_types!(visit_bool(bool), visit_str(&str), visit_i64(i64), visit_u64(u64), visit_f64(f64));
        }
        reader.deserialize_any(Reader(PhantomData))
    }
}

/// Metadata: an object, whatever stands in it; anything else is an empty one.
pub(super) fn metadata<'de, D: Deserializer<'de>>(reader: D) -> Result<serde_json::Value, D::Error> {
    let value = serde_json::Value::deserialize(reader).map_err(D::Error::custom)?;
    Ok(if value.is_object() { value } else { no_metadata() })
}

/// What stands for absent metadata.
pub(super) fn no_metadata() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}
