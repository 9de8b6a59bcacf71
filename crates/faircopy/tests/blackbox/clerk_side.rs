//! Clerk's side with the real binary: the sandbox as a command, and backfill and reconcile killed, refused and held back.

use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::RsaKeyPair;
use bytes::Bytes;
use faircopy::compare::truth_of;
use faircopy::sweep::LEASE;
use faircopy_sandbox::chaos::{self, ApiChaos};
use faircopy_sandbox::instance::{Dice, Population};
use faircopy_sandbox::{Sandbox, Settings};
use faircopy_store::{Address, Store};
use faircopy_testkit::client::request;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::{Options, Server, binary};
use faircopy_world::{Truth, token};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{Output, PATIENCE, POLL, Place, faircopy, now_ms};

/// A production key: its rate limit lets a sweep through at once.
const KEY: &str = "sk_live_the-key-of-the-black-box-tests";
/// A backfill of these reads 32 pages of users, one after another: with [`SLOW_MS`] it takes longer than all kills together.
const MANY: Population = Population { users: 16_000, organizations: 60, members: 15, seed: 5 };
const FEW: Population = Population { users: 60, organizations: 6, members: 5, seed: 6 };
/// How long an answer of the slow sandbox takes, in milliseconds.
const SLOW_MS: [i64; 2] = [180, 240];
const KILLS: usize = 10;
/// When each is, in milliseconds after the start: all of them take less time than the backfill.
const EARLIEST_KILL_MS: u64 = 150;
const KILL_WITHIN_MS: usize = 550;

/// Making one takes longer than most tests: all share it.
static PAIR: LazyLock<Arc<RsaKeyPair>> = LazyLock::new(|| Arc::new(token::new_key()));

/// A sandbox in this process.
async fn clerk(population: Population, latency_ms: [i64; 2]) -> Sandbox {
    let settings = Settings {
        seed: population.seed,
        key_pair: Some(PAIR.clone()),
        secret_key: Some(KEY.to_owned()),
        population: Some(population),
        chaos: chaos::Settings { api: ApiChaos { latency_ms, ..ApiChaos::default() }, ..chaos::Settings::default() },
        ..Settings::default()
    };
    Sandbox::start(settings, Arc::new(now_ms), ([127, 0, 0, 1], 0).into()).await.expect("a sandbox")
}

fn truth(sandbox: &Sandbox) -> Truth {
    sandbox.shared().with(|state, now| truth_of(&state.instance, now)).expect("its lists")
}

fn live(sandbox: &Sandbox, changes: usize) {
    let mut dice = Dice::new(9);
    for _ in 0..changes {
        sandbox.shared().change(|instance, now| instance.change_at_random(&mut dice, now));
    }
}

fn variables<'a>(place: &'a Place, sandbox: &'a Sandbox) -> [(&'a str, &'a str); 3] {
    [("DATABASE_URL", place.url()), ("CLERK_SECRET_KEY", KEY), ("CLERK_API_URL", sandbox.url())]
}

async fn run(place: &Place, sandbox: &Sandbox, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    faircopy(folder.path(), &variables(place, sandbox), arguments).await
}

/// Runs a command that must end so.
async fn ends(place: &Place, sandbox: &Sandbox, arguments: &[&str], code: i32) -> Output {
    let output = run(place, sandbox, arguments).await;
    assert_eq!(output.code, Some(code), "faircopy {arguments:?}: {output:?}");
    output
}

/// A command that runs on, in a folder of its own.
struct Started {
    child: Child,
    _folder: TempDir,
}

