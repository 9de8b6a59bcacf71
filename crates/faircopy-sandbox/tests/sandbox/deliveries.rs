//! From a change to the receiver, through the whole sandbox.
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Local, NOW, settings};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use faircopy_sandbox::Settings;
use faircopy_sandbox::chaos;
use faircopy_sandbox::post::{DeliveryState, NewEndpoint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use svix::webhooks::Webhook;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came: ids and bodies. It is closed until it is opened.
#[derive(Default)]
struct Receiver {
    is_open: Mutex<bool>,
    came: Mutex<Vec<(String, Value)>>,
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !*receiver.is_open.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let stamp: i64 = header("svix-timestamp").parse().unwrap();
    let expected = Webhook::new(SECRET).unwrap().sign(&header("svix-id"), stamp, &body).unwrap();
    if header("svix-signature") != expected {
        return StatusCode::BAD_REQUEST;
    }
    let body = serde_json::from_slice(&body).unwrap();
    receiver.came.lock().unwrap().push((header("svix-id"), body));
    StatusCode::OK
}

async fn start(chaos: chaos::Settings) -> (Local, Arc<Receiver>) {
    let receiver = Arc::new(Receiver::default());
    *receiver.is_open.lock().unwrap() = true;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let routes = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(routes.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let endpoint = NewEndpoint { url, secret: Some(SECRET.into()), ..NewEndpoint::default() };
    let local = Local::with(Settings { chaos, endpoints: vec![endpoint], ..settings() }).await;
    (local, receiver)
}

async fn until_sent(local: &Local) {
    tokio::time::timeout(PATIENCE, local.sandbox.shared().until_sent()).await.expect("sent in time");
}

fn count(local: &Local, state: DeliveryState) -> usize {
    local.sandbox.shared().with(|now, _| now.post.counts()[&state])
}

#[tokio::test]
async fn what_changes_arrives_in_clerks_envelope() {
    let (local, receiver) = start(chaos::Settings::default()).await;
    let user = local.user("ada@example.com").await;
    local.patch(&format!("/v1/users/{user}"), json!({"first_name": "Augusta"})).await.ok();
    local.delete(&format!("/v1/users/{user}")).await.ok();
    until_sent(&local).await;
    let mut came = receiver.came.lock().unwrap().clone();
    came.sort_by_key(|(_, body)| body["timestamp"].as_i64());
    let kinds: Vec<&str> = came.iter().map(|(_, body)| body["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["user.created", "user.updated", "user.deleted"]);
    for (_, body) in &came {
        assert_eq!((&body["object"], &body["data"]["id"]), (&json!("event"), &json!(user)));
        assert!(body["timestamp"].as_i64().unwrap() >= NOW);
        assert_eq!(body["instance_id"], local.sandbox.shared().keys().instance_id());
    }
    let ids: BTreeSet<&String> = came.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_third_is_dropped_and_what_is_corrupt_comes_later() {
    let deliveries =
        chaos::DeliveryChaos { drop_percent: 30.0, corrupt_percent: 20.0, ..chaos::DeliveryChaos::default() };
    let (local, receiver) = start(chaos::Settings { seed: 4, deliveries, ..chaos::Settings::default() }).await;
    for number in 0..200 {
        local.user(&format!("user{number}@example.com")).await;
    }
    until_sent(&local).await;
    assert!(count(&local, DeliveryState::Waiting) > 10, "what had a wrong signature was refused");
    while count(&local, DeliveryState::Waiting) > 0 {
        local.advance(600_000);
        until_sent(&local).await;
    }
    let (lost, delivered) = (count(&local, DeliveryState::Lost), count(&local, DeliveryState::Delivered));
    assert_eq!((lost + delivered, receiver.came.lock().unwrap().len()), (200, delivered));
    assert!((40..80).contains(&lost), "{lost} of 200 at 30 %");
}

#[tokio::test]
async fn thirty_hours_without_a_receiver_lose_everything_and_recover_brings_it_back() {
    let deliveries = chaos::DeliveryChaos { outage: true, ..chaos::DeliveryChaos::default() };
    let (local, receiver) = start(chaos::Settings { deliveries, ..chaos::Settings::default() }).await;
    for number in 0..10 {
        local.user(&format!("user{number}@example.com")).await;
    }
    // With jitter the last attempt is at most a fifth later than 27 h 35 min.
    local.advance(34 * 3_600_000);
    until_sent(&local).await;
    assert_eq!(count(&local, DeliveryState::Failed), 10);
    assert_eq!(receiver.came.lock().unwrap().len(), 0);

    local.sandbox.shared().with(|state, now| {
        state.set_chaos(chaos::Settings::default(), now).unwrap();
        let endpoint = state.post.endpoints().next().unwrap().id.clone();
        assert_eq!(state.post.recover(&endpoint, 0, now), Ok(10));
    });
    until_sent(&local).await;
    assert_eq!(receiver.came.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_everything() {
    let (local, receiver) = start(chaos::Settings::default()).await;
    *receiver.is_open.lock().unwrap() = false;
    for number in 0..20 {
        local.user(&format!("user{number}@example.com")).await;
    }
    until_sent(&local).await;
    assert_eq!(count(&local, DeliveryState::Waiting), 20);
    *receiver.is_open.lock().unwrap() = true;
    local.advance(6_000);
    until_sent(&local).await;
    assert_eq!((count(&local, DeliveryState::Delivered), receiver.came.lock().unwrap().len()), (20, 20));
}
