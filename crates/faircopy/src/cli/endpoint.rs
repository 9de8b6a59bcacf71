//! `faircopy endpoint`.

use reqwest::Url;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{Failure, Global, clerk, output};
use crate::config::Config;
use crate::upstream::endpoint::{Arrangement, ByHand, Management, Step, Wanted};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy endpoint --url https://app.example.com/webhooks/clerk\n  \
    CLERK_SECRET_KEY=sk_live_… faircopy endpoint --json\n\n\
    Changes nothing at Clerk. With CLERK_SECRET_KEY it prints a link that opens the instance's webhooks: whoever has it can\n\
    change them, so keep it to yourself.")]
pub(super) struct Arguments {
    /// Where Clerk shall deliver: the public address of this service [default: the address it listens on]
    #[arg(long)]
    url: Option<String>,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let wanted = Wanted { url: url(arguments.url.as_deref(), &config)? };
    let management = ByHand { clerk: clerk::client(&config).await };
    let arranged = management.arrange(&wanted).await;
    let hint = hint(&wanted, &config);
    if global.json {
        output::json(&json!({
            "url": wanted.url,
            "reachable": hint.is_none(),
            "events": Wanted::events().into_iter().flat_map(|(_, types)| types).collect::<Vec<_>>(),
            "steps": arranged.steps,
            "portal_url": arranged.portal.as_ref().map(|link| link.expose_secret()),
            "portal_missing": arranged.portal_missing,
        }))?;
    } else {
        anstream::print!("{}", describe(&arranged));
    }
    if let Some(hint) = hint {
        anstream::eprintln!("{hint}");
    }
    if let Some(why) = arranged.portal_missing.and_then(why) {
        anstream::eprintln!("{why}");
    }
    Ok(())
}

/// The address to enter at Clerk: with the path where deliveries arrive, unless it has one.
fn url(given: Option<&str>, config: &Config) -> Result<String, Failure> {
    let path = config.webhook.paths.first().map_or("/webhooks/clerk", String::as_str);
    let Some(given) = given else { return Ok(format!("http://{}{path}", config.listen)) };
    let usage = |fault: &str| Failure::Usage(format!("--url {fault}; expected `https://app.example.com{path}`"));
    let mut url = Url::parse(given).map_err(|_| usage("is not an address"))?;
    let is_plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !is_plain {
        return Err(usage("is not an address that Clerk can deliver to"));
    }
    if url.path() == "/" {
        url.set_path(path);
    }
    // Behind a proxy the path may be another.
    if !config.webhook.paths.iter().any(|path| url.path().ends_with(path.as_str())) {
        anstream::eprintln!(
            "note: deliveries arrive at {path}, and this address ends otherwise: a proxy must rewrite it"
        );
    }
    Ok(url.to_string())
}

/// What to know of an address that Clerk cannot reach.
fn hint(wanted: &Wanted, config: &Config) -> Option<String> {
    let url = Url::parse(&wanted.url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip| !crate::upstream::address::is_public(ip));
    let listen = config.listen;
    let path = url.path();
    (is_here || url.scheme() == "http").then(|| {
        format!(
            "note: Clerk cannot deliver to {}. Pass --url with the public https address; for development,\n  \
             clerk webhooks listen --forward-to http://{listen}{path}",
            wanted.url
        )
    })
}

/// Why there is no link, where that can be helped.
fn why(missing: &str) -> Option<&'static str> {
    Some(match missing {
        "no-key" => "With CLERK_SECRET_KEY set, this prints a link that opens the instance's webhooks.",
        "no-webhooks-yet" => {
            "The instance has no webhooks yet, so there is no link: open Webhooks in the dashboard once (or POST /v1/webhooks/svix)."
        }
        "wrong-instance" => {
            "CLERK_SECRET_KEY belongs to another instance than the one that is copied: no link was asked for."
        }
        "key-refused" => "Clerk refused CLERK_SECRET_KEY: there is no link.",
        "rate-limited" => "Clerk asked for quiet (429): there is no link now.",
        _ => "Clerk gave no link (no answer, or none that could be read).",
    })
}

/// The steps by what they are for, with the list of events where it is needed.
fn describe(arranged: &Arrangement) -> String {
    let mut text = String::new();
    let mut part = "";
    for (number, Step { part: of, text: step }) in (1..).zip(&arranged.steps) {
        if *of != part {
            part = of;
            let title = match part {
                "create" => "Create the endpoint",
                "secret" => "Give its secret to Faircopy",
                "test" => "See it work",
                _ => "Later: replace the secret",
            };
            text.push_str(&format!("{}{title}\n", if text.is_empty() { "" } else { "\n" }));
            if let Some(link) = arranged.portal.as_ref().filter(|_| part == "create") {
                text.push_str(&format!("   (instead of 1: {})\n", link.expose_secret()));
            }
        }
        text.push_str(&format!("{number:>2}. {step}\n"));
        if step.starts_with("Subscribe") {
            for (kind, types) in Wanted::events() {
                text.push_str(&format!("      {kind}\n"));
                types.iter().for_each(|event_type| text.push_str(&format!("        [x] {event_type}\n")));
            }
        }
    }
    text
}
