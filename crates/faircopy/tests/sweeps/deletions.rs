//! Deletions of organizations and users, with Clerk and Liveblocks beside them: what holds one, what stops it, what comes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use faircopy::app::{self, Clock};
use faircopy::cascade::{self, Order, Unchanged};
use faircopy::config::{Config, Environment, Flags};
use faircopy::outside::{Courier, Target};
use faircopy::telemetry::Metrics;
use faircopy::upstream::clerk::Clerk;
use faircopy::upstream::keys::KeySet;
use faircopy::worker::cascade::{Caller, Cascader, Outside};
use faircopy_core::cascade::{Reason, State};
use faircopy_sandbox::Settings;
use faircopy_sandbox::chaos::{self, ApiChaos};
use faircopy_sandbox::instance::Event;
use faircopy_store::Cascade;
use serde_json::json;
use tokio::sync::Notify;

use crate::place::{Engine, HOUR, KEY, Place, document, run};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const MINUTE: i64 = 60_000;
/// Looks at 1.5 seconds each without anything to do, after which nothing comes any more: longer than a lease lasts.
const IDLE: u32 = 12;

/// The workers of one process.
struct Workers {
    rows: Cascader,
    calls: Caller,
    config: Config,
}

/// A place with workers that are told to look.
struct Desk {
    place: Place,
    folder: tempfile::TempDir,
    schema: &'static str,
    numbers: Arc<AtomicU64>,
}

impl Desk {
    async fn new(engine: Engine) -> Self {
        let place = Place::new(engine, Settings::default()).await;
        let schema = if engine == Engine::Sqlite { "" } else { "faircopy." };
        Self { place, folder: tempfile::tempdir().unwrap(), schema, numbers: Arc::new(AtomicU64::new(1)) }
    }

