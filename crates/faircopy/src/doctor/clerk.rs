//! Clerk: whose key, which keys, what time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use faircopy_core::Millis;
use faircopy_core::signature::{self, Names, SignedHeaders, TOLERANCE_SECONDS};
use faircopy_core::token::{self, Keys, Rejection};
use secrecy::ExposeSecret as _;

use super::{Answer, Doctor};
use crate::upstream::clerk::{Fault, Share, Verdict};
use crate::upstream::keys::Published;

/// How far session tokens may be off (faults.md): a clock that is further away refuses fresh ones.
const TOKEN_LEEWAY_MS: i64 = 5_000;
/// The bytes of a signature that nobody has made: as many as a 2048-bit key's.
const MADE_UP_SIGNATURE: [u8; 256] = [7; 256];

impl Doctor {
    /// What Clerk says of the key. The issuer's keys are fetched first where they are not at hand: they tell whose key it is.
    async fn asked(&self) -> Option<Result<(), Fault>> {
        let clerk = self.clerk.as_ref()?;
        let ask = || async {
            if self.config.sessions.are_configured() && !self.keys.is_ready() {
                // Any outcome will do: the client says itself what it cannot tell without them.
                drop(self.keys.find(None).await);
            }
            clerk.check_instance_again(Share::Operator).await
        };
        Some(*self.asked.get_or_init(ask).await)
    }

    async fn published(&self) -> Option<&Result<Published, String>> {
        self.published.get_or_init(|| self.keys.published()).await.as_ref()
    }

    pub(super) async fn api_key(&self) -> Answer {
        let (Some(clerk), Some(asked)) = (&self.clerk, self.asked().await) else {
            return Answer::warning(
                "clerk-key-missing",
                "no CLERK_SECRET_KEY is set: nothing is backfilled, compared with Clerk, or read where the copy is stale",
                "Set CLERK_SECRET_KEY (Clerk's dashboard, API keys).",
            );
        };
        let key = self.config.api.secret_key.as_ref().map(|key| key.expose_secret()).unwrap_or_default();
        let environment = if key.starts_with("sk_live_") { "production" } else { "development" };
        match asked {
            Ok(()) => {
                let instance = clerk.instance().unwrap_or("its instance by its keys");
                let quiet = match clerk.quiet_ms() {
                    0 => "no rate limit seen".to_owned(),
                    wait_ms => format!("a rate limit was met: quiet for {wait_ms} ms"),
                };
                Answer::ok(format!("accepted, {environment}, of {instance}; {quiet}"))
            }
            Err(fault) => self.judge_fault(fault, clerk.verdict(), environment),
        }
    }

    fn judge_fault(&self, fault: Fault, verdict: Verdict, environment: &str) -> Answer {
        match fault {
            Fault::Refused(_) => Answer::failed(
                "clerk-key-refused",
                fault.to_string(),
                "Copy the key anew from Clerk's dashboard (API keys).",
            ),
            Fault::WrongInstance => {
                let pinned = match (&self.config.instance_id, &self.config.sessions.issuer) {
                    (Some(instance), _) => format!("CLERK_INSTANCE_ID ({instance})"),
                    (None, Some(issuer)) => format!("the issuer's ({issuer})"),
                    (None, None) => "the one that is copied".to_owned(),
                };
                let evidence =
                    format!("the {environment} key belongs to another instance than {pinned}; nothing is read with it");
                let remedy =
                    "Take key, issuer and signing secret from one instance: Development and Production are two.";
                Answer::failed("clerk-wrong-instance", evidence, remedy)
            }
            Fault::UnknownInstance if verdict == Verdict::Unproven => Answer::warning(
                "clerk-unproven",
                "CLERK_API_URL does not tell whose key it is",
                "Nothing, where it leads to a stand-in; otherwise correct CLERK_API_URL.",
            ),
            Fault::UnknownInstance => {
                Answer::skipped("whose key it is cannot be told without the issuer's keys: see `session-keys`")
            }
            Fault::Limited(_) => {
                let remedy = "Wait; Faircopy does. If it repeats, look who else uses the key.";
                Answer::warning("clerk-rate-limited", fault.to_string(), remedy)
            }
            _ => Answer::failed(
                "clerk-unreachable",
                format!("{}: {fault}", self.config.api.url),
                "Check the way out of this network (DNS, firewall, proxy), CLERK_API_URL, and status.clerk.com.",
            ),
        }
    }

