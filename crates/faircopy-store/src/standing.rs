//! What the copy knows of a session's user and active organization, and whether its token says anything new.

use std::sync::LazyLock;

use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::merge::{Change, Key, Register, Workset};
use faircopy_core::{Millis, record};

use crate::engine::Row;
use crate::error::{Error, Result};
use crate::{Store, registers};

/// How fresh an answer is. What is read after it is at least as fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// The last number of the change feed.
    pub sequence: i64,
    /// The copy is known to hold what happened up to this time: when the newest delivery arrived. `None` before the first.
    pub as_of: Option<Millis>,
}

/// What the copy says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// In Clerk's own form.
    pub role: Option<String>,
    /// The role's permissions.
    pub permissions: Vec<String>,
}

/// What the copy knows of a session's user and active organization: one statement, one snapshot.
#[derive(Debug, Clone)]
pub struct Standing {
    /// When this was so.
    pub freshness: Freshness,
    /// The user is known to have been deleted.
    pub is_deleted: bool,
    /// There is a row of the user.
    pub has_user: bool,
    /// There is a row of the organization.
    pub has_organization: bool,
    /// The user's membership of the organization.
    pub member: Option<Member>,
    /// The slug of an organization that is known from a token only.
    provisional_slug: Option<Option<String>>,
    registers: Vec<(Key, Register)>,
}

impl Store {
    /// Reads what is known of a user and, where one is active, an organization.
    pub async fn standing(&self, user: &UserId, organization: Option<&OrganizationId>) -> Result<Standing> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT f.sequence, (SELECT {{time max(received_at)}} FROM {{s}}webhook_deliveries), u.clerk_user_id, \
                 o.provenance, o.slug, m.clerk_user_id, m.role, {{text m.permissions}}, {registers} FROM {{s}}feed f \
                 LEFT JOIN {{s}}users u ON u.clerk_user_id = $1 \
                 LEFT JOIN {{s}}organizations o ON o.clerk_org_id = $2 \
                 LEFT JOIN {{s}}organization_members m ON m.clerk_org_id = $2 AND m.clerk_user_id = $1 \
                 LEFT JOIN {{s}}registers r ON r.subject IN ($1, $2, $3)",
                registers = registers::COLUMNS,
            )
        });
        let pair = organization.map(|id| Key::Pair(id.clone(), user.clone()).to_string()).unwrap_or_default();
        let organization_id = organization.map_or("", OrganizationId::as_str);
        let scalars = vec![user.as_str().into(), organization_id.into(), pair.as_str().into()];
        read(&self.readers.read(&STATEMENT, scalars).await?, user)
    }

    /// How fresh the copy is now.
    pub async fn freshness(&self) -> Result<Freshness> {
        let statement = "SELECT f.sequence, (SELECT {time max(received_at)} FROM {s}webhook_deliveries) FROM {s}feed f";
        let rows = self.readers.read(statement, vec![]).await?;
        rows.first().map_or(Ok(Freshness::default()), freshness)
    }
}

const FIRST_REGISTER: usize = 8;

fn read(rows: &[Row], user: &UserId) -> Result<Standing> {
    let row = rows.first().ok_or_else(|| Error::Refused("the change feed has no counter".into()))?;
    let mut registers = Vec::with_capacity(rows.len());
    for row in rows {
        if row.text(FIRST_REGISTER)?.is_some() {
            registers.push(registers::read(row, FIRST_REGISTER)?);
        }
    }
    let provenance = row.text(3)?;
    let member = match row.text(5)? {
        None => None,
        Some(_) => Some(Member { role: row.text(6)?, permissions: permissions(row.text(7)?) }),
    };
    let own = Key::User(user.clone());
    Ok(Standing {
        freshness: freshness(row)?,
        is_deleted: registers.iter().any(|(key, register)| *key == own && register.tombstone.is_some()),
        has_user: row.text(2)?.is_some(),
        has_organization: provenance.is_some(),
        member,
        provisional_slug: match provenance.as_deref() {
            Some(known) if known == record::Provenance::Token.as_str() => Some(row.text(4)?),
            _ => None,
        },
        registers,
    })
}

fn freshness(row: &Row) -> Result<Freshness> {
    let as_of = row.text(1)?.and_then(|text| Millis::parse(&text));
    Ok(Freshness { sequence: row.int(0)?.unwrap_or_default(), as_of })
}

/// A list of permissions as the column holds it.
pub(crate) fn permissions(json: Option<String>) -> Vec<String> {
    json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

impl Standing {
    /// The observations, of those of a token, that would change a row. The merge itself says so: it is run on what was
    /// read, and nothing is written. A token that only confirms what the rows hold costs no write; the word that it
    /// would have left for the pair comes again with the next request.
    #[must_use]
    pub fn news(&self, observations: Vec<Observation>) -> Vec<Observation> {
        let mut workset = Workset::new(self.registers.clone());
        for observation in &observations {
            workset.merge(observation);
        }
        let changes = workset.finish();
        let changes_a_row = |observation: &Observation| match &observation.fact {
            Fact::PartOfUser(user, _) => !self.has_user && matches!(changes.users.get(&user.id), Some(Change::Put(..))),
            Fact::PartOfOrganization(organization, _) => match changes.organizations.get(&organization.id) {
                Some(Change::Put(put, _)) => {
                    !self.has_organization || self.provisional_slug.as_ref().is_some_and(|known| *known != put.slug)
                }
                _ => false,
            },
            Fact::TokenMember(member, _) => {
                let pair = (member.organization.clone(), member.user.clone());
                match (changes.members.get(&pair), &self.member) {
                    (Some(Change::Put(put, _)), Some(known)) => {
                        put.role != known.role || put.permissions != known.permissions
                    }
                    (Some(Change::Put(..)), None) | (Some(Change::Remove | Change::Withdraw), Some(_)) => true,
                    (Some(Change::Remove | Change::Withdraw) | None, _) => false,
                }
            }
            _ => true,
        };
        observations.into_iter().filter(changes_a_row).collect()
    }
}
