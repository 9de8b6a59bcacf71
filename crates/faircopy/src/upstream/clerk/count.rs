//! How many there are: totals, for comparing.

use faircopy_store::Swept;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Total {
    total_count: i64,
}

impl Clerk {
    /// How many of these the instance has: none of what it has switched off.
    pub async fn count(&self, kind: Swept, share: Share) -> Result<Answer<i64>, Fault> {
        self.check_instance(share).await?;
        let (url, endpoint) = match kind {
            Swept::User => (list::address(&self.base, &["users", "count"]), "users/count"),
            Swept::Organization => total_of(&List::Organizations, &self.base),
            Swept::Member => total_of(&List::Memberships, &self.base),
            Swept::Invitation => total_of(&List::Invitations, &self.base),
        };
        let now = self.clock.now();
        let (asked_at, body) = match self.get(url.ok_or(Fault::Malformed)?, endpoint, share).await {
            Err(Fault::NoOrganizations) => return Ok(Answer { asked_at: now, found: 0 }),
            answer => answer?,
        };
        // There is always a number; an older deployment or a stand-in may not count.
        let body = body.ok_or(Fault::Status(404))?;
        let Total { total_count } = serde_json::from_str(&body).map_err(|_| Fault::Malformed)?;
        if total_count < 0 { Err(Fault::Malformed) } else { Ok(Answer { asked_at, found: total_count }) }
    }

    /// As [`Clerk::count`]; `None` where a deployment does not count.
    pub async fn total(&self, kind: Swept, share: Share) -> Result<Option<u64>, Fault> {
        match self.count(kind, share).await {
            Ok(answer) => Ok(u64::try_from(answer.found).ok()),
            Err(Fault::Status(404 | 405)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// Where a list says how many it has: on the shortest page of it.
fn total_of(list: &List<'_>, base: &Url) -> (Option<Url>, &'static str) {
    (list.url(base, Cut::first(1)), list.endpoint())
}
