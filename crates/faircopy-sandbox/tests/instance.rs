//! What changes do: what they answer, what they emit, what they refuse.

mod support;

use serde_json::json;
use support::Local;

#[tokio::test]
async fn an_organization_has_its_creator_as_its_first_administrator() {
    let local = Local::start().await;
    let user = local.user("ada@example.com").await;
    let organization = local.organization("Acme", &user).await;
    assert_eq!(local.kinds(), ["user.created", "organization.created", "organizationMembership.created"]);
    let members = local.get(&format!("/v1/organizations/{organization}/memberships")).await.ok();
    assert_eq!(members["total_count"], 1);
    let member = &members["data"][0];
    assert_eq!((&member["role"], &member["public_user_data"]["user_id"]), (&json!("org:admin"), &json!(user)));
    assert_eq!(member["public_user_data"]["identifier"], "ada@example.com");
    assert_eq!(member["organization"]["id"], organization);
}
