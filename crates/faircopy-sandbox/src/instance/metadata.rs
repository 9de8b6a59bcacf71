//! Metadata of users, organizations and memberships: merged deeply, or replaced.

use serde_json::Value;

use super::document::Document;
use super::fields::{Fields, check_size, merge};
use super::refusal::Refusal;

/// The kinds of metadata that users have; organizations and memberships have the first two.
pub(crate) const USERS: &[&str] = &["public_metadata", "private_metadata", "unsafe_metadata"];
/// The kinds that organizations and memberships have.
pub(crate) const OTHERS: &[&str] = &["public_metadata", "private_metadata"];

/// What becomes of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Merged,
    Replaced,
}

/// Sets the kinds of metadata that the body has.
pub(crate) fn set(document: &mut Document, fields: Fields<'_>, kinds: &[&str], how: How) -> Result<(), Refusal> {
    for kind in kinds {
        let Some(given) = fields.metadata(kind)? else { continue };
        let mut fresh = match document.get(*kind) {
            Some(Value::Object(old)) if how == How::Merged => old.clone(),
            _ => Document::new(),
        };
        match how {
            How::Merged => merge(&mut fresh, given),
            How::Replaced => fresh = given.clone(),
        }
        check_size(kind, &fresh)?;
        document.insert((*kind).to_owned(), Value::Object(fresh));
    }
    Ok(())
}
