//! Tokens of every kind, judged by us and by Clerk's own SDK (`@clerk/backend`, in Node): the verdict and what a good token
//! says are the same, but for the cases of [`CHANGES`] in which we are stricter, each with its reason.

use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384};
use faircopy_core::Millis;
use faircopy_core::token::{self, Keys, Policy, Rejection, Session};
use faircopy_testkit::node;
use faircopy_world::token::{Draft, base64url, sign};
use serde_json::{Value, json};

use crate::mint::{self, ISSUER, instance, other, pem};

const NOW: i64 = 1_760_000_000;
const PARTY: &str = "https://app.example.com";

/// How our verdict relates to the SDK's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// The same: accepted with the same content, or refused for the same reason.
    Same,
    /// We refuse; the SDK accepts, or refuses for another reason.
    Stricter(&'static str),
}

use Relation::{Same, Stricter};

type Change = (&'static str, &'static str, Relation, fn(Draft<'static>) -> Draft<'static>);

/// One change of a good token: its name, what it changes, how we then relate to the SDK, and the change.
const CHANGES: &[Change] = &[
    // Organizations, in both versions.
    ("v1 with an organization", "o v", Same, |draft| {
        draft.without("v").claims(json!({
            "org_id": "org_1", "org_role": "org:admin", "org_slug": "acme", "org_permissions": ["org:docs:read"],
        }))
    }),
    ("v1, said so", "v", Same, |draft| draft.claim("v", 1)),
    ("v2 with an organization", "o", Same, |draft| draft.organization("org_1", "admin", "acme")),
    ("v2 with a custom role", "o", Same, |draft| draft.organization("org_1", "billing_manager", "acme")),
    ("v2 with version 1's claims beside it", "o", Same, |draft| {
        draft.organization("org_1", "member", "acme").claims(json!({"org_id": "org_2", "org_role": "org:admin"}))
    }),
    ("v1 with version 2's claims beside it", "o v", Same, |draft| {
        draft
            .organization("org_1", "admin", "acme")
            .claims(json!({"v": 1, "org_id": "org_2", "org_role": "org:member"}))
    }),
    ("permissions", "o", Same, |draft| {
        draft.claims(json!({
            "o": {"id": "org_1", "rol": "admin", "slg": "acme", "per": "read,manage", "fpm": "3,1"},
            "fea": "o:docs,o:impersonation",
        }))
    }),
    ("an unknown version", "v", Stricter("what a later version means cannot be known"), |draft| draft.claim("v", 3)),
    ("a version as text", "v", Stricter("a claim of another type is as bad as a wrong one"), |draft| {
        draft.claim("v", "2")
    }),
    ("an organization that is no object", "o v", Stricter("a claim of another type"), |draft| {
        draft.claim("o", "org_1")
    }),
    ("an organization that is none", "o v", Stricter("the id is not one of Clerk's"), |draft| {
        draft.organization("user_1", "admin", "acme")
    }),
    // Who.
    ("no subject", "sub", Same, |draft| draft.without("sub")),
    ("a number as subject", "sub", Same, |draft| draft.claim("sub", 7)),
    ("an organization as subject", "sub", Stricter("only users sign in"), |draft| draft.claim("sub", "org_1")),
    ("a machine as subject", "sub", Stricter("a machine's token is no session"), |draft| draft.claim("sub", "mch_1")),
    ("an actor", "act", Same, |draft| draft.claim("act", json!({"sub": "user_boss"}))),
    ("a pending session", "sts", Stricter("the SDK calls it signed out one step later"), |draft| {
        draft.claim("sts", "pending")
    }),
    ("no status", "sts", Same, |draft| draft.without("sts")),
    ("no session id", "sid", Same, |draft| draft.without("sid")),
    ("custom claims", "custom", Same, |draft| draft.claim("custom", json!({"roles": ["a", {"b": null}]}))),
    // When.
    ("expired within the leeway", "exp", Same, |draft| draft.claim("exp", NOW - 4)),
    ("expired at its edge", "exp", Same, |draft| draft.claim("exp", NOW - 5)),
    ("expired", "exp", Same, |draft| draft.claim("exp", NOW - 3600)),
    ("no end", "exp", Same, |draft| draft.without("exp")),
    ("an end as text", "exp", Same, |draft| draft.claim("exp", (NOW + 60).to_string())),
    ("an end in fractions", "exp", Stricter("times are whole seconds"), |draft| draft.claim("exp", 1_760_000_060.5)),
    ("a life of an hour", "exp", Same, |draft| draft.claim("exp", NOW + 3600)),
    ("a life of ten years", "exp", Stricter("a bound on the lifetime"), |draft| draft.claim("exp", NOW + 315_360_000)),
    ("active at the edge", "nbf", Same, |draft| draft.claim("nbf", NOW + 5)),
    ("not active yet", "nbf", Same, |draft| draft.claim("nbf", NOW + 6)),
    ("a beginning as text", "nbf", Same, |draft| draft.claim("nbf", NOW.to_string())),
    ("no beginning", "nbf", Stricter("required: Clerk always sets it"), |draft| draft.without("nbf")),
    ("issued at the edge", "iat", Same, |draft| draft.claim("iat", NOW + 5)),
    ("issued in the future", "iat", Same, |draft| draft.claim("iat", NOW + 6)),
    ("issued as text", "iat", Same, |draft| draft.claim("iat", NOW.to_string())),
    ("not issued", "iat", Stricter("required: the lifetime counts from it"), |draft| draft.without("iat")),
    // For whom, by whom.
    ("another issuer", "iss", Same, |draft| draft.claim("iss", "https://other.example.com")),
    ("no issuer", "iss", Same, |draft| draft.without("iss")),
    ("another party", "azp", Same, |draft| draft.claim("azp", "https://evil.example.com")),
    ("no party", "azp", Same, |draft| draft.without("azp")),
    ("an empty party", "azp", Same, |draft| draft.claim("azp", "")),
    ("the audience", "aud", Same, |draft| draft.claim("aud", "api")),
    ("the audience among others", "aud", Same, |draft| draft.claim("aud", json!(["other", "api"]))),
    ("other audiences", "aud", Same, |draft| draft.claim("aud", json!(["other", "more"]))),
    ("another audience", "aud", Same, |draft| draft.claim("aud", "other")),
    // The header.
    ("no type", "typ", Same, |draft| draft.without_header("typ")),
    ("another type", "typ", Same, |draft| draft.header("typ", "jwt")),
    ("an OAuth access token", "typ", Stricter("named for what it is"), |draft| draft.header("typ", "at+jwt")),
    ("alg none", "alg", Same, |draft| draft.header("alg", "none")),
    ("alg HS256", "alg", Same, |draft| draft.header("alg", "HS256")),
    ("alg ES256", "alg", Same, |draft| draft.header("alg", "ES256")),
    ("alg RS384", "alg", Stricter("RS256 alone, before the signature"), |draft| draft.header("alg", "RS384")),
    ("no category", "cat", Same, |draft| draft.without_header("cat")),
    ("the category of all", "cat", Same, |draft| draft.header("cat", "cl_I7d4PD111III")),
    ("a JWT template", "cat", Stricter("not bound to a session"), |draft| draft.header("cat", "cl_B7d4PD222AAA")),
    ("a machine's token", "cat", Stricter("named for what it is"), |draft| draft.header("cat", "cl_B7d4PD333AAA")),
    ("an unknown category", "cat", Stricter("no session, as far as is known"), |draft| {
        draft.header("cat", "cl_B7d4PD999AAA")
    }),
    ("no key name", "kid", Same, |draft| draft.without_header("kid")),
    ("another key name", "kid", Same, |draft| draft.header("kid", "ins_other")),
    ("a key name that is none", "kid", Stricter("nobody's, and never looked up"), |draft| draft.header("kid", "../x")),
    ("keys from elsewhere", "jku", Same, |draft| draft.header("jku", "https://evil.example.com/jwks.json")),
    ("a critical extension", "crit", Stricter("no extension is understood"), |draft| {
        draft.header("crit", json!(["b64"]))
    }),
];

/// A token, under rules, and how the verdicts must relate.
struct Case {
    name: String,
    token: String,
    policy: Policy,
    relation: Relation,
}

fn good() -> Draft<'static> {
    mint::draft("user_1", NOW)
}

