//! The state machine, told the time by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use super::*;
use serde_json::json;
use svix::webhooks::Webhook;

const START: i64 = 1_716_883_200_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn event(kind: &'static str) -> Event {
    Event { kind, data: json!({"id": "user_1", "object": "user"}), at_ms: START }
}

/// A post with one endpoint, and chaos of a seed.
struct Bench {
    post: Post,
    chaos: DeliveryChaos,
    endpoint: String,
    now: i64,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut post = Post::new(1, settings);
        let new =
            NewEndpoint { url: "http://127.0.0.1:1/hook".into(), secret: Some(SECRET.into()), ..Default::default() };
        let endpoint = post.add_endpoint(new, START).unwrap();
        Self { post, chaos: DeliveryChaos::default(), endpoint, now: START }
    }

    fn exact() -> Self {
        Self::new(Settings { jitter_percent: 0, ..Settings::default() })
    }

    fn accept(&mut self) -> String {
        let chaos = (&self.chaos, Chance::new(5));
        self.post.accept(&event("user.created"), "ins_1", &Origin::default(), chaos, self.now)
    }

    fn due(&mut self) -> Vec<Dispatch> {
        self.post.due((&self.chaos, Chance::new(5)), self.now)
    }

    /// Everything that is due, answered like this, until nothing is.
    fn answer_all(&mut self, answer: &Answer) -> Vec<Dispatch> {
        let mut sent = Vec::new();
        loop {
            let due = self.due();
            if due.is_empty() {
                return sent;
            }
            for dispatch in due {
                self.post.answered(dispatch.attempt, answer, self.now);
                sent.push(dispatch);
            }
        }
    }

    /// Moves the clock from attempt to attempt, until nothing is to come: when each was made.
    fn run_out(&mut self, answer: &Answer) -> Vec<i64> {
        let mut times = Vec::new();
        while let Some(next) = self.post.next_at() {
            self.now = self.now.max(next);
            let sent = self.answer_all(answer).len();
            times.extend(std::iter::repeat_n(self.now - START, sent));
        }
        times
    }

    fn delivery(&self, message: &str) -> &Delivery {
        &self.post.message(message).unwrap().deliveries[&self.endpoint]
    }

    fn state(&self, message: &str) -> DeliveryState {
        self.delivery(message).state
    }
}

fn late(retry_after_s: i64) -> Answer {
    let answer = |retry_after_ms| Answer::Response { status: 503, body: String::new(), control: None, retry_after_ms };
    answer(Some(retry_after_s * 1000))
}

fn timeout() -> Answer {
    Answer::Nothing { error: "too slow".into(), timeout: true }
}

fn controlled(control: Control) -> Answer {
    Answer::Response { status: 200, body: String::new(), control: Some(control), retry_after_ms: None }
}

#[test]
fn eight_attempts_are_made_at_svixs_times() {
    let seconds = [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 99_305];
    for speed in [1, 60, 1_000] {
        let mut bench = Bench::new(Settings { jitter_percent: 0, speed, ..Settings::default() });
        let message = bench.accept();
        let times = bench.run_out(&Answer::status(500));
        let expected: Vec<i64> = seconds
            .windows(2)
            .scan(0, |at, pair| {
                *at += (pair[1] - pair[0]) * 1000 / i64::from(speed);
                Some(*at)
            })
            .collect();
        assert_eq!(times, [&[0], &expected[..]].concat(), "at speed {speed}");
        assert_eq!(bench.state(&message), DeliveryState::Failed);
        assert_eq!(bench.delivery(&message).attempts.len(), 8);
    }
}

#[test]
fn jitter_stays_within_a_fifth_and_is_used() {
    let mut seen = std::collections::BTreeSet::new();
    let mut bench = Bench::new(Settings::default());
    for _ in 0..500 {
        let message = bench.accept();
        bench.answer_all(&Answer::status(500));
        let wait = bench.delivery(&message).next_at_ms().unwrap() - bench.now;
        assert!((4_000..=6_000).contains(&wait), "{wait}");
        seen.insert(wait / 500);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [8, 9, 10, 11], "nearly all of the range is met");
}

