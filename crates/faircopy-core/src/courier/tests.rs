use super::*;

const NOW: Millis = Millis(1_760_000_000_000);

fn open() -> Gate {
    let mut gate = Gate::default();
    for _ in 0..MAX_AT_ONCE {
        let pass = gate.begin(0, NOW).unwrap();
        gate.end(pass, Reply::Confirmed, NOW, 0);
    }
    gate
}

/// One call with this answer, as soon as the gate lets it through from `now` on; when that was.
fn call(gate: &mut Gate, reply: Reply, now: Millis) -> Millis {
    let at = gate.closed_until(now).unwrap_or(now);
    let pass = gate.begin(0, at).unwrap_or_else(|closed| panic!("{closed:?} at {at}"));
    gate.end(pass, reply, at, u64::MAX);
    at
}

fn limited(seconds: i64) -> Reply {
    Reply::Limited { retry_after_ms: Some(seconds * 1_000) }
}

#[test]
fn it_opens_slowly_up_to_eight() {
    let mut gate = Gate::default();
    for confirmed in 0..20 {
        let places = (0..20).take_while(|under_way| gate.clone().begin(*under_way, NOW).is_ok()).count();
        assert_eq!(places, (confirmed + 1).min(MAX_AT_ONCE), "after {confirmed}");
        assert_eq!(gate.clone().begin(places, NOW), Err(Closed::Busy));
        call(&mut gate, Reply::Confirmed, NOW);
    }
}

#[test]
fn retry_after_holds_the_whole_target_within_bounds() {
    let check = |retry_after_ms: Option<i64>, expected_ms: i64| {
        let mut gate = open();
        call(&mut gate, Reply::Limited { retry_after_ms }, NOW);
        assert_eq!(gate.begin(0, NOW), Err(Closed::Until(NOW.plus(expected_ms))), "{retry_after_ms:?}");
        assert_eq!(gate.closed_until(NOW.plus(expected_ms - 1)), Some(NOW.plus(expected_ms)));
        assert!(gate.begin(0, NOW.plus(expected_ms)).is_ok());
    };
    check(Some(7_000), 7_000);
    check(None, SHORTEST_HOLD_MS);
    check(Some(0), SHORTEST_HOLD_MS);
    check(Some(-5), SHORTEST_HOLD_MS);
    check(Some(86_400_000), LONGEST_HOLD_MS);
    check(Some(i64::MAX), LONGEST_HOLD_MS);
}

#[test]
fn a_shorter_hold_shortens_none_and_one_burst_counts_once() {
    let mut gate = open();
    let passes: Vec<Pass> = (0..MAX_AT_ONCE).map(|under_way| gate.begin(under_way, NOW).unwrap()).collect();
    for (number, pass) in passes.into_iter().enumerate() {
        gate.end(pass, limited(if number == 3 { 9 } else { 2 }), NOW.plus(i64::try_from(number).unwrap()), 0);
    }
    assert_eq!(gate.closed_until(NOW.plus(10)), Some(NOW.plus(9_003)));
    assert_eq!((gate.limits, gate.at_once), (1, 1));
}

#[test]
fn a_target_that_asks_for_too_little_is_left_alone_longer() {
    let mut gate = open();
    let mut now = NOW;
    for expected in [1_000, 2_000, 4_000, 8_000] {
        now = call(&mut gate, limited(1), now);
        assert_eq!(gate.closed_until(now), Some(now.plus(expected)));
    }
    for _ in 0..40 {
        now = call(&mut gate, Reply::Limited { retry_after_ms: None }, now);
    }
    assert_eq!(gate.closed_until(now), Some(now.plus(BACKOFF.cap_ms)));
    now = call(&mut gate, Reply::Confirmed, now);
    now = call(&mut gate, limited(1), now.plus(LONGEST_HOLD_MS));
    assert_eq!(gate.closed_until(now), Some(now.plus(1_000)), "a confirmation begins the count anew");
}

