//! Faircopy inside an application: the example program, as a process.

use bytes::Bytes;
use faircopy_testkit::client::{Response, request};
use faircopy_testkit::sender::Sender;
use faircopy_testkit::server::{Server, binary};
use faircopy_world::token::{Draft, new_key, pem};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, SECRET, now_ms};

const ISSUER: &str = "https://clerk.example.com";

async fn ask(server: &Server, path: &str, header: Option<(&str, &str)>) -> Response {
    let url = format!("{}{path}", server.url());
    request("GET", &url, header.as_slice(), Bytes::new(), PATIENCE).await.expect("an answer")
}

fn code(response: &Response) -> (u16, String) {
    let problem: Value = response.json().expect("a problem document");
    (response.status, problem["code"].as_str().expect("a code").to_owned())
}

#[tokio::test]
async fn the_example_application_is_signed_in_from_its_own_copy() {
    let place = Place::sqlite();
    let example = binary().with_file_name("examples").join("embedded");
    assert!(example.is_file(), "{} is built with the tests", example.display());
    let key = new_key();
    let options = place.options().command(&[]).binary(example);
    let options = options.env("CLERK_JWT_KEY", pem(&key)).env("CLERK_JWT_ISSUER_DOMAIN", ISSUER);
    let mut server = Server::start(options).await;
    let token = |user: &str, role: &str| {
        Draft::new(&key, "ins_1", ISSUER, user, now_ms() / 1000).organization("org_1", role, "acme").sign()
    };
    let bearer = |token: &str| format!("Bearer {token}");

    assert_eq!(ask(&server, "/", None).await.text(), "Everybody may see this.");
    let nobody = ask(&server, "/team", None).await;
    assert_eq!(code(&nobody), (401, "token-missing".to_owned()));
    assert_eq!(nobody.header("content-type"), Some("application/problem+json"));
    let forged = Draft::new(&new_key(), "ins_1", ISSUER, "user_a", now_ms() / 1000).sign();
    let forged = ask(&server, "/team", Some(("authorization", &bearer(&forged)))).await;
    assert_eq!(code(&forged), (401, "token-invalid-signature".to_owned()));

    // The first request stores its rows just in time; a cookie will do as well.
    let ann = ask(&server, "/team", Some(("cookie", &format!("__session={}", token("user_a", "admin"))))).await;
    assert_eq!(ann.status, 200, "{}", ann.text());
    let ann: Value = ann.json().expect("JSON");
    assert_eq!((&ann["you"], &ann["organization"]), (&json!("user_a"), &json!("org_1")));
    assert_eq!(ann["members"], json!([{"name": null, "role": "org:admin"}]));

    let (ann, bob) = (bearer(&token("user_a", "admin")), bearer(&token("user_b", "member")));
    assert_eq!(ask(&server, "/team", Some(("authorization", &bob))).await.status, 200);
    assert_eq!(ask(&server, "/admin", Some(("authorization", &ann))).await.status, 200);
    let denied = ask(&server, "/admin", Some(("authorization", &bob))).await;
    assert_eq!(code(&denied), (403, "not-permitted".to_owned()));

    // A delivery on the same port: who was removed is nobody there from the next request on.
    let sender = Sender::new(format!("{}/webhooks/clerk", server.url()), SECRET);
    let now = now_ms();
    let gone = json!({
        "object": "event", "type": "organizationMembership.deleted", "timestamp": now, "instance_id": "ins_1",
        "data": {
            "object": "organization_membership", "id": "orgmem_b", "role": "org:member",
            "organization": {"object": "organization", "id": "org_1"}, "public_user_data": {"user_id": "user_b"},
            "created_at": now - 1000, "updated_at": now,
        },
    });
    let reply = sender.send("msg_1", &gone.to_string()).await;
    assert!(reply.is_ack(), "{reply:?}");
    let removed = ask(&server, "/team", Some(("authorization", &bob))).await;
    assert_eq!(code(&removed), (404, "no-active-organization".to_owned()));
    let ann: Value = ask(&server, "/team", Some(("authorization", &ann))).await.json().expect("JSON");
    assert_eq!(ann["members"].as_array().map(Vec::len), Some(1));
    server.signal(rustix::process::Signal::INT);
    assert!(server.wait(std::time::Duration::from_secs(30)).await.success(), "it ends in order");
}
