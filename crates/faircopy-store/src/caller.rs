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

/// Whether the service may step down to [`READER_ROLE`] and would find there the rights that its reads need.
const USABLE: &str = "SELECT count(*) FROM pg_roles WHERE rolname = $1 \
    AND has_schema_privilege(oid, 'faircopy', 'USAGE') AND NOT rolsuper AND NOT rolbypassrls \
    AND has_table_privilege(oid, 'faircopy.users', 'SELECT') \
    AND has_table_privilege(oid, 'faircopy.organizations', 'SELECT') \
    AND has_table_privilege(oid, 'faircopy.organization_members', 'SELECT') \
    AND has_table_privilege(oid, 'faircopy.workspaces', 'SELECT') \
    AND has_table_privilege(oid, 'faircopy.channels', 'SELECT') \
    AND has_table_privilege(oid, 'faircopy.rooms', 'SELECT') \
    AND has_function_privilege(oid, 'faircopy.active_workspace_id()', 'EXECUTE') \
    AND has_function_privilege(oid, 'faircopy.current_memberships()', 'EXECUTE') \
    AND has_function_privilege(oid, 'faircopy.current_membership_ids()', 'EXECUTE') \
    AND has_function_privilege(oid, 'faircopy.current_colleagues()', 'EXECUTE') \
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
    /// one wall. Asked once: a wall that was found and is gone later makes reads fail, and never lets them pass.
    pub async fn has_second_wall(&self) -> Result<bool> {
        if matches!(self.address, Address::Sqlite(_)) {
            return Ok(false);
        }
        let ask = || async {
            let rows = self.readers.read(USABLE, vec![READER_ROLE.into()]).await?;
            let usable = rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default() > 0;
            if usable {
                tracing::info!(role = READER_ROLE, "reads for callers run under row-level security");
            } else {
                tracing::warn!(
                    role = READER_ROLE,
                    "reads for callers run without row-level security: the role is missing, lacks rights or may not be \
                     taken (docs/row-level-security.md)"
                );
            }
            Ok::<bool, Error>(usable)
        };
        self.second_wall.get_or_try_init(ask).await.copied()
    }

    /// What [`Store::has_second_wall`] has found; `None` before it was first asked, and where there are no roles.
    #[must_use]
    pub fn second_wall_if_known(&self) -> Option<bool> {
        self.second_wall.get().copied()
    }

    /// Reads for a caller. The statement must ask for no more than he may see, as if there were no policies; on PostgreSQL
    /// the policies are asked too. One round trip, in a transaction of its own.
    pub(crate) async fn read_for(&self, caller: &Caller, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
        self.read_behind(caller, Statements { plain: statement, walled: statement }, scalars).await
    }

    /// The same, where what is asked for lies beyond what the policies show of the tables.
    pub(crate) async fn read_behind(
        &self,
        caller: &Caller,
        statements: Statements<'_>,
        scalars: Vec<Value>,
    ) -> Result<Vec<Row>> {
        if self.has_second_wall().await? {
            self.readers.read_as(READER_ROLE, &caller.claims(), statements.walled, scalars).await
        } else {
            self.readers.read(statements.plain, scalars).await
        }
    }
}

/// One question in two texts with the same parameters and columns. The policies show the memberships of the active
/// organization alone: what spans organizations asks the tables where there is no wall, and behind it the functions that
/// answer the caller about himself.
#[derive(Clone, Copy)]
pub(crate) struct Statements<'a> {
    pub(crate) plain: &'a str,
    pub(crate) walled: &'a str,
}
