//! What is decided, and what becomes of answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;

fn api(api: ApiChaos) -> Chaos {
    Chaos::new(Settings { seed: 9, api, ..Settings::default() })
}

fn count(chaos: &mut Chaos, route: Route, wrong: Wrong) -> usize {
    (0..10_000).filter(|_| chaos.api_fault(route, 0).wrong == Some(wrong)).count()
}

#[test]
fn nothing_goes_wrong_unless_it_is_set() {
    let mut chaos = Chaos::default();
    assert!((0..1_000).all(|_| chaos.api_fault(Route::List, 0) == ApiFault::default()));
}

#[test]
fn rates_are_kept_and_one_setting_does_not_move_another() {
    let limited = ApiChaos { limited_percent: 20.0, retry_after_s: None, ..ApiChaos::default() };
    let both = ApiChaos { error_percent: 50.0, error_status: 502, ..limited.clone() };
    let alone = count(&mut api(limited), Route::Read, Wrong::Limited(None));
    assert!((1_900..2_100).contains(&alone), "{alone} of 10,000 at 20 %");
    assert_eq!(count(&mut api(both.clone()), Route::Read, Wrong::Limited(None)), alone);
    let errors = count(&mut api(both), Route::Read, Wrong::Status(502));
    assert!((3_850..4_150).contains(&errors), "{errors}: half of those that are left");
}

#[test]
fn a_seed_gives_the_same_run_and_setting_it_begins_anew() {
    let settings = |seed| {
        let api = ApiChaos { error_percent: 50.0, latency_ms: [0, 100], ..ApiChaos::default() };
        Settings { seed, api, ..Settings::default() }
    };
    let run = |chaos: &mut Chaos| (0..100).map(|_| chaos.api_fault(Route::Read, 0)).collect::<Vec<_>>();
    let mut chaos = Chaos::new(settings(1));
    let first = run(&mut chaos);
    assert_ne!(run(&mut chaos), first);
    chaos.set(settings(2)).unwrap();
    assert_ne!(run(&mut chaos), first);
    chaos.set(settings(1)).unwrap();
    assert_eq!(run(&mut chaos), first);
    assert!(first.iter().all(|fault| (0..=100).contains(&fault.latency_ms)));
}

#[test]
fn an_outage_ends_when_it_says() {
    let outage = ApiChaos { outage: ApiOutage::Closed, outage_until_ms: Some(1_000), ..ApiChaos::default() };
    let mut chaos = api(outage);
    assert_eq!(chaos.api_fault(Route::Write, 999).wrong, Some(Wrong::Closed));
    assert_eq!(chaos.api_fault(Route::Write, 1_000).wrong, None);
}

#[test]
fn only_what_is_set_is_stale_and_only_lists_are_halved() {
    let stale = Stale { lists: true, reads: false, lag_ms: None };
    let mut chaos = api(ApiChaos { stale, half_page_percent: 100.0, ..ApiChaos::default() });
    let mut of = |route| {
        let fault = chaos.api_fault(route, 0);
        (fault.stale, fault.wrong)
    };
    assert_eq!(of(Route::List), (true, Some(Wrong::HalfPage)));
    assert_eq!(of(Route::Read), (false, None));
    assert_eq!(of(Route::Write), (false, None));
}

#[test]
fn settings_out_of_bounds_are_refused_by_name_and_change_nothing() {
    let of = |deliveries: DeliveryChaos, api: ApiChaos| Settings { seed: 1, deliveries, api };
    let (good, fine) = (DeliveryChaos::default, ApiChaos::default);
    for (settings, name) in [
        (of(DeliveryChaos { drop_percent: 101.0, ..good() }, fine()), "deliveries.drop_percent"),
        (of(DeliveryChaos { duplicate_percent: -1.0, ..good() }, fine()), "deliveries.duplicate_percent"),
        (of(DeliveryChaos { reorder_percent: f64::NAN, ..good() }, fine()), "deliveries.reorder_percent"),
        (of(DeliveryChaos { delay_ms: [5, 1], ..good() }, fine()), "deliveries.delay_ms"),
        (of(DeliveryChaos { reorder_window: 0, ..good() }, fine()), "deliveries.reorder_window"),
        (of(good(), ApiChaos { error_status: 200, ..fine() }), "api.error_status"),
        (of(good(), ApiChaos { retry_after_s: Some(3_601), ..fine() }), "api.retry_after_s"),
        (of(good(), ApiChaos { latency_ms: [-1, 1], ..fine() }), "api.latency_ms"),
        (of(good(), ApiChaos { stale: Stale { lag_ms: Some(-1), ..Stale::default() }, ..fine() }), "api.stale.lag_ms"),
    ] {
        let mut chaos = Chaos::default();
        assert_eq!(chaos.set(settings).unwrap_err().name, name);
        assert_eq!(chaos.settings(), &Settings::default());
    }
}

async fn answered(wrong: Wrong, body: &serde_json::Value) -> (u16, String, Option<bytes::Bytes>) {
    let fault = ApiFault { wrong: Some(wrong), ..ApiFault::default() };
    let answer = axum::Json(body.clone()).into_response();
    let response: Response = layer::around(fault, async { answer }).await;
    let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let kind = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.ok().map(http_body_util::Collected::to_bytes);
    (status, retry.or(kind).unwrap_or_default(), body)
}

#[tokio::test]
async fn answers_are_spoilt_as_decided() {
    let page = json!({"data": [1, 2, 3, 4], "total_count": 9});
    let (status, _, body) = answered(Wrong::HalfPage, &page).await;
    assert_eq!((status, body.unwrap()), (200, json!({"data": [1, 2], "total_count": 9}).to_string().into()));
    assert_eq!(answered(Wrong::HalfPage, &json!([1, 2])).await.2.unwrap(), "[1]");

    let (status, kind, body) = answered(Wrong::Truncated, &page).await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    assert!(serde_json::from_slice::<serde_json::Value>(&body.unwrap()).is_err());

    let (status, kind, body) = answered(Wrong::Html, &page).await;
    assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
    assert!(body.unwrap().starts_with(b"<!doctype html>"));

    let (status, retry, body) = answered(Wrong::Limited(Some(7)), &page).await;
    assert_eq!((status, retry.as_str()), (429, "7"));
    let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
    assert_eq!(body["errors"][0]["code"], "too_many_requests");

    assert_eq!(answered(Wrong::Unavailable, &page).await.0, 503);
    assert_eq!(answered(Wrong::Status(502), &page).await.0, 502);
    assert_eq!(answered(Wrong::Closed, &page).await.2, None, "the body breaks off");
}

#[tokio::test]
async fn what_is_refused_is_not_carried_out() {
    for wrong in [Wrong::Closed, Wrong::Unavailable, Wrong::Limited(None), Wrong::Status(500)] {
        let fault = ApiFault { wrong: Some(wrong), ..ApiFault::default() };
        layer::around(fault, async { panic!("{wrong:?} carried the request out") }).await;
    }
}
