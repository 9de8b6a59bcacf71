//! nginx and Caddy before an application, asking `GET /v1/auth`: with exactly the configurations of
//! `docs/forward-auth.md`, only the addresses are the test's.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests wait for real processes, and tokens are good at the real time"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::signature::RsaKeyPair;
use axum::{Json, Router};
use bytes::Bytes;
use faircopy_testkit::client::{Response, request};
use faircopy_testkit::port::Port;
use faircopy_testkit::sender::Sender;
use faircopy_testkit::server::{Options, Server};
use faircopy_world::token::{Draft, new_key, pem};
use http::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const DOCUMENT: &str = include_str!("../../../../docs/forward-auth.md");
const ISSUER: &str = "https://clerk.example.com";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// How long anything here may take: far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// What only the proxy may say.
const IDENTITY: [&str; 3] = ["x-auth-user-id", "x-auth-org-id", "x-auth-org-role"];

#[tokio::test]
async fn nginx_lets_through_who_is_signed_in_and_says_who_it_is() {
    let stage = Stage::set().await;
    let text = stage.addressed(&block("nginx"));
    let (folder, port) = (stage.folder.path().display().to_string(), stage.port.number());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    // One process, so that none is left behind.
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n{temporary}access_log off;\nserver {{\nlisten 127.0.0.1:{port};\n{text}\n}}\n}}\n"
    );
    let file = stage.write("nginx.conf", &whole);
    stage.play("/usr/sbin/nginx", &["-e", "stderr", "-c", &file, "-p", &folder]).await;
}

#[tokio::test]
async fn caddy_lets_through_who_is_signed_in_and_says_who_it_is() {
    let stage = Stage::set().await;
    let text = stage.addressed(&block("caddy"));
    let address = format!("http://127.0.0.1:{}", stage.port.number());
    assert!(text.starts_with("app.example.com {"), "{text}");
    let site = text.replacen("app.example.com", &address, 1);
    let folder = stage.folder.path().display().to_string();
    let whole = format!("{{\nadmin off\nauto_https off\nstorage file_system {folder}\n}}\n{site}\n");
    let file = stage.write("Caddyfile", &whole);
    stage.play("caddy", &["run", "--adapter", "caddyfile", "--config", &file]).await;
}

/// The document's code block in a language.
fn block(language: &str) -> String {
    let (_, rest) = DOCUMENT.split_once(&format!("```{language}\n")).expect("a block of this language");
    let (text, _) = rest.split_once("```").expect("its end");
    text.to_owned()
}

/// Everything behind a proxy: the service with its copy, and an application that tells what it was sent.
struct Stage {
    faircopy: Server,
    key: RsaKeyPair,
    /// How many requests the application has seen.
    seen: Arc<AtomicUsize>,
    application: SocketAddr,
    /// The proxy's.
    port: Port,
    folder: TempDir,
}

impl Stage {
    async fn set() -> Stage {
        let key = new_key();
        let options = Options::new()
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .env("CLERK_JWT_ISSUER_DOMAIN", ISSUER)
            .env("CLERK_JWT_KEY", pem(&key));
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let application = Router::new().fallback(move |headers: HeaderMap, body: String| async move {
            count.fetch_add(1, Ordering::SeqCst);
            let value = |value: &http::HeaderValue| value.to_str().unwrap_or("not text").to_owned();
            let lines: Vec<_> = headers.iter().map(|(name, text)| (name.as_str().to_owned(), value(text))).collect();
            Json(json!({"headers": lines, "body": body}))
        });
        let listener = faircopy::http::server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(faircopy::http::server::serve(listener, application, std::future::pending()));
        let folder = tempfile::Builder::new().prefix("faircopy-proxy-").tempdir().expect("a temporary folder");
        Stage { faircopy: Server::start(options).await, key, seen, application: address, port: Port::take(), folder }
    }

    /// A configuration with the addresses of this stage in place of the document's.
    fn addressed(&self, text: &str) -> String {
        for address in ["127.0.0.1:8787", "127.0.0.1:3000"] {
            assert_eq!(text.matches(address).count(), 1, "{address} in {text}");
        }
        let faircopy = self.faircopy.url();
        text.replace("127.0.0.1:8787", faircopy.trim_start_matches("http://"))
            .replace("127.0.0.1:3000", &self.application.to_string())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("write a configuration");
        path.display().to_string()
    }

    fn token(&self, user: &str, organization: Option<&str>) -> String {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock past 1970");
        let now = i64::try_from(since.as_secs()).expect("a time");
        let draft = Draft::new(&self.key, "ins_1", ISSUER, user, now);
        organization.map_or(draft.clone(), |id| draft.organization(id, "admin", "acme")).sign()
    }