#[test]
fn every_status_but_2xx_fails() {
    for (status, expected) in
        [(200, true), (204, true), (299, true), (199, false), (301, false), (304, false), (400, false), (410, false)]
    {
        let mut bench = Bench::exact();
        let message = bench.accept();
        bench.answer_all(&Answer::status(status));
        let state = if expected { DeliveryState::Delivered } else { DeliveryState::Waiting };
        assert_eq!(bench.state(&message), state, "{status}");
    }
}

#[test]
fn retry_after_counts_between_once_and_twice_the_delay() {
    let wait = |answer: &Answer| {
        let mut bench = Bench::exact();
        let message = bench.accept();
        bench.answer_all(answer);
        bench.delivery(&message).next_at_ms().unwrap() - bench.now
    };
    for (asked, waited) in [(0, 5_000), (4, 5_000), (7, 7_000), (10, 10_000), (11, 10_000), (100_000, 10_000)] {
        assert_eq!(wait(&late(asked)), waited, "Retry-After: {asked}");
    }
    assert_eq!(wait(&timeout()), 60_000);
    assert_eq!(wait(&Answer::status(429)), 60_000);
    let limited = |seconds: i64| Answer::Response {
        status: 429,
        body: String::new(),
        control: None,
        retry_after_ms: Some(seconds * 1000),
    };
    for (asked, waited) in [(1, 60_000), (90, 90_000), (500, 120_000)] {
        assert_eq!(wait(&limited(asked)), waited, "429 with Retry-After: {asked}");
    }
}

#[test]
fn every_attempt_is_signed_anew_and_verifies() {
    let mut bench = Bench::exact();
    let message = bench.accept();
    let webhook = Webhook::new(SECRET).unwrap();
    let mut stamps = Vec::new();
    while let Some(next) = bench.post.next_at() {
        bench.now = next;
        for dispatch in bench.answer_all(&Answer::status(500)) {
            assert_eq!(dispatch.message, message);
            assert_eq!(dispatch.timestamp_s, bench.now / 1000);
            assert_eq!(
                dispatch.signature,
                webhook.sign(&message, dispatch.timestamp_s, dispatch.body.as_bytes()).unwrap()
            );
            stamps.push(dispatch.timestamp_s);
        }
    }
    stamps.dedup();
    assert_eq!(stamps.len(), 8);
}

#[test]
fn both_secrets_sign_while_they_overlap() {
    let mut bench = Bench::exact();
    let new = bench.post.rotate_secret(&bench.endpoint.clone(), None, Some(HOUR), bench.now).unwrap();
    let fits = |dispatch: &Dispatch, secret: &str| {
        let expected = Webhook::new(secret)
            .unwrap()
            .sign(&dispatch.message, dispatch.timestamp_s, dispatch.body.as_bytes())
            .unwrap();
        dispatch.signature.split(' ').any(|signature| signature == expected)
    };
    for (later, old_fits) in [(0, true), (HOUR - 1, true), (HOUR, false)] {
        bench.now = START + later;
        bench.accept();
        let sent = bench.answer_all(&Answer::status(200));
        assert!(fits(&sent[0], &new));
        assert_eq!(fits(&sent[0], SECRET), old_fits, "{later} ms after the rotation");
    }
}

#[test]
fn the_body_is_clerks_envelope_and_the_id_is_svixs() {
    let mut bench = Bench::exact();
    let message = bench.accept();
    let body: serde_json::Value = serde_json::from_str(&bench.due()[0].body).unwrap();
    assert_eq!(
        body,
        json!({
            "data": {"id": "user_1", "object": "user"}, "object": "event", "type": "user.created", "timestamp": START,
            "instance_id": "ins_1", "event_attributes": {"http_request": {"client_ip": "", "user_agent": ""}},
        })
    );
    assert_eq!(message.len(), 31);
    assert!(message.starts_with("msg_"));
}

