//! How things stand: what came, what did not, what is known to be wrong.

use faircopy_core::Millis;
use faircopy_core::event::mirrored_types;
use faircopy_store::{Finding, Swept, Told};

use super::{Answer, Doctor, ago};
use crate::config::Every;

/// The newest deliveries among which each kind is looked for: some days of a busy instance.
const NEWEST: i64 = 10_000;
/// Fewer than that say nothing about what never comes.
const ENOUGH: i64 = 100;
/// Up to how many quarantined deliveries are counted.
const COUNTED: i64 = 1_000;
/// A reconcile that is older than a day is one that has stopped (experience.md).
const OLD_RECONCILE_MS: i64 = 24 * 60 * 60 * 1000;

fn unreadable() -> Answer {
    Answer::skipped("the copy cannot be read: see `database` and `migrations`")
}

impl Doctor {
    pub(super) async fn deliveries(&self) -> Answer {
        let (Ok(last), Ok(told)) = (self.store.last_arrivals(1).await, self.store.told(NEWEST).await) else {
            return unreadable();
        };
        let last = last.first().map(|arrived| ago(arrived.received_at, self.clock.now()));
        judge_deliveries(last.as_deref(), &told)
    }

    pub(super) async fn quarantine(&self) -> Answer {
        let Ok((count, newest)) = self.store.quarantined(COUNTED).await else { return unreadable() };
        let (Some(newest), true) = (newest, count > 0) else { return Answer::ok("nothing is quarantined") };
        let count = if count < COUNTED { count.to_string() } else { format!("{COUNTED} or more") };
        Answer::warning(
            "deliveries-quarantined",
            format!("{count} deliveries could not be understood, the newest of {newest}"),
            "Look why (`GET /admin/v1/deliveries?outcome=quarantined`), and apply them again after a fix: `faircopy replay --failed`.",
        )
    }

    pub(super) async fn findings(&self) -> Answer {
        match self.store.findings().await {
            Ok(found) => judge_findings(&found),
            Err(_) => unreadable(),
        }
    }

    pub(super) async fn reconcile(&self) -> Answer {
        if self.clerk.is_none() {
            return Answer::skipped("without CLERK_SECRET_KEY nothing is compared: see `api-key`");
        }
        let Ok(last) = self.store.last_sweep("reconcile").await else { return unreadable() };
        let ended =
            last.and_then(|sweep| Some((Millis::parse(&sweep.finished_at?)?, sweep.outcome.unwrap_or_default())));
        judge_reconcile(
            ended.as_ref().map(|(at, outcome)| (*at, outcome.as_str())),
            self.config.reconcile.every,
            self.clock.now(),
        )
    }
}

/// What the types of a kind begin with.
fn prefix(kind: Swept) -> &'static str {
    match kind {
        Swept::User => "user.",
        Swept::Organization => "organization.",
        Swept::Member => "organizationMembership.",
        Swept::Invitation => "organizationInvitation.",
    }
}

fn judge_deliveries(last: Option<&str>, told: &Told) -> Answer {
    let Some(last) = last else {
        return Answer::warning(
            "no-delivery-yet",
            "none has ever arrived",
            "`faircopy endpoint` says step by step how Clerk comes to send them; its Testing tab sends one at once.",
        );
    };
    let is_told = |kind: &Swept| told.types.iter().any(|event_type| event_type.starts_with(prefix(*kind)));
    let untold: Vec<String> =
        told.held.iter().filter(|kind| !is_told(kind)).map(|kind| format!("{}*", prefix(*kind))).collect();
    let among = told.deliveries;
    if among >= ENOUGH && !untold.is_empty() {
        return Answer::warning(
            "events-unticked",
            format!("the copy has rows whose events are not among the last {among} deliveries: {}", untold.join(", ")),
            "Tick them at the endpoint in Clerk's dashboard (`faircopy endpoint` lists all 12), then `faircopy reconcile`.",
        );
    }
    let unseen: Vec<&str> =
        mirrored_types().filter(|mirrored| told.types.iter().all(|seen| seen != mirrored)).collect();
    let unseen = if unseen.is_empty() { "all 12 types".to_owned() } else { format!("not seen: {}", unseen.join(", ")) };
    Answer::ok(format!("the last one arrived {last}; among the newest {among}: {unseen}"))
}

