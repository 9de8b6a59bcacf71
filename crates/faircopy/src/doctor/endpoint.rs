//! The webhook endpoint, tried as Clerk would reach it: with a signed message that is refused once it has verified.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::signature::Secret;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::{Answer, Doctor};
use crate::app;
use crate::config::Config;
use crate::http::problem::CODES;

/// What the signed id of a probe begins with. Svix's ids begin with `msg_`.
pub const PROBE_PREFIX: &str = "faircopy_doctor_";
/// A body as an event has it. Whoever does not know probes takes it for one that is not mirrored.
const BODY: &str = r#"{"type":"faircopy.doctor","object":"event","data":{}}"#;
/// Svix gives an endpoint 15 s; one that needs 10 is about to fail.
const DEADLINE: Duration = Duration::from_secs(10);
/// Secrets that are tried: the one in use, and those that are being replaced.
const MAX_SECRETS: usize = 4;
/// The longest answer that is read: a problem is below 1 KiB.
const MAX_ANSWER: usize = 16 * 1024;

/// Where deliveries are said to arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address with its path; `None` where it is not known.
    url: Option<Url>,
    /// It was named by a person: then nothing there is a failure, and not a service that is not started yet.
    is_named: bool,
}

/// What the address answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// No connection, or no answer.
    Nothing(&'static str),
    /// A status, and of a problem of ours the code and the detail.
    Status(u16, Option<(String, String)>),
}

#[derive(Deserialize)]
struct Told {
    code: String,
    detail: String,
}

impl Target {
    /// The address that the service listens on itself.
    #[must_use]
    pub fn own(config: &Config) -> Self {
        let listen = config.listen;
        // What listens everywhere is reached on this machine.
        let host = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(host, listen.port());
        let url = Url::parse(&format!("http://{address}{}", path(config))).ok().filter(|_| listen.port() != 0);
        Self { url, is_named: false }
    }

    /// An address that a person has named, with the configured path where it has none.
    pub fn named(text: &str, config: &Config) -> Result<Self, String> {
        let fault = |says: &str| format!("{says}; expected `https://app.example.com{}`", path(config));
        let mut url = Url::parse(text).map_err(|_| fault("is not an address"))?;
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || has_credentials {
            return Err(fault("is not an address that Clerk can deliver to"));
        }
        if url.path() == "/" {
            url.set_path(path(config));
        }
        Ok(Self { url: Some(url), is_named: true })
    }
}

fn path(config: &Config) -> &str {
    config.webhook.paths.first().map_or("/webhooks/clerk", String::as_str)
}

impl Doctor {
    pub(super) async fn endpoint(&self) -> Answer {
        let Some(url) = &self.target.url else {
            return Answer::skipped("the address is not known: name it (--url)");
        };
        let secrets = &self.config.webhook.secrets;
        if secrets.is_empty() {
            return Answer::skipped("no signing secret is set: see `signing-secrets`");
        }
        let client = match client() {
            Ok(client) => client,
            Err(error) => return Answer::skipped(format!("it cannot be asked: {error}")),
        };
        let started = self.clock.now();
        for secret in secrets.iter().take(MAX_SECRETS) {
            let seen = probe(&client, url, secret, self.clock.now()).await;
            let mut answer = judge(url, &self.target, &seen);
            if answer.code.is_some() || answer.status != super::Status::Ok {
                if matches!(&seen, Seen::Status(400, _)) && secrets.len() > 1 {
                    answer.evidence = format!("{} (secret …{})", answer.evidence, secret.last_four());
                }
                return answer;
            }
        }
        let millis = self.clock.now().0 - started.0;
        let path = url.path();
        let is_ours = self.config.webhook.paths.iter().any(|ours| ours == path);
        let note = if is_ours { String::new() } else { format!("; {path} is rewritten on the way") };
        let tried = secrets.len().min(MAX_SECRETS);
        Answer::ok(format!("{url} verified {tried} signed probes in {millis} ms{note}"))
    }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(3))
        .timeout(DEADLINE)
        // Svix does not follow either.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("faircopy-doctor/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn probe(client: &reqwest::Client, url: &Url, secret: &Secret, now: Millis) -> Seen {
    let chance: String = app::random_bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
    let (id, timestamp) = (format!("{PROBE_PREFIX}{chance}"), now.0.div_euclid(1000));
    let signature = secret.sign(&id, timestamp, BODY.as_bytes());
    let request = client
        .post(url.clone())
        .header("content-type", "application/json")
        .header("svix-id", &id)
        .header("svix-timestamp", timestamp.to_string())
        .header("svix-signature", signature)
        .body(BODY);
    match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            Seen::Status(status, told(response).await)
        }
        Err(error) if error.is_timeout() => Seen::Nothing("no answer within 10 s"),
        Err(error) if error.is_connect() => Seen::Nothing("no connection (name, network or certificate)"),
        Err(_) => Seen::Nothing("the answer broke off"),
    }
}

/// A problem of ours, where the answer is one.
async fn told(mut response: reqwest::Response) -> Option<(String, String)> {
    let mut body = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            return None;
        }
    }
    let Told { code, detail } = serde_json::from_slice(&body).ok()?;
    Some((code, detail))
}

