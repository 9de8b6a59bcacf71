//! Session tokens as Clerk makes them, and the issuer that publishes their keys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
pub(crate) use aws_lc_rs::signature::RsaKeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The issuer of tokens that are verified with a PEM.
pub(crate) const ISSUER: &str = "https://clerk.example.com";
pub(crate) const KID: &str = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S";

/// The instance's key, made once for each run.
pub(crate) fn instance() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
}

/// A key of somebody else, or the instance's next one.
pub(crate) fn other() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
}

/// The instance's key as `CLERK_JWT_KEY`.
pub(crate) fn pem() -> String {
    let der: PublicKeyX509Der<'_> = instance().public_key().as_der().expect("a public key");
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der.as_ref()))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A document with these keys.
pub(crate) fn jwks(named: &[(&str, &RsaKeyPair)]) -> String {
    let keys: Vec<Value> = named
        .iter()
        .map(|(kid, key)| {
            let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
            json!({
                "use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256",
                "n": base64url(n.big_endian_without_leading_zero()),
                "e": base64url(e.big_endian_without_leading_zero()),
            })
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

/// A version 2 token of a user, issued at this second, with an active organization as (id, role).
pub(crate) fn token(user: &str, organization: Option<(&str, &str)>, now: i64) -> String {
    let mut claims = claims(user, now);
    if let Some((id, role)) = organization {
        claims["o"] = json!({ "id": id, "rol": role, "slg": format!("{}-slug", id.replace('_', "-")) });
    }
    sign(&claims, KID, instance())
}

/// The claims of a good token.
pub(crate) fn claims(user: &str, now: i64) -> Value {
    json!({
        "azp": "https://app.example.com", "exp": now + 60, "fva": [0, -1], "iat": now, "iss": ISSUER, "jti": "5f2b1c",
        "nbf": now - 10, "sid": "sess_1", "sts": "active", "sub": user, "v": 2,
    })
}

pub(crate) fn sign(claims: &Value, kid: &str, key: &RsaKeyPair) -> String {
    let header = json!({ "alg": "RS256", "cat": "cl_B7d4PD111AAA", "kid": kid, "typ": "JWT" });
    let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("a signature");
    format!("{signed}.{}", base64url(signature))
}

/// What the fake issuer answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Status(u16, String),
    /// Accepts and says nothing.
    Silence,
}

/// A fake issuer on a port of its own.
pub(crate) struct Issuer {
    pub(crate) url: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().expect("the answer").clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let read = stream.read(&mut request).await.unwrap_or_default();
                    assert!(request[..read].starts_with(b"GET /.well-known/jwks.json HTTP/1.1\r\n"));
                    match answer {
                        Answer::Silence => tokio::time::sleep(std::time::Duration::from_secs(60)).await,
                        Answer::Status(status, body) => {
                            let head = format!(
                                "HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n"
                            );
                            drop(stream.write_all(head.as_bytes()).await);
                            drop(stream.write_all(body.as_bytes()).await);
                        }
                    }
                });
            }
        });
        Self { url, answer, asked }
    }

    pub(crate) async fn with(named: &[(&str, &RsaKeyPair)]) -> Self {
        Self::start(Answer::Status(200, jwks(named))).await
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().expect("the answer") = answer;
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A token that this issuer signed.
    pub(crate) fn token(&self, user: &str, kid: &str, key: &RsaKeyPair, now: i64) -> String {
        let mut claims = claims(user, now);
        claims["iss"] = self.url.clone().into();
        sign(&claims, kid, key)
    }
}