    /// A process with these settings in its file. Without a word it has the keys of Clerk and of Liveblocks.
    fn workers(&self, file: &str, without: &[&str]) -> Workers {
        let path: PathBuf = self.folder.path().join("faircopy.toml");
        std::fs::write(&path, file).unwrap();
        let url = self.place.sandbox.url();
        let all = [
            ("CLERK_SECRET_KEY", KEY),
            ("CLERK_API_URL", url),
            ("LIVEBLOCKS_SECRET_KEY", self.place.sandbox.liveblocks().key()),
            ("LIVEBLOCKS_API_URL", url),
        ];
        let set = all.into_iter().filter(|(name, _)| !without.contains(name));
        let environment = Environment(set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        let config = Config::load(&Flags { config: Some(path), ..Flags::default() }, &environment).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(self.place.clock.clone());
        let metrics = Metrics::install();
        let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
        let clerk = Clerk::new(&config, keys, clock.clone(), metrics.clone());
        let targets = Target::all(&config, &metrics);
        let outside = Outside::new(&targets, config.cascade.tree.clone());
        let numbers = self.numbers.clone();
        // Any sequence will do: it grows in equal strides around the whole range.
        let chance = move || numbers.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        let courier = Courier::new(targets, clock.clone(), Box::new(chance.clone()));
        let (store, holder, soon): (_, Arc<str>, _) =
            (self.place.store.clone(), app::holder().into(), Arc::new(Notify::new()));
        let calls = Caller::new(
            store.clone(),
            courier,
            outside.clone(),
            clock.clone(),
            metrics.clone(),
            holder.clone(),
            soon.clone(),
        );
        let rules = config.cascade.clone();
        let rows = Cascader::new(store, clerk, clock, metrics, holder, rules, outside, Arc::new(chance), soon);
        Workers { rows, calls, config }
    }

    /// Everything that can be done now is done. Between two looks so much time passes that what waits for the next look has its
    /// turn, and no more.
    async fn work(&self, workers: &mut Workers) {
        let mut idle = 0;
        for _ in 0..400 {
            let rows = workers.rows.step().await.unwrap();
            let calls = workers.calls.step().await.unwrap();
            idle = if rows || calls { 0 } else { idle + 1 };
            if idle == IDLE {
                return;
            }
            self.place.clock.advance(1_500);
        }
        panic!("there is always something to do: {:?}", self.place.store.cascades_before(None, true, 10).await);
    }

    async fn sql(&self, statement: &str) {
        self.place.any_sql(&statement.replace("{s}", self.schema)).await;
    }

    async fn count(&self, table: &str) -> i64 {
        self.place.number(&format!("SELECT count(*) FROM {}{table}", self.schema)).await
    }

    /// Changes Clerk and delivers what it emits.
    async fn delivered<T>(&self, change: impl FnOnce(&mut faircopy_sandbox::instance::Instance, i64) -> T) -> T {
        let (result, events) = self.place.change(change);
        for event in &events {
            self.place.deliver(&format!("msg_{}", self.numbers.fetch_add(1, Ordering::SeqCst)), event).await;
        }
        result
    }

    /// An organization with a document that has a room.
    async fn organization(&self, name: &str) -> String {
        let id = self
            .delivered(|instance, now| {
                let wanted = document(json!({ "name": name }));
                instance.create_organization(&wanted, now).unwrap()["id"].as_str().unwrap().to_owned()
            })
            .await;
        self.sql(&format!("INSERT INTO {{s}}rooms (id, workspace_id) VALUES ('r-{id}', '{id}')")).await;
        self.sql(&format!("INSERT INTO {{s}}documents (id, room_id) VALUES ('d-{id}', 'r-{id}')")).await;
        self.room(&format!("doc:d-{id}"));
        id
    }

    fn room(&self, id: &str) {
        let now = self.place.clock_now();
        let wanted = json!({ "id": id, "defaultAccesses": [] });
        self.place.sandbox.liveblocks().with(|state| state.rooms.create(&wanted, true, now).map(drop)).unwrap();
    }

    fn rooms(&self) -> Vec<String> {
        self.place.sandbox.liveblocks().ids()
    }

    async fn deletes(&self, id: &str) {
        self.delivered(|instance, now| instance.delete_organization(id, now).unwrap()).await;
    }

    /// Somebody says that it was deleted, and it was not.
    async fn is_said_to_be_gone(&self, id: &str) {
        let data = json!({ "object": "organization", "id": id, "deleted": true });
        let event = Event { kind: "organization.deleted", at_ms: self.place.clock_now(), data };
        self.place.deliver("msg_wrong", &event).await;
    }

    async fn job(&self, id: &str) -> Cascade {
        self.place.store.cascade(id).await.unwrap().unwrap()
    }

    async fn state(&self, id: &str) -> State {
        self.job(id).await.job.state
    }

    async fn say(&self, id: &str, order: Order) -> Result<Cascade, Unchanged> {
        cascade::carry_out(&self.place.store, id, order, self.place.clock.now()).await
    }

    async fn findings(&self) -> Vec<String> {
        self.place.store.findings().await.unwrap().into_iter().map(|finding| finding.name).collect()
    }
}

#[test]
fn a_hold_is_time_to_say_no() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let mut workers = desk.workers("[cascade]\nhold_seconds = 3600\n", &[]);
            let (wrong, right) = (desk.organization("Wrong").await, desk.organization("Right").await);
            desk.deletes(&wrong).await;
            desk.deletes(&right).await;
            desk.work(&mut workers).await;
            let held = desk.job(&wrong).await.job;
            assert_eq!((held.state, held.due_at), (State::Waiting, Some(held.created_at.plus(HOUR))));
            // Access has ended all the same.
            assert_eq!(desk.count("workspaces WHERE ended_at IS NULL").await, 0);
            assert_eq!(desk.say(&wrong, Order::Cancel).await.unwrap().job.state, State::Cancelled);
            assert!(matches!(desk.say(&wrong, Order::Cancel).await, Err(Unchanged::Refused(_))));
            assert!(
                matches!(desk.say(&right, Order::Resume).await, Err(Unchanged::Refused(_))),
                "it goes on by itself"
            );
            assert!(matches!(desk.say("org_none", Order::Cancel).await, Err(Unchanged::Unknown)));
            assert_eq!(desk.count("documents").await, 2);
            desk.place.clock.advance(HOUR);
            desk.work(&mut workers).await;
            assert_eq!(desk.state(&wrong).await, State::Cancelled);
            assert_eq!((desk.count("documents").await, desk.rooms().len()), (1, 1));
            // What was cancelled is taken up by a word.
            desk.say(&wrong, Order::Resume).await.unwrap();
            desk.work(&mut workers).await;
            assert_eq!((desk.count("workspaces").await, desk.count("documents").await, desk.rooms().len()), (0, 0, 0));
        }
    });
}