/// A target that takes `limit` calls in any second and answers the others 429, and besides one call in `unlucky`: the calls of
/// so many seconds, and how many of them were taken.
fn against_a_limit(limit: usize, seconds: i64, latency_ms: i64, unlucky: Option<usize>) -> (usize, usize) {
    let mut gate = Gate::default();
    let mut calls = 0;
    let mut taken: Vec<Millis> = Vec::new();
    let mut under_way: VecDeque<(Millis, Pass, Reply)> = VecDeque::new();
    for now in (0..seconds * 1_000).map(|ms| NOW.plus(ms)) {
        while let Some((_, pass, reply)) = under_way.pop_front_if(|(ends, _, _)| *ends <= now) {
            gate.end(pass, reply, now, 0);
        }
        while let Ok(pass) = gate.begin(under_way.len(), now) {
            calls += 1;
            let in_this_second = taken.iter().rev().take_while(|at| now.0 - at.0 < 1_000).count();
            let refuses = in_this_second >= limit || unlucky.is_some_and(|one_in| calls % one_in == 0);
            if !refuses {
                taken.push(now);
            }
            under_way.push_back((now.plus(latency_ms), pass, if refuses { limited(1) } else { Reply::Confirmed }));
        }
    }
    (calls, taken.len())
}

/// faults.md L2: hardly more is asked for than is allowed, and at least half of that is used.
#[test]
fn the_rate_follows_what_the_target_takes() {
    let check = |limit: usize, latency_ms: i64| {
        let (calls, taken) = against_a_limit(limit, 120, latency_ms, None);
        let allowed = limit * 120;
        assert!(calls * 10 <= allowed * 11, "{limit}/s: {calls} calls");
        assert!(taken * 2 >= allowed, "{limit}/s: {taken} of {allowed} were taken");
    };
    check(1, 5);
    check(1, 400);
    check(2, 20);
    check(5, 20);
    check(20, 20);
    check(100, 20);
}

/// A 429 now and then is no limit: what is lost is little more than the seconds that it asked for.
#[test]
fn a_429_now_and_then_does_not_slow_the_target_down_for_good() {
    let (calls, taken) = against_a_limit(usize::MAX, 300, 40, Some(50));
    assert!(taken >= 300 * 20, "{taken} of {calls} calls in 300 s");
}

/// faults.md L4.
#[test]
fn a_refused_key_is_tried_once_a_minute() {
    let mut gate = open();
    let first = call(&mut gate, Reply::Refused, NOW);
    let mut now = first;
    for times in 2..=20 {
        now = call(&mut gate, Reply::Refused, now);
        let refusal = gate.refusal().unwrap();
        assert_eq!((now, refusal.since, refusal.times), (first.plus(i64::from(times - 1) * 60_000), first, times));
        assert_eq!(refusal.is_alarm(), times >= 5);
    }
    // While the probe is under way, and if nothing comes of it, nothing else begins.
    let at = gate.refusal().unwrap().next_probe;
    let pass = gate.begin(0, at).unwrap();
    assert_eq!(gate.begin(0, at), Err(Closed::Until(at.plus(60_000))));
    gate.end(pass, Reply::Failed, at, u64::MAX);
    assert_eq!(gate.begin(0, at.plus(59_999)), Err(Closed::Until(at.plus(60_000))));
    assert_eq!(gate.refusal().unwrap().times, 20, "a failure says nothing of the key");
    call(&mut gate, Reply::Confirmed, at.plus(60_000));
    assert_eq!(gate.refusal(), None);
    assert_eq!(gate.at_once, 2, "one after the other again");
}

#[test]
fn those_under_way_when_the_key_is_refused_are_no_probes() {
    let mut gate = open();
    let passes: Vec<Pass> = (0..MAX_AT_ONCE).map(|under_way| gate.begin(under_way, NOW).unwrap()).collect();
    passes.into_iter().for_each(|pass| gate.end(pass, Reply::Refused, NOW, 0));
    assert_eq!(gate.refusal().unwrap().times, 1);
}

