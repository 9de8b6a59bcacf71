//! What the merge remembers, as rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use faircopy_core::Millis;
use faircopy_core::id::{MembershipId, OrganizationId, UserId};
use faircopy_core::merge::{Key, Register, TokenWord};
use faircopy_core::record::{Generation, Stamp};

use crate::engine::{Call, Row, Rows};
use crate::error::{Error, Result};

pub(crate) const COLUMNS: &str = "r.subject, r.full_updated_at, r.full_event_at, r.full_hash, r.contested, \
    r.partial_updated_at, r.partial_event_at, r.partial_hash, r.tombstone_at, r.generation_at, r.generation_id, \
    r.last_end_at, r.token, r.clerk_org_id";
/// How many these are.
pub(crate) const WIDTH: usize = 14;

static BY_KEY: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {COLUMNS} FROM {{rows}} AS v {{find registers r r.subject = v.subject}}"));
static BY_MEMBERSHIP: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {COLUMNS} FROM {{rows}} AS v {{find registers r r.generation_id = v.id}}"));

/// Finds the registers of these keys; keys without one are left out.
pub(crate) fn by_key<'a>(keys: impl ExactSizeIterator<Item = &'a Key>) -> Call<'a> {
    let rows = Rows::new(keys.len()).text("subject", keys.map(|key| Some(key.to_string())));
    Call::over(&BY_KEY, rows)
}

/// The statement of [`by_key`], for whoever reads.
pub(crate) fn by_key_statement() -> &'static str {
    &BY_KEY
}

/// Finds the pairs whose newest generation is one of these memberships.
pub(crate) fn by_membership<'a>(memberships: impl ExactSizeIterator<Item = &'a MembershipId>) -> Call<'a> {
    let rows = Rows::new(memberships.len()).text("id", memberships.map(|id| Some(id.as_str())));
    Call::over(&BY_MEMBERSHIP, rows)
}

/// Reads what [`by_key`] or [`by_membership`] found.
pub(crate) fn read_all(rows: &[Row]) -> Result<Vec<(Key, Register)>> {
    rows.iter().map(|row| read(row, 0)).collect()
}

/// Writes registers that changed. Those that were not among the `stored` ones are new: the pen is held since these were
/// loaded, and to look for a conflict that cannot be is dear on PostgreSQL.
pub(crate) fn save<'a>(registers: &'a BTreeMap<Key, Register>, stored: &BTreeSet<Key>) -> Vec<Call<'a>> {
    static INSERT: LazyLock<String> = LazyLock::new(|| format!("{INTO} {{values v.*}}"));
    static UPSERT: LazyLock<String> = LazyLock::new(|| format!("{INTO} {{values v.*}} {OVERWRITING}"));
    const INTO: &str = "INSERT INTO {s}registers \
        (subject, full_updated_at, full_event_at, full_hash, contested, partial_updated_at, partial_event_at, \
         partial_hash, tombstone_at, generation_at, generation_id, last_end_at, token, clerk_org_id, clerk_user_id)";
    const OVERWRITING: &str = "ON CONFLICT (subject) DO UPDATE SET \
         full_updated_at = excluded.full_updated_at, full_event_at = excluded.full_event_at, \
         full_hash = excluded.full_hash, contested = excluded.contested, \
         partial_updated_at = excluded.partial_updated_at, partial_event_at = excluded.partial_event_at, \
         partial_hash = excluded.partial_hash, tombstone_at = excluded.tombstone_at, \
         generation_at = excluded.generation_at, generation_id = excluded.generation_id, \
         last_end_at = excluded.last_end_at, token = excluded.token";
    let (known, new): (Vec<_>, Vec<_>) = registers.iter().partition(|(key, _)| stored.contains(key));
    vec![Call::over(&INSERT, rows(&new)), Call::over(&UPSERT, rows(&known))]
}