#[test]
fn receivers_can_abort_a_message_and_disable_their_endpoint() {
    let failing = |control| match controlled(control) {
        Answer::Response { body, control, .. } => Answer::Response { status: 500, body, control, retry_after_ms: None },
        nothing @ Answer::Nothing { .. } => nothing,
    };
    let mut bench = Bench::exact();
    let message = bench.accept();
    bench.answer_all(&failing(Control::AbortMessage));
    assert_eq!(bench.state(&message), DeliveryState::Failed);
    assert!(bench.post.endpoint(&bench.endpoint).unwrap().disabled.is_none());

    let (waiting, last) = (bench.accept(), bench.accept());
    bench.answer_all(&Answer::status(500));
    assert_eq!(bench.state(&waiting), DeliveryState::Waiting);
    bench.now += 5_000;
    let due = bench.due();
    bench.post.answered(due[0].attempt, &failing(Control::Disable), bench.now);
    assert_eq!(bench.post.endpoint(&bench.endpoint).unwrap().disabled.unwrap().by, DisabledBy::Receiver);
    bench.post.answered(due[1].attempt, &Answer::status(500), bench.now);
    assert_eq!((bench.state(&waiting), bench.state(&last)), (DeliveryState::Failed, DeliveryState::Failed));
    assert_eq!(bench.post.next_at(), None);
}

#[test]
fn an_endpoint_that_only_fails_is_disabled_five_days_after_the_failures_spread() {
    let mut bench = Bench::exact();
    let fail = |bench: &mut Bench, at: i64| {
        bench.now = START + at;
        bench.accept();
        bench.answer_all(&Answer::status(500));
        bench.post.endpoint(&bench.endpoint).unwrap().disabled
    };
    // Far apart by less than 12 h: no clock. At 12 h it begins, and 5 days later it ends.
    for at in [0, HOUR, 11 * HOUR, 12 * HOUR, 3 * DAY, 12 * HOUR + 5 * DAY - 1] {
        assert_eq!(fail(&mut bench, at), None, "after {at} ms");
    }
    let disabled = fail(&mut bench, 12 * HOUR + 5 * DAY).unwrap();
    assert_eq!((disabled.by, disabled.since_ms), (DisabledBy::Failures, START + 12 * HOUR + 5 * DAY));
    assert_eq!(bench.post.next_at(), None, "what waited is given up");
    let unsent = bench.accept();
    assert!(bench.post.message(&unsent).unwrap().deliveries.is_empty(), "nothing is queued while it is disabled");
}

#[test]
fn one_success_starts_the_five_days_again_and_speed_shortens_them() {
    let disabled_after = |speed: u32, success_at: Option<i64>, until: i64| {
        let mut bench = Bench::new(Settings { jitter_percent: 0, speed, ..Settings::default() });
        for at in (0..=until).step_by(usize::try_from(6 * HOUR / i64::from(speed)).unwrap()) {
            bench.now = START + at;
            bench.accept();
            let status = if success_at.is_some_and(|good| good == at) { 200 } else { 500 };
            bench.answer_all(&Answer::status(status));
            if bench.post.endpoint(&bench.endpoint).unwrap().disabled.is_some() {
                return Some(at);
            }
        }
        None
    };
    assert_eq!(disabled_after(1, None, 10 * DAY), Some(5 * DAY + 12 * HOUR));
    assert_eq!(disabled_after(100, None, DAY), Some((5 * DAY + 12 * HOUR) / 100));
    assert_eq!(disabled_after(1, Some(3 * DAY), 10 * DAY), Some(3 * DAY + 6 * HOUR + 12 * HOUR + 5 * DAY));
}

#[test]
fn resend_keeps_the_id_and_is_tried_once() {
    let mut bench = Bench::exact();
    let message = bench.accept();
    let first = bench.answer_all(&Answer::status(200)).remove(0);
    bench.now += 90_000;
    assert_eq!(bench.post.resend(&message, None, bench.now), Ok(1));
    let again = bench.answer_all(&Answer::status(500)).remove(0);
    assert_eq!((&again.message, &again.body), (&first.message, &first.body));
    assert_eq!(again.timestamp_s, first.timestamp_s + 90);
    assert_eq!(bench.post.next_at(), None);
    assert_eq!(bench.state(&message), DeliveryState::Delivered, "it was delivered once, and that stays true");
    assert_eq!(bench.post.resend("msg_none", None, bench.now), Err(Refused::NoMessage("msg_none".into())));
}

#[test]
fn a_resend_that_arrives_ends_the_schedule() {
    let mut bench = Bench::exact();
    let message = bench.accept();
    bench.answer_all(&Answer::status(500));
    bench.post.resend(&message, None, bench.now).unwrap();
    bench.answer_all(&Answer::status(200));
    assert_eq!(bench.state(&message), DeliveryState::Delivered);
    assert_eq!(bench.post.next_at(), None);
}

