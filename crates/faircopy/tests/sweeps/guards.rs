//! What a reconcile does not believe, and what it says then; and what it mends.

use faircopy::sweep::{Direction, Ending, Order, Report, Stop};
use faircopy::upstream::clerk::Fault;
use faircopy_core::sweep::Hold;
use faircopy_sandbox::Settings;
use faircopy_sandbox::chaos::{self, ApiChaos, ApiOutage, Stale};
use faircopy_sandbox::instance::{Instance, Population};
use faircopy_store::Swept;

use crate::place::{Engine, HOUR, Place, document, run};

const PEOPLE: Population = Population { users: 60, organizations: 4, members: 6, seed: 7 };

fn populated() -> Settings {
    Settings { population: Some(PEOPLE), ..Settings::default() }
}

/// An instance and its exact copy, an hour later.
async fn exact() -> Place {
    let place = Place::new(Engine::Sqlite, populated()).await;
    let report = place.sweep(Order::backfill()).await.unwrap();
    assert_eq!(report.kinds[&Swept::User].missing, 60);
    place.assert_exact("after the backfill").await;
    place.clock.advance(HOUR);
    place
}

fn chaos(place: &Place, api: ApiChaos) {
    let settings = chaos::Settings { api, ..chaos::Settings::default() };
    place.sandbox.shared().with(|state, now| state.set_chaos(settings, now)).unwrap();
}

/// Deletes so many users at Clerk; no delivery arrives.
fn lose_users(place: &Place, number: usize) {
    let doomed: Vec<String> = place.truth().users.into_keys().take(number).collect();
    place.change(|instance: &mut Instance, now| {
        doomed.iter().for_each(|id| drop(instance.delete_user(id, now).unwrap()));
    });
}

async fn rows(place: &Place) -> [u64; 4] {
    let mut rows = [0; 4];
    for (at, kind) in Swept::ALL.into_iter().enumerate() {
        rows[at] = place.store.shown(kind).await.unwrap();
    }
    rows
}

fn hold(report: &Report, kind: Swept) -> Hold {
    report.kinds[&kind].hold.clone().unwrap_or_else(|| panic!("nothing was held: {report:?}"))
}

/// C3.
#[test]
fn a_key_of_another_instance_reads_nothing_and_removes_nothing() {
    run(async {
        let place = exact().await;
        let before = rows(&place).await;
        let other = Place::new(Engine::Sqlite, Settings { seed: 9, ..Settings::default() }).await;
        let (sweeper, _worker) = place.with(&[("CLERK_API_URL", other.sandbox.url())]);
        for order in [Order::reconcile(), Order { force: true, ..Order::reconcile() }, Order::backfill()] {
            let stopped = place.sweep_with(&sweeper, order).await;
            assert_eq!(stopped.unwrap_err(), Stop::Clerk(Fault::WrongInstance));
        }
        let (sweeper, _worker) = place.with(&[("CLERK_SECRET_KEY", "sk_live_another-secret-key-for-tests")]);
        assert_eq!(place.sweep_with(&sweeper, Order::reconcile()).await.unwrap_err(), Stop::Clerk(Fault::Refused(401)));
        assert_eq!(rows(&place).await, before);
    });
}

#[test]
fn more_absences_than_an_everyday_loss_are_left_until_somebody_says_so() {
    run(async {
        let place = exact().await;
        lose_users(&place, 30);
        let before = rows(&place).await;
        let report = place.sweep(Order::reconcile()).await.unwrap();
        assert_eq!(report.outcome, Some(Ending::Differences));
        assert_eq!(hold(&report, Swept::User), Hold::TooMany { absent: 30, limit: 20 });
        assert_eq!((report.kinds[&Swept::User].extra, report.kinds[&Swept::User].left), (30, 30));
        assert_eq!(rows(&place).await, before);
        assert_eq!(place.store.proven_at().await.unwrap(), None, "nothing was proven");
        place.clock.advance(HOUR);
        let report = place.sweep(Order { force: true, ..Order::reconcile() }).await.unwrap();
        assert_eq!((report.outcome, report.kinds[&Swept::User].removed), (Some(Ending::Repaired), 30));
        place.assert_exact("forced").await;
        assert!(place.store.proven_at().await.unwrap().is_some());
    });
}

