//! Sessions: begun, ended, revoked.

use serde_json::Value;

use super::document::{Document, Template};
use super::fields::Fields;
use super::refusal::Refusal;
use super::store::{Instance, number_of, text_of, touch};
use super::table::Id;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// For how many days a session lasts: Clerk's default.
const LIFETIME_DAYS: i64 = 7;
/// After how many days a session that nobody uses is abandoned.
const ABANDONED_DAYS: i64 = 30;

/// A session's status at a time.
pub(crate) fn status_at(session: &Document, now: i64) -> &str {
    let status = text_of(session, "status").unwrap_or("active");
    if status == "active" && number_of(session, "expire_at") <= now { "expired" } else { status }
}

impl Instance {
    /// A session as it is answered.
    pub(crate) fn session_document(&self, id: &str, now: i64) -> Result<Document, Refusal> {
        let missing = || Refusal::not_found(format!("No session was found with id {id}."));
        let mut session = self.sessions.get(id).ok_or_else(missing)?;
        let status = status_at(&session, now).to_owned();
        session.insert("status".to_owned(), status.into());
        Ok(session)
    }

    /// Begins a session, as a sign-in would.
    pub fn create_session(&mut self, body: &Document, now: i64) -> Result<Document, Refusal> {
        let fields = Fields::any(body);
        let user_id = fields.required("user_id")?;
        let mut user = self.user(user_id)?;
        if ["banned", "locked"].iter().any(|flag| user.get(*flag) == Some(&true.into())) {
            let long = format!("The user {user_id} may not sign in.");
            return Err(Refusal::new(403, "authorization_invalid", "access denied", long));
        }
        let organization = fields.text("active_organization_id")?.filter(|id| !id.is_empty());
        if let Some(organization) = organization {
            self.check_member(organization, user_id)?;
        }
        let at = self.birth(now);
        let (id, client) = (self.dice.id("sess"), self.dice.id("client"));
        let mut session = Template::session().blank(&id, at);
        session.insert("user_id".to_owned(), user_id.into());
        session.insert("client_id".to_owned(), client.into());
        session.insert("last_active_at".to_owned(), at.into());
        session.insert("expire_at".to_owned(), (at + LIFETIME_DAYS * DAY_MS).into());
        session.insert("abandon_at".to_owned(), (at + ABANDONED_DAYS * DAY_MS).into());
        if let Some(organization) = organization {
            session.insert("last_active_organization_id".to_owned(), organization.into());
        }
        self.put_session(session.clone());
        user.insert("last_sign_in_at".to_owned(), at.into());
        // With the precision of a day, as Clerk has it.
        user.insert("last_active_at".to_owned(), (at - at.rem_euclid(DAY_MS)).into());
        let user = self.user_changed(user, now);
        self.tell_session("session.created", session.clone(), user, at);
        Ok(session)
    }

    fn check_member(&self, organization: &str, user: &str) -> Result<(), Refusal> {
        self.organization(organization)?;
        let missing = || Refusal::not_found("Given organization not found for this user.");
        self.membership_id(organization, user).map(|_| ()).ok_or_else(missing)
    }

    /// Makes another organization the active one, or none.
    pub fn activate_organization(
        &mut self,
        id: &str,
        organization: Option<&str>,
        now: i64,
    ) -> Result<Document, Refusal> {
        let mut session = self.session_document(id, now)?;
        let user = text_of(&session, "user_id").unwrap_or_default().to_owned();
        if let Some(organization) = organization {
            self.check_member(organization, &user)?;
        }
        session.insert("last_active_organization_id".to_owned(), organization.map_or(Value::Null, Value::from));
        touch(&mut session, now);
        self.put_session(session.clone());
        Ok(session)
    }

    /// Closes an active session: `revoked`, `ended` or `removed`. One that is closed already stays as it is.
    pub fn close_session(&mut self, id: &str, how: &'static str, now: i64) -> Result<Document, Refusal> {
        let mut session = self.session_document(id, now)?;
        if status_at(&session, now) != "active" {
            return Ok(session);
        }
        session.insert("status".to_owned(), how.into());
        let at = touch(&mut session, now);
        self.put_session(session.clone());
        let user = self.user(text_of(&session, "user_id").unwrap_or_default())?;
        let kind = match how {
            "revoked" => "session.revoked",
            "removed" => "session.removed",
            _ => "session.ended",
        };
        self.tell_session(kind, session.clone(), user, at);
        Ok(session)
    }

    /// Removes a session because its user ends.
    pub(crate) fn drop_session(&mut self, id: &Id, now: i64) {
        if self.options.child_events {
            // Whether it was active or not, it goes.
            drop(self.close_session(id, "removed", now));
        }
        self.remove_session(id);
    }

    pub(crate) fn active_sessions(&self, user: &str, now: i64) -> Vec<Id> {
        let active = |id: &&Id| self.sessions.get(id).is_some_and(|session| status_at(&session, now) == "active");
        self.sessions_of.of(user, false).filter(active).cloned().collect()
    }

    /// No session of a user keeps an organization active that they left.
    pub(crate) fn leave_organization(&mut self, user: &str, organization: &str, now: i64) {
        let sessions: Vec<Id> = self.sessions_of.of(user, false).cloned().collect();
        for id in sessions {
            let Some(mut session) = self.sessions.get(&id) else { continue };
            if text_of(&session, "last_active_organization_id") == Some(organization) {
                session.insert("last_active_organization_id".to_owned(), Value::Null);
                touch(&mut session, now);
                self.put_session(session);
            }
        }
    }

    fn tell_session(&mut self, kind: &'static str, mut session: Document, user: Document, at: i64) {
        session.insert("user".to_owned(), Value::Object(user));
        // The description of Clerk's webhooks has no tasks.
        session.remove("tasks");
        self.emit(kind, session, at);
    }
}
