//! The sender against a receiver that fails, is slow, redirects, or goes away.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use faircopy_sandbox::chance::Chance;
use faircopy_sandbox::chaos::DeliveryChaos;
use faircopy_sandbox::instance::Event;
use faircopy_sandbox::post::sender::{self, Office};
use faircopy_sandbox::post::{Answer, DeliveryState, NewEndpoint, Origin, Post, Settings};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use svix::webhooks::Webhook;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const START: i64 = 1_716_883_200_000;
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

type Behaviour = dyn Fn(usize) -> Response + Send + Sync;

/// Counts what comes, by id, and answers by how many of that id came before.
struct Receiver {
    came: Mutex<BTreeMap<String, usize>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Each answer takes so long.
    takes: Duration,
    behaviour: Box<Behaviour>,
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> Response {
    let at_once = receiver.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    receiver.most_at_once.fetch_max(at_once, Ordering::SeqCst);
    tokio::time::sleep(receiver.takes).await;
    receiver.at_once.fetch_sub(1, Ordering::SeqCst);
    // The reference library refuses stamps of another day; what is signed here carries the test's clock.
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let id = header("svix-id");
    let stamp: i64 = header("svix-timestamp").parse().unwrap();
    let expected = Webhook::new(SECRET).unwrap().sign(&id, stamp, &body).unwrap();
    assert_eq!(header("svix-signature"), expected);
    assert_eq!(header("content-type"), "application/json");
    assert!(header("user-agent").starts_with("Svix-Webhooks/"));
    let before = {
        let mut came = receiver.came.lock().unwrap();
        let count = came.entry(id).or_default();
        *count += 1;
        *count - 1
    };
    (receiver.behaviour)(before)
}

async fn receiver(
    takes: Duration,
    behaviour: impl Fn(usize) -> Response + Send + Sync + 'static,
) -> (Arc<Receiver>, String) {
    let receiver = Arc::new(Receiver {
        came: Mutex::default(),
        at_once: AtomicUsize::default(),
        most_at_once: AtomicUsize::default(),
        takes,
        behaviour: Box::new(behaviour),
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let routes = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
    tokio::spawn(serve(listener, routes));
    (receiver, url)
}

async fn serve(listener: tokio::net::TcpListener, routes: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

struct Desk {
    post: Mutex<Post>,
    chaos: DeliveryChaos,
    clock: AtomicI64,
    bell: Notify,
}

impl Office for Desk {
    fn with_post<R>(&self, act: impl FnOnce(&mut Post, (&DeliveryChaos, Chance)) -> R) -> R {
        act(&mut self.post.lock().unwrap(), (&self.chaos, Chance::new(3)))
    }

    fn now_ms(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    fn bell(&self) -> &Notify {
        &self.bell
    }
}

impl Desk {
    fn new(url: &str, chaos: DeliveryChaos) -> Arc<Self> {
        let settings = Settings { jitter_percent: 0, ..Settings::default() };
        let mut post = Post::new(1, settings);
        let new = NewEndpoint { url: url.into(), secret: Some(SECRET.into()), ..NewEndpoint::default() };
        post.add_endpoint(new, START).unwrap();
        Arc::new(Self { post: Mutex::new(post), chaos, clock: AtomicI64::new(START), bell: Notify::new() })
    }

    fn start(self: &Arc<Self>) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let (stop, stopped) = oneshot::channel();
        let client = sender::client().unwrap();
        let until = async { drop(stopped.await) };
        (stop, tokio::spawn(sender::run(self.clone(), client, until)))
    }

    fn accept(&self, messages: usize) {
        let event = Event { kind: "user.created", data: json!({"id": "user_1"}), at_ms: START };
        let now_ms = self.now_ms();
        self.with_post(|post, chaos| {
            for _ in 0..messages {
                post.accept(&event, "ins_1", &Origin::default(), chaos, now_ms);
            }
        });
        self.bell.notify_one();
    }

    async fn until(&self, what: &str, reached: impl Fn(&Post) -> bool) {
        let wait = async {
            while !reached(&self.post.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn count(&self, state: DeliveryState) -> usize {
        self.post.lock().unwrap().counts()[&state]
    }
}

fn all_are(state: DeliveryState, count: usize) -> impl Fn(&Post) -> bool {
    move |post| post.counts()[&state] == count
}

#[tokio::test]
async fn a_receiver_that_fails_three_times_gets_it_the_fourth_time() {
    let answer =
        |before: usize| if before < 3 { StatusCode::BAD_GATEWAY } else { StatusCode::NO_CONTENT }.into_response();
    let (receiver, url) = receiver(Duration::ZERO, answer).await;
    let desk = Desk::new(&url, DeliveryChaos::default());
    let (stop, ended) = desk.start();
    desk.accept(20);
    for (attempts, wait_s) in [(1, 5), (2, 300), (3, 1_800)] {
        desk.until("the attempts", |post| {
            post.messages()
                .all(|message| message.deliveries.values().all(|delivery| delivery.attempts.len() == attempts))
        })
        .await;
        assert_eq!(desk.count(DeliveryState::Waiting), 20);
        desk.clock.fetch_add(wait_s * 1000, Ordering::SeqCst);
    }
    desk.until("all delivered", all_are(DeliveryState::Delivered, 20)).await;
    assert!(receiver.came.lock().unwrap().values().all(|count| *count == 4));
    drop(stop);
    ended.await.unwrap();
}

#[tokio::test]
async fn ten_thousand_messages_with_a_third_dropped() {
    let (receiver, url) = receiver(Duration::ZERO, |_| StatusCode::OK.into_response()).await;
    let desk =
        Desk::new(&url, DeliveryChaos { drop_percent: 30.0, duplicate_percent: 10.0, ..DeliveryChaos::default() });
    let (_stop, _) = desk.start();
    desk.accept(10_000);
    desk.until("nothing waits", |post| post.next_at().is_none() && post.under_way() == 0).await;
    let (lost, delivered) = (desk.count(DeliveryState::Lost), desk.count(DeliveryState::Delivered));
    assert_eq!(lost + delivered, 10_000);
    assert!((2_850..3_150).contains(&lost), "{lost}");
    let came = receiver.came.lock().unwrap();
    assert_eq!(came.len(), delivered);
    let doubled = came.values().filter(|count| **count == 2).count();
    assert!((600..800).contains(&doubled), "{doubled} of {delivered} at 10 %");
    assert!(receiver.most_at_once.load(Ordering::SeqCst) <= 16);
}

#[tokio::test]
async fn redirects_are_failures_and_are_not_followed() {
    let (receiver, url) =
        receiver(Duration::ZERO, |_| (StatusCode::TEMPORARY_REDIRECT, [("location", "/hook")]).into_response()).await;
    let desk = Desk::new(&url, DeliveryChaos::default());
    let (_stop, _) = desk.start();
    desk.accept(1);
    desk.until("an attempt", |post| {
        post.messages().all(|message| message.deliveries.values().all(|delivery| !delivery.attempts.is_empty()))
    })
    .await;
    assert_eq!(desk.count(DeliveryState::Waiting), 1);
    assert_eq!(receiver.came.lock().unwrap().values().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn what_the_receiver_says_is_read() {
    let answer = |_| {
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7"), ("webhook-delivery", "abort-message")], "busy")
            .into_response()
    };
    let (_, url) = receiver(Duration::ZERO, answer).await;
    let desk = Desk::new(&url, DeliveryChaos::default());
    let (_stop, _) = desk.start();
    desk.accept(1);
    desk.until("given up", all_are(DeliveryState::Failed, 1)).await;
    let post = desk.post.lock().unwrap();
    let message = post.messages().next().unwrap();
    let attempt = &message.deliveries.values().next().unwrap().attempts[0];
    assert_eq!(
        serde_json::to_value(&attempt.answer).unwrap(),
        json!({"status": 503, "body": "busy", "control": "abort-message", "retry_after_ms": 7_000})
    );
}

#[tokio::test]
async fn nobody_there_is_a_failure_with_its_cause() {
    // A port that was free a moment ago.
    let port = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    let desk = Desk::new(&format!("http://127.0.0.1:{port}/hook"), DeliveryChaos::default());
    let (_stop, _) = desk.start();
    desk.accept(1);
    desk.until("an attempt", |post| {
        post.messages().all(|message| message.deliveries.values().all(|delivery| !delivery.attempts.is_empty()))
    })
    .await;
    let post = desk.post.lock().unwrap();
    let message = post.messages().next().unwrap();
    let Answer::Nothing { error, timeout } = &message.deliveries.values().next().unwrap().attempts[0].answer else {
        panic!("somebody answered");
    };
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
    assert!(!timeout);
}

#[tokio::test]
async fn whoever_stops_gives_back_what_is_under_way() {
    let (receiver, url) = receiver(PATIENCE, |_| StatusCode::OK.into_response()).await;
    let desk = Desk::new(&url, DeliveryChaos::default());
    let (stop, ended) = desk.start();
    desk.accept(3);
    while receiver.at_once.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stop);
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    let mut post = desk.post.lock().unwrap();
    assert_eq!((post.under_way(), post.counts()[&DeliveryState::Waiting]), (0, 3));
    assert_eq!(post.due((&DeliveryChaos::default(), Chance::new(1)), START).len(), 3);
}
