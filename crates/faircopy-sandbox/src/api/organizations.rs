//! Routes of organizations, their members and their invitations.

use super::{Call, Outcome};

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_organizations(call.query)?.into())
}

pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.create_organization(call.body, call.now)?.into())
}

pub(super) fn get(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.get_organization(call.part(0), call.query)?.into())
}

pub(super) fn update(call: &mut Call<'_>) -> Outcome {
    let metadata = call.version.updates_metadata();
    Ok(call.instance.update_organization(call.part(0), call.body, metadata, call.now)?.into())
}

pub(super) fn delete(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.delete_organization(call.part(0), call.now)?.into())
}

pub(super) fn merge_metadata(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.set_organization_metadata(call.part(0), call.body, false, call.now)?.into())
}

pub(super) fn replace_metadata(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.set_organization_metadata(call.part(0), call.body, true, call.now)?.into())
}

pub(super) fn members(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_members(call.part(0), call.query)?.into())
}

pub(super) fn add_member(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.create_membership(call.part(0), call.body, call.now)?.into())
}

pub(super) fn update_member(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.update_membership(call.part(0), call.part(1), call.body, call.now)?.into())
}

pub(super) fn remove_member(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.delete_membership(call.part(0), call.part(1), call.now)?.into())
}

pub(super) fn merge_member_metadata(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.set_membership_metadata(call.part(0), call.part(1), call.body, call.now)?.into())
}

pub(super) fn invitations(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_invitations(call.part(0), call.query, call.now)?.into())
}

pub(super) fn pending_invitations(call: &mut Call<'_>) -> Outcome {
    let query = call.query.clone().with("status", "pending");
    Ok(call.instance.list_invitations(call.part(0), &query, call.now)?.into())
}

pub(super) fn invite(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.create_invitation(call.part(0), call.body, call.now)?.into())
}

pub(super) fn invite_many(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.create_invitations(call.part(0), call.bodies, call.now)?.into())
}

pub(super) fn invitation(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.get_invitation(call.part(0), call.part(1), call.now)?.into())
}

pub(super) fn revoke_invitation(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.revoke_invitation(call.part(0), call.part(1), call.body, call.now)?.into())
}

pub(super) fn all_memberships(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_all_memberships(call.query)?.into())
}

pub(super) fn all_invitations(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_all_invitations(call.query, call.now)?.into())
}

pub(super) fn roles(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_roles(call.query)?.into())
}

pub(super) fn permissions(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.list_permissions(call.query)?.into())
}
