//! A sandbox whose file outlives it: killed at any moment, it goes on from what it had answered.

use std::path::Path;

use crate::support;
use crate::support::Local;
use faircopy_sandbox::instance::{Kind, Population};
use faircopy_sandbox::post::NewEndpoint;
use faircopy_sandbox::{Settings, StartError};
use serde_json::{Value, json};

fn on(file: &Path) -> Settings {
    Settings { file: Some(file.to_owned()), ..support::settings() }
}

/// Everything that a client can see.
async fn everything(local: &Local) -> Vec<Value> {
    let mut seen = Vec::new();
    for list in ["users", "organizations", "organization_memberships", "organization_invitations", "sessions"] {
        seen.push(local.get(&format!("/v1/{list}?limit=500")).await.ok());
    }
    seen.push(local.get("/v1/jwks").await.ok());
    seen.push(local.get("/v1/instance").await.ok());
    seen.push(json!(local.sandbox.shared().keys().secret_key()));
    seen.push(json!(local.bodies()));
    seen
}

/// A small life; the number of steps says how much of it.
async fn live(local: &Local, steps: usize) {
    let mut users = Vec::new();
    for step in 0..steps {
        match step % 4 {
            0 => users.push(local.user(&format!("user{step}@example.com")).await),
            1 => drop(local.organization(&format!("Org {step}"), &users[users.len() - 1]).await),
            2 => drop(local.post("/v1/sessions", json!({"user_id": users[users.len() - 1]})).await.ok()),
            _ => drop(local.delete(&format!("/v1/users/{}", users[users.len() - 1])).await.ok()),
        }
    }
}

#[tokio::test]
async fn a_sandbox_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clerk.jsonl");
    let local = Local::with(on(&file)).await;
    live(&local, 11).await;
    let before = everything(&local).await;
    local.kill().await;
    let local = Local::with(on(&file)).await;
    assert_eq!(everything(&local).await, before);
    live(&local, 5).await;
    let after = everything(&local).await;
    local.kill().await;
    // Written anew at each start, and gone on with: twice the same.
    Local::with(on(&file)).await.kill().await;
    let local = Local::with(on(&file)).await;
    let mut again = everything(&local).await;
    let mut told = before[8].as_array().cloned().expect("messages");
    told.extend(after[8].as_array().cloned().expect("messages"));
    assert_eq!(again.pop(), Some(json!(told)));
    assert_eq!(again, after[..8]);
}

#[tokio::test]
async fn a_file_cut_anywhere_in_its_last_line_is_the_file_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clerk.jsonl");
    let local = Local::with(on(&file)).await;
    live(&local, 9).await;
    local.kill().await;
    let whole = std::fs::read(&file).expect("the file");
    let starts: Vec<usize> = std::iter::once(0)
        .chain(whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    // The first two lines are written before the sandbox starts: the names, and what it begins with.
    for pair in starts.windows(2).skip(4) {
        let [start, end] = pair else { continue };
        let mut seen = Vec::new();
        for cut in [*start, start + 1, usize::midpoint(*start, *end), end - 2] {
            let copy = folder.path().join("cut.jsonl");
            std::fs::write(&copy, &whole[..cut]).expect("a copy");
            let local = Local::with(on(&copy)).await;
            let users = local.sandbox.shared().change(|instance, _| instance.count(Kind::User));
            let told = local.bodies().len();
            seen.push((users, told));
            local.kill().await;
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "cut in the line from {start}: {seen:?}");
    }
}

