//! What of Clerk's records the copy lacks, and what it holds differently: the rows are compared as they stand, column by
//! column, and so also where somebody else has changed them.

use std::sync::LazyLock;

use faircopy_core::Millis;
use faircopy_core::Observation;
use faircopy_core::event::Fact;
use faircopy_core::explain::{self, Record};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::record::Member;

use crate::Store;
use crate::engine::{Row, Rows};
use crate::error::Result;
use crate::records::{self, Put};

/// How a row of the copy differs from Clerk's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The row's id; of a member `<organization>/<user>`.
    pub subject: String,
    /// The columns that differ; `None` where there is no row. Empty where only a token spoke for the row.
    pub columns: Option<Vec<String>>,
}

impl Store {
    /// The differences between what was observed and the rows. Observations other than whole users, organizations,
    /// members and invitations are passed over. A row that equals its record is left out.
    pub async fn differences(&self, observations: &[Observation], now: Millis) -> Result<Vec<Difference>> {
        let (mut users, mut organizations, mut members, mut invitations) = (vec![], vec![], vec![], vec![]);
        let pairs: Vec<(OrganizationId, UserId)> = observations.iter().filter_map(|o| Some(pair(member(o)?))).collect();
        let mut pairs = pairs.iter();
        for observation in observations {
            let source = observation.source;
            match &observation.fact {
                Fact::User(user, _) => users.push((&user.id, user, source)),
                Fact::Organization(organization, _) => organizations.push((&organization.id, organization, source)),
                Fact::Member(member, ..) => members.extend(pairs.next().map(|pair| (pair, member, source))),
                Fact::Invitation(invitation, _) => invitations.push((&invitation.id, invitation, source)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        found.extend(self.compare(&USERS, owned(&users, records::user_rows)).await?);
        let mode = self.workspaces;
        let named = owned(&organizations, |put| records::organization_rows(put, mode));
        found.extend(self.compare(&ORGANIZATIONS, named).await?);
        found.extend(self.compare(&MEMBERS, owned(&members, records::member_rows)).await?);
        let invited = owned(&invitations, |put| records::invitation_rows(put, now));
        found.extend(self.compare(&INVITATIONS, invited).await?);
        found.iter().map(difference).collect()
    }

    /// The difference between a row as it should be and the stored one. As in [`Store::differences`] a row that only a token speaks
    /// for is always told.
    pub async fn difference(&self, (record, source): &explain::Row, now: Millis) -> Result<Option<Difference>> {
        let (source, mode) = (*source, self.workspaces);
        let found = match record {
            Record::User(user) => {
                self.compare(&USERS, owned(&vec![(&user.id, user, source)], records::user_rows)).await?
            }
            Record::Organization(organization) => {
                let put = vec![(&organization.id, organization, source)];
                self.compare(&ORGANIZATIONS, owned(&put, |put| records::organization_rows(put, mode))).await?
            }
            Record::Member(member) => {
                self.compare(&MEMBERS, owned(&vec![(&pair(member), member, source)], records::member_rows)).await?
            }
            Record::Invitation(invitation) => {
                let put = vec![(&invitation.id, invitation, source)];
                self.compare(&INVITATIONS, owned(&put, |put| records::invitation_rows(put, now))).await?
            }
        };
        found.first().map(difference).transpose()
    }

    async fn compare(&self, statement: &'static str, rows: Rows<'static>) -> Result<Vec<Row>> {
        if rows.is_empty() { Ok(vec![]) } else { self.readers.read_over(statement, rows).await }
    }
}

fn member(observation: &Observation) -> Option<&Member> {
    match &observation.fact {
        Fact::Member(member, ..) => Some(member),
        _ => None,
    }
}

fn pair(member: &Member) -> (OrganizationId, UserId) {
    (member.organization.clone(), member.user.clone())
}

/// Reads outlive whoever asks.
fn owned<'a, K, T>(put: &Put<'a, K, T>, rows: impl FnOnce(&Put<'a, K, T>) -> Rows<'a>) -> Rows<'static> {
    rows(put).into_owned()
}

static USERS: LazyLock<String> = LazyLock::new(|| {
    statement("users", &["clerk_user_id"], &records::USER_COLUMNS, Some(&records::wanted_workspace("v")))
});
static ORGANIZATIONS: LazyLock<String> =
    LazyLock::new(|| statement("organizations", &["clerk_org_id"], &records::ORGANIZATION_COLUMNS, None));
static MEMBERS: LazyLock<String> = LazyLock::new(|| {
    statement("organization_members", &["clerk_org_id", "clerk_user_id"], &records::MEMBER_COLUMNS, None)
});
static INVITATIONS: LazyLock<String> = LazyLock::new(|| {
    statement("organization_invitations", &["clerk_invitation_id"], &records::INVITATION_COLUMNS, None)
});

/// Of the rows that were given those that are not so in the table: key, whether there is one, and which columns differ.
fn statement(table: &str, keys: &[&str], columns: &[&str], workspace: Option<&str>) -> String {
    let compared = columns.iter().filter(|column| **column != "provenance");
    let named: Vec<(String, String)> = compared
        .map(|column| {
            let given = match workspace {
                Some(wanted) if *column == "workspace_id" => wanted.to_owned(),
                _ => format!("v.{column}"),
            };
            ((*column).to_owned(), format!("t.{column} IS DISTINCT FROM {given}"))
        })
        .collect();
    let lists: Vec<String> =
        named.iter().map(|(column, differs)| format!("CASE WHEN {differs} THEN '{column} ' ELSE '' END")).collect();
    let differs: Vec<&str> = named.iter().map(|(_, differs)| differs.as_str()).collect();
    let (first, joined) = (keys[0], keys.iter().map(|key| format!("t.{key} = v.{key}")).collect::<Vec<_>>());
    let subject = keys.iter().map(|key| format!("v.{key}")).collect::<Vec<_>>().join(" || '/' || ");
    format!(
        "SELECT {subject}, t.{first}, {list} FROM {{rows}} AS v {{find-left {table} t {joined}}} \
         WHERE t.{first} IS NULL OR t.provenance = 'token' OR {differs}",
        list = lists.join(" || "),
        joined = joined.join(" AND "),
        differs = differs.join(" OR "),
    )
}

fn difference(row: &Row) -> Result<Difference> {
    let columns = match row.text(1)? {
        Some(_) => Some(row.required(2)?.split_whitespace().map(ToOwned::to_owned).collect()),
        None => None,
    };
    Ok(Difference { subject: row.required(0)?, columns })
}
