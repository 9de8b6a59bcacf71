//! Points in time, as Clerk writes them and as the tables hold them.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in whole milliseconds since the Unix epoch, as Clerk writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

/// Values below this are seconds: 10^11 milliseconds is March 1973, 10^11 seconds the year 5138 (merge.md).
const SECONDS_BELOW: i64 = 100_000_000_000;

/// The largest instant that both databases and RFC 3339 can hold: 9999-12-30T22:00:00Z (jiff's own limit).
pub const LATEST: Millis = Millis(253_402_207_200_000);

impl Millis {
    /// Reads a time that may be in seconds or in milliseconds: Clerk's examples use seconds where live events use
    /// milliseconds. `None` for what cannot be a time of this product: negative, or past [`LATEST`].
    #[must_use]
    pub fn from_seconds_or_millis(value: i64) -> Option<Self> {
        let millis = if value < SECONDS_BELOW { value.checked_mul(1000)? } else { value };
        (0..=LATEST.0).contains(&millis).then_some(Self(millis))
    }

    /// From whole seconds since the epoch, saturating.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// This many milliseconds later, saturating.
    #[must_use]
    pub fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Reads RFC 3339, as [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Self(at.as_millisecond()))
    }

    /// Reads the `Date` of an HTTP answer, which is whole seconds: `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[must_use]
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(at.as_millisecond()))
    }
}

/// RFC 3339 in UTC with exactly three decimals, so that text order is time order: `2024-05-28T08:00:00.000Z`.
impl fmt::Display for Millis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clamped = self.0.clamp(0, LATEST.0);
        match jiff::Timestamp::from_millisecond(clamped) {
            Ok(at) => write!(out, "{at:.3}"),
            Err(_) => out.write_str("1970-01-01T00:00:00.000Z"),
        }
    }
}

/// As [`fmt::Display`] writes it.
impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a time of RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_told_apart() {
        let check = |given, expected: Option<i64>| {
            assert_eq!(Millis::from_seconds_or_millis(given).map(|m| m.0), expected, "{given}");
        };
        check(1_716_883_200, Some(1_716_883_200_000));
        check(1_716_883_200_000, Some(1_716_883_200_000));
        check(99_999_999_999, Some(99_999_999_999_000));
        check(100_000_000_000, Some(100_000_000_000));
        check(0, Some(0));
        check(-1, None);
        check(i64::MIN, None);
        check(i64::MAX, None);
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(Millis::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Millis(784_111_777_000)));
        assert_eq!(Millis::parse_http_date("yesterday"), None);
    }

    #[test]
    fn text_has_three_decimals_and_reads_back() {
        let check = |given: i64, expected: &str| {
            assert_eq!(Millis(given).to_string(), expected);
            assert_eq!(Millis::parse(expected), Some(Millis(given)));
        };
        check(1_716_883_200_000, "2024-05-28T08:00:00.000Z");
        check(1_716_883_200_120, "2024-05-28T08:00:00.120Z");
        check(0, "1970-01-01T00:00:00.000Z");
        check(LATEST.0, "9999-12-30T22:00:00.000Z");
    }
}