#[test]
fn a_few_absences_go_after_the_grace() {
    run(async {
        let place = exact().await;
        lose_users(&place, 5);
        let began = place.clock_now();
        let report = place.sweep(Order::reconcile()).await.unwrap();
        assert_eq!((report.outcome, report.kinds[&Swept::User].removed), (Some(Ending::Repaired), 5));
        assert!(place.clock_now() - began >= Order::reconcile().grace_ms, "it waited");
        place.assert_exact("after the grace").await;
        lose_users(&place, 2);
        let began = place.clock_now();
        place.clock.advance(HOUR);
        place.sweep(Order { grace_ms: 0, ..Order::reconcile() }).await.unwrap();
        assert!(place.clock_now() - began < HOUR + Order::reconcile().grace_ms, "nobody waited");
        place.assert_exact("without a grace").await;
    });
}

/// What was just heard of does not go, and is not called exact either.
#[test]
fn a_row_that_was_just_heard_of_is_left_and_told() {
    run(async {
        let place = exact().await;
        let ((), events) = place.change(|instance, now| {
            instance.create_user(&document(serde_json::json!({ "email_address": ["new@example.com"] })), now).unwrap();
        });
        place.deliver("msg_1", &events[0]).await;
        let id = events[0].data["id"].as_str().unwrap().to_owned();
        place.change(|instance, now| instance.delete_user(&id, now).unwrap());
        place.clock.advance(1_000);
        let dry = place.sweep(Order { dry_run: true, ..Order::reconcile() }).await.unwrap();
        assert_eq!((dry.outcome, dry.kinds[&Swept::User].extra), (Some(Ending::Differences), 1));
        let report = place.sweep(Order::reconcile()).await.unwrap();
        assert_eq!(report.outcome, Some(Ending::Differences));
        assert!(report.differences[0].then.contains("grace"), "{report:?}");
        assert_eq!(rows(&place).await[1], 61);
        place.clock.advance(HOUR);
        place.sweep(Order::reconcile()).await.unwrap();
        place.assert_exact("a grace later").await;
    });
}

/// C4: what the lists lack is asked for before it goes.
#[test]
fn lists_of_the_past_remove_nothing() {
    run(async {
        let place = Place::new(Engine::Sqlite, Settings::default()).await;
        let stale = Stale { lists: true, reads: false, lag_ms: None };
        chaos(&place, ApiChaos { stale, ..ApiChaos::default() });
        let ((), events) = place.change(|instance, now| {
            instance.create_user(&document(serde_json::json!({ "email_address": ["a@example.com"] })), now).unwrap();
        });
        place.deliver("msg_1", &events[0]).await;
        place.clock.advance(HOUR);
        let report = place.sweep(Order::reconcile()).await.unwrap();
        assert_eq!(hold(&report, Swept::User), Hold::Empty { shown: 1 }, "the lists know nobody");
        let report = place.sweep(Order { force: true, grace_ms: 0, ..Order::reconcile() }).await.unwrap();
        assert_eq!((report.kinds[&Swept::User].overlooked, report.kinds[&Swept::User].removed), (1, 0));
        place.assert_exact("the lists know nobody, and he is there").await;
    });
}