#[test]
fn what_clerk_still_has_is_not_deleted() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let mut workers = desk.workers("", &[]);
            let id = desk.organization("Still there").await;
            desk.is_said_to_be_gone(&id).await;
            desk.work(&mut workers).await;
            assert_eq!(desk.state(&id).await, State::Paused(Reason::StillThere));
            assert_eq!((desk.count("documents").await, desk.rooms().len()), (1, 1));
            assert_eq!(desk.findings().await, ["cascade-paused"]);
            desk.say(&id, Order::Resume).await.unwrap();
            desk.work(&mut workers).await;
            assert_eq!(desk.state(&id).await, State::Paused(Reason::StillThere), "Clerk is asked again");
            desk.deletes(&id).await;
            desk.say(&id, Order::Resume).await.unwrap();
            desk.work(&mut workers).await;
            let job = desk.job(&id).await;
            assert!(job.confirmed_at.is_some() && job.steps_gone_at.is_some(), "{job:?}");
            assert_eq!((desk.count("documents").await, desk.rooms().len()), (0, 0));
            desk.place.clock.advance(MINUTE);
            desk.work(&mut workers).await;
            assert_eq!(desk.findings().await, Vec::<String>::new());
        }
    });
}

#[test]
fn while_clerk_says_nothing_clear_nothing_is_deleted() {
    run(async {
        let desk = Desk::new(Engine::Sqlite).await;
        let mut workers = desk.workers("", &[]);
        let id = desk.organization("Unclear").await;
        desk.deletes(&id).await;
        let chaos = |error_percent: f64| {
            let api = ApiChaos { error_percent, ..ApiChaos::default() };
            desk.place
                .sandbox
                .shared()
                .with(|state, now| state.set_chaos(chaos::Settings { api, ..chaos::Settings::default() }, now))
                .unwrap();
        };
        chaos(100.0);
        for _ in 0..20 {
            workers.rows.step().await.unwrap();
            desk.place.clock.advance(MINUTE);
        }
        let job = desk.job(&id).await;
        assert_eq!((job.job.state, desk.count("documents").await), (State::Waiting, 1));
        assert!(job.job.failures > 2 && job.error.is_some_and(|error| error.contains("Clerk")), "{:?}", job.job);
        for _ in 0..10 {
            workers.rows.step().await.unwrap();
            desk.place.clock.advance(10 * MINUTE);
        }
        assert_eq!(desk.findings().await, ["cascade-stuck"], "it takes longer than an hour");
        chaos(0.0);
        desk.place.clock.advance(10 * MINUTE);
        desk.work(&mut workers).await;
        assert_eq!((desk.count("documents").await, desk.rooms().len()), (0, 0));
    });
}

