//! Whose key is it? Everything that Clerk answers is about the instance of the key: a key of another one makes every user
//! look deleted. So nothing is asked before the key is known to belong to the instance that is copied.
//!
//! The instance is the configured one, and the one whose session tokens are verified: the keys that the issuer publishes must
//! be among those that the Backend API gives for the secret key. Where neither is configured there is nothing to compare
//! with, and the key says which instance is copied.

use super::*;
use faircopy_core::token::{Keys, Kid};

/// How long the answer counts: a name can lead elsewhere, and keys are replaced.
const PERIOD_MS: i64 = 5 * 60_000;
/// What an instance's id, and therefore the name of its key, begins with.
const PREFIX: &str = "ins_";

pub(super) struct Ownership {
    /// `CLERK_INSTANCE_ID`.
    configured: Option<String>,
    has_sessions: bool,
    keys: Arc<KeySet>,
    /// What the key says. Once known it stays: a key that says something else later is a wrong one.
    learned: OnceLock<String>,
    state: Mutex<State>,
    /// One check at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    checked_at: Option<Millis>,
    verdict: Verdict,
}

/// What is known of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Unknown,
    /// It belongs to the instance.
    Ours,
    /// It belongs to another one.
    Foreign,
}

impl Verdict {
    /// As `/readyz` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "not asked yet",
            Self::Ours => "ready",
            Self::Foreign => "wrong instance",
        }
    }
}

impl Ownership {
    pub(super) fn new(config: &Config, keys: Arc<KeySet>) -> Self {
        Self {
            configured: config.instance_id.clone(),
            has_sessions: config.sessions.are_configured(),
            keys,
            learned: OnceLock::new(),
            state: Mutex::new(State { checked_at: None, verdict: Verdict::Unknown }),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verdict while it counts.
    fn recent(&self, now: Millis) -> Option<Verdict> {
        let State { checked_at, verdict } = *self.state();
        checked_at.filter(|at| (0..PERIOD_MS).contains(&(now.0 - at.0))).map(|_| verdict)
    }

    /// Whether the issuer's keys are needed for the comparison, and not at hand.
    fn lacks_keys(&self) -> bool {
        self.has_sessions && self.configured.is_none() && self.keys.held().is_none()
    }

    fn judge(&self, id: &str, published: &Keys) -> Verdict {
        let named = |known: Option<&str>| known.is_none_or(|known| known == id);
        if !named(self.configured.as_deref()) || !named(self.learned.get().map(String::as_str)) {
            return Verdict::Foreign;
        }
        let is_foreign = self.keys.held().is_some_and(|ours| !ours.shares_a_key_with(published));
        if is_foreign { Verdict::Foreign } else { Verdict::Ours }
    }

    /// Keeps the verdict, and says once when it has changed.
    fn settle(&self, verdict: Verdict, id: &str, now: Millis) {
        let before = std::mem::replace(&mut *self.state(), State { checked_at: Some(now), verdict }).verdict;
        match verdict {
            Verdict::Ours => {
                let id = self.learned.get_or_init(|| id.to_owned());
                if before != verdict {
                    tracing::info!(instance = id, "CLERK_SECRET_KEY belongs to the instance that is copied");
                }
            }
            Verdict::Foreign if before != verdict => tracing::error!(
                key_of = id,
                code = "clerk-wrong-instance",
                "CLERK_SECRET_KEY belongs to another instance than the one that is copied; nothing is read with it"
            ),
            Verdict::Foreign | Verdict::Unknown => {}
        }
    }
}

impl Clerk {
    /// The instance that the key belongs to, once it is known to be the one that is copied.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.ownership.learned.get().map(String::as_str)
    }

    /// What is known of the key.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.ownership.state().verdict
    }

    /// Makes sure that the key belongs to the instance that is copied; asks Clerk where that was not asked within the last
    /// 5 minutes.
    pub async fn check_instance(&self, share: Share) -> Result<(), Fault> {
        let verdict = match self.ownership.recent(self.clock.now()) {
            Some(verdict) => verdict,
            None => self.ask_instance(share).await?,
        };
        if verdict == Verdict::Ours { Ok(()) } else { Err(Fault::WrongInstance) }
    }

    /// As [`Clerk::check_instance`], asking in any case: before it is believed that something is not there, for a key of
    /// another instance finds nothing at all.
    pub async fn check_instance_again(&self, share: Share) -> Result<(), Fault> {
        let _turn = self.ownership.turn.lock().await;
        if self.ask(share).await? == Verdict::Ours { Ok(()) } else { Err(Fault::WrongInstance) }
    }

    async fn ask_instance(&self, share: Share) -> Result<Verdict, Fault> {
        let _turn = self.ownership.turn.lock().await;
        match self.ownership.recent(self.clock.now()) {
            Some(verdict) => Ok(verdict),
            None => self.ask(share).await,
        }
    }

    async fn ask(&self, share: Share) -> Result<Verdict, Fault> {
        if self.ownership.lacks_keys() {
            return Err(Fault::UnknownInstance);
        }
        let read = |segments: [&'static str; 1]| {
            let url = list::address(&self.base, &segments);
            async move { self.get(url.ok_or(Fault::Malformed)?, segments[0], share).await }
        };
        let (_, document) = read(["jwks"]).await?;
        let (published, _) = Keys::from_jwks(document.unwrap_or_default().as_bytes()).map_err(|_| Fault::Malformed)?;
        let (asked_at, answer) = read(["instance"]).await?;
        let id = match answer {
            Some(json) => api::instance(&json)?,
            // An API without that route: the key is named after its instance (clerk-facts.md, section 2.6).
            None => {
                let mut names = published.names().map(Kid::to_string);
                names.find(|name| name.starts_with(PREFIX)).ok_or(Fault::Malformed)?
            }
        };
        let verdict = self.ownership.judge(&id, &published);
        self.ownership.settle(verdict, &id, asked_at);
        self.metrics.clerk_key_is_foreign(verdict == Verdict::Foreign);
        Ok(verdict)
    }
}