fn judge(url: &Url, target: &Target, seen: &Seen) -> Answer {
    let (status, told) = match seen {
        Seen::Nothing(why) if target.is_named => {
            let remedy = "Check the address, its DNS and certificate, and that the proxy before the service is up: Clerk cannot deliver there.";
            return Answer::failed("endpoint-unreachable", format!("{url}: {why}"), remedy);
        }
        Seen::Nothing(why) => {
            let remedy =
                "Start `faircopy serve`, or name the public address: --url https://app.example.com/webhooks/clerk.";
            return Answer::warning("endpoint-unreachable", format!("{url}: {why}"), remedy);
        }
        Seen::Status(status, told) => (*status, told),
    };
    // Only words of ours are repeated: what somebody else answers may hold anything.
    let ours = told.as_ref().and_then(|(code, detail)| {
        let (code, ..) = CODES.iter().find(|(known, ..)| *known == code.as_str())?;
        Some((*code, detail.as_str()))
    });
    match (status, ours) {
        (422, Some(("probe-verified", _))) => Answer::ok(String::new()),
        (400, Some(("signature-invalid", detail))) if detail.contains("(timestamp)") => {
            let remedy = "Let this machine and the one that answers keep their time (`timedatectl set-ntp true`).";
            Answer::failed("clock-skewed", format!("{url} finds our time more than 300 s away from its own"), remedy)
        }
        (400, Some(("signature-invalid", _))) => {
            let remedy = "Give the service there and this one the same CLERK_WEBHOOK_SIGNING_SECRET. If they are the same, a proxy changes \
                the body or drops the svix- headers.";
            Answer::failed("endpoint-refuses", format!("{url} does not accept what our secret signs"), remedy)
        }
        (403, Some(("sender-not-allowed", _))) => {
            Answer::skipped(format!("{url} takes deliveries from webhook.allow_from only, and not from here"))
        }
        (status, Some((code, _))) => {
            let remedy = format!("See `{code}`: it is what Clerk's deliveries are answered there too.");
            Answer::failed("endpoint-refuses", format!("{url} answers {status} `{code}`"), remedy)
        }
        (status, None) => judge_stranger(url, status),
    }
}

/// An answer that is none of Faircopy's.
fn judge_stranger(url: &Url, status: u16) -> Answer {
    let (what, remedy) = match status {
        200..=299 => (
            "something else takes it: what Clerk sends there is lost",
            "Route the path to faircopy, or correct the address.",
        ),
        300..=399 => (
            "it redirects, which Svix does not follow",
            "Enter the final address at Clerk, with https and the exact path.",
        ),
        401 | 403 | 407 => (
            "something before it asks for credentials",
            "Let the path through without a login: the signature is the credential.",
        ),
        404 | 405 => {
            ("there is no endpoint", "Correct the path at Clerk, or `webhook.paths`; the proxy must pass POST.")
        }
        413 => ("the body is refused as too large", "Let the proxy pass bodies of 1 MiB."),
        500..=599 => {
            ("the proxy cannot reach the service", "Start the service, and check where the proxy sends the path.")
        }
        _ => ("that is no answer of Faircopy's", "Route the path to faircopy, or correct the address."),
    };
    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("unknown");
    Answer::failed("endpoint-not-ours", format!("{url} answers {status} ({known}): {what}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Flags};
    use crate::doctor::Status;

    fn config(listen: &str) -> Config {
        let environment = Environment([("FAIRCOPY_LISTEN".to_owned(), listen.to_owned())].into());
        Config::load(&Flags::default(), &environment).unwrap()
    }

    #[test]
    fn the_own_address_is_one_that_can_be_asked() {
        let check = |listen: &str, expected: Option<&str>| {
            let target = Target::own(&config(listen));
            assert_eq!(target.url.as_ref().map(Url::as_str), expected, "{listen}");
        };
        check("127.0.0.1:8787", Some("http://127.0.0.1:8787/webhooks/clerk"));
        check("0.0.0.0:80", Some("http://127.0.0.1/webhooks/clerk"));
        check("[::]:8787", Some("http://[::1]:8787/webhooks/clerk"));
        check("127.0.0.1:0", None);
    }

    #[test]
    fn a_named_address_gets_the_path_where_it_has_none() {
        let check = |text: &str, expected: Option<&str>| {
            let target = Target::named(text, &config("127.0.0.1:8787")).ok();
            assert_eq!(target.and_then(|target| target.url).as_ref().map(Url::as_str), expected, "{text}");
        };
        check("https://app.example.com", Some("https://app.example.com/webhooks/clerk"));
        check("https://app.example.com/hooks", Some("https://app.example.com/hooks"));
        check("ftp://app.example.com", None);
        check("https://user:password@app.example.com", None);
        check("app", None);
    }

    #[test]
    fn each_answer_is_told_from_the_others() {
        let check = |status: u16, told: Option<(&str, &str)>, expected: (Status, Option<&str>)| {
            let url = Url::parse("https://app.example.com/webhooks/clerk").unwrap();
            let told = told.map(|(code, detail)| (code.to_owned(), detail.to_owned()));
            let target = Target { url: Some(url.clone()), is_named: true };
            let answer = judge(&url, &target, &Seen::Status(status, told));
            assert_eq!((answer.status, answer.code), expected, "{status}: {answer:?}");
        };
        check(422, Some(("probe-verified", "")), (Status::Ok, None));
        check(
            400,
            Some(("signature-invalid", "No signature fits the body (no_match).")),
            (Status::Failed, Some("endpoint-refuses")),
        );
        check(
            400,
            Some(("signature-invalid", "The timestamp is too old (timestamp).")),
            (Status::Failed, Some("clock-skewed")),
        );
        check(403, Some(("sender-not-allowed", "")), (Status::Skipped, None));
        check(503, Some(("database-unavailable", "")), (Status::Failed, Some("endpoint-refuses")));
        check(404, Some(("not-found", "")), (Status::Failed, Some("endpoint-refuses")));
        for status in [200, 204, 301, 400, 401, 403, 404, 405, 413, 418, 422, 500, 502] {
            check(status, None, (Status::Failed, Some("endpoint-not-ours")));
            check(status, Some(("somebody-elses", "")), (Status::Failed, Some("endpoint-not-ours")));
        }
    }
}
