//! What a sandbox is started with.

use std::sync::Arc;

use aws_lc_rs::signature::RsaKeyPair;
use faircopy_world::token;

use crate::StartError;
use crate::chaos::{self, Chaos};
use crate::clock::Clock;
use crate::instance::{Dice, Instance, Options, Population};
use crate::keys::{Keys, made_up_secret_key};
use crate::limit::RateLimit;
use crate::post::{self, NewEndpoint, Post};
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
}

impl Settings {
    pub(crate) fn open(self, clock: Arc<dyn Clock>, url: &str) -> Result<Shared, StartError> {
        let mut dice = Dice::new(self.seed);
        let id = self.instance_id.unwrap_or_else(|| dice.id("ins"));
        let secret = self.secret_key.unwrap_or_else(|| made_up_secret_key(&mut dice));
        let pair = self.key_pair.unwrap_or_else(|| Arc::new(token::new_key()));
        let mut instance = Instance::new(&id, dice.number(), self.options);
        if let Some(population) = self.population {
            instance.populate(population, clock.now_ms());
        }
        let keys = Keys::new(pair, secret, id, url.to_owned());
        let traces = Dice::new(dice.number());
        let now = clock.now_ms();
        let mut post = Post::new(dice.number(), post::Settings::default());
        post.set(self.schedule)?;
        for endpoint in self.endpoints {
            post.add_endpoint(endpoint, now)?;
        }
        let mut state = State {
            instance,
            post,
            chaos: Chaos::default(),
            past: None,
            rate_limit: self.rate_limit,
            meter: crate::limit::Meter::default(),
            traces,
        };
        state.set_chaos(self.chaos, now)?;
        Ok(Shared::new(state, clock, keys))
    }
}
