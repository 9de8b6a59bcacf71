//! Why a request is refused, in Clerk's words for the code that a program branches on, and ours for the sentence.

use serde_json::{Value, json};

/// A request that is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Clerk's code.
    pub code: &'static str,
    /// A few words.
    pub message: String,
    /// A sentence.
    pub long_message: String,
    /// What else is said about it, such as the parameter that is wrong.
    pub meta: Option<Value>,
    /// After how many seconds it is worth another try.
    pub retry_after_s: Option<i64>,
}

impl Refusal {
    /// Any refusal.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>, long: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), long_message: long.into(), meta: None, retry_after_s: None }
    }

    fn about(code: &'static str, param: &str, message: &str, long: String) -> Self {
        Self { meta: Some(json!({ "param_name": param })), ..Self::new(422, code, message, long) }
    }

    /// There is no such thing.
    pub(crate) fn not_found(long: impl Into<String>) -> Self {
        Self::new(404, "resource_not_found", "not found", long)
    }

    /// There is no such user.
    pub(crate) fn no_user(id: &str) -> Self {
        Self::not_found(format!("No user was found with id {id}."))
    }

    /// There is no such organization.
    pub(crate) fn no_organization() -> Self {
        Self::not_found("Given organization not found.")
    }

    /// A parameter has none of the values that it may have.
    pub(crate) fn value(param: &str, value: &str) -> Self {
        let long = format!("{value} does not match one of the allowed values for parameter {param}.");
        Self::about("form_param_value_invalid", param, "is invalid", long)
    }

    /// A parameter has not the form that it must have.
    pub(crate) fn format(param: &str, form: &str) -> Self {
        Self::about("form_param_format_invalid", param, "is invalid", format!("{param} must be {form}."))
    }

    /// A number is too small or too large.
    pub(crate) fn out_of_bounds(param: &str, bound: &str) -> Self {
        Self::about("form_param_value_invalid", param, "is invalid", format!("{param} must be {bound}."))
    }

    /// A parameter is no time.
    pub(crate) fn time(param: &str) -> Self {
        let long = format!("{param} must contain a datetime specified in RFC3339 format.");
        Self::about("form_param_invalid_time", param, "invalid format", long)
    }

    /// A parameter that this version of the API takes no more.
    pub(crate) fn deprecated(param: &str, instead: &str) -> Self {
        let long = format!("{param} is no longer accepted here. {instead}");
        Self::about("form_param_deprecated", param, "is deprecated", long)
    }

    /// A parameter is of another type.
    pub(crate) fn of_type(param: &str, kind: &str) -> Self {
        Self::about("form_param_type_invalid", param, "is invalid", format!("`{param}` must be a `{kind}`."))
    }

    /// A parameter is missing.
    pub(crate) fn missing(param: &str) -> Self {
        Self::about("form_param_missing", param, "is missing", format!("{param} must be included."))
    }

    /// No such parameter.
    pub(crate) fn unknown(param: &str) -> Self {
        let long = format!("{param} is not a valid parameter for this request.");
        Self::about("form_param_unknown", param, "is unknown", long)
    }

    /// Values that were given twice.
    pub(crate) fn duplicate(param: &str) -> Self {
        Self::about("form_param_duplicate", param, "duplicate values", format!("{param} contains duplicate values."))
    }

    /// More values than one parameter may have.
    pub(crate) fn too_many(param: &str, most: usize) -> Self {
        let long = format!("{param} can have at most {most} values.");
        Self::about("form_param_array_size_exceeded", param, "too many values", long)
    }

    /// Somebody else has it.
    pub(crate) fn taken(param: &str, what: &str) -> Self {
        let words = format!("That {what} is taken. Please try another.");
        Self { message: words.clone(), ..Self::about("form_identifier_exists", param, "", words) }
    }

    /// A text that is too long, or a list.
    pub(crate) fn too_long(param: &str, most: usize) -> Self {
        let long = format!("{param} must be at most {most} characters long.");
        Self::about("form_param_max_length_exceeded", param, "exceeds maximum length", long)
    }

    /// A parameter whose own code is more exact.
    pub(crate) fn param(code: &'static str, param: &str, words: &str) -> Self {
        Self::about(code, param, words, words.to_owned())
    }

    /// As an item of the envelope's `errors`.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!({ "message": self.message, "long_message": self.long_message, "code": self.code });
        if let Some(meta) = &self.meta {
            document["meta"] = meta.clone();
        }
        document
    }
}