    pub(super) async fn session_keys(&self) -> Answer {
        let sessions = &self.config.sessions;
        if let Some(keys) = &sessions.key {
            let evidence = format!("{} from CLERK_JWT_KEY; nothing is fetched", described(keys));
            return match sessions.issuer {
                Some(_) => Answer::ok(evidence),
                None => Answer::warning(
                    "issuer-unchecked",
                    format!("{evidence}, and no issuer is set: `iss` is not compared"),
                    "Set CLERK_JWT_ISSUER_DOMAIN to the instance's Frontend API URL.",
                ),
            };
        }
        let Some(issuer) = &sessions.issuer else {
            return Answer::skipped("no CLERK_JWT_ISSUER_DOMAIN is set: the API for applications is off");
        };
        let age = self.keys.age_ms().map_or(String::new(), |age| format!(", held for {} s", age / 1000));
        match self.published().await {
            Some(Ok(Published { keys, ignored, .. })) => {
                let left_out = if *ignored == 0 { String::new() } else { format!(", {ignored} entries left out") };
                let party = if sessions.authorized_parties.is_empty() { "; `azp` is not checked" } else { "" };
                Answer::ok(format!("{issuer}: {}{left_out}{age}{party}", described(keys)))
            }
            Some(Err(fault)) => Answer::failed(
                "jwk-remote-failed-to-load",
                format!("{issuer}/.well-known/jwks.json: {fault}{age}"),
                "Check CLERK_JWT_ISSUER_DOMAIN (the Frontend API URL) and the way out of the network, or set CLERK_JWT_KEY.",
            ),
            None => Answer::failed(
                "jwk-remote-failed-to-load",
                "keys can never be fetched: there is no TLS",
                "The log of the start says why.",
            ),
        }
    }

    /// Signs and forges, with the secrets and keys that are in use: what is right must pass, and what is wrong must not.
    pub(super) async fn self_test(&self) -> Answer {
        let (mut tried, mut faults) = (0, Vec::new());
        let now = self.clock.now();
        for secret in &self.config.webhook.secrets {
            tried += 1;
            let timestamp = now.0.div_euclid(1000);
            let right = secret.sign("msg_selftest", timestamp, b"{}");
            let judge = |body: &[u8]| verifies(&right, timestamp, body, now, std::slice::from_ref(secret));
            faults.extend(judge_deliveries(judge(b"{}"), judge(b"{} ")));
        }
        let fetched = match &self.config.sessions.key {
            Some(keys) => Some(keys),
            None => self.published().await.and_then(|answer| answer.as_ref().ok()).map(|published| &published.keys),
        };
        if let Some(keys) = fetched {
            tried += 1;
            faults.extend(judge_forgery(
                token::verify(&forged(keys, now), now, keys, &self.config.sessions.policy()).err(),
            ));
        }
        match (tried, faults.first()) {
            (0, _) => Answer::skipped("there is neither a signing secret nor a key to try"),
            (_, None) => Answer::ok(format!("{tried} tried: what is right passes, and what is forged does not")),
            (_, Some(fault)) => {
                Answer::failed("self-test-failed", *fault, "Stop the service: this build must not be used. Report it.")
            }
        }
    }

    pub(super) async fn clock(&self) -> Answer {
        let mut clocks = Vec::new();
        // Only for its `Date`: what came of it is told by `api-key`.
        self.asked().await;
        if let Some(ahead_ms) = self.clerk.as_ref().and_then(|clerk| clerk.ahead_ms()) {
            clocks.push(("Clerk", ahead_ms));
        } else if let Some(Ok(Published { ahead_ms: Some(ahead_ms), .. })) = self.published().await {
            clocks.push(("the issuer", *ahead_ms));
        }
        let asked_at = self.clock.now();
        if let Ok(Some(theirs)) = self.store.database_time().await {
            clocks.push(("the database", asked_at.0.midpoint(self.clock.now().0) - theirs.0));
        }
        judge_clocks(&clocks)
    }
}

fn described(keys: &Keys) -> String {
    let (count, names) = (keys.all().count(), keys.names().map(ToString::to_string).collect::<Vec<_>>());
    let bits = keys.all().map(|key| key.bits()).min().unwrap_or_default();
    let named = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    format!("{count} {} of {bits} bits{named}", if count == 1 { "key" } else { "keys" })
}

