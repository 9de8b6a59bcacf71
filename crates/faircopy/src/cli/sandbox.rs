//! `faircopy sandbox`: a local stand-in for Clerk.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use faircopy_sandbox::clock::Movable;
use faircopy_sandbox::instance::{Kind, Options, Population};
use faircopy_sandbox::limit::RateLimit;
use faircopy_sandbox::post::{self, NewEndpoint};
use faircopy_sandbox::{Sandbox, Settings, chaos};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Global, output};
use crate::app::{self, Clock as _, SystemClock};
use crate::config::LogFormat;
use crate::telemetry;

/// Members of each organization unless somebody says how many.
const MEMBERS: usize = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy sandbox --users 200 --organizations 20\n  \
    faircopy sandbox --file clerk.jsonl --webhook-url http://127.0.0.1:8787/webhooks/clerk\n  \
    faircopy sandbox --speed 1000 --drop 30 --duplicate 10 --chaos-seed 7")]
pub(super) struct Arguments {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8788")]
    listen: SocketAddr,
    /// Keep everything in this file, and go on from it [default: in memory]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Makes ids and keys: the same seed, the same ones [default: others at each start]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// So many made-up users from the beginning
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    users: usize,
    /// So many made-up organizations; they need users
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    organizations: usize,
    /// So many members in each
    #[arg(long, value_name = "NUMBER", default_value_t = MEMBERS)]
    members: usize,
    /// Send signed deliveries there, such as http://127.0.0.1:8787/webhooks/clerk
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Sign them with this secret, whsec_… [default: made up]
    #[arg(long, value_name = "SECRET", requires = "webhook_url")]
    webhook_secret: Option<String>,
    /// The schedule of attempts passes so many times as fast as Svix's
    #[arg(long, value_name = "FACTOR", default_value_t = 1)]
    speed: u32,
    /// The Backend API's key; sk_live_… makes it a production instance [default: made up]
    #[arg(long, value_name = "KEY")]
    secret_key: Option<String>,
    /// Requests in ten seconds, or `off` [default: 100, or 1000 in production]
    #[arg(long, value_name = "REQUESTS", value_parser = rate_limit)]
    rate_limit: Option<RateLimit>,
    /// Deleting an organization or a user sends that one event alone
    #[arg(long)]
    no_child_events: bool,
    #[command(flatten)]
    chaos: ChaosArguments,
}

/// What goes wrong on purpose; everything else about it is set through the control API.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Chaos")]
struct ChaosArguments {
    /// Percentage of deliveries that are never sent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    drop: f64,
    /// Percentage of deliveries that are sent twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    duplicate: f64,
    /// Percentage of deliveries that later ones overtake
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    reorder: f64,
    /// Percentage of deliveries that come up to ten seconds late
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    delay: f64,
    /// Percentage of API requests that are answered 500
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    api_errors: f64,
    /// Percentage of API requests that are answered 429
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    api_limited: f64,
    /// The same seed, the same chaos
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    chaos_seed: u64,
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    match text {
        "off" => Ok(RateLimit::Unlimited),
        number => number.parse().map(RateLimit::Requests).map_err(|_| "a number of requests, or `off`".to_owned()),
    }
}

impl ChaosArguments {
    fn settings(&self) -> chaos::Settings {
        let mut settings = chaos::Settings { seed: self.chaos_seed, ..chaos::Settings::default() };
        settings.deliveries.drop_percent = self.drop;
        settings.deliveries.duplicate_percent = self.duplicate;
        settings.deliveries.reorder_percent = self.reorder;
        settings.deliveries.delay_percent = self.delay;
        settings.api.error_percent = self.api_errors;
        settings.api.limited_percent = self.api_limited;
        settings
    }
}

