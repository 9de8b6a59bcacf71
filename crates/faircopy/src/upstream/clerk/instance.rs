//! Whose key is it? Everything that Clerk answers is about the instance of the key: a key of another one makes every user
//! look deleted. So nothing is asked before the key is known to belong to the instance that is copied.
//!
//! The instance is the configured one, and the one whose session tokens are verified: the keys that the issuer publishes must
//! be among those that the Backend API gives for the secret key. Where neither is configured there is nothing to compare
//! with, and the key says which instance is copied.
//!
//! A stand-in for the API may lack the routes that tell. Then the key is unproven: what it finds is believed, because ids are
//! of one instance alone, and that something is not there only after it has found a record of ours.

use std::sync::atomic::{AtomicBool, Ordering};

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
    /// The key has found a record that was asked for by its id.
    has_found: AtomicBool,
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
    /// The API does not tell.
    Unproven,
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
            Self::Unproven => "unproven",
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
            has_found: AtomicBool::new(false),
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

    /// What follows from what the API has told of itself.
    fn judge(&self, id: Option<&str>, published: Option<&Keys>) -> Verdict {
        let known = [self.configured.as_deref(), self.learned.get().map(String::as_str)];
        let contradicts = |known: Option<&str>| known.zip(id).is_some_and(|(known, id)| known != id);
        let shared = self.keys.held().zip(published).map(|(ours, published)| ours.shares_a_key_with(published));
        if known.into_iter().any(contradicts) || shared == Some(false) {
            return Verdict::Foreign;
        }
        let has_nothing_to_fit = self.configured.is_none() && !self.has_sessions;
        let fits = shared == Some(true) || id.is_some_and(|_| self.configured.is_some() || has_nothing_to_fit);
        if fits { Verdict::Ours } else { Verdict::Unproven }
    }

    /// Keeps the verdict, and says once when it has changed.
    fn settle(&self, verdict: Verdict, id: Option<&str>, now: Millis) {
        let before = std::mem::replace(&mut *self.state(), State { checked_at: Some(now), verdict }).verdict;
        match verdict {
            Verdict::Ours => {
                let id = id.map(|id| self.learned.get_or_init(|| id.to_owned()));
                if before != verdict {
                    tracing::info!(instance = id, "CLERK_SECRET_KEY belongs to the instance that is copied");
                }
            }
            Verdict::Unproven if before != verdict => tracing::warn!(
                "CLERK_API_URL does not tell whose key CLERK_SECRET_KEY is; what it does not find is believed only after it \
                 has found something of ours"
            ),
            Verdict::Foreign if before != verdict => tracing::error!(
                key_of = id,
                code = "clerk-wrong-instance",
                "CLERK_SECRET_KEY belongs to another instance than the one that is copied; nothing is read with it"
            ),
            Verdict::Foreign | Verdict::Unproven | Verdict::Unknown => {}
        }
    }
}

impl Clerk {
    /// The instance that the key belongs to, once it is known to be the one that is copied.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.ownership.learned.get().map(String::as_str)
    }

    /// Whether the settings say which instance is copied, by its name or by its session tokens.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.ownership.configured.is_some() || self.ownership.has_sessions
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
        if verdict == Verdict::Foreign { Err(Fault::WrongInstance) } else { Ok(()) }
    }

    /// As [`Clerk::check_instance`], asking in any case: before it is believed that something is not there, for a key of
    /// another instance finds nothing at all.
    pub async fn check_instance_again(&self, share: Share) -> Result<(), Fault> {
        let _turn = self.ownership.turn.lock().await;
        match self.ask(share).await? {
            Verdict::Ours => Ok(()),
            Verdict::Unproven if self.ownership.has_found.load(Ordering::Relaxed) => Ok(()),
            Verdict::Unproven | Verdict::Unknown => Err(Fault::UnknownInstance),
            Verdict::Foreign => Err(Fault::WrongInstance),
        }
    }

    /// A record that was asked for by its id is there.
    pub(super) fn found_ours(&self) {
        self.ownership.has_found.store(true, Ordering::Relaxed);
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
        let read = |segment: &'static str| {
            let url = list::address(&self.base, &[segment]);
            async move {
                match self.get(url.ok_or(Fault::Malformed)?, segment, share).await {
                    // A page for people is no answer to whoever has had one before.
                    Err(Fault::Status(404)) if self.instance().is_none() => Ok(None),
                    answer => answer.map(|(_, document)| document),
                }
            }
        };
        let published = match read("jwks").await? {
            Some(document) => Some(Keys::from_jwks(document.as_bytes()).map_err(|_| Fault::Malformed)?.0),
            None => None,
        };
        let id = match read("instance").await? {
            Some(json) => Some(api::instance(&json)?),
            // An API without that route: the key is named after its instance (clerk-facts.md, section 2.6).
            None => {
                let names = published.iter().flat_map(Keys::names).map(Kid::to_string);
                names.into_iter().find(|name| name.starts_with(PREFIX))
            }
        };
        let verdict = self.ownership.judge(id.as_deref(), published.as_ref());
        self.ownership.settle(verdict, id.as_deref(), self.clock.now());
        self.metrics.clerk_key_is_foreign(verdict == Verdict::Foreign);
        Ok(verdict)
    }
}