/// C2: what is not an answer is no denial.
#[test]
fn broken_answers_remove_nothing() {
    run(async {
        let fully = |change: fn(&mut ApiChaos)| {
            let mut api = ApiChaos::default();
            change(&mut api);
            api
        };
        let kinds = [
            fully(|api| api.error_percent = 100.0),
            fully(|api| (api.error_percent, api.error_status) = (100.0, 503)),
            fully(|api| api.truncated_percent = 100.0),
            fully(|api| api.html_percent = 100.0),
            fully(|api| api.outage = ApiOutage::Closed),
        ];
        let place = exact().await;
        lose_users(&place, 3);
        let before = rows(&place).await;
        for api in kinds {
            chaos(&place, api.clone());
            let (sweeper, _worker) = place.another();
            match place.sweep_with(&sweeper, Order { grace_ms: 0, ..Order::reconcile() }).await {
                Ok(report) => assert!(matches!(hold(&report, Swept::User), Hold::Failed { .. }), "{api:?}"),
                Err(Stop::Clerk(_)) => {}
                Err(stop) => panic!("{api:?}: {stop}"),
            }
            assert_eq!(rows(&place).await, before, "{api:?}");
        }
        chaos(&place, ApiChaos::default());
        place.sweep(Order { grace_ms: 0, ..Order::reconcile() }).await.unwrap();
        place.assert_exact("once it answers").await;
    });
}

/// Half of each page, and totals that know better.
#[test]
fn half_a_page_is_half_an_answer() {
    run(async {
        let place = exact().await;
        let before = rows(&place).await;
        chaos(&place, ApiChaos { half_page_percent: 100.0, ..ApiChaos::default() });
        let report = place.sweep(Order { grace_ms: 0, force: true, ..Order::reconcile() }).await.unwrap();
        assert!(matches!(hold(&report, Swept::Organization), Hold::Incomplete { total: 4, .. }), "{report:?}");
        assert_eq!(rows(&place).await, before);
    });
}

#[test]
fn what_somebody_else_changed_is_mended_and_named() {
    run(async {
        let place = exact().await;
        let user = place.truth().users.into_keys().next().unwrap();
        place.sql(&format!("UPDATE users SET first_name = 'Eve', banned = 1 WHERE clerk_user_id = '{user}'")).await;
        place.sql("DELETE FROM organization_members").await;
        place.sql("UPDATE organizations SET slug = 'taken-over'").await;
        place.sql("INSERT INTO organization_invitations (clerk_invitation_id, clerk_org_id, status, provenance) VALUES ('orginv_x', 'org_x', 'pending', 'webhook')").await;
        let dry = place.sweep(Order { dry_run: true, ..Order::reconcile() }).await.unwrap();
        assert_eq!(dry.outcome, Some(Ending::Differences));
        let told = dry.differences.iter().find(|drift| drift.id == user).unwrap();
        assert_eq!((told.difference, told.columns.join(" ")), (Direction::Different, "first_name banned".into()));
        assert_eq!(dry.kinds[&Swept::Member].missing, 24);
        assert_eq!(dry.kinds[&Swept::Organization].different, 4);
        assert_eq!((dry.kinds[&Swept::Invitation].extra, dry.kinds[&Swept::Invitation].left), (1, 1));
        assert!(!place.differences().await.is_empty(), "a dry run changes nothing");
        let report = place.sweep(Order::reconcile()).await.unwrap();
        assert_eq!(report.outcome, Some(Ending::Repaired), "{report:?}");
        place.assert_exact("mended").await;
    });
}

/// A tombstone absorbs whatever comes: a row that was wrongly deleted here is told, and left to a person.
#[test]
fn what_was_deleted_here_and_lives_at_clerk_is_told() {
    run(async {
        let place = exact().await;
        let user = place.truth().users.into_keys().next().unwrap();
        let forged = faircopy_sandbox::instance::Event {
            kind: "user.deleted",
            data: serde_json::json!({ "object": "user", "id": user, "deleted": true }),
            at_ms: place.clock_now(),
        };
        place.deliver("msg_forged", &forged).await;
        place.clock.advance(HOUR);
        let report = place.sweep(Order::reconcile()).await.unwrap();
        assert_eq!(report.outcome, Some(Ending::Differences));
        let told = report.differences.iter().find(|drift| drift.id == user).unwrap();
        assert_eq!((told.difference, told.then.as_str()), (Direction::Missing, "it was deleted here"));
    });
}