fn policy(parties: &[&str], audiences: &[&str]) -> Policy {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Policy { authorized_parties: list(parties), audiences: list(audiences), ..Policy::new(Some(ISSUER.to_owned())) }
}

/// Every change alone and every two of different things together, under every kind of rules.
fn changed() -> Vec<Case> {
    let mut cases = Vec::new();
    let policies = [
        ("", policy(&[], &[])),
        (", with parties", policy(&[PARTY], &[])),
        (", with audiences", policy(&[], &["api"])),
    ];
    for (rules, policy) in &policies {
        let mut add = |name: String, draft: &Draft<'_>, relations: &[Relation]| {
            let has_audience = draft.claims_json().contains("\"aud\"");
            let unnamed = (!policy.audiences.is_empty() && !has_audience)
                .then_some(Stricter("an audience is required where one is configured"));
            let all = relations.iter().copied().chain(unnamed);
            let relation = all.fold(Same, |known, next| if known == Same { next } else { known });
            cases.push(Case { name: name + rules, token: draft.sign(), policy: policy.clone(), relation });
        };
        add("as it is".to_owned(), &good(), &[]);
        for (at, (name, on, relation, change)) in CHANGES.iter().enumerate() {
            add((*name).to_owned(), &change(good()), &[*relation]);
            for (second, second_on, second_relation, second_change) in &CHANGES[at + 1..] {
                if !on.split(' ').any(|part| second_on.split(' ').any(|other| part == other)) {
                    let draft = second_change(change(good()));
                    add(format!("{name}, {second}"), &draft, &[*relation, *second_relation]);
                }
            }
        }
    }
    cases
}