fn rows<'a>(registers: &[(&'a Key, &'a Register)]) -> Rows<'a> {
    let all = || registers.iter().copied();
    let stamps = |of: fn(&Register) -> Option<Stamp>, part: fn(Stamp) -> i64| all().map(move |(_, r)| of(r).map(part));
    let full: fn(&Register) -> Option<Stamp> = |r| r.full;
    let partial: fn(&Register) -> Option<Stamp> = |r| r.partial;
    Rows::new(registers.len())
        .text("subject", all().map(|(key, _)| Some(key.to_string())))
        .int("full_updated_at", stamps(full, |stamp| stamp.updated_at.0))
        .int("full_event_at", stamps(full, |stamp| stamp.event_at.0))
        .int("full_hash", stamps(full, |stamp| stamp.hash))
        .bool("contested", all().map(|(_, r)| Some(r.contested)))
        .seldom()
        .int("partial_updated_at", stamps(partial, |stamp| stamp.updated_at.0))
        .int("partial_event_at", stamps(partial, |stamp| stamp.event_at.0))
        .int("partial_hash", stamps(partial, |stamp| stamp.hash))
        .int("tombstone_at", all().map(|(_, r)| r.tombstone.map(|at| at.0)))
        .int("generation_at", all().map(|(_, r)| r.generation.as_ref().map(|generation| generation.created_at.0)))
        .text("generation_id", all().map(|(_, r)| r.generation.as_ref().map(|generation| generation.id.as_str())))
        .int("last_end_at", all().map(|(_, r)| r.last_end.map(|at| at.0)))
        .text("token", all().map(|(_, r)| r.token.as_ref().map(write_token)))
        .text("clerk_org_id", all().map(|(key, r)| organization_of(key, r)))
        .text(
            "clerk_user_id",
            all().map(|(key, _)| match key {
                Key::Pair(_, user) => Some(user.as_str()),
                _ => None,
            }),
        )
}

/// Forgets the pairs and invitations of organizations with a tombstone, which absorbs whatever may still come.
pub(crate) fn sweep_organizations<'a>(ids: &[&'a OrganizationId]) -> Call<'a> {
    let rows = Rows::new(ids.len()).text("id", ids.iter().map(|id| Some(id.as_str())));
    Call::over("DELETE FROM {s}registers WHERE clerk_org_id {any-of SELECT v.id FROM {rows} AS v}", rows)
}

/// Forgets the pairs of users with a tombstone.
pub(crate) fn sweep_users<'a>(ids: &[&'a UserId]) -> Call<'a> {
    let rows = Rows::new(ids.len()).text("id", ids.iter().map(|id| Some(id.as_str())));
    Call::over("DELETE FROM {s}registers WHERE clerk_user_id {any-of SELECT v.id FROM {rows} AS v}", rows)
}

fn organization_of<'a>(key: &'a Key, register: &'a Register) -> Option<&'a str> {
    match key {
        Key::Pair(organization, _) => Some(organization.as_str()),
        Key::Invitation(_) => register.organization.as_ref().map(OrganizationId::as_str),
        _ => None,
    }
}

/// Reads [`COLUMNS`] of `r`, which begin at this column of the row.
pub(crate) fn read(row: &Row, first: usize) -> Result<(Key, Register)> {
    let subject = row.required(first)?;
    let corrupt = |column| Error::Corrupt { table: "registers", column, row: subject.clone() };
    let key = Key::parse(&subject).ok_or_else(|| corrupt("subject"))?;
    let generation = match (row.int(first + 9)?, row.text(first + 10)?) {
        (Some(created_at), Some(id)) => Some(Generation {
            created_at: Millis(created_at),
            id: MembershipId::parse(&id).map_err(|_| corrupt("generation_id"))?,
        }),
        _ => None,
    };
    let organization = match (&key, row.text(first + 13)?) {
        (Key::Invitation(_), Some(id)) => Some(OrganizationId::parse(&id).map_err(|_| corrupt("clerk_org_id"))?),
        _ => None,
    };
    let token = row.text(first + 12)?.map(|text| read_token(&text).ok_or_else(|| corrupt("token"))).transpose()?;
    let register = Register {
        full: read_stamp(row, first + 1)?,
        contested: row.bool(first + 4)?.unwrap_or_default(),
        partial: read_stamp(row, first + 5)?,
        tombstone: row.int(first + 8)?.map(Millis),
        generation,
        last_end: row.int(first + 11)?.map(Millis),
        token,
        organization,
    };
    Ok((key, register))
}

fn read_stamp(row: &Row, at: usize) -> Result<Option<Stamp>> {
    Ok(match (row.int(at)?, row.int(at + 1)?, row.int(at + 2)?) {
        (Some(updated_at), Some(event_at), Some(hash)) => {
            Some(Stamp { updated_at: Millis(updated_at), event_at: Millis(event_at), hash })
        }
        _ => None,
    })
}

fn write_token(word: &TokenWord) -> String {
    serde_json::json!([word.issued_at.0, word.role, word.permissions]).to_string()
}

fn read_token(text: &str) -> Option<TokenWord> {
    let (issued_at, role, permissions) = serde_json::from_str(text).ok()?;
    Some(TokenWord { issued_at: Millis(issued_at), role, permissions })
}
