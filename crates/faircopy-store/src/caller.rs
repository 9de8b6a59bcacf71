//! Reading on behalf of a caller: on PostgreSQL under the policies of row-level security, as a second wall behind what each
//! statement asks for itself.

use faircopy_core::id::{OrganizationId, UserId};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::engine::{Row, Value};
use crate::error::{Error, Result};
use crate::{Address, Store};

/// The role that migration 2 makes, with the right to read and no other.
pub const READER_ROLE: &str = "faircopy_reader";

/// Whether the service may step down to [`READER_ROLE`] and would find its rights there.
const USABLE: &str = "SELECT count(*) FROM pg_roles WHERE rolname = $1 \
    AND has_schema_privilege(oid, 'faircopy', 'USAGE') AND NOT rolsuper AND NOT rolbypassrls \
    AND pg_has_role(current_user, oid, \
        CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)";

/// Who a read is for: what a verified session token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `sub`.
    pub user: UserId,
    /// The organization that is active in the session.
    pub organization: Option<OrganizationId>,
}

impl Caller {
    /// The claims that the policies read, in version 2. The role is left out: policies take it from the copy.
    #[must_use]
    pub fn claims(&self) -> String {
        match &self.organization {
            Some(organization) => json!({"v": 2, "sub": self.user.as_str(), "o": {"id": organization.as_str()}}),
            None => json!({"v": 2, "sub": self.user.as_str()}),
        }
        .to_string()
    }
}

/// Whether there is a second wall; asked once, when it is first needed.
pub(crate) type SecondWall = std::sync::Arc<OnceCell<bool>>;

impl Store {
    /// Whether reads for a caller run under row-level security. Not on SQLite, which has no roles, and not on a PostgreSQL
    /// where the role [`READER_ROLE`] could not be made or may not be taken: there the statements' own conditions are the
    /// one wall.
    pub async fn has_second_wall(&self) -> Result<bool> {
        if matches!(self.address, Address::Sqlite(_)) {
            return Ok(false);
        }
        let ask = || async {
            let rows = self.readers.read(USABLE, vec![READER_ROLE.into()]).await?;
            let usable = rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default() > 0;
            if !usable {
                tracing::warn!(
                    role = READER_ROLE,
                    "reads for callers run without row-level security: the role is missing"
                );
            }
            Ok::<bool, Error>(usable)
        };
        self.second_wall.get_or_try_init(ask).await.copied()
    }

    /// Reads for a caller. The statement must ask for no more than he may see, as if there were no policies; on PostgreSQL
    /// the policies are asked too. One round trip, in a transaction of its own.
    pub(crate) async fn read_for(&self, caller: &Caller, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
        if self.has_second_wall().await? {
            self.readers.read_as(READER_ROLE, &caller.claims(), statement, scalars).await
        } else {
            self.readers.read(statement, scalars).await
        }
    }
}