    /// Sends a request through the proxy; the identity that it pretends to is always the same.
    async fn ask(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let pretended = [
            ("X-Auth-User-Id", "user_evil"),
            ("X-Auth-Org-Id", "org_evil"),
            ("x-auth-org-role", "org:evil"),
            ("X-Auth-Org-Id", "org_evil_again"),
            ("X_Auth_User_Id", "user_evil"),
        ];
        let headers: Vec<_> = pretended.into_iter().chain(headers.iter().copied()).collect();
        let url = format!("http://127.0.0.1:{}/some/path?query=1", self.port.number());
        let body = Bytes::copy_from_slice(body.as_bytes());
        request(method, &url, &headers, body, PATIENCE).await.expect("an answer of the proxy")
    }

    /// What the application was told of the identity, when the request reached it.
    async fn told(&self, headers: &[(&str, &str)]) -> [Vec<String>; 3] {
        let before = self.seen.load(Ordering::SeqCst);
        let answer = self.ask("POST", headers, "a body").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.seen.load(Ordering::SeqCst), before + 1);
        let echo = answer.json().expect("JSON");
        assert_eq!(echo["body"], "a body");
        let lines: Vec<(String, String)> = serde_json::from_value(echo["headers"].clone()).expect("lines");
        assert!(!lines.iter().any(|(_, value)| value.contains("evil")), "something pretended came through: {lines:?}");
        IDENTITY.map(|name| lines.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect())
    }

    /// The request is refused, and the application does not see it.
    async fn refused(&self, headers: &[(&str, &str)], status: impl Fn(u16) -> bool) {
        let before = self.seen.load(Ordering::SeqCst);
        let answer = self.ask("GET", headers, "").await;
        assert!(status(answer.status), "{}: {}", answer.status, answer.text());
        assert_eq!(self.seen.load(Ordering::SeqCst), before, "the application was asked");
    }

    /// The whole story, with the proxy started so.
    async fn play(mut self, program: &str, arguments: &[&str]) {
        let _proxy = Proxy::start(program, arguments, self.folder.path(), &self.port).await;
        let bearer = |token: &str| format!("Bearer {token}");
        let told = |user: &str, organization: Option<&str>| {
            let of_organization = |value: &str| organization.map(|_| value.to_owned()).into_iter().collect();
            [vec![user.to_owned()], of_organization(organization.unwrap_or_default()), of_organization("org:admin")]
        };
        let unauthorized = |status| status == 401;
        self.refused(&[], unauthorized).await;
        self.refused(&[("authorization", "Bearer not.a.token")], unauthorized).await;
        let theirs = Draft::new(&new_key(), "ins_1", ISSUER, "user_a", 1_760_000_000).sign();
        self.refused(&[("authorization", &bearer(&theirs))], unauthorized).await;

        let (ann, alone) = (self.token("user_a", Some("org_1")), self.token("user_b", None));
        let (ann_bearer, ann_cookie) = (bearer(&ann), format!("theme=dark; __session={ann}"));
        assert_eq!(self.told(&[("authorization", &ann_bearer)]).await, told("user_a", Some("org_1")));
        assert_eq!(self.told(&[("cookie", &ann_cookie)]).await, told("user_a", Some("org_1")));
        assert_eq!(self.told(&[("authorization", &bearer(&alone))]).await, told("user_b", None));
        // Two people at once: a problem of another kind than 401, and closed all the same.
        self.refused(&[("authorization", &bearer(&alone)), ("cookie", &ann_cookie)], |status| status >= 400).await;

        self.remove_ann().await;
        assert_eq!(self.told(&[("authorization", &ann_bearer)]).await, told("user_a", None), "at the next request");

        self.faircopy.kill9().await;
        self.refused(&[("authorization", &ann_bearer)], |status| status >= 500).await;
        self.faircopy.restart().await;
        assert_eq!(self.told(&[("authorization", &ann_bearer)]).await, told("user_a", None));
    }

    async fn remove_ann(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock past 1970");
        let now = i64::try_from(since.as_millis()).expect("a time");
        let gone: Value = json!({
            "object": "event", "type": "organizationMembership.deleted", "timestamp": now, "instance_id": "ins_1",
            "data": {
                "object": "organization_membership", "id": "orgmem_a", "role": "org:admin",
                "organization": {"object": "organization", "id": "org_1"}, "public_user_data": {"user_id": "user_a"},
                "created_at": now - 1000, "updated_at": now,
            },
        });
        let sender = Sender::new(format!("{}/webhooks/clerk", self.faircopy.url()), SECRET);
        let reply = sender.send("msg_1", &gone.to_string()).await;
        assert!(reply.is_ack(), "{reply:?}");
    }
}

/// A proxy, killed when it is dropped and when this process ends in whatever way.
struct Proxy {
    _child: Child,
}

impl Proxy {
    async fn start(program: &str, arguments: &[&str], folder: &Path, port: &Port) -> Proxy {
        let log = fs::File::create(folder.join("log")).expect("a file for the output");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(arguments).current_dir(folder);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the same file")).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("setpriv (Debian: util-linux): {error}"));
        let start = Instant::now();
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).await.is_err() {
            let ended = child.try_wait().expect("look at our own child");
            if ended.is_some() || start.elapsed() > PATIENCE {
                let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("{program} (Debian: nginx, caddy) does not listen ({ended:?}):\n{said}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Proxy { _child: child }
    }
}