impl Arguments {
    fn settings(self) -> Result<Settings, Failure> {
        if self.organizations > 0 && self.users == 0 {
            return Err(Failure::Usage("--organizations need --users who are in them".into()));
        }
        if self.secret_key.as_ref().is_some_and(|key| !key.starts_with("sk_test_") && !key.starts_with("sk_live_")) {
            return Err(Failure::Usage("--secret-key must begin with sk_test_ or sk_live_".into()));
        }
        let seed = self.seed.unwrap_or_else(|| u64::from_le_bytes(app::random_bytes()));
        let population =
            Population { users: self.users, organizations: self.organizations, members: self.members, seed };
        let endpoint = |url| NewEndpoint { url, secret: self.webhook_secret.clone(), ..NewEndpoint::default() };
        Ok(Settings {
            seed,
            secret_key: self.secret_key,
            options: Options { child_events: !self.no_child_events, ..Options::default() },
            rate_limit: self.rate_limit.unwrap_or_default(),
            population: (self.users > 0).then_some(population),
            schedule: post::Settings { speed: self.speed, ..post::Settings::default() },
            chaos: self.chaos.settings(),
            endpoints: self.webhook_url.map(endpoint).into_iter().collect(),
            file: self.file,
            ..Settings::default()
        })
    }
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    telemetry::log_to_stderr("warn", LogFormat::Text).map_err(Failure::Usage)?;
    let listen = arguments.listen;
    let clock = Movable::new(Arc::new(|| SystemClock.now().0));
    let sandbox = Sandbox::start(arguments.settings()?, Arc::new(clock), listen).await;
    let sandbox = sandbox.map_err(|error| Failure::Failed(error.to_string()))?;
    let shown = describe(&sandbox);
    anstream::eprintln!("{}", banner(&sandbox, &shown));
    if global.json {
        output::json(&shown)?;
    } else {
        anstream::print!("{}", environment(&shown));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    sandbox.stop().await;
    Ok(())
}

/// The variables that others need, in their order.
const VARIABLES: [(&str, &str); 7] = [
    ("CLERK_API_URL", "api_url"),
    ("CLERK_SECRET_KEY", "secret_key"),
    ("CLERK_PUBLISHABLE_KEY", "publishable_key"),
    ("CLERK_JWT_ISSUER_DOMAIN", "issuer"),
    ("CLERK_WEBHOOK_SIGNING_SECRET", "webhook_secret"),
    ("LIVEBLOCKS_API_URL", "liveblocks_url"),
    ("LIVEBLOCKS_SECRET_KEY", "liveblocks_key"),
];

fn describe(sandbox: &Sandbox) -> Value {
    let (shared, url) = (sandbox.shared(), sandbox.url());
    let keys = shared.keys();
    shared.with(|state, _| {
        let endpoint = state.post.endpoints().next();
        json!({
            "api_url": url, "issuer": keys.issuer(), "instance_id": keys.instance_id(), "secret_key": keys.secret_key(),
            "publishable_key": keys.publishable_key(), "jwks_url": format!("{url}/.well-known/jwks.json"),
            "jwt_key": keys.pem(), "page": format!("{url}/"), "control_url": format!("{url}/sandbox/v1"),
            "liveblocks_url": url, "liveblocks_key": sandbox.liveblocks().key(),
            "webhook_url": endpoint.map(|endpoint| &endpoint.url),
            "webhook_secret": endpoint.map(|endpoint| endpoint.secret()),
            "users": state.instance.count(Kind::User), "organizations": state.instance.count(Kind::Organization),
            "memberships": state.instance.count(Kind::Membership),
        })
    })
}

/// The variables as a shell reads them.
fn environment(shown: &Value) -> String {
    let line = |(name, member): (&str, &str)| shown[member].as_str().map(|value| format!("{name}={value}\n"));
    VARIABLES.into_iter().filter_map(line).collect()
}

/// Everything that a person needs next.
fn banner(sandbox: &Sandbox, shown: &Value) -> String {
    let url = sandbox.url();
    let text = |member: &str| shown[member].as_str().unwrap_or_default();
    let mut banner = format!(
        "a local Clerk: instance {}   {} users, {} organizations, {} memberships\n  page       {url}/\n  \
         API        {url}/v1   control {url}/sandbox/v1\n  issuer     {}   keys {}\n",
        text("instance_id"),
        shown["users"],
        shown["organizations"],
        shown["memberships"],
        text("issuer"),
        text("jwks_url"),
    );
    if shown["webhook_url"].is_null() {
        banner.push_str("  webhooks   none; start with --webhook-url http://127.0.0.1:8787/webhooks/clerk, or add one on the page\n");
    } else {
        banner.push_str(&format!("  webhooks   {}\n", text("webhook_url")));
    }
    let needed = |(name, _): &(&str, &str)| *name != "CLERK_PUBLISHABLE_KEY";
    let variables: Vec<String> = VARIABLES
        .into_iter()
        .filter(needed)
        .filter_map(|(name, member)| shown[member].as_str().map(|value| format!("{name}={value}")))
        .collect();
    banner.push_str(&format!("next: {} faircopy serve", variables.join(" ")));
    banner
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn settings(line: &str) -> Result<Settings, Failure> {
        let line = Line::try_parse_from(std::iter::once("sandbox").chain(line.split_whitespace()));
        line.map_err(|error| Failure::Usage(error.to_string()))?.arguments.settings()
    }

    #[test]
    fn flags_become_settings_and_nonsense_is_refused() {
        let all = settings(
            "--seed 7 --users 20 --organizations 2 --members 3 --webhook-url http://127.0.0.1:1/hook --webhook-secret whsec_x \
             --speed 60 --secret-key sk_live_1 --rate-limit 5 --no-child-events --drop 30 --api-limited 1.5 --chaos-seed 3",
        );
        let all = all.expect("settings");
        assert_eq!(all.population, Some(Population { users: 20, organizations: 2, members: 3, seed: 7 }));
        assert_eq!((all.rate_limit, all.schedule.speed, all.options.child_events), (RateLimit::Requests(5), 60, false));
        assert_eq!((all.chaos.seed, all.chaos.deliveries.drop_percent, all.chaos.api.limited_percent), (3, 30.0, 1.5));
        assert_eq!(all.endpoints[0].secret.as_deref(), Some("whsec_x"));
        let none = settings("").expect("settings");
        assert!(none.population.is_none() && none.endpoints.is_empty() && none.options == Options::default());
        assert_eq!(settings("--rate-limit off").expect("settings").rate_limit, RateLimit::Unlimited);
        for wrong in
            ["--organizations 2", "--secret-key key", "--rate-limit few", "--webhook-secret whsec_x", "--listen here"]
        {
            assert!(matches!(settings(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[tokio::test]
    async fn everything_that_others_need_is_printed() {
        let settings = settings("--seed 7 --users 5 --organizations 1 --webhook-url http://127.0.0.1:1/hook");
        let clock = Arc::new(|| 1_800_000_000_000_i64);
        let sandbox =
            Sandbox::start(settings.expect("settings"), clock, ([127, 0, 0, 1], 0).into()).await.expect("a sandbox");
        let shown = describe(&sandbox);
        let (url, keys) = (sandbox.url().to_owned(), sandbox.shared().keys().clone());
        let lines = environment(&shown);
        let line =
            |name: &str| lines.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned));
        assert_eq!(line("CLERK_API_URL").as_deref(), Some(&*url));
        assert_eq!(line("CLERK_JWT_ISSUER_DOMAIN").as_deref(), Some(&*url));
        assert_eq!(line("CLERK_SECRET_KEY").as_deref(), Some(keys.secret_key()));
        assert_eq!(line("CLERK_PUBLISHABLE_KEY"), Some(keys.publishable_key()));
        assert!(line("CLERK_WEBHOOK_SIGNING_SECRET").is_some_and(|secret| secret.starts_with("whsec_")), "{lines}");
        assert_eq!(line("LIVEBLOCKS_API_URL").as_deref(), Some(&*url));
        assert_eq!(line("LIVEBLOCKS_SECRET_KEY").as_deref(), Some("sk_localdev"));
        assert_eq!((&shown["users"], &shown["memberships"]), (&json!(5), &json!(5)));
        let banner = banner(&sandbox, &shown);
        assert!(banner.contains("faircopy serve") && banner.contains("http://127.0.0.1:1/hook"), "{banner}");
        sandbox.stop().await;
    }
}
