//! Reads no staler than asked: where the copy is, what the route shows is read from Clerk first and merged, and the answer
//! then comes from the copy as always.
//!
//! What may be claimed of such an answer is less than of the whole copy, and is said no louder: the records that it shows
//! were asked for at the time of its `Faircopy-As-Of`, and Clerk's answers are in it.

use std::time::Duration;

use faircopy_core::id::UserId;
use faircopy_store::{Basis, Freshness};

use super::problem::Problem;
use super::session::{Caller, active};
use crate::app::App;
use crate::refresh::{Failure, Subject};
use faircopy_core::Millis;

/// How long a request waits for Clerk. A fifth of it is common; whoever waits longer is better off with what there is.
const DEADLINE: Duration = Duration::from_secs(5);

/// Reads from Clerk what the route shows, unless that was done at `since` or later; the caller's standing is read anew.
pub(super) async fn read_through(app: &App, caller: &mut Caller, path: &str, since: Millis) -> Result<(), Problem> {
    let as_of = caller.freshness.as_of.unwrap_or_default();
    let stale = |why: &str| Problem::new("copy-stale", format!("The copy is known complete up to {as_of} only{why}."));
    let Some(refresh) = &app.refresh else { return Err(stale("")) };
    let reading = refresh.read(shown(path, caller), since);
    let read_at = match tokio::time::timeout(DEADLINE, reading).await {
        Ok(Ok(read_at)) => read_at,
        Ok(Err(Failure::Copy(refusal))) => return Err(refusal.into()),
        Ok(Err(failure)) => return Err(stale(&format!("; {failure}"))),
        Err(_) => return Err(stale("; Clerk did not answer within 5 seconds")),
    };
    let standing = app.store.standing(&caller.session.user, active(&caller.session)).await?;
    if standing.is_deleted {
        return Err(Problem::new("user-deleted", "The user of this token was deleted."));
    }
    let known = standing.freshness;
    let is_newer = known.as_of < Some(read_at);
    let read = Freshness { as_of: Some(read_at), basis: Basis::Read, ..known };
    caller.freshness = if is_newer { read } else { known };
    caller.member = standing.member;
    Ok(())
}

/// What a route shows, and what decides whether it may.
fn shown(path: &str, caller: &Caller) -> Vec<Subject> {
    let user = caller.session.user.clone();
    let own = || Subject::User(user.clone());
    let membership = || active(&caller.session).map(|organization| Subject::Member(organization.clone(), user.clone()));
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let route = path.trim_matches('/').split('/').collect::<Vec<_>>();
    match route[..] {
        ["me"] => vec![own()],
        ["me", "organizations"] => vec![Subject::MembershipsOf(user)],
        ["organization" | "workspace"] => membership().into_iter().collect(),
        ["organization", "members"] => {
            active(&caller.session).map(|organization| Subject::Members(organization.clone())).into_iter().collect()
        }
        ["users", id] => match UserId::parse(id) {
            Ok(id) if id != user => {
                vec![Subject::User(id.clone()), Subject::MembershipsOf(id), Subject::MembershipsOf(user)]
            }
            Ok(_) | Err(_) => vec![own()],
        },
        // Whoever the caller is.
        _ => membership().into_iter().chain([own()]).collect(),
    }
}
