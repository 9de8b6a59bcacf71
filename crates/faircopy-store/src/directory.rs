//! The copy as its operator reads it: everybody, in pages, and whoever is searched for. Each page is a range of an index, whatever
//! the number of rows.

use std::fmt;
use std::sync::LazyLock;

use faircopy_core::id::{OrganizationId, UserId};

use crate::Store;
use crate::engine::Row;
use crate::error::Result;
use crate::provisional::Of;
use crate::reading::{self, MEMBERSHIP, Membership, ORGANIZATION, OrganizationRecord, USER, UserRecord};

/// Reads for one page of a search. Whoever has been shown by an earlier part is passed over by a later one, and a page may be short
/// for that: the next one goes on.
const MAX_READS: usize = 8;
/// The last character there is: what begins with a text comes before the text with this behind it.
const LAST: char = char::MAX;

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// Its rows. There may be fewer than were asked for although more follow.
    pub rows: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next: Option<Place>,
}

/// A place in a list or in what a search finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    part: usize,
    id: String,
    key: String,
}

impl Place {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (part, id, key) = (words.next()?, words.next()?, words.next()?);
        Some(Self { part: part.parse().ok()?, id: id.to_owned(), key: key.to_owned() })
    }
}

/// An id has no blank.
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.part, self.id, self.key)
    }
}

/// A table that can be listed and searched.
struct Listed<T: 'static> {
    table: &'static str,
    id: &'static str,
    columns: &'static str,
    /// How many columns these are.
    width: usize,
    /// The columns that are searched, each with its index, in the order in which what they find is shown.
    searched: &'static [&'static str],
    read: fn(&Row) -> Result<T>,
    id_of: fn(&T) -> &str,
    text_of: fn(&T, &str) -> Option<String>,
}

const USERS: Listed<UserRecord> = Listed {
    table: "users u",
    id: "u.clerk_user_id",
    columns: USER,
    width: 15,
    searched: &["u.email", "u.name"],
    read: reading::user,
    id_of: |user| &user.clerk_user_id,
    text_of: |user, column| if column == "u.email" { user.email.clone() } else { user.name.clone() },
};

const ORGANIZATIONS: Listed<OrganizationRecord> = Listed {
    table: "organizations o",
    id: "o.clerk_org_id",
    columns: ORGANIZATION,
    width: 10,
    searched: &["o.slug", "o.name"],
    read: reading::organization,
    id_of: |organization| &organization.clerk_org_id,
    text_of: |organization, column| {
        if column == "o.slug" { organization.slug.clone() } else { organization.name.clone() }
    },
};

