//! The stand-in for Clerk that is read: `faircopy sandbox` in a process of its own, a plain reader of its lists, and changes that
//! nobody is told of.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;

use crate::arena::Arena;
use crate::line::Line;
use crate::sandbox::Sandbox;

/// The key of a production instance: what a backfill may ask for in a second follows from it.
const SECRET_KEY: &str = "sk_live_of_the_benchmark";
/// Rows of a page: the most that Clerk gives.
pub(crate) const PAGE: usize = 500;
/// What is asked with this header uses up nothing of the rate limit: that is Faircopy's.
const ONLOOKER: &str = "faircopy-sandbox-onlooker: 1";
/// What begins a user's own id, in a list of users.
const USER_ID: &[u8] = b"\"id\":\"user_";

/// A running sandbox as Clerk.
pub(crate) struct Upstream {
    sandbox: Sandbox,
    issuer: String,
}

/// What reading all users once took.
pub(crate) struct Walk {
    pub(crate) rows: usize,
    pub(crate) seconds: f64,
    pub(crate) ids: Vec<String>,
}

impl Walk {
    pub(crate) fn per_second(&self) -> f64 {
        super::round::count(self.rows as u64) / self.seconds
    }
}

impl Upstream {
    /// Starts one with made-up users, organizations of eight members each, and an invitation each.
    pub(crate) fn start(arena: &Arena, users: u32, organizations: u32, rate_limit: &str) -> Result<Upstream> {
        let (users, organizations) = (users.to_string(), organizations.to_string());
        let arguments = ["--secret-key", SECRET_KEY, "--rate-limit", rate_limit];
        let population = ["--users", &users, "--organizations", &organizations];
        let sandbox = Sandbox::start(arena, &[&arguments[..], &population[..]].concat())?;
        let issuer = sandbox.says("issuer")?.to_owned();
        Ok(Upstream { sandbox, issuer })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.sandbox.address()
    }

    /// The variables that let Faircopy read it at `address`, its own or that of a [`super::counter::Counter`].
    pub(crate) fn environment(&self, address: SocketAddr) -> [(&'static str, String); 3] {
        [
            ("CLERK_API_URL", format!("http://{address}")),
            ("CLERK_SECRET_KEY", SECRET_KEY.to_owned()),
            ("CLERK_JWT_ISSUER_DOMAIN", self.issuer.clone()),
        ]
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.sandbox.pid()
    }

    /// Reads all users page by page over one connection, looks for their ids, and keeps nothing else.
    pub(crate) fn walk(&self) -> Result<Walk> {
        let mut line = self.line()?;
        let started = Instant::now();
        let mut ids: Vec<String> = Vec::new();
        loop {
            let after = ids.last().map(|id| format!("&starting_after={id}")).unwrap_or_default();
            let path = format!("/v1/users?limit={PAGE}&order_by=created_at{after}");
            let body = line.ask("GET", &path, "")?;
            let before = ids.len();
            ids.extend(user_ids(body));
            if ids.len() - before < PAGE {
                return Ok(Walk { rows: ids.len(), seconds: started.elapsed().as_secs_f64(), ids });
            }
        }
    }

    /// Renames users and deletes others. No endpoint is registered, so nobody is told.
    pub(crate) fn change(&self, renamed: &[String], deleted: &[String]) -> Result<()> {
        let mut line = self.line()?;
        for id in renamed {
            line.ask("PATCH", &format!("/v1/users/{id}"), r#"{"first_name":"Renamed"}"#)?;
        }
        for id in deleted {
            line.ask("DELETE", &format!("/v1/users/{id}"), "")?;
        }
        Ok(())
    }

    fn line(&self) -> Result<Line> {
        Line::open(self.address(), format!("authorization: Bearer {SECRET_KEY}\r\n{ONLOOKER}\r\n"))
    }
}

fn user_ids(body: &[u8]) -> impl Iterator<Item = String> + '_ {
    let starts = body.windows(USER_ID.len()).enumerate().filter(|(_, part)| *part == USER_ID);
    starts.filter_map(|(at, _)| {
        let id = &body[at + USER_ID.len() - b"user_".len()..];
        let end = id.iter().position(|byte| *byte == b'"')?;
        String::from_utf8(id[..end].to_vec()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::user_ids;

    #[test]
    fn users_are_found_by_their_own_ids() {
        let body = br#"[{"email_addresses":[{"id":"idn_1"}],"id":"user_a","x":{"user_id":"user_z"}},{"id":"user_b"}]"#;
        assert_eq!(user_ids(body).collect::<Vec<_>>(), ["user_a", "user_b"]);
    }
}
