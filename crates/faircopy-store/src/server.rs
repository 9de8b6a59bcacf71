//! The database server's own version: whether it is served at all, and which known holes of its walls it still has.

use crate::Writer;
use crate::engine::{Call, Connection};
use crate::error::{Error, Result};

/// The oldest PostgreSQL that is served, as `server_version_num` counts: views have no `security_invoker` before it.
pub(crate) const OLDEST: i64 = 15_00_00;

/// A hole in PostgreSQL's own walls, and the first minor version of each major one that has it closed. Majors that are not
/// named and newer never had it.
struct Advisory {
    name: &'static str,
    says: &'static str,
    fixed: &'static [i64],
}

/// Those that touch row-level security and roles; as `server_version_num` counts.
const ADVISORIES: &[Advisory] = &[
    Advisory { name: "CVE-2023-2455", says: "policies of the wrong role after inlining", fixed: &[15_00_03] },
    Advisory {
        name: "CVE-2024-10976",
        says: "a kept plan reads with another role's policies",
        fixed: &[15_00_09, 16_00_05, 17_00_01],
    },
    Advisory {
        name: "CVE-2024-10978",
        says: "SET ROLE is reset to the wrong role",
        fixed: &[15_00_09, 16_00_05, 17_00_01],
    },
    Advisory {
        name: "CVE-2025-8713",
        says: "planner statistics show rows that a policy hides",
        fixed: &[15_00_14, 16_00_10, 17_00_06],
    },
];

/// The holes that a version still has, each with what to do.
pub(crate) fn open_advisories(version: i64) -> Vec<String> {
    let major = version / 10_000;
    let is_open = |advisory: &&Advisory| match advisory.fixed.iter().find(|fixed| *fixed / 10_000 == major) {
        Some(fixed) => version < *fixed,
        None => advisory.fixed.iter().all(|fixed| version < *fixed),
    };
    let shown = |advisory: &Advisory| format!("{}: {}; install the newest minor version", advisory.name, advisory.says);
    ADVISORIES.iter().filter(is_open).map(shown).collect()
}

/// PostgreSQL, as it is asked at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As it says itself: `15.18`.
    pub version: String,
    /// Known holes that touch row-level security and roles, each with what to do. The copy is as exact with them; what
    /// applications are shown may not be.
    pub open_advisories: Vec<String>,
}

impl Server {
    fn of(version: String, number: i64) -> Result<Self> {
        if number < OLDEST {
            return Err(Error::ServerTooOld(version));
        }
        Ok(Self { version, open_advisories: open_advisories(number) })
    }
}

impl Writer {
    /// Which PostgreSQL this is; `None` on SQLite, which comes with the program. One that is too old is an error.
    pub async fn server(&mut self) -> Result<Option<Server>> {
        const VERSION: &str = "SELECT current_setting('server_version'), current_setting('server_version_num')::bigint";
        let connection = self.fresh().await?;
        let ask = async {
            let Connection::Postgres(_) = connection else { return Ok(None) };
            let rows = connection.run(Call::new(VERSION, vec![])).await?;
            let row = rows.first().ok_or_else(|| Error::Refused("no answer".into()))?;
            Server::of(row.required(0)?, row.int(1)?.unwrap_or_default()).map(Some)
        };
        let result = ask.await;
        self.settle(result).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_minor_of_each_major_has_no_known_hole() {
        let check = |version: i64, expected: &[&str]| {
            let open = open_advisories(version);
            let names: Vec<&str> = open.iter().filter_map(|says| says.split(':').next()).collect();
            assert_eq!(names, expected, "{version}");
        };
        let older = ["CVE-2024-10976", "CVE-2024-10978", "CVE-2025-8713"];
        check(15_00_02, &["CVE-2023-2455", "CVE-2024-10976", "CVE-2024-10978", "CVE-2025-8713"]);
        check(15_00_08, &older);
        check(15_00_13, &older[2..]);
        check(15_00_18, &[]);
        check(16_00_04, &older);
        check(16_00_05, &older[2..]);
        check(16_00_10, &[]);
        check(17_00_00, &older);
        check(17_00_06, &[]);
        check(18_00_00, &[]);
    }

    #[test]
    fn what_is_too_old_is_refused_and_what_has_holes_is_not() {
        let check = |version: &str, number: i64| {
            Server::of(version.to_owned(), number).map(|server| server.open_advisories.len())
        };
        assert!(matches!(check("14.20", 14_00_20), Err(Error::ServerTooOld(version)) if version == "14.20"));
        assert_eq!(check("15.0", 15_00_00).unwrap(), 4);
        assert_eq!(check("18.1", 18_00_01).unwrap(), 0);
    }
}
