//! Nothing secret and nothing personal is logged, at whatever level.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faircopy_testkit::clerk::{KEY, Mood};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::app::{Engine, TestApp};
use crate::events::{THEN, event, user};
use crate::raw;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_secret_or_personal_is_logged() {
    const CANARY_SECRET: &str = "whsec_Y2FuYXJ5LXNlY3JldC1vZi0zMi1ieXRlcy1sb25nIQ==";
    const CANARY_TOKEN: &str = "canary-admin-token-of-some-length-0123456789";
    let log = Log::default();
    let everything =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone());
    everything.try_init().expect("the only subscriber of this process");

    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::build().on(engine).secrets(CANARY_SECRET).admin_token(CANARY_TOKEN).start().await;
        let mut person = user("user_logged", THEN);
        person["first_name"] = "Canaryfirst".into();
        person["last_name"] = "Canarylast".into();
        person["username"] = "canaryname".into();
        person["email_addresses"][0]["email_address"] = "canary@example.com".into();
        person["image_url"] = "https://img.clerk.com/canary-image".into();
        person["public_metadata"] = json!({ "canary-key": "canary-value" });
        person["private_metadata"] = json!({ "canary-private": 1 });
        let mut body = event("user.created", &person);
        body["event_attributes"] =
            json!({ "http_request": { "client_ip": "192.0.2.77", "user_agent": "canary-agent" } });
        let text = body.to_string();
        let signed = app.sign("msg_logged", &text);

        // The ways that a delivery can go.
        assert_eq!(app.outcome("msg_logged", &text).await, "applied");
        assert_eq!(app.outcome("msg_logged", &text).await, "duplicate");
        assert_eq!(app.outcome("msg_broken", text.replace("false", "NaN")).await, "quarantined");
        person["id"] = "canary-id@example.com".into();
        assert_eq!(app.outcome("msg_id", event("user.created", &person).to_string()).await, "quarantined");
        person["id"] = "user_logged".into();
        person["updated_at"] = "canary-time".into();
        assert_eq!(app.outcome("msg_time", event("user.created", &person).to_string()).await, "quarantined");
        let invitation = json!({ "id": "orginv_1", "organization_id": "org_1", "email_address": "canary@example.com", "url": "https://x?ticket=canary-ticket" });
        assert_eq!(
            app.outcome("msg_inv", event("organizationInvitation.created", &invitation).to_string()).await,
            "applied"
        );
        let mail = json!({ "id": "ema_1", "to_email_address": "canary@example.com", "body": "canary-code 424242" });
        assert_eq!(app.outcome("msg_mail", event("email.created", &mail).to_string()).await, "ignored");
        let response = app.post(&signed.headers(), text.replace("Canaryfirst", "Canaryother")).await;
        assert_eq!(response.status, 400);
        let cut_off = raw::head(&signed, &[&format!("Content-Length: {}", text.len())]) + &text[..200];
        raw::exchange(app.address, cut_off.as_bytes(), true, Duration::from_secs(5)).await;
        let folded = raw::head(&signed, &["X-Folded: canary-header", " canary-fold", "Content-Length: 0"]);
        raw::exchange(app.address, folded.as_bytes(), true, Duration::from_secs(5)).await;
        // The admin API, right and wrong.
        app.admin_json("/admin/v1/deliveries?entity=canary-entity@example.com").await;
        app.admin_json("/admin/v1/deliveries/msg_logged").await;
        assert_eq!(app.admin("POST", "/admin/v1/deliveries/msg_logged/replay").await.status, 200);
        let guess = [("authorization", "Bearer canary-guess-of-a-token")];
        assert_eq!(app.request("GET", "/admin/v1/statistics", &guess, "").await.status, 401);
        // Paths that hold what a person typed, and everything that the doctor sees.
        app.get("/v1/users/canary-user@example.com").await;
        app.get("/canary-path?email=canary@example.com").await;
        let report = app.admin_json("/admin/v1/doctor").await.to_string();
        assert!(!report.contains(CANARY_SECRET) && !report.contains(CANARY_TOKEN), "{report}");
        app.stop().await;
    }
    // Names that are shown and never stored, and what comes instead of them.
    let clerk = crate::confirm::clerk().await;
    clerk.has_user("user_logged", "Canaryfirst");
    let clock = crate::app::manual_clock();
    let app = TestApp::build().minimal().sessions().clerk(&clerk).clock(&clock).start().await;
    assert_eq!(
        app.outcome("msg_logged", event("user.created", &user("user_logged", THEN)).to_string()).await,
        "applied"
    );
    let token = app.token("user_logged", None);
    assert_eq!(app.bearer_json("/v1/me", &token).await["name"], "Canaryfirst Of-Clerk");
    clerk.is(Mood::Html);
    clock.advance(300_000);
    let token = app.token("user_logged", None);
    assert_eq!(app.bearer_json("/v1/me", &token).await["name"], "Canaryfirst Of-Clerk");
    app.stop().await;
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("names-not-read"), "that Clerk did not answer is logged: {logged}");
    assert!(
        logged.contains("route=\"/v1/users/{clerk_user_id}\"") && logged.contains("route=\"unmatched\""),
        "{logged}"
    );
    assert!(
        logged.contains("svix_id=\"msg_logged\"") && logged.contains("user.created"),
        "deliveries are logged: {logged}"
    );
    let canaries = ["anary", "Y2FuYXJ5LXNlY3JldC1", "192.0.2.77", "424242", "ticket=", "Lovelace", "Of-Clerk", KEY];
    for canary in canaries {
        let line = logged.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "{canary} is logged: {}", line.unwrap_or_default());
    }
}
