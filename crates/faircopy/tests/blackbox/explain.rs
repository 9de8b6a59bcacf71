//! `faircopy explain` with the real binary beside a running service.

use faircopy_core::Millis;
use serde_json::{Value, json};

use crate::support::{Output, Place, faircopy, now_ms, post, sender};

async fn explain(place: &Place, arguments: &[&str], code: i32) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = [&["explain"], arguments].concat();
    let output = faircopy(folder.path(), &[("DATABASE_URL", place.url())], &arguments).await;
    assert_eq!(output.code, Some(code), "faircopy {arguments:?}: {output:?}");
    output
}

fn codes(explanation: &Value) -> Vec<&str> {
    let steps = explanation["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["code"].as_str().expect("a code")).collect()
}

fn user(first_name: &str, updated_at: i64) -> Value {
    json!({ "id": "user_a", "first_name": first_name, "created_at": 1_716_883_200_000_i64, "updated_at": updated_at })
}

/// A removed member whom a late delivery would bring back, and what the copy held before and after a change.
#[tokio::test]
async fn explain_tells_who_won_and_what_was_held_then() {
    for place in [Place::sqlite(), Place::postgres().await] {
        let server = place.serve().await;
        let sender = sender(&server);
        let began = now_ms() - 60_000;
        let send = async |id: &str, event_type: &str, data: Value| {
            let body = json!({ "type": event_type, "timestamp": now_ms(), "data": data }).to_string();
            assert_eq!(post(&sender, id, body).await.expect("an answer").status, 200, "{id}");
        };
        send("msg_1", "user.created", user("Ada", began + 1)).await;
        let between = Millis(now_ms() + 1);
        // The next one arrives later than that by the clock.
        while now_ms() <= between.0 {
            tokio::task::yield_now().await;
        }
        send("msg_2", "user.updated", user("Augusta", began + 2)).await;
        let membership = |updated_at: i64| {
            json!({ "id": "orgmem_1", "role": "org:member", "organization_id": "org_a", "user_id": "user_a",
                "created_at": began, "updated_at": updated_at })
        };
        send("msg_3", "organizationMembership.created", membership(began)).await;
        send("msg_4", "organizationMembership.deleted", membership(began)).await;
        send("msg_5", "organizationMembership.updated", membership(began + 30)).await;

        let found = explain(&place, &["org_a/user_a", "--json"], 0).await.json();
        assert_eq!(codes(&found), ["first", "deleted", "after-removal"], "{found:#}");
        assert_eq!((&found["row"], &found["verdict"]), (&Value::Null, &json!("agrees")));

        let found = explain(&place, &["user_a", "--json"], 0).await.json();
        assert_eq!((codes(&found), &found["row"]["first_name"]), (vec!["first", "newer"], &json!("Augusta")));
        let then = explain(&place, &["user_a", "--as-of", &between.to_string(), "--json"], 0).await.json();
        assert_eq!((codes(&then), &then["row"]["first_name"]), (vec!["first"], &json!("Ada")));
        assert_eq!((&then["is_complete"], &then["stored"]["first_name"]), (&json!(true), &json!("Augusta")));

        let table = explain(&place, &["orgmem_1"], 0).await;
        for part in [
            "msg_5",
            "organizationMembership.updated",
            "absorbed",
            "this membership had ended",
            "org_a/user_a: no row now",
        ] {
            assert!(table.stdout.contains(part), "{part}: {table:?}");
        }
        let table = explain(&place, &["user_a", "--as-of", "2020-01-01T00:00:00Z"], 0).await;
        assert!(table.stdout.contains("not complete for that time: only from"), "{table:?}");

        place.sql("UPDATE {s}users SET first_name = 'Eve'").await;
        let table = explain(&place, &["user_a"], 0).await;
        assert!(table.stdout.contains("NOT what is explained (first_name)"), "{table:?}");

        let refused = explain(&place, &["ada"], 2).await;
        assert!(refused.stderr.contains("expected user_…, org_…"), "{refused:?}");
        explain(&place, &["user_a", "--as-of", "then"], 2).await;
        let refused = explain(&place, &["user_x"], 1).await;
        assert!(refused.stderr.contains("nothing was ever told of user_x"), "{refused:?}");
    }
}
