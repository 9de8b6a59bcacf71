//! Which of Clerk's tokens is this? Only session tokens speak for a signed-in user.

use std::fmt;

use super::object::Object;
use super::{Rejection, decode};

/// Clerk's kinds of tokens. All but the first are refused, each by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A session token, as far as its form says.
    Session,
    /// A custom token made from a JWT template: signed with the same key, not bound to a session.
    Template,
    /// A token of one machine for another.
    Machine,
    /// An access token that an application was given by OAuth.
    OAuth,
    /// An API key.
    ApiKey,
    /// A category that Clerk made after this was written.
    Unknown,
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Session => "a session token",
            Self::Template => "a token from a JWT template",
            Self::Machine => "a machine-to-machine token",
            Self::OAuth => "an OAuth access token",
            Self::ApiKey => "an API key",
            Self::Unknown => "a token of an unknown category",
        })
    }
}

/// How Clerk's opaque tokens start (`tokens/machine.ts` of its SDK).
const PREFIXES: [(&str, Class); 3] = [("ak_", Class::ApiKey), ("mt_", Class::Machine), ("oat_", Class::OAuth)];

/// The header `cat` of the tokens that one instance key signs (clerk-facts.md, section 3.3). Handshake tokens carry
/// the category of session tokens; they lack the claims of one, and are refused for that.
const CATEGORIES: [(&str, Class); 4] = [
    ("cl_B7d4PD111AAA", Class::Session),
    ("cl_B7d4PD222AAA", Class::Template),
    ("cl_B7d4PD333AAA", Class::Machine),
    // What an instance stamps on every class when it does not tell them apart.
    ("cl_I7d4PD111III", Class::Session),
];

/// The header `typ` of an OAuth access token (RFC 9068, section 2.1).
const OAUTH_TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

/// How the subject of a machine's JWT starts. It may carry no category.
pub(super) const MACHINE_SUBJECT: &str = "mch_";

/// Tells Clerk's tokens apart by their prefix or their header, before anything is verified. [`Class::Session`] only
/// says that nothing speaks against it: a text that is no token of Clerk's at all is [`Rejection::Malformed`].
pub fn classify(token: &str) -> Result<Class, Rejection> {
    if let Some(class) = opaque(token) {
        return Ok(class);
    }
    let header = token.split('.').next().and_then(decode).ok_or(Rejection::Malformed)?;
    signed(&Object::read(&header).ok_or(Rejection::Malformed)?)
}

pub(super) fn opaque(token: &str) -> Option<Class> {
    PREFIXES.into_iter().find(|(prefix, _)| token.starts_with(prefix)).map(|(_, class)| class)
}

pub(super) fn signed(header: &Object<'_>) -> Result<Class, Rejection> {
    let text = |name| header.get::<String>(name).map_err(|_| Rejection::Malformed);
    if text("typ")?.is_some_and(|typ| OAUTH_TYPES.contains(&typ.as_str())) {
        return Ok(Class::OAuth);
    }
    // Tokens made before Clerk introduced categories carry none.
    let Some(category) = text("cat")? else { return Ok(Class::Session) };
    let known = CATEGORIES.into_iter().find(|(name, _)| *name == category);
    Ok(known.map_or(Class::Unknown, |(_, class)| class))
}
