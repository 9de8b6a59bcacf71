//! Clerk's identifiers, each in a type of its own so that one cannot be taken for another.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest identifier accepted. Clerk's are 32 characters; older instances have up to 40.
pub const MAX_ID_LENGTH: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It does not start with the prefix of its kind.
    #[error("does not start with `{0}`")]
    Prefix(&'static str),
    /// Nothing after the prefix, more than [`MAX_ID_LENGTH`] characters, or a character outside `A-Z a-z 0-9 _ -`.
    #[error("is not 1 to 128 letters, digits, `_` or `-`")]
    Form,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What every identifier of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Accepts exactly the identifiers of this kind.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                well_formed(text, Self::PREFIX).map(|()| Self(text.into()))
            }

            /// The identifier as Clerk writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

identifier!(
    /// A user: `user_…`.
    UserId,
    "user_"
);
identifier!(
    /// An organization: `org_…`.
    OrganizationId,
    "org_"
);
identifier!(
    /// One generation of a membership: `orgmem_…`. A person who leaves and joins again gets a new one.
    MembershipId,
    "orgmem_"
);
identifier!(
    /// An invitation to an organization: `orginv_…`.
    InvitationId,
    "orginv_"
);

fn well_formed(text: &str, prefix: &'static str) -> Result<(), IdError> {
    let rest = text.strip_prefix(prefix).ok_or(IdError::Prefix(prefix))?;
    let fits = !rest.is_empty()
        && text.len() <= MAX_ID_LENGTH
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    fits.then_some(()).ok_or(IdError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identifiers_of_the_kind_are_accepted() {
        let check = |text: &str, accepted: bool| {
            assert_eq!(UserId::parse(text).is_ok(), accepted, "{text:?}");
        };
        check("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S", true);
        check("user_a-b_c", true);
        check("user_", false);
        check("org_2g7np7Hrk0SN6kj5EDMLDaKNL0S", false);
        check("user_../../etc/passwd", false);
        check("user_a'; DROP TABLE users;--", false);
        check("user_\u{0}", false);
        check("", false);
        check(&format!("user_{}", "a".repeat(123)), true);
        check(&format!("user_{}", "a".repeat(124)), false);
    }
}