#[test]
fn replay_missing_sends_what_was_never_tried_and_recover_what_failed() {
    let mut bench = Bench::exact();
    let failed = bench.accept();
    bench.run_out(&Answer::status(500));
    bench.now += DAY;
    let since = bench.now;
    let endpoint = bench.endpoint.clone();
    let delivered = bench.accept();
    bench.answer_all(&Answer::status(200));
    let disable = |disabled| EndpointChange { disabled: Some(disabled), ..EndpointChange::default() };
    bench.post.change_endpoint(&endpoint, disable(true), bench.now).unwrap();
    let missed = bench.accept();
    assert_eq!(bench.post.replay_missing(&endpoint, 0, bench.now), Err(Refused::Disabled(endpoint.clone())));
    bench.post.change_endpoint(&endpoint, disable(false), bench.now).unwrap();
    assert_eq!(bench.due(), []);

    assert_eq!(bench.post.replay_missing(&endpoint, 0, bench.now), Ok(1));
    let sent = bench.answer_all(&Answer::status(200));
    assert_eq!(sent.iter().map(|sent| &sent.message).collect::<Vec<_>>(), [&missed]);
    assert_eq!(bench.post.replay_missing(&endpoint, 0, bench.now), Ok(0));

    assert_eq!(bench.post.recover(&endpoint, since, bench.now), Ok(0));
    assert_eq!(bench.post.recover(&endpoint, 0, bench.now), Ok(1));
    let sent = bench.answer_all(&Answer::status(200));
    assert_eq!(sent.iter().map(|sent| &sent.message).collect::<Vec<_>>(), [&failed]);
    for message in [failed, delivered, missed] {
        assert_eq!(bench.state(&message), DeliveryState::Delivered);
    }
}

#[test]
fn only_wanted_events_are_sent() {
    let mut bench = Bench::exact();
    let chaos = DeliveryChaos::default();
    let events = |events: &[&str]| Some(events.iter().map(ToString::to_string).collect());
    let endpoint = bench.endpoint.clone();
    for (filter, wanted) in [
        (vec![], true),
        (vec!["user.created"], true),
        (vec!["user"], true),
        (vec!["use"], false),
        (vec!["user.deleted"], false),
    ] {
        let change = EndpointChange { events: events(&filter), ..EndpointChange::default() };
        bench.post.change_endpoint(&endpoint, change, START).unwrap();
        let id =
            bench.post.accept(&event("user.created"), "ins_1", &Origin::default(), (&chaos, Chance::new(1)), START);
        assert_eq!(!bench.post.message(&id).unwrap().deliveries.is_empty(), wanted, "{filter:?}");
    }
}

#[test]
fn a_restart_loses_nothing_that_waits() {
    let mut bench = Bench::exact();
    bench.chaos.reorder_percent = 30.0;
    bench.chaos.duplicate_percent = 30.0;
    let mut journal = Post::new(1, bench.post.settings());
    let messages: Vec<String> = (0..40).map(|_| bench.accept()).collect();
    journal.apply(bench.post.changes());
    bench.due();
    assert_eq!(bench.post.under_way(), 16);
    journal.apply(bench.post.changes());

    let written = serde_json::to_string(&bench.post).unwrap();
    let whole: Post = serde_json::from_str(&written).unwrap();
    for (name, post) in [("whole", whole), ("journal", journal)] {
        let mut again = Bench { post, chaos: bench.chaos.clone(), endpoint: bench.endpoint.clone(), now: bench.now };
        assert_eq!(again.post.under_way(), 0, "{name}: what was under way counts as not made");
        again.run_out(&Answer::status(200));
        let states: Vec<DeliveryState> = messages.iter().map(|message| again.state(message)).collect();
        assert_eq!(states, [DeliveryState::Delivered; 40], "{name}");
        assert_ne!(again.accept(), messages[0], "{name}: numbers go on");
        assert_eq!(again.post.messages().count(), 41);
    }
}

#[test]
fn what_is_interrupted_is_due_again() {
    let mut bench = Bench::exact();
    let message = bench.accept();
    let first = bench.due().remove(0);
    bench.post.interrupt_all();
    let again = bench.due().remove(0);
    assert_eq!((&again.message, &again.body), (&first.message, &first.body));
    bench.post.answered(first.attempt, &Answer::status(200), bench.now);
    assert_eq!(bench.state(&message), DeliveryState::Waiting, "the broken attempt has no say");
    bench.post.answered(again.attempt, &Answer::status(200), bench.now);
    assert_eq!(bench.state(&message), DeliveryState::Delivered);
}