#[tokio::test]
async fn what_is_no_file_of_a_sandbox_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clerk.jsonl");
    let start = async |settings: Settings| {
        let clock = std::sync::Arc::new(|| support::NOW);
        faircopy_sandbox::Sandbox::start(settings, clock, ([127, 0, 0, 1], 0).into())
            .await
            .err()
            .map(|error: StartError| error.to_string())
    };
    std::fs::write(&file, "a diary\n").expect("a file");
    assert!(start(on(&file)).await.is_some_and(|error| error.contains("no file of a sandbox")));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "a diary\n");
    std::fs::remove_file(&file).expect("removed");

    let local = Local::with(on(&file)).await;
    live(&local, 3).await;
    assert!(start(on(&file)).await.is_some_and(|error| error.contains("in use")));
    local.kill().await;
    let mut text = std::fs::read_to_string(&file).expect("the file");
    text.insert_str(text.find('\n').expect("a line") + 1, "{\"rows\": 5}\n");
    std::fs::write(&file, &text).expect("a file");
    assert!(start(on(&file)).await.is_some_and(|error| error.contains("line 2")));
}

#[tokio::test]
async fn a_population_and_endpoints_are_made_once_and_settings_of_the_file_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clerk.jsonl");
    let settings = || Settings {
        population: Some(Population { users: 250, organizations: 3, members: 4, seed: 1 }),
        endpoints: vec![NewEndpoint { url: "http://127.0.0.1:9/hook".into(), ..NewEndpoint::default() }],
        ..on(&file)
    };
    let mut secrets = Vec::new();
    for _ in 0..3 {
        let local = Local::with(settings()).await;
        local.sandbox.shared().with(|state, _| {
            assert_eq!(state.instance.count(Kind::User), 250);
            assert_eq!(state.instance.count(Kind::Membership), 12);
            let endpoints: Vec<String> = state.post.endpoints().map(|endpoint| endpoint.secret().to_owned()).collect();
            secrets.push(endpoints);
            let options = state.instance.options().clone();
            state.instance.set_options(faircopy_sandbox::instance::Options { cursors: false, ..options });
        });
        local.kill().await;
    }
    assert!(secrets[0].len() == 1 && secrets.iter().all(|some| *some == secrets[0]), "{secrets:?}");
    let local = Local::with(settings()).await;
    assert!(!local.sandbox.shared().change(|instance, _| instance.options().cursors));
}

/// Rooms are in the file as well: those that are there, what they have, and what a deleted one had.
#[tokio::test]
async fn rooms_outlive_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clerk.jsonl");
    let local = Local::with(on(&file)).await;
    let rooms = |local: &Local| {
        local.sandbox.liveblocks().with(|state| state.rooms.all().map(|room| room.document()).collect::<Vec<_>>())
    };
    let list = |local: &Local| local.sandbox.liveblocks().with(|state| state.rooms.list(&[]).expect("a page"));
    local.sandbox.liveblocks().with(|state| {
        for (at, id) in ["doc:1", "doc:2", "code:1", "code:2"].into_iter().enumerate() {
            let wanted = json!({ "id": id, "defaultAccesses": ["room:write"], "metadata": { "kind": id } });
            state.rooms.create(&wanted, false, 1_000 * i64::try_from(at).expect("small")).expect("a room");
        }
        state.rooms.delete("doc:1").expect("deleted");
        state.rooms.delete("code:2").expect("deleted");
    });
    local.sandbox.liveblocks().reconnect("doc:2").expect("a room");
    live(&local, 3).await;
    let (before, listed) = (rooms(&local), list(&local));
    assert_eq!(before.len(), 2);
    local.kill().await;
    // From the lines as they were written, and then from the file that was written anew.
    for _ in 0..2 {
        let local = Local::with(on(&file)).await;
        assert_eq!((rooms(&local), list(&local)), (before.clone(), listed.clone()));
        local.kill().await;
    }
    let local = Local::with(on(&file)).await;
    let again = local.sandbox.liveblocks().reconnect("code:2").expect("a room");
    assert_eq!(again.metadata["kind"], "code:2", "a deleted room has what it had");
    let newest = list(&local)["data"][0]["id"].clone();
    assert_eq!(newest, "code:2", "what is made after a kill is newer");
    local.kill().await;
    let local = Local::with(on(&file)).await;
    assert_eq!(rooms(&local).len(), 3);
}
