//! People as they are shown: read to be shown and never to be stored. So they come as no observation, which the intake could
//! be given.

use super::*;
use faircopy_core::event::Fact;
use faircopy_core::record::Profile;

/// What Clerk answers about some users.
pub struct People {
    /// Those it knows, and only such as were asked for.
    pub found: Vec<(UserId, Profile)>,
    /// The answer is about those who were asked for and nobody else, and all of it was understood: whoever is missing is
    /// nobody to Clerk.
    pub is_whole: bool,
}

impl Clerk {
    /// The profiles of these users, at most [`MAX_NAMED`], whatever the profile mode.
    pub async fn people(&self, ids: &[UserId], share: Share) -> Result<Answer<People>, Fault> {
        self.check_instance(share).await?;
        let list = List::UsersNamed(ids);
        let url = list.url(&self.base, Cut::first(MAX_NAMED)).ok_or(Fault::Malformed)?;
        let (asked_at, body) = self.get(url, list.endpoint(), share).await?;
        // There is always a list of users.
        let body = body.ok_or(Fault::Malformed)?;
        let context = Context { mode: ProfileMode::Full, asked_at, user: None };
        let page = api::page(Kind::User, &body, &context)?;
        let mut people = People { found: Vec::with_capacity(page.items.len()), is_whole: true };
        for item in page.items {
            match profile(item) {
                Some((id, profile)) if ids.contains(&id) => people.found.push((id, profile)),
                Some(_) | None => people.is_whole = false,
            }
        }
        if !people.found.is_empty() {
            self.found_ours();
        }
        Ok(Answer { asked_at, found: people })
    }
}

fn profile(item: Item) -> Option<(UserId, Profile)> {
    let user = item.reading.ok()?.into_iter().find_map(|observation| match observation.fact {
        Fact::User(user, _) => Some(user),
        _ => None,
    })?;
    Some((user.id, user.profile?))
}