#[test]
fn a_burst_waits_for_a_word() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let mut workers = desk.workers("[cascade]\nburst = 3\nsecond_sweep_seconds = 0\n", &[]);
            let mut full = Vec::new();
            for number in 0..5 {
                full.push(desk.organization(&format!("Full {number}")).await);
                desk.place.clock.advance(10);
            }
            for id in &full {
                desk.deletes(id).await;
                desk.place.clock.advance(10);
            }
            // A workspace in which nobody has put anything is no loss.
            for number in 0..6 {
                let id = desk.organization(&format!("Empty {number}")).await;
                desk.sql(&format!("DELETE FROM {{s}}documents WHERE id = 'd-{id}'")).await;
                desk.sql(&format!("DELETE FROM {{s}}rooms WHERE id = 'r-{id}'")).await;
                desk.deletes(&id).await;
            }
            desk.work(&mut workers).await;
            let mut states = Vec::new();
            for id in &full {
                states.push(desk.state(id).await);
            }
            let paused = State::Paused(Reason::Burst);
            assert_eq!(states, [State::Done, State::Done, State::Done, paused, paused]);
            assert_eq!(desk.count("workspaces").await, 2, "those without content are gone");
            assert_eq!(desk.findings().await, ["cascade-paused"]);
            for id in &full[3..] {
                desk.say(id, Order::Resume).await.unwrap();
            }
            desk.work(&mut workers).await;
            assert_eq!((desk.count("workspaces").await, desk.count("documents").await), (0, 0));
        }
    });
}

#[test]
fn without_a_key_rooms_are_left_and_taken_up_later() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let mut workers = desk.workers("[cascade]\nsecond_sweep_seconds = 0\n", &["LIVEBLOCKS_SECRET_KEY"]);
            let id = desk.organization("Keyless").await;
            desk.deletes(&id).await;
            desk.work(&mut workers).await;
            assert_eq!(
                (desk.state(&id).await, desk.count("workspaces").await, desk.rooms().len()),
                (State::Done, 0, 1)
            );
            let receipt = cascade::receipt(&desk.place.store, &id).await.unwrap().unwrap();
            assert_eq!((receipt.outside[0].state.as_str(), receipt.outside[0].steps), ("skipped", 2));
            let mut workers = desk.workers("[cascade]\nsecond_sweep_seconds = 0\n", &[]);
            desk.say(&id, Order::Resume).await.unwrap();
            desk.work(&mut workers).await;
            assert_eq!((desk.state(&id).await, desk.rooms().len()), (State::Done, 0));
            assert!(matches!(desk.say(&id, Order::Resume).await, Err(Unchanged::Refused(_))), "nothing is left");
        }
    });
}

#[test]
fn a_room_that_comes_back_goes_again_and_one_that_is_claimed_stays() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let mut workers = desk.workers("", &[]);
            let (goes, stays) = (desk.organization("Goes").await, desk.organization("Stays").await);
            desk.deletes(&goes).await;
            // The rows are gone, and before Liveblocks is called another workspace has a document of that name (I11).
            while workers.rows.step().await.unwrap() {}
            assert_eq!(desk.count(&format!("documents WHERE id = 'd-{goes}'")).await, 0);
            desk.sql(&format!("INSERT INTO {{s}}documents (id, room_id) VALUES ('d-{goes}', 'r-{stays}')")).await;
            desk.room(&format!("room:r-{goes}"));
            desk.work(&mut workers).await;
            let claimed = format!("doc:d-{goes}");
            assert_eq!(desk.rooms(), {
                let mut rooms = vec![claimed.clone(), format!("doc:d-{stays}")];
                rooms.sort();
                rooms
            });
            // A client that had not heard of the end connects again.
            desk.place.clock.advance(MINUTE);
            desk.room(&format!("room:r-{goes}"));
            assert!(desk.state(&goes).await == State::Deleting, "it is looked for once more");
            desk.place.clock.advance(3 * MINUTE);
            desk.work(&mut workers).await;
            for _ in 0..3 {
                desk.place.clock.advance(3 * MINUTE);
                desk.work(&mut workers).await;
            }
            assert_eq!(desk.state(&goes).await, State::Done);
            assert_eq!(desk.rooms().len(), 2, "{:?}", desk.rooms());
            assert!(desk.rooms().contains(&claimed));
            assert_eq!(desk.count("documents").await, 2);
        }
    });
}

