//! What is asked of a list: the page, the order and the filters, with Clerk's rules for each.

use super::refusal::Refusal;

/// The page that is given when nobody says how long it is to be.
const DEFAULT_LIMIT: usize = 10;
/// The longest page.
pub const MAX_LIMIT: usize = 500;
/// Values in one filter.
pub const MAX_VALUES: usize = 100;

/// The parameters of a request, in their order. `name[]` is `name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

/// By what a list is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) field: &'static str,
    pub(crate) descending: bool,
}

/// Values of a filter with signs: without one, or with `+`, a value is asked for; with `-` it is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signed<'a> {
    pub(crate) with: Vec<&'a str>,
    pub(crate) without: Vec<&'a str>,
}

impl Query {
    /// Reads the part behind the question mark.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self(pairs.map(|(key, value)| (key.trim_end_matches("[]").to_owned(), value.into_owned())).collect())
    }

    /// The first value of a parameter. An empty one is none.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The same with this value of a parameter alone.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(key, _)| key != name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<&str>, Refusal> {
        let values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        if values.len() > MAX_VALUES { Err(Refusal::too_many(name, MAX_VALUES)) } else { Ok(values) }
    }

    pub(crate) fn signed(&self, name: &str) -> Result<Signed<'_>, Refusal> {
        let mut signed = Signed::default();
        for value in self.all(name)? {
            match value.strip_prefix('-') {
                Some(value) => signed.without.push(value),
                None => signed.with.push(value.strip_prefix('+').unwrap_or(value)),
            }
        }
        Ok(signed)
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.first(name).map(|value| value.parse().map_err(|_| Refusal::of_type(name, "integer"))).transpose()
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.first(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(Refusal::of_type(name, "boolean")),
        }
    }

    pub(crate) fn page(&self) -> Result<Page, Refusal> {
        let limit = self.number("limit")?.unwrap_or(DEFAULT_LIMIT as i64);
        let offset = self.number("offset")?.unwrap_or(0);
        let limit = match usize::try_from(limit) {
            Ok(limit @ 1..=MAX_LIMIT) => limit,
            Ok(0) | Err(_) => return Err(Refusal::out_of_bounds("limit", "greater than or equal to 1")),
            Ok(_) => return Err(Refusal::out_of_bounds("limit", "less than or equal to 500")),
        };
        let offset =
            usize::try_from(offset).map_err(|_| Refusal::out_of_bounds("offset", "greater than or equal to 0"))?;
        Ok(Page { limit, offset })
    }

    /// The order, which is by one of these fields. Only the first `order_by` counts.
    pub(crate) fn order(&self, fields: &[&'static str], default: &'static str) -> Result<Order, Refusal> {
        let asked = self.first("order_by").unwrap_or(default);
        let (name, descending) = match asked.strip_prefix('-') {
            Some(name) => (name, true),
            None => (asked.strip_prefix('+').unwrap_or(asked), false),
        };
        let field = fields.iter().find(|field| **field == name).ok_or_else(|| Refusal::value("order_by", asked))?;
        Ok(Order { field, descending })
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, Page, Query};

    fn code(result: Result<impl Sized, super::Refusal>) -> Option<&'static str> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn pages_have_bounds() {
        let page = |text: &str| Query::parse(text).page();
        assert_eq!(page(""), Ok(Page { limit: 10, offset: 0 }));
        assert_eq!(page("limit=500&offset=7"), Ok(Page { limit: 500, offset: 7 }));
        for wrong in ["limit=0", "limit=501", "limit=-1", "offset=-1"] {
            assert_eq!(page(wrong).map_err(|refusal| refusal.status), Err(422), "{wrong}");
        }
        assert_eq!(code(page("limit=ten")), Some("form_param_type_invalid"));
    }

    #[test]
    fn orders_are_one_field_with_a_sign() {
        let order = |text: &str| Query::parse(text).order(&["created_at", "name"], "-created_at");
        assert_eq!(order(""), Ok(Order { field: "created_at", descending: true }));
        assert_eq!(order("order_by=name&order_by=created_at"), Ok(Order { field: "name", descending: false }));
        assert_eq!(order("order_by=%2Bname"), Ok(Order { field: "name", descending: false }));
        assert_eq!(code(order("order_by=slug")), Some("form_param_value_invalid"));
        assert_eq!(code(order("order_by=+name")), Some("form_param_value_invalid"), "a plus in an address is a space");
    }

    #[test]
    fn filters_have_signs_and_brackets() {
        let query = Query::parse("user_id=a&user_id[]=%2Bb&user_id%5B%5D=-c&user_id=");
        let signed = query.signed("user_id").expect("few");
        assert_eq!((signed.with, signed.without), (vec!["a", "b"], vec!["c"]));
        let many = Query::parse(&"user_id=a&".repeat(101));
        assert_eq!(code(many.all("user_id")), Some("form_param_array_size_exceeded"));
    }
}