#[test]
fn no_more_are_under_way_than_allowed() {
    let mut bench = Bench::new(Settings { concurrency: 3, ..Settings::default() });
    (0..10).for_each(|_| drop(bench.accept()));
    let due = bench.due();
    assert_eq!((due.len(), bench.due().len(), bench.post.next_at()), (3, 0, None));
    bench.post.answered(due[0].attempt, &Answer::status(200), bench.now);
    assert_eq!(bench.due().len(), 1);
}

#[test]
fn finished_messages_are_forgotten_and_waiting_ones_never() {
    let mut bench = Bench::new(Settings { keep_messages: 10, keep_ms: DAY, jitter_percent: 0, ..Settings::default() });
    let waiting = bench.accept();
    bench.answer_all(&Answer::status(500));
    let done: Vec<String> = (0..30).map(|_| bench.accept()).collect();
    bench.answer_all(&Answer::status(200));
    bench.post.forget_now(bench.now);
    assert_eq!(bench.post.messages().count(), 11);
    assert!(
        bench.post.message(&waiting).is_ok()
            && bench.post.message(&done[19]).is_err()
            && bench.post.message(&done[20]).is_ok()
    );
    bench.post.forget_now(bench.now + DAY + 1);
    assert_eq!(bench.post.messages().map(|message| message.id.clone()).collect::<Vec<_>>(), [waiting]);
}

#[test]
fn bad_settings_addresses_and_secrets_are_refused() {
    let mut post = Post::new(1, Settings::default());
    for url in ["", "ftp://a/", "not an address", "http://"] {
        let new = NewEndpoint { url: url.into(), ..NewEndpoint::default() };
        assert_eq!(post.add_endpoint(new, START), Err(Refused::Url), "{url}");
    }
    let url = "http://a/".to_owned();
    for secret in ["", "whsec_", "whsec_c2hvcnQ=", "nothing"] {
        let new = NewEndpoint { url: url.clone(), secret: Some(secret.into()), ..NewEndpoint::default() };
        assert_eq!(post.add_endpoint(new, START), Err(Refused::Secret), "{secret}");
    }
    for settings in [
        Settings { speed: 0, ..Settings::default() },
        Settings { jitter_percent: 101, ..Settings::default() },
        Settings { concurrency: 0, ..Settings::default() },
    ] {
        assert!(matches!(post.set(settings), Err(Refused::Setting(..))), "{settings:?}");
    }
    for _ in 0..MAX_ENDPOINTS {
        post.add_endpoint(NewEndpoint { url: url.clone(), ..NewEndpoint::default() }, START).unwrap();
    }
    assert_eq!(post.add_endpoint(NewEndpoint { url, ..NewEndpoint::default() }, START), Err(Refused::TooMany));
}

/// Random steps of everything that can happen, with what must always hold checked after each.
#[test]
fn nothing_that_happens_in_any_order_loses_or_forgets() {
    for seed in 0..200 {
        let mut bench = Bench::new(Settings { concurrency: 4, ..Settings::default() });
        bench.chaos = DeliveryChaos {
            duplicate_percent: 20.0,
            reorder_percent: 20.0,
            drop_percent: 5.0,
            ..DeliveryChaos::default()
        };
        let mut draw = Chance::new(seed).of("steps", &[]);
        let (mut under_way, mut accepted) = (Vec::new(), Vec::new());
        for _ in 0..150 {
            step(&mut bench, &mut draw, &mut under_way, &mut accepted);
            check(&bench.post, seed);
        }
        bench.post.interrupt_all();
        bench.chaos = DeliveryChaos::default();
        let id = bench.endpoint.clone();
        bench
            .post
            .change_endpoint(&id, EndpointChange { disabled: Some(false), ..EndpointChange::default() }, bench.now)
            .unwrap();
        bench.run_out(&Answer::status(200));
        bench.post.replay_missing(&id, 0, bench.now).unwrap();
        bench.post.recover(&id, 0, bench.now).unwrap();
        bench.run_out(&Answer::status(200));
        for message in accepted {
            let state = bench.state(&message);
            assert!(
                matches!(state, DeliveryState::Delivered | DeliveryState::Lost),
                "seed {seed}: {message} is {state:?}"
            );
        }
    }
}