#[test]
fn a_key_that_is_refused_stops_the_calls_and_a_right_one_goes_on() {
    run(async {
        let desk = Desk::new(Engine::Sqlite).await;
        let id = desk.organization("Locked out").await;
        let mut workers = desk.workers("[liveblocks]\nsecret_key = 'sk_wrong'\n", &["LIVEBLOCKS_SECRET_KEY"]);
        desk.deletes(&id).await;
        for _ in 0..40 {
            workers.rows.step().await.unwrap();
            workers.calls.step().await.unwrap();
            desk.place.clock.advance(10_000);
        }
        assert_eq!(desk.state(&id).await, State::Paused(Reason::KeyRefused));
        assert_eq!(desk.findings().await, ["outside-key-refused"]);
        let calls = desk.place.sandbox.liveblocks().count("delete");
        assert!((5..=9).contains(&calls), "one a minute: {calls}");
        assert_eq!(desk.rooms().len(), 1);
        let mut workers = desk.workers("", &[]);
        desk.place.clock.advance(2 * MINUTE);
        desk.work(&mut workers).await;
        assert_eq!(desk.rooms(), Vec::<String>::new());
        assert!(desk.job(&id).await.steps_gone_at.is_some());
        desk.place.clock.advance(MINUTE);
        desk.work(&mut workers).await;
        assert_eq!(desk.findings().await, Vec::<String>::new());
    });
}

#[test]
fn what_a_user_leaves_goes_and_nobody_hears_of_one_who_left_nothing() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let mut workers = desk.workers("[cascade]\nsecond_sweep_seconds = 0\n", &[]);
            let org = desk.organization("Place").await;
            let mut users = Vec::new();
            for name in ["Ada", "Ben"] {
                let made = desk.delivered(|instance, now| {
                    let email = format!("{name}@example.com").to_lowercase();
                    let wanted = document(
                        json!({ "first_name": name, "email_address": [email], "skip_password_requirement": true }),
                    );
                    instance.create_user(&wanted, now).unwrap()["id"].as_str().unwrap().to_owned()
                });
                users.push(made.await);
            }
            let read = format!(
                "INSERT INTO {{s}}last_reads (channel_id, clerk_user_id) VALUES ('{org}:general', '{}')",
                users[0]
            );
            desk.sql(&read).await;
            for user in &users {
                desk.delivered(|instance, now| instance.delete_user(user, now).unwrap()).await;
            }
            desk.work(&mut workers).await;
            assert_eq!(desk.count("last_reads").await, 0);
            let receipt = cascade::receipt(&desk.place.store, &users[0]).await.unwrap().unwrap();
            assert_eq!((receipt.deletion.state.as_str(), receipt.removed[0].rows), ("done", 1));
            assert_eq!(desk.place.store.cascade(&users[1]).await.unwrap(), None, "no receipt of nothing");
        }
    });
}

#[test]
fn what_would_go_is_told_beforehand() {
    run(async {
        for engine in ENGINES {
            let desk = Desk::new(engine).await;
            let workers = desk.workers("", &[]);
            let id = desk.organization("Planned").await;
            let plan = async || cascade::plan(&desk.place.store, &workers.config, &id).await.unwrap();
            let told = plan().await;
            assert!(told.is_live && told.workspaces == [id.clone()], "{told:?}");
            let rows =
                |table: &str| told.rows.iter().find(|of| of.table == format!("faircopy.{table}")).map(|of| of.rows);
            assert_eq!((rows("documents"), rows("channels"), rows("workspaces")), (Some(1), Some(1), Some(1)));
            let ids: i64 = told.outside.iter().map(|of| of.ids).sum();
            assert_eq!(ids, 2);
            assert_eq!(desk.count("documents").await, 1, "nothing has changed");
            desk.deletes(&id).await;
            assert_eq!((plan().await.is_live, plan().await.rows), (false, told.rows.clone()), "it is still to go");
        }
    });
}