/// What no change of a claim makes: other signatures, other forms.
fn forged() -> Vec<Case> {
    let (token, header, claims) = (good().sign(), good().header_json(), good().claims_json());
    let [head, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let by_us = |header: &str, claims: &str| sign(header, claims, instance(), &RSA_PKCS1_SHA256);
    let admin = base64url(claims.replace("user_1", "user_2"));
    let twice = claims.replacen('{', "{\"sub\":\"user_2\",", 1);
    let cases: [(&str, String, Relation); 17] = [
        ("signed by another", good().sign_with(other()), Same),
        ("another payload", format!("{head}.{admin}.{signature}"), Same),
        ("another header", format!("{}.{payload}.{signature}", base64url(header.replace("ins_", "inz_"))), Same),
        ("no signature", format!("{head}.{payload}."), Same),
        ("half a signature", format!("{head}.{payload}.{}", &signature[..signature.len() / 2]), Same),
        ("signed with SHA-384 under RS256", sign(&header, &claims, instance(), &RSA_PKCS1_SHA384), Same),
        (
            "RS384, signed so",
            sign(&header.replace("RS256", "RS384"), &claims, instance(), &RSA_PKCS1_SHA384),
            Stricter("RS256 alone"),
        ),
        ("two parts", format!("{head}.{payload}"), Same),
        ("four parts", format!("{token}.{signature}"), Same),
        ("one part", head.to_owned(), Same),
        ("no base64", format!("{head}.%%%.{signature}"), Same),
        ("a payload that is no JSON", by_us(&header, "{"), Same),
        ("a header that is no JSON", by_us("{", &claims), Same),
        ("padded", format!("{token}=="), Stricter("exact base64url")),
        ("a key twice", by_us(&header, &twice), Stricter("JSON that two readers could read differently")),
        ("an API key", "ak_live_4f9a".to_owned(), Stricter("named for what it is")),
        (
            "longer than 8 KiB",
            good().claim("custom", "x".repeat(9000)).sign(),
            Stricter("a bound on the length: a cookie holds 4 KiB"),
        ),
    ];
    let case = |(name, token, relation): (&str, String, Relation)| Case {
        name: name.to_owned(),
        token,
        policy: policy(&[], &[]),
        relation,
    };
    cases.into_iter().map(case).collect()
}

/// The permissions of version 2 in all short forms of their three claims.
fn granted() -> Vec<Case> {
    let (features, names, masks) = (
        ["", "o:docs", "u:docs", "o:docs,o:billing", "u:a,o:docs,uo:billing", "ou:docs,o:x"],
        ["", "read", "read,manage", "read,manage,share"],
        ["", "0", "1", "3", "1,2", "7,5", "2,4,1"],
    );
    let mut cases = Vec::new();
    for fea in features {
        for per in names {
            for fpm in masks {
                let organization = json!({"id": "org_1", "rol": "member", "slg": "acme", "per": per, "fpm": fpm});
                cases.push(Case {
                    name: format!("fea {fea}, per {per}, fpm {fpm}"),
                    token: good().claim("o", organization).claim("fea", fea).sign(),
                    policy: policy(&[], &[]),
                    relation: Same,
                });
            }
        }
    }
    cases
}

/// What both say of a good token, in one form.
fn ours(session: &Session) -> Value {
    let active = session.organization.as_ref();
    json!({
        "user": session.user.as_str(), "session": session.id, "issued": session.issued_at.0 / 1000,
        "expires": session.expires_at.0 / 1000, "party": session.authorized_party, "actor": session.actor,
        "organization": active.map(|active| active.id.as_str()), "role": active.and_then(|active| active.role.clone()),
        "slug": active.and_then(|active| active.slug.clone()),
        "permissions": active.map(|active| active.permissions.clone()).unwrap_or_default(),
    })
}

fn theirs(verdict: &Value) -> Value {
    let (auth, claims) = (&verdict["auth"], &verdict["claims"]);
    let permissions = &auth["orgPermissions"];
    json!({
        "user": auth["userId"], "session": auth["sessionId"], "issued": claims["iat"], "expires": claims["exp"],
        "party": claims["azp"], "actor": auth["actor"]["sub"], "organization": auth["orgId"], "role": auth["orgRole"],
        "slug": auth["orgSlug"], "permissions": if permissions.is_null() { json!([]) } else { permissions.clone() },
    })
}

#[test]
fn every_token_is_judged_as_clerks_own_sdk_does_or_more_strictly_for_a_reason() {
    let cases: Vec<Case> = [changed(), forged(), granted()].into_iter().flatten().collect();
    let asked: Vec<Value> = cases
        .iter()
        .map(|case| {
            let mut options = json!({"issuer": ISSUER});
            if !case.policy.authorized_parties.is_empty() {
                options["authorizedParties"] = json!(case.policy.authorized_parties);
            }
            if !case.policy.audiences.is_empty() {
                options["audience"] = json!(case.policy.audiences);
            }
            json!({"token": case.token, "options": options})
        })
        .collect();
    let input = json!({"now": NOW * 1000, "pem": pem(), "cases": asked}).to_string();
    let verdicts: Vec<Value> =
        serde_json::from_str(&node::run(&node::installed("node"), "verify.mjs", &input)).expect("a verdict for each");
    assert_eq!(verdicts.len(), cases.len());

    let keys = Keys::from_pem(&pem()).expect("a good key");
    let judge = |case: &Case| token::verify(&case.token, Millis(NOW * 1000), &keys, &case.policy);
    let mut wrong = Vec::new();
    let (mut accepted, mut refused, mut stricter) = (0, 0, 0);
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let (name, judged) = (&case.name, judge(case));
        match (case.relation, judged, verdict["reason"].as_str()) {
            // Two features of one bit are told apart by nobody; then we grant what is sure.
            (Same, Ok(session), None) if session.organization.as_ref().is_some_and(|active| active.is_ambiguous) => {}
            (Same, Ok(session), None) => {
                accepted += 1;
                if ours(&session) != theirs(verdict) {
                    wrong.push(format!("{name}: we read {}, the SDK {}", ours(&session), theirs(verdict)));
                }
            }
            (Same, Err(rejection), Some(reason)) => {
                refused += 1;
                if rejection.reason() != reason {
                    wrong.push(format!("{name}: we say {}, the SDK {reason}", rejection.reason()));
                }
            }
            (Same, Ok(_), Some(reason)) => wrong.push(format!("{name}: WE ACCEPT, the SDK says {reason}")),
            (Same, Err(rejection), None) => wrong.push(format!("{name}: we say {rejection}, the SDK accepts")),
            (Stricter(_), Ok(_), _) => wrong.push(format!("{name}: we accept what we promise to refuse")),
            (Stricter(_), Err(_), _) => stricter += 1,
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(accepted > 200 && refused > 500 && stricter > 500, "{accepted} {refused} {stricter}");
}

/// A listed case that the SDK has come to refuse for the same reason is no exception any more.
#[test]
fn each_exception_is_one() {
    let listed = |case: &&Case| matches!(case.relation, Stricter(_)) && !case.name.contains(", ");
    let cases: Vec<Case> = [changed(), forged()].into_iter().flatten().collect();
    let cases: Vec<&Case> = cases.iter().filter(listed).collect();
    let asked: Vec<Value> =
        cases.iter().map(|case| json!({"token": case.token, "options": {"issuer": ISSUER}})).collect();
    let input = json!({"now": NOW * 1000, "pem": pem(), "cases": asked}).to_string();
    let verdicts: Vec<Value> =
        serde_json::from_str(&node::run(&node::installed("node"), "verify.mjs", &input)).expect("a verdict for each");
    let keys = Keys::from_pem(&pem()).expect("a good key");
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let ours = token::verify(&case.token, Millis(NOW * 1000), &keys, &case.policy).map_err(Rejection::reason);
        assert_ne!(ours.err(), verdict["reason"].as_str(), "{}: take it off the list", case.name);
    }
    assert!(cases.len() > 15);
}