fn verifies(signature: &str, timestamp: i64, body: &[u8], now: Millis, secrets: &[signature::Secret]) -> bool {
    let timestamp = timestamp.to_string();
    let values = ["msg_selftest", &timestamp, signature];
    let svix = values.map(|value| vec![value.as_bytes()]);
    let headers = SignedHeaders { svix, ..SignedHeaders::default() };
    let claim = signature::claim(&headers, Names::Svix, now);
    claim.is_ok_and(|claim| claim.verify(body, secrets).is_ok())
}

fn judge_deliveries(right_passes: bool, wrong_passes: bool) -> Option<&'static str> {
    match (right_passes, wrong_passes) {
        (true, false) => None,
        (_, true) => Some("a delivery whose body was changed passes"),
        (false, false) => Some("a delivery that is signed rightly does not pass"),
    }
}

/// A token that says it was signed with the first key.
fn forged(keys: &Keys, now: Millis) -> String {
    let kid = keys.names().next().map_or(String::new(), |kid| format!(r#","kid":"{kid}""#));
    let seconds = now.0.div_euclid(1000);
    let header = format!(r#"{{"alg":"RS256","typ":"JWT"{kid}}}"#);
    let claims = format!(r#"{{"sub":"user_forged","iat":{seconds},"nbf":{seconds},"exp":{}}}"#, seconds + 60);
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", part(header.as_bytes()), part(claims.as_bytes()), part(&MADE_UP_SIGNATURE))
}

fn judge_forgery(refused: Option<Rejection>) -> Option<&'static str> {
    match refused {
        Some(Rejection::Signature) => None,
        Some(_) => Some("a forged token is refused for another reason than its signature"),
        None => Some("a forged token passes"),
    }
}

fn judge_clocks(clocks: &[(&str, i64)]) -> Answer {
    const REMEDY: &str = "Let the machine keep its time (`timedatectl set-ntp true`, or chrony).";
    let Some(worst) = clocks.iter().map(|(_, ahead_ms)| ahead_ms.abs()).max() else {
        return Answer::skipped(
            "there is nobody to compare with: no answer of Clerk's or the issuer's, and SQLite has no time",
        );
    };
    let shown: Vec<String> = clocks
        .iter()
        .map(|(whose, ahead_ms)| {
            format!("{} ms {} {whose}", ahead_ms.abs(), if *ahead_ms < 0 { "behind" } else { "ahead of" })
        })
        .collect();
    let evidence = shown.join(", ");
    if worst > TOLERANCE_SECONDS * 1000 {
        let evidence = format!("{evidence}: deliveries are refused, which may be off by {TOLERANCE_SECONDS} s");
        Answer::failed("clock-skewed", evidence, REMEDY)
    } else if worst > TOKEN_LEEWAY_MS {
        let evidence = format!("{evidence}: session tokens may be off by {} s", TOKEN_LEEWAY_MS / 1000);
        Answer::warning("clock-skewed", evidence, REMEDY)
    } else {
        Answer::ok(evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_clock_is_judged_by_the_worst_comparison() {
        let check = |clocks: &[(&str, i64)], expected: Status| {
            assert_eq!(judge_clocks(clocks).status, expected, "{clocks:?}");
        };
        check(&[], Status::Skipped);
        check(&[("Clerk", -4_999), ("the database", 3)], Status::Ok);
        check(&[("Clerk", 100), ("the database", -5_001)], Status::Warning);
        check(&[("Clerk", -300_000)], Status::Warning);
        check(&[("Clerk", 300_001)], Status::Failed);
    }

    #[test]
    fn a_check_that_lets_forgeries_pass_is_found() {
        assert_eq!(judge_deliveries(true, false), None);
        assert!(judge_deliveries(true, true).is_some() && judge_deliveries(false, false).is_some());
        assert_eq!(judge_forgery(Some(Rejection::Signature)), None);
        assert!(judge_forgery(None).is_some() && judge_forgery(Some(Rejection::Malformed)).is_some());
    }

    #[test]
    fn the_real_checks_tell_right_from_forged() {
        let secret = signature::Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let now = Millis(1_760_000_000_000);
        let right = secret.sign("msg_selftest", 1_760_000_000, b"{}");
        assert!(verifies(&right, 1_760_000_000, b"{}", now, std::slice::from_ref(&secret)));
        assert!(!verifies(&right, 1_760_000_000, b"{} ", now, &[secret]));
        let keys = Keys::from_pem(&faircopy_world::token::pem(&faircopy_world::token::new_key())).unwrap();
        let refused = token::verify(&forged(&keys, now), now, &keys, &token::Policy::new(None)).err();
        assert_eq!(refused, Some(Rejection::Signature));
    }
}