impl Store {
    /// Users in the order of their ids; or those whose id is this text, or whose address or name begins with it.
    pub async fn find_users(
        &self,
        search: Option<&str>,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Found<UserRecord>> {
        self.find(&USERS, search, after, limit).await
    }

    /// Organizations in the order of their ids; or those whose id is this text, or whose slug or name begins with it.
    pub async fn find_organizations(
        &self,
        search: Option<&str>,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Found<OrganizationRecord>> {
        self.find(&ORGANIZATIONS, search, after, limit).await
    }

    /// One user, for the operator.
    pub async fn user_record(&self, id: &UserId) -> Result<Option<UserRecord>> {
        Ok(self.one(&USERS, id.as_str()).await?.pop())
    }

    /// One organization, for the operator.
    pub async fn organization_record(&self, id: &OrganizationId) -> Result<Option<OrganizationRecord>> {
        Ok(self.one(&ORGANIZATIONS, id.as_str()).await?.pop())
    }

    /// How many members an organization has.
    pub async fn member_count(&self, id: &OrganizationId) -> Result<i64> {
        const STATEMENT: &str = "SELECT count(*) FROM {s}organization_members WHERE clerk_org_id = $1";
        let rows = self.readers.read(STATEMENT, vec![id.as_str().into()]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default())
    }

    /// The members of an organization in the order of the users' ids, or the memberships of a user in that of the organizations',
    /// after one of them.
    pub async fn find_members(&self, of: Of<'_>, after: Option<&str>, limit: i64) -> Result<Vec<Membership>> {
        static OF_ORGANIZATION: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {MEMBERSHIP}, u.name, u.email, NULL, u.image_url FROM {{s}}organization_members m \
                 LEFT JOIN {{s}}users u ON u.clerk_user_id = m.clerk_user_id \
                 WHERE m.clerk_org_id = $1 AND m.clerk_user_id > $2 ORDER BY m.clerk_user_id LIMIT $3"
            )
        });
        static OF_USER: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {MEMBERSHIP}, o.name, NULL, o.slug, o.image_url FROM {{s}}organization_members m \
                 LEFT JOIN {{s}}organizations o ON o.clerk_org_id = m.clerk_org_id \
                 WHERE m.clerk_user_id = $1 AND m.clerk_org_id > $2 ORDER BY m.clerk_org_id LIMIT $3"
            )
        });
        let (statement, id) = match of {
            Of::Organization(id) => (&OF_ORGANIZATION, id.as_str()),
            Of::User(id) => (&OF_USER, id.as_str()),
        };
        let scalars = vec![id.into(), after.unwrap_or_default().into(), limit.into()];
        self.readers.read(statement, scalars).await?.iter().map(reading::membership).collect()
    }

    async fn one<T>(&self, listed: &Listed<T>, id: &str) -> Result<Vec<T>> {
        let Listed { table, id: key, columns, read, .. } = listed;
        let statement = format!("SELECT {columns} FROM {{s}}{table} WHERE {key} = $1");
        self.readers.read(&statement, vec![id.into()]).await?.iter().map(read).collect()
    }

    async fn find<T>(
        &self,
        listed: &Listed<T>,
        search: Option<&str>,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Found<T>> {
        match search.map(str::trim).filter(|text| !text.is_empty()) {
            None => self.list(listed, after, limit).await,
            Some(text) => self.search(listed, text, after, limit).await,
        }
    }

    async fn list<T>(&self, listed: &Listed<T>, after: Option<Place>, limit: usize) -> Result<Found<T>> {
        let Listed { table, id, columns, read, id_of, .. } = listed;
        let statement = format!("SELECT {columns} FROM {{s}}{table} WHERE {id} > $1 ORDER BY {id} LIMIT $2");
        let after = after.unwrap_or_default();
        let scalars = vec![after.id.as_str().into(), one_more(limit).into()];
        let mut rows: Vec<T> = self.readers.read(&statement, scalars).await?.iter().map(read).collect::<Result<_>>()?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let place = |row: &T| Place { id: id_of(row).to_owned(), ..Place::default() };
        let next = rows.last().filter(|_| has_more).map(place);
        Ok(Found { rows, next })
    }

    /// Part 0 finds an id, and each further part what one of the searched columns begins with.
    async fn search<T>(&self, listed: &Listed<T>, text: &str, after: Option<Place>, limit: usize) -> Result<Found<T>> {
        let prefix = text.to_ascii_lowercase();
        let begins = |row: &T, column: &str| {
            (listed.text_of)(row, column).is_some_and(|found| found.to_ascii_lowercase().starts_with(&prefix))
        };
        let mut place = after.unwrap_or_default();
        let mut found: Vec<(T, Place)> = Vec::new();
        if place.part == 0 {
            let exact = self.one(listed, text).await?.into_iter();
            found.extend(exact.map(|row| (row, Place { part: 1, key: prefix.clone(), ..Place::default() })));
            place = Place { part: 1, key: prefix.clone(), ..Place::default() };
        }
        let mut is_over = false;
        for _ in 0..MAX_READS {
            let Some((earlier, column)) = listed.searched.get(..place.part).and_then(|parts| {
                let (column, earlier) = parts.split_last()?;
                Some((earlier, *column))
            }) else {
                is_over = true;
                break;
            };
            let wanted = limit + 1 - found.len();
            let page = self.range(listed, column, &prefix, &place, wanted).await?;
            let is_last = page.len() < wanted;
            for (row, key) in page {
                place = Place { part: place.part, id: (listed.id_of)(&row).to_owned(), key };
                let is_shown = place.id == text || earlier.iter().any(|column| begins(&row, column));
                if !is_shown {
                    found.push((row, place.clone()));
                }
            }
            if found.len() > limit {
                break;
            }
            if is_last {
                place = Place { part: place.part + 1, key: prefix.clone(), ..Place::default() };
            }
        }
        let next = match found.get(limit) {
            Some(_) => found.get(limit - 1).map(|(_, place)| place.clone()),
            None => (!is_over).then_some(place),
        };
        found.truncate(limit);
        Ok(Found { rows: found.into_iter().map(|(row, _)| row).collect(), next })
    }

    /// The rows after a place whose column begins with a text, with what their columns are compared as.
    async fn range<T>(
        &self,
        listed: &Listed<T>,
        column: &str,
        prefix: &str,
        after: &Place,
        limit: usize,
    ) -> Result<Vec<(T, String)>> {
        let Listed { table, id, columns, width, read, .. } = listed;
        let key = format!("{{fold {column}}}");
        // The range once as a database understands that it is one, and once exactly.
        let statement = format!(
            "SELECT {columns}, {key} FROM {{s}}{table} WHERE {column} IS NOT NULL AND {key} >= $1 AND {key} < $2 \
             AND ({key}, {id}) > ($1, $3) ORDER BY {key}, {id} LIMIT $4"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let end = format!("{prefix}{LAST}");
        let scalars = vec![after.key.as_str().into(), end.as_str().into(), after.id.as_str().into(), limit.into()];
        let rows = self.readers.read(&statement, scalars).await?;
        rows.iter().map(|row| Ok((read(row)?, row.required(*width)?))).collect()
    }
}

fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