#[test]
fn a_target_that_is_down_is_tried_by_one_call_now_and_then() {
    let mut gate = open();
    let mut now = NOW;
    // Steps that are bad among good ones close nothing.
    for _ in 0..100 {
        call(&mut gate, Reply::Failed, now);
        call(&mut gate, Reply::Confirmed, now);
    }
    assert_eq!((gate.closed_until(now), gate.at_once), (None, MAX_AT_ONCE));
    for failure in 1..=30 {
        now = call(&mut gate, Reply::Failed, now);
        let expected = (failure >= 8).then(|| now.plus(BACKOFF.ceiling_ms(failure - 7)));
        assert_eq!(gate.closed_until(now), expected, "{failure}");
    }
    assert_eq!(gate.at_once, 1);
    let hour = NOW.plus(24 * 3_600_000);
    let mut calls = 0;
    let mut at = hour;
    while at < hour.plus(3_600_000) {
        at = call(&mut gate, Reply::Failed, at).plus(1);
        calls += 1;
    }
    assert!(calls <= 13, "{calls} calls in an hour of outage");
    call(&mut gate, Reply::Confirmed, at.plus(BACKOFF.cap_ms));
    assert_eq!(gate.failures, 0);
}

#[test]
fn a_clock_that_goes_back_closes_nothing_for_longer() {
    let before = NOW.plus(-24 * 3_600_000);
    for reply in [limited(5), Reply::Refused] {
        let mut gate = open();
        call(&mut gate, reply, NOW);
        let at = gate.closed_until(before).unwrap();
        assert!(at <= before.plus(PROBE_EVERY_MS), "{reply:?}: {at}");
        assert!(gate.begin(0, at).is_ok());
    }
    let mut paced = open();
    let after = call(&mut paced, limited(1), NOW);
    call(&mut paced, Reply::Confirmed, after);
    let at = paced.closed_until(before).unwrap_or(before);
    assert!(at <= before.plus(LONGEST_HOLD_MS) && paced.begin(0, at).is_ok());
}

/// Whatever is answered, in whatever order: never more than eight, no hold beyond its bounds, and no call before the time that
/// was named.
#[test]
fn no_history_breaks_its_bounds() {
    let mut state: u64 = 7;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let mut gate = Gate::default();
        let (mut now, mut under_way): (Millis, Vec<Pass>) = (NOW, Vec::new());
        for _ in 0..400 {
            now = now.plus(i64::try_from(draw(2_000)).unwrap());
            if draw(2) == 0 && !under_way.is_empty() {
                let pass = under_way.swap_remove(usize::try_from(draw(under_way.len() as u64)).unwrap());
                let reply = match draw(6) {
                    0 => limited(i64::try_from(draw(700)).unwrap()),
                    1 => Reply::Refused,
                    2 => Reply::Failed,
                    _ => Reply::Confirmed,
                };
                gate.end(pass, reply, now, draw(u64::MAX));
                continue;
            }
            let closed = gate.closed_until(now);
            match gate.begin(under_way.len(), now) {
                Ok(pass) => {
                    assert_eq!(closed, None);
                    under_way.push(pass);
                    assert!(under_way.len() <= MAX_AT_ONCE);
                }
                Err(Closed::Busy) => assert!(closed.is_none() && !under_way.is_empty()),
                Err(Closed::Until(at)) => {
                    assert_eq!(closed, Some(at));
                    assert!(at > now && at <= now.plus(LONGEST_HOLD_MS), "{at} at {now}");
                }
            }
        }
        let end = now.plus(LONGEST_HOLD_MS);
        assert!(gate.begin(0, end).is_ok(), "nothing closes it for ever");
    }
}
