//! What is set: the schedule, the chaos, the instance's options.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Answer, Body, Failure, On};
use crate::chaos;

/// Settings with what is named in `change` changed: objects member by member, everything else as a whole.
fn changed<T: Serialize + DeserializeOwned>(settings: &T, change: Value) -> Result<T, Failure> {
    let unreadable = |error: serde_json::Error| Failure::unfit("body", error);
    let mut value = serde_json::to_value(settings).map_err(unreadable)?;
    merge(&mut value, change);
    serde_json::from_value(value).map_err(unreadable)
}

fn merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(members), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(members.entry(name).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

pub(super) async fn schedule(State(shared): On) -> Answer {
    shared.with(|state, _| Ok(Json(json!(state.post.settings()))))
}

pub(super) async fn change_schedule(State(shared): On, Body(change): Body<Value>) -> Answer {
    shared.with(|state, _| {
        state.post.set(changed(&state.post.settings(), change)?)?;
        Ok(Json(json!(state.post.settings())))
    })
}

pub(super) async fn chaos(State(shared): On) -> Answer {
    shared.with(|state, _| Ok(Json(json!(state.chaos().settings()))))
}

pub(super) async fn set_chaos(State(shared): On, Body(settings): Body<chaos::Settings>) -> Answer {
    shared.with(|state, now| {
        state.set_chaos(settings, now)?;
        Ok(Json(json!(state.chaos().settings())))
    })
}

pub(super) async fn change_chaos(State(shared): On, Body(change): Body<Value>) -> Answer {
    shared.with(|state, now| {
        state.set_chaos(changed(state.chaos().settings(), change)?, now)?;
        Ok(Json(json!(state.chaos().settings())))
    })
}

pub(super) async fn calm(State(shared): On) -> Answer {
    shared.with(|state, now| {
        let seed = state.chaos().settings().seed;
        state.set_chaos(chaos::Settings { seed, ..chaos::Settings::default() }, now)?;
        Ok(Json(json!(state.chaos().settings())))
    })
}

pub(super) async fn options(State(shared): On) -> Answer {
    shared.with(|state, _| Ok(Json(json!(state.instance.options()))))
}

pub(super) async fn change_options(State(shared): On, Body(change): Body<Value>) -> Answer {
    shared.with(|state, _| {
        let options = changed(state.instance.options(), change)?;
        state.instance.set_options(options);
        Ok(Json(json!(state.instance.options())))
    })
}