fn step(bench: &mut Bench, draw: &mut crate::chance::Draw, under_way: &mut Vec<u64>, accepted: &mut Vec<String>) {
    let endpoint = bench.endpoint.clone();
    let disable = |disabled| EndpointChange { disabled: Some(disabled), ..EndpointChange::default() };
    match draw.below(12) {
        0..=3 => accepted.push(bench.accept()),
        4 | 5 => under_way.extend(bench.due().iter().map(|dispatch| dispatch.attempt)),
        6 | 7 if !under_way.is_empty() => {
            let place = usize::try_from(draw.below(under_way.len() as u64)).unwrap();
            let answers = [Answer::status(200), Answer::status(500), timeout(), late(3)];
            let answer = &answers[usize::try_from(draw.below(4)).unwrap()];
            bench.post.answered(under_way.swap_remove(place), answer, bench.now);
        }
        8 => bench.now += draw.between(0, 2 * HOUR),
        9 if !accepted.is_empty() => {
            let message = &accepted[usize::try_from(draw.below(accepted.len() as u64)).unwrap()];
            // A disabled endpoint refuses, and that is all the same here.
            drop(bench.post.resend(message, Some(&endpoint), bench.now));
        }
        10 => bench.post.change_endpoint(&endpoint, disable(draw.percent(30.0)), bench.now).unwrap(),
        11 => {
            under_way.clear();
            let written = serde_json::to_string(&bench.post).unwrap();
            bench.post = serde_json::from_str(&written).unwrap();
        }
        _ => {}
    }
}

fn check(post: &Post, seed: u64) {
    assert_eq!(
        post.lanes.all(),
        Lanes::of(post.messages.values()).all(),
        "seed {seed}: what is found quickly is what there is"
    );
    for message in post.messages() {
        for delivery in message.deliveries.values() {
            let comes = !delivery.turns.is_empty();
            assert!(comes || delivery.state != DeliveryState::Waiting, "seed {seed}: {} waits for nothing", message.id);
            let tried = delivery.turns.iter().filter(|turn| turn.trigger == Trigger::Schedule).count();
            assert!(tried <= 1, "seed {seed}: {} is on the schedule {tried} times", message.id);
        }
    }
}

mod chaos {
    use super::*;