fn judge_findings(found: &[Finding]) -> Answer {
    let shown: Vec<String> =
        found.iter().map(|finding| format!("{} since {}: {}", finding.name, finding.since, finding.detail)).collect();
    let names: Vec<&str> = found.iter().map(|finding| finding.name.as_str()).collect();
    if names.is_empty() {
        return Answer::ok("none");
    }
    let remedy = format!("docs/errors.md says what to do about: {}", names.join(", "));
    // Silence alone may be a quiet night.
    if names == ["silence"] {
        return Answer::warning("silence", shown.join("; "), remedy);
    }
    Answer::failed("findings-known", shown.join("; "), remedy)
}

fn judge_reconcile(last: Option<(Millis, &str)>, every: Every, now: Millis) -> Answer {
    let planned = if every == Every::Never { "never by itself (FAIRCOPY_RECONCILE_EVERY)" } else { "by `serve`" };
    let Some((at, outcome)) = last else {
        let remedy = "Run `faircopy backfill` and then `faircopy reconcile` once; `serve` does the rest.";
        return Answer::warning("reconcile-old", format!("none has come to its end yet; {planned}"), remedy);
    };
    let evidence = format!("the last ended {} ({outcome}); {planned}", ago(at, now));
    if outcome == "differences" {
        let remedy = "See `GET /admin/v1/drift`: what was left, and which guard held it back. `faircopy reconcile --force` passes the guard.";
        return Answer::warning("drift-left", evidence, remedy);
    }
    if now.0 - at.0 > OLD_RECONCILE_MS {
        let remedy = "Look for `reconcile-failed` in the log; `faircopy reconcile` runs it now.";
        return Answer::warning("reconcile-old", evidence, remedy);
    }
    Answer::ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_kind_is_missed_only_where_the_copy_has_rows_of_it() {
        let check = |deliveries: i64, types: &[&str], held: &[Swept], expected: Option<&str>| {
            let types = types.iter().map(|event_type| (*event_type).to_owned()).collect();
            let told = Told { deliveries, types, held: held.to_vec() };
            assert_eq!(judge_deliveries(Some("5 s ago"), &told).code, expected, "{told:?}");
        };
        let (users, members) = (Swept::User, Swept::Member);
        check(100, &["user.created"], &[users], None);
        check(100, &["user.updated"], &[users, members], Some("events-unticked"));
        check(99, &["user.updated"], &[users, members], None);
        check(100, &["user.updated", "organizationMembership.deleted"], &[users, members], None);
        // A kind's name is not the beginning of another's.
        check(100, &["organizationMembership.created"], &[Swept::Organization], Some("events-unticked"));
        assert_eq!(
            judge_deliveries(None, &Told { deliveries: 0, types: vec![], held: vec![] }).code,
            Some("no-delivery-yet")
        );
    }

    #[test]
    fn a_reconcile_grows_old() {
        let now = Millis(1_760_000_000_000);
        let check = |last: Option<(i64, &str)>, expected: Option<&str>| {
            let last = last.map(|(hours, outcome)| (Millis(now.0 - hours * 3_600_000), outcome));
            assert_eq!(judge_reconcile(last, Every::Auto, now).code, expected, "{last:?}");
        };
        check(None, Some("reconcile-old"));
        check(Some((1, "exact")), None);
        check(Some((23, "repaired")), None);
        check(Some((25, "exact")), Some("reconcile-old"));
        check(Some((1, "differences")), Some("drift-left"));
    }

    #[test]
    fn silence_alone_may_be_a_quiet_night() {
        let found = |names: &[&str]| {
            let finding = |name: &&str| Finding {
                name: (*name).to_owned(),
                since: "2026-01-01T00:00:00.000Z".into(),
                seen_at: "2026-01-01T00:00:00.000Z".into(),
                detail: "seen".into(),
                severity: "warning".into(),
            };
            judge_findings(&names.iter().map(finding).collect::<Vec<_>>()).status
        };
        assert_eq!(found(&[]), Status::Ok);
        assert_eq!(found(&["silence"]), Status::Warning);
        assert_eq!(found(&["silence", "undelivered"]), Status::Failed);
    }
}