impl Started {
    fn new(place: &Place, sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder.path()).env_clear().envs(variables(place, sandbox));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { child: command.spawn().expect("run faircopy"), _folder: folder }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(pid, signal).expect("our own child");
    }

    async fn end(self) -> Output {
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await.expect("it ends");
        let output = output.expect("its output");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Waits until somebody else than `before` has the lease of sweeps, and returns their name.
async fn under_way(place: &Place, before: Option<String>) -> String {
    let store = Store::new(Address::parse(place.url()).expect("an address"));
    let started = Instant::now();
    loop {
        match store.lease_holder(LEASE).await.expect("the leases") {
            Some(holder) if Some(&holder) != before.as_ref() => {
                store.close().await;
                return holder;
            }
            _ => assert!(started.elapsed() < PATIENCE, "nobody sweeps"),
        }
        tokio::time::sleep(POLL).await;
    }
}

// --- The sandbox as a command. -------------------------------------------------------------------------------------

fn sandbox_command(more: &[&str]) -> Options {
    let command = ["sandbox", "--listen", "127.0.0.1:{port}", "--seed", "3", "--users", "5"];
    Options::new().command(&[&command[..], more].concat()).ready_path("/.well-known/jwks.json")
}

/// `NAME=value` of each line.
fn assignments(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

async fn ask(method: &str, url: &str, key: &str, body: &Value) -> (u16, Value) {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = request(method, url, &headers, Bytes::from(body.to_string()), Duration::from_secs(20)).await;
    let answer = answer.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    (answer.status, answer.json().expect("JSON"))
}

/// Waits until a command has said everything: it answers a moment earlier.
async fn has_said(server: &Server, everything: impl Fn(&Server) -> bool) {
    let started = Instant::now();
    while !everything(server) {
        assert!(started.elapsed() < PATIENCE, "{} {}", server.stdout(), server.stderr());
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test]
async fn the_sandbox_prints_what_a_person_needs_and_answers() {
    let server = Server::start(sandbox_command(&["--webhook-url", "http://127.0.0.1:9/webhooks/clerk"])).await;
    has_said(&server, |server| {
        server.stdout().contains("CLERK_WEBHOOK_SIGNING_SECRET=") && server.stdout().ends_with('\n')
    })
    .await;
    let (stdout, stderr) = (server.stdout(), server.stderr());
    let given = assignments(&stdout);
    let value = |name: &str| given.iter().find(|(is, _)| *is == name).unwrap_or_else(|| panic!("{name}: {stdout}")).1;
    assert_eq!(given.len(), stdout.lines().count(), "nothing but variables: {stdout}");
    assert_eq!(value("CLERK_API_URL"), server.url());
    assert_eq!(value("CLERK_JWT_ISSUER_DOMAIN"), server.url());
    assert!(value("CLERK_WEBHOOK_SIGNING_SECRET").starts_with("whsec_") && value("CLERK_PUBLISHABLE_KEY").len() > 10);
    for part in ["5 users", "page", "control", "webhooks", "next: ", "faircopy serve"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let key = value("CLERK_SECRET_KEY");
    let users = format!("{}/v1/users?limit=500", server.url());
    let (status, users) = ask("GET", &users, key, &json!({})).await;
    assert_eq!((status, users.as_array().map(Vec::len)), (200, Some(5)), "{users}");
    let page = server.get("/").await.expect("the page");
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn the_sandbox_prints_the_same_as_json() {
    let server = Server::start(sandbox_command(&["--json", "--secret-key", KEY])).await;
    has_said(&server, |server| server.stdout().trim_end().ends_with('}')).await;
    let shown: Value = serde_json::from_str(&server.stdout()).expect("JSON and nothing else");
    assert_eq!((&shown["secret_key"], &shown["users"]), (&json!(KEY), &json!(5)), "{shown}");
    assert_eq!(shown["api_url"], json!(server.url()));
    assert!(shown["instance_id"].as_str().is_some_and(|id| id.starts_with("ins_")), "{shown}");
}

#[tokio::test]
async fn the_sandbox_goes_on_from_its_file_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clerk.jsonl");
    let more = ["--file", file.to_str().expect("a readable path"), "--secret-key", KEY];
    let mut server = Server::start(sandbox_command(&more)).await;
    let url = format!("{}/v1/users", server.url());
    let ada = json!({ "first_name": "Ada", "email_address": ["ada@example.com"], "skip_password_requirement": true });
    let (status, made) = ask("POST", &url, KEY, &ada).await;
    assert_eq!(status, 200, "{made}");
    let (_, keys) = ask("GET", &format!("{}/.well-known/jwks.json", server.url()), KEY, &json!({})).await;
    server.kill9().await;
    server.restart().await;
    let (status, found) = ask("GET", &format!("{url}/{}", made["id"].as_str().expect("an id")), KEY, &json!({})).await;
    assert_eq!((status, &found["first_name"]), (200, &json!("Ada")), "{found}");
    let (_, users) = ask("GET", &format!("{url}?limit=500"), KEY, &json!({})).await;
    assert_eq!(users.as_array().map(Vec::len), Some(6), "five made up and one made by hand: {users}");
    let (_, after) = ask("GET", &format!("{}/.well-known/jwks.json", server.url()), KEY, &json!({})).await;
    assert_eq!(after, keys, "tokens that were good stay good");
}

#[tokio::test]
async fn the_sandbox_refuses_what_makes_no_sense() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = async |arguments: &[&str], code: i32, says: &str| {
        let output = faircopy(folder.path(), &[], arguments).await;
        assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(says), "{arguments:?}: {output:?}");
    };
    check(&["sandbox", "--organizations", "3"], 2, "--users").await;
    check(&["sandbox", "--secret-key", "pk_test_1"], 2, "sk_test_").await;
    check(&["sandbox", "--listen", "127.0.0.1:0", "--webhook-url", "ftp://example.com"], 1, "http").await;
    check(&["sandbox", "--listen", "127.0.0.1:0", "--drop", "101"], 1, "100").await;
}

// --- Backfill. -----------------------------------------------------------------------------------------------------

async fn a_backfill_that_is_killed_goes_on(place: Place) {
    let seed = Seed::of_run();
    let mut dice = Dice::new(seed.value());
    let sandbox = clerk(MANY, SLOW_MS).await;
    for _ in 0..KILLS {
        let mut sweep = Started::new(&place, &sandbox, &["backfill"]);
        let after = EARLIEST_KILL_MS + dice.below(KILL_WITHIN_MS) as u64;
        tokio::time::sleep(Duration::from_millis(after)).await;
        assert!(sweep.child.try_wait().expect("our own child").is_none(), "it was over before it could be killed");
        sweep.signal(Signal::KILL);
        sweep.end().await;
    }
    let finished = ends(&place, &sandbox, &["backfill", "--json"], 0).await;
    assert!(!finished.stderr.contains("another process"), "whoever was killed is not waited for: {finished:?}");
    let report = finished.json();
    place.tables().await.assert_same_as(&truth(&sandbox));
    assert_eq!(report["kinds"]["user"]["seen"], json!(MANY.users), "{report}");
    // Undisturbed, so many pages; and each time that it was killed, what was on its way is asked for again.
    let pages = |rows: usize| rows as u64 / 500 + 2;
    let rows = [MANY.users, MANY.organizations, MANY.organizations * MANY.members, MANY.organizations];
    let lists: u64 = rows.into_iter().map(pages).sum();
    let requests = report["requests"].as_u64().expect("a number");
    assert!(requests <= lists + 8 + 8 * KILLS as u64, "{requests} requests for {lists} pages: it was started over");
    let again = ends(&place, &sandbox, &["backfill", "--json"], 0).await.json();
    assert_eq!(again["kinds"]["user"]["missing"], json!(0), "a second backfill finds nothing: {again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_ten_times_goes_on_on_sqlite() {
    a_backfill_that_is_killed_goes_on(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_ten_times_goes_on_on_postgres() {
    a_backfill_that_is_killed_goes_on(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_interrupted_says_so_and_leaves_its_lease() {
    let (place, sandbox) = (Place::sqlite(), clerk(MANY, SLOW_MS).await);
    ends(&place, &sandbox, &["migrate"], 0).await;
    let sweep = Started::new(&place, &sandbox, &["backfill"]);
    under_way(&place, None).await;
    sweep.signal(Signal::INT);
    let stopped = sweep.end().await;
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(
        stopped.stderr.contains("the same command goes on where it was") && stopped.stdout.is_empty(),
        "{stopped:?}"
    );
    let output = ends(&place, &sandbox, &["backfill"], 0).await;
    assert!(!output.stderr.contains("another process is sweeping"), "{output:?}");
    assert!(output.stderr.contains("users ") && output.stderr.contains("faircopy reconcile"), "{output:?}");
    place.tables().await.assert_same_as(&truth(&sandbox));
}

// --- Reconcile. ----------------------------------------------------------------------------------------------------

async fn reconcile_reports_and_repairs(place: Place) {
    let sandbox = clerk(FEW, [0, 0]).await;
    ends(&place, &sandbox, &["backfill"], 0).await;
    let before = truth(&sandbox);
    live(&sandbox, 60);
    let dry = ends(&place, &sandbox, &["reconcile", "--dry-run", "--grace", "0", "--json"], 3).await.json();
    assert_eq!((&dry["dry_run"], &dry["outcome"]), (&json!(true), &json!("differences")), "{dry}");
    assert!(dry["differences"].as_array().is_some_and(|list| !list.is_empty()), "{dry}");
    place.tables().await.assert_same_as(&before);
    let text = ends(&place, &sandbox, &["reconcile", "--dry-run", "--grace", "0"], 3).await;
    assert!(text.stdout.contains("MISSING") && text.stdout.contains("this was a dry run"), "{text:?}");

    let repaired = ends(&place, &sandbox, &["reconcile", "--grace", "0", "--json"], 0).await.json();
    assert_eq!(repaired["outcome"], json!("repaired"), "{repaired}");
    place.tables().await.assert_same_as(&truth(&sandbox));
    for kind in ["user", "organization", "member", "invitation"] {
        for count in ["missing", "extra", "different"] {
            assert_eq!(dry["kinds"][kind][count], repaired["kinds"][kind][count], "{kind} {count}: {dry} {repaired}");
        }
    }
    let exact = ends(&place, &sandbox, &["reconcile", "--grace", "0", "--json"], 0).await.json();
    assert_eq!(exact["outcome"], json!("exact"), "{exact}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_reports_and_repairs_on_sqlite() {
    reconcile_reports_and_repairs(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_reports_and_repairs_on_postgres() {
    reconcile_reports_and_repairs(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_wrong_key_nothing_is_deleted_and_it_says_why() {
    let (place, sandbox) = (Place::sqlite(), clerk(FEW, [0, 0]).await);
    ends(&place, &sandbox, &["backfill"], 0).await;
    let before = truth(&sandbox);
    let folder = tempfile::tempdir().expect("a folder");
    let wrong =
        [("DATABASE_URL", place.url()), ("CLERK_SECRET_KEY", "sk_live_wrong"), ("CLERK_API_URL", sandbox.url())];
    let refused = faircopy(folder.path(), &wrong, &["reconcile", "--grace", "0", "--force", "--json"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("CLERK_SECRET_KEY was refused"), "{refused:?}");
    assert!(!refused.stderr.contains("sk_live_wrong"), "no key in what is said: {refused:?}");

    // A key that is good, of another instance, which is empty but for one user.
    let other = clerk(Population { users: 1, organizations: 0, members: 0, seed: 77 }, [0, 0]).await;
    let refused = run(&place, &other, &["reconcile", "--grace", "0", "--force"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another instance"), "{refused:?}");
    place.tables().await.assert_same_as(&before);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_absences_are_held_back_until_somebody_says_that_it_is_right() {
    let (place, sandbox) = (Place::sqlite(), clerk(FEW, [0, 0]).await);
    ends(&place, &sandbox, &["backfill"], 0).await;
    let before = truth(&sandbox);
    for user in before.users.keys().take(24) {
        sandbox.shared().change(|instance, now| instance.delete_user(user, now)).expect("there is such a user");
    }
    let held = ends(&place, &sandbox, &["reconcile", "--grace", "0"], 3).await;
    assert!(held.stdout.contains("24 are absent, more than 20") && held.stdout.contains("--force"), "{held:?}");
    let copied = place.tables().await.users;
    assert!(before.users.keys().all(|user| copied.contains_key(user)), "nothing is gone");
    let json = ends(&place, &sandbox, &["reconcile", "--grace", "0", "--json"], 3).await.json();
    assert_eq!(json["kinds"]["user"]["hold"]["guard"], json!("too_many"), "{json}");
    ends(&place, &sandbox, &["reconcile", "--grace", "0", "--force"], 0).await;
    place.tables().await.assert_same_as(&truth(&sandbox));
}

#[tokio::test]
async fn without_a_key_the_commands_say_what_is_missing() {
    let place = Place::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    for command in ["backfill", "reconcile"] {
        let refused = faircopy(folder.path(), &[("DATABASE_URL", place.url())], &[command]).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains("CLERK_SECRET_KEY"), "{refused:?}");
    }
}

async fn two_at_once(place: Place) {
    let population = Population { users: 3_000, ..FEW };
    let sandbox = clerk(population, SLOW_MS).await;
    ends(&place, &sandbox, &["migrate"], 0).await;
    let first = Started::new(&place, &sandbox, &["reconcile", "--grace", "0", "--json"]);
    let holder = under_way(&place, None).await;
    let second = Started::new(&place, &sandbox, &["reconcile", "--grace", "0", "--json"]);
    let (first, second) = tokio::join!(first.end(), second.end());
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first:?} {second:?}");
    assert!(second.stderr.contains("another process is sweeping"), "{second:?}");
    assert!(!first.stderr.contains("another process"), "{first:?}");
    assert_eq!((&first.json()["outcome"], &second.json()["outcome"]), (&json!("repaired"), &json!("exact")));
    assert_ne!(under_way(&place, Some(holder.clone())).await, holder, "one after the other");
    place.tables().await.assert_same_as(&truth(&sandbox));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_reconciles_waits_on_sqlite() {
    two_at_once(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_reconciles_waits_on_postgres() {
    two_at_once(Place::postgres().await).await;
}

/// What no delivery told is explained by the read that found it.
#[tokio::test]
async fn explain_tells_what_reconcile_found() {
    let (place, sandbox) = (Place::sqlite(), clerk(FEW, [0, 0]).await);
    ends(&place, &sandbox, &["migrate"], 0).await;
    ends(&place, &sandbox, &["backfill"], 0).await;
    live(&sandbox, 200);
    ends(&place, &sandbox, &["reconcile", "--grace", "0", "--force"], 0).await;
    let twice = "SELECT count(*) FROM readings WHERE kind = 'user' AND subject IN \
        (SELECT subject FROM readings WHERE kind = 'user' AND fact IS NOT NULL GROUP BY subject HAVING count(*) = 2)";
    assert!(place.number(twice).await > 0, "somebody has changed");
    let mut changed = 0;
    for id in truth(&sandbox).users.keys() {
        let explanation = ends(&place, &sandbox, &["explain", id, "--json"], 0).await.json();
        assert_eq!((&explanation["verdict"], &explanation["is_complete"]), (&json!("agrees"), &json!(true)), "{id}");
        let steps = explanation["steps"].as_array().expect("steps");
        let own: Vec<&Value> = steps.iter().filter(|step| step["event_type"] == "user").collect();
        assert!(own.iter().all(|step| step["source"] == "sweep" && step["svix_id"].is_null()), "{explanation:#}");
        if let [first, second] = own[..] {
            assert_eq!((&first["outcome"], &second["code"]), (&json!("won"), &json!("newer")), "{explanation:#}");
            changed += 1;
            if changed == 3 {
                return;
            }
        }
    }
    assert!(changed > 0, "somebody has changed");
}