    /// So many messages with this chaos, all of them answered 200: what was sent, in order.
    fn sent(chaos: DeliveryChaos, messages: usize) -> (Bench, Vec<String>, Vec<Dispatch>) {
        let mut bench = Bench { chaos, ..Bench::exact() };
        let (mut accepted, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..messages {
            accepted.push(bench.accept());
            sent.extend(bench.answer_all(&Answer::status(200)));
        }
        while let Some(next) = bench.post.next_at() {
            bench.now = bench.now.max(next);
            sent.extend(bench.answer_all(&Answer::status(200)));
        }
        (bench, accepted, sent)
    }

    fn ids(sent: &[Dispatch]) -> Vec<String> {
        sent.iter().map(|dispatch| dispatch.message.clone()).collect()
    }

    #[test]
    fn dropped_messages_are_counted_and_never_sent() {
        let chaos = DeliveryChaos { drop_percent: 30.0, ..DeliveryChaos::default() };
        let (mut bench, accepted, sent) = sent(chaos, 10_000);
        let lost = bench.post.counts()[&DeliveryState::Lost];
        assert!((2_850..3_150).contains(&lost), "{lost} of 10,000 at 30 %");
        assert_eq!(sent.len(), 10_000 - lost);
        let sent: std::collections::BTreeSet<String> = ids(&sent).into_iter().collect();
        for message in &accepted {
            let state = if sent.contains(message) { DeliveryState::Delivered } else { DeliveryState::Lost };
            assert_eq!(bench.state(message), state);
        }
        let endpoint = bench.endpoint.clone();
        assert_eq!(bench.post.recover(&endpoint, 0, bench.now), Ok(0), "the sender believes that they arrived");
        assert_eq!(bench.post.replay_missing(&endpoint, 0, bench.now), Ok(0));
    }

    #[test]
    fn duplicates_have_the_same_id() {
        let chaos = DeliveryChaos { duplicate_percent: 25.0, ..DeliveryChaos::default() };
        let (_, accepted, sent) = sent(chaos, 4_000);
        let doubled = sent.len() - accepted.len();
        assert!((900..1_100).contains(&doubled), "{doubled} of 4,000 at 25 %");
        let mut sent = ids(&sent);
        sent.dedup();
        assert_eq!(sent, accepted, "each twice in a row at most, and in order");
    }

    #[test]
    fn what_is_held_back_is_overtaken_by_the_window_at_most() {
        let chaos = DeliveryChaos { reorder_percent: 20.0, reorder_window: 4, ..DeliveryChaos::default() };
        let (_, accepted, sent) = sent(chaos, 2_000);
        let places: std::collections::HashMap<String, usize> = ids(&sent).into_iter().zip(0..).collect();
        let by: Vec<usize> =
            accepted.iter().zip(0_usize..).map(|(id, place)| places[id].saturating_sub(place)).collect();
        let overtaken = by.iter().filter(|by| **by > 0).count();
        assert!((340..460).contains(&overtaken), "{overtaken} of 2,000 at 20 %");
        assert!(by.iter().all(|by| *by <= 4));
        assert_eq!(sent.len(), 2_000, "nothing is stuck");
    }

    #[test]
    fn delays_stay_within_their_range() {
        let chaos = DeliveryChaos { delay_percent: 50.0, delay_ms: [1_000, 2_000], ..DeliveryChaos::default() };
        let mut bench = Bench { chaos, ..Bench::exact() };
        let waits: Vec<i64> = (0..1_000)
            .map(|_| {
                let message = bench.accept();
                bench.delivery(&message).next_at_ms().unwrap() - START
            })
            .collect();
        let late = waits.iter().filter(|wait| **wait > 0).count();
        assert!((440..560).contains(&late), "{late} of 1,000 at 50 %");
        assert!(waits.iter().all(|wait| *wait == 0 || (1_000..=2_000).contains(wait)));
    }

    #[test]
    fn corrupt_signatures_fit_nothing_and_are_noted() {
        let chaos = DeliveryChaos { corrupt_percent: 100.0, ..DeliveryChaos::default() };
        let (bench, accepted, sent) = sent(chaos, 3);
        let webhook = Webhook::new(SECRET).unwrap();
        for dispatch in &sent {
            let good = webhook.sign(&dispatch.message, dispatch.timestamp_s, dispatch.body.as_bytes()).unwrap();
            assert_ne!(dispatch.signature, good);
            assert_eq!(dispatch.signature.len(), good.len());
        }
        assert!(accepted.iter().all(|message| bench.delivery(message).attempts[0].corrupted));
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let chaos = DeliveryChaos {
            drop_percent: 30.0,
            duplicate_percent: 20.0,
            reorder_percent: 20.0,
            delay_percent: 10.0,
            corrupt_percent: 5.0,
            ..DeliveryChaos::default()
        };
        let run = || sent(chaos.clone(), 500).2;
        assert_eq!(run(), run());
    }

    #[test]
    fn the_schedule_runs_on_through_an_outage() {
        let outage = |hours: i64| DeliveryChaos {
            outage: true,
            outage_until_ms: Some(START + hours * HOUR),
            ..DeliveryChaos::default()
        };
        // The clock jumps: the attempts were made, and failed, when they were due.
        let mut bench = Bench { chaos: outage(30), ..Bench::exact() };
        let message = bench.accept();
        bench.now = START + 30 * HOUR;
        assert_eq!(bench.due(), []);
        assert_eq!(bench.state(&message), DeliveryState::Failed);
        let times: Vec<i64> =
            bench.delivery(&message).attempts.iter().map(|attempt| (attempt.at_ms - START) / 1000).collect();
        assert_eq!(times, [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 99_305]);

        let mut bench = Bench { chaos: outage(2), ..Bench::exact() };
        let message = bench.accept();
        bench.now = START + 3 * HOUR;
        assert_eq!(bench.answer_all(&Answer::status(200)).len(), 1);
        assert_eq!((bench.state(&message), bench.delivery(&message).attempts.len()), (DeliveryState::Delivered, 5));
    }
}
