//! Routes of users.

use serde_json::{Value, json};

use super::answer::Answer;
use super::{Call, Outcome};
use crate::instance::Refusal;

/// Users in one request to ban them.
const MAX_MANY: usize = 50;

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_users(call.query)?.into())
}

pub(super) fn count(call: &mut Call<'_>) -> Outcome {
    let total = call.instance.count_users(call.query)?;
    Ok(Answer::Json(json!({ "object": "total_count", "total_count": total })))
}

pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.create_user(call.body, call.now)?.into())
}

pub(super) fn get(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.user(call.part(0))?.into())
}

pub(super) fn update(call: &mut Call<'_>) -> Outcome {
    let metadata = call.version.updates_metadata();
    Ok(call.instance.update_user(call.part(0), call.body, metadata, call.now)?.into())
}

pub(super) fn delete(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.delete_user(call.part(0), call.now)?.into())
}

pub(super) fn ban(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.ban_user(call.part(0), true, call.now)?.into())
}

pub(super) fn unban(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.ban_user(call.part(0), false, call.now)?.into())
}

pub(super) fn ban_many(call: &mut Call<'_>) -> Outcome {
    many(call, true)
}

pub(super) fn unban_many(call: &mut Call<'_>) -> Outcome {
    many(call, false)
}

fn many(call: &mut Call<'_>, banned: bool) -> Outcome {
    let ids = call.body.get("user_ids").and_then(Value::as_array).ok_or_else(|| Refusal::missing("user_ids"))?;
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    if ids.is_empty() {
        return Err(Refusal::missing("user_ids"));
    }
    if ids.len() > MAX_MANY {
        return Err(Refusal::too_many("user_ids", MAX_MANY));
    }
    for id in &ids {
        call.instance.user(id)?;
    }
    let banned: Result<Vec<_>, Refusal> = ids.iter().map(|id| call.instance.ban_user(id, banned, call.now)).collect();
    Ok(banned?.into())
}

pub(super) fn lock(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.lock_user(call.part(0), true, call.now)?.into())
}

pub(super) fn unlock(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.lock_user(call.part(0), false, call.now)?.into())
}

pub(super) fn merge_metadata(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.set_user_metadata(call.part(0), call.body, false, call.now)?.into())
}

pub(super) fn replace_metadata(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.set_user_metadata(call.part(0), call.body, true, call.now)?.into())
}

pub(super) fn memberships(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_memberships_of(call.part(0), call.query)?.into())
}

pub(super) fn invitations(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_invitations_to(call.part(0), call.query, call.now)?.into())
}
