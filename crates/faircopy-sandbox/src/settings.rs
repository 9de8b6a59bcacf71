//! What a sandbox is started with.

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::signature::RsaKeyPair;
use faircopy_world::token;

use crate::StartError;
use crate::chaos::{self, Chaos};
use crate::clock::Clock;
use crate::instance::{Dice, Instance, Options, Population};
use crate::journal::{self, Kept};
use crate::keys::{Keys, Written, made_up_secret_key};
use crate::limit::{Meter, RateLimit};
use crate::liveblocks::Rooms;
use crate::post::{self, NewEndpoint, Origin, Post};
use crate::state::{Shared, State};

/// What a sandbox is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Makes ids, the secret key and the instance's name: the same seed, the same ones.
    pub seed: u64,
    /// The key pair of session tokens; a new one takes a second to make.
    pub key_pair: Option<Arc<RsaKeyPair>>,
    /// The Backend API's key, `sk_test_…` or `sk_live_…`.
    pub secret_key: Option<String>,
    /// The instance's id, `ins_…`.
    pub instance_id: Option<String>,
    /// What can also be changed later.
    pub options: Options,
    /// How many requests may come.
    pub rate_limit: RateLimit,
    /// Who is in it from the beginning.
    pub population: Option<Population>,
    /// How deliveries are tried.
    pub schedule: post::Settings,
    /// What goes wrong on purpose.
    pub chaos: chaos::Settings,
    /// Where deliveries go.
    pub endpoints: Vec<NewEndpoint>,
    /// The secret key of the rooms, `sk_…`; [`crate::liveblocks::LOCAL_KEY`] if there is none.
    pub liveblocks_key: Option<String>,
    /// The file that everything is in, and goes on from after a kill. What it holds counts before all of the above, except
    /// for settings that are not the default ones.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// Makes everything anew, or takes it from the file.
    pub(crate) fn open(self, clock: Arc<dyn Clock>, url: &str) -> Result<(Shared, Rooms), StartError> {
        let now = clock.now_ms();
        let mut kept = self.file.as_deref().map(journal::read).transpose()?.flatten();
        let rooms = kept.as_mut().map(Kept::take_rooms).unwrap_or_default();
        let (mut state, keys) = match kept {
            Some(kept) => self.restored(kept, url),
            None => self.fresh(url, now),
        };
        if self.schedule != post::Settings::default() {
            state.post.set(self.schedule)?;
        }
        for endpoint in self.endpoints {
            if !state.post.endpoints().any(|known| known.url == endpoint.url) {
                state.post.add_endpoint(endpoint, now)?;
            }
        }
        let chaos = if self.chaos == chaos::Settings::default() { state.chaos.settings().clone() } else { self.chaos };
        state.set_chaos(chaos, now)?;
        if let Some((path, written)) = self.file.as_deref().zip(keys.written()) {
            state.write_to(path, written, &rooms)?;
        }
        Ok((Shared::new(state, clock, keys), rooms))
    }

    fn fresh(&self, url: &str, now: i64) -> (State, Keys) {
        let mut dice = Dice::new(self.seed);
        let id = self.instance_id.clone().unwrap_or_else(|| dice.id("ins"));
        let secret = self.secret_key.clone().unwrap_or_else(|| made_up_secret_key(&mut dice));
        let pair = self.key_pair.clone().unwrap_or_else(|| Arc::new(token::new_key()));
        let mut instance = Instance::new(&id, dice.number(), self.options.clone());
        if let Some(population) = self.population {
            instance.populate(population, now);
        }
        let traces = Dice::new(dice.number());
        let post = Post::new(dice.number(), post::Settings::default());
        (state(instance, post, self.rate_limit, traces), Keys::new(pair, secret, id, url.to_owned()))
    }

    fn restored(&self, kept: Kept, url: &str) -> (State, Keys) {
        let Written { secret, instance: id, .. } = kept.keys.clone();
        // A pair that cannot be read is one that nobody can verify with any more.
        let pair = Arc::new(kept.keys.pair().unwrap_or_else(token::new_key));
        let mut instance = Instance::new(&id, 0, Options::default());
        let mut post = Post::new(0, post::Settings::default());
        let rest = kept.rest.clone();
        kept.restore(&mut instance, &mut post);
        if self.options != Options::default() {
            instance.set_options(self.options.clone());
        }
        let mut state = state(instance, post, self.rate_limit, Dice::new(self.seed));
        if let Some(rest) = rest {
            (state.chaos, state.traces) = (rest.chaos, rest.traces);
            if self.rate_limit == RateLimit::default() {
                state.rate_limit = rest.rate_limit;
            }
        }
        (state, Keys::new(pair, secret, id, url.to_owned()))
    }
}

fn state(instance: Instance, post: Post, rate_limit: RateLimit, traces: Dice) -> State {
    State {
        instance,
        post,
        chaos: Chaos::default(),
        past: None,
        rate_limit,
        meter: Meter::default(),
        traces,
        origin: Origin::default(),
        journal: None,
    }
}
