//! Session tokens as Clerk makes them, and the issuer that publishes their keys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub(crate) use aws_lc_rs::signature::RsaKeyPair;
use faircopy_world::token::Draft;
pub(crate) use faircopy_world::token::jwks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The issuer of tokens that are verified with a PEM.
pub(crate) const ISSUER: &str = "https://clerk.example.com";
pub(crate) const KID: &str = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S";

/// The instance's key, made once for each run.
pub(crate) fn instance() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(faircopy_world::token::new_key)
}

/// A key of somebody else, or the instance's next one.
pub(crate) fn other() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(faircopy_world::token::new_key)
}

/// The instance's key as `CLERK_JWT_KEY`.
pub(crate) fn pem() -> String {
    faircopy_world::token::pem(instance())
}

/// A good version 2 token of a user, issued at this second.
pub(crate) fn draft(user: &str, now: i64) -> Draft<'static> {
    Draft::new(instance(), KID, ISSUER, user, now)
}

/// The same with an active organization as (id, role).
pub(crate) fn token(user: &str, organization: Option<(&str, &str)>, now: i64) -> String {
    let draft = draft(user, now);
    match organization {
        Some((id, role)) => draft.organization(id, role, &format!("{}-slug", id.replace('_', "-"))).sign(),
        None => draft.sign(),
    }
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
        Draft::new(key, kid, &self.url, user, now).sign()
    }
}
