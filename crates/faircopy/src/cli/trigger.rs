//! `faircopy trigger`.

use faircopy_core::example::{self, EXAMPLES};
use faircopy_core::signature::Secret;
use serde_json::{Value, json};

use super::{Failure, Global, output};
use crate::app::{self, Clock, SystemClock};
use crate::config;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy trigger --list\n  faircopy trigger user.created --set data.first_name=Ada\n  \
    faircopy trigger user.deleted --url http://127.0.0.1:8787/webhooks/clerk --secret whsec_…"
)]
pub(super) struct Arguments {
    /// The type of event, as Clerk names it
    #[arg(required_unless_present = "list")]
    event_type: Option<String>,
    /// List the known types
    #[arg(long)]
    list: bool,
    /// Change a value of the event: a path and JSON, or else text. May be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Where to send it [default: the configured address]
    #[arg(long)]
    url: Option<String>,
    /// The signing secret [env: CLERK_WEBHOOK_SIGNING_SECRET]
    #[arg(long)]
    secret: Option<String>,
    /// Send Clerk's example byte for byte; otherwise its event time and `updated_at` are set to now
    #[arg(long, conflicts_with = "set")]
    verbatim: bool,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    if arguments.list {
        return list(global);
    }
    let event_type = arguments.event_type.as_deref().unwrap_or_default();
    let example = example::find(event_type).ok_or_else(|| unknown(event_type))?;
    let now = SystemClock.now();
    let body = if arguments.verbatim { example.body.to_owned() } else { body(example.body, now.0, &arguments.set)? };
    let config = global.config()?;
    let secret = match &arguments.secret {
        Some(text) => config::secrets_of(text).map_err(|fault| Failure::Usage(format!("--secret {fault}")))?.remove(0),
        None => config.webhook.secrets.first().cloned().ok_or_else(no_secret)?,
    };
    let path = config.webhook.paths.first().cloned().unwrap_or_default();
    let url = arguments.url.unwrap_or_else(|| format!("http://{}{path}", config.listen));
    let id = message_id();
    let reply = Sender::new(url.clone(), secret)?.send(&id, now.0.div_euclid(1000), body).await?;
    if global.json {
        output::json(&json!({ "id": id, "type": event_type, "status": reply.status, "answer": reply.answer }))?;
    } else {
        let outcome = reply.answer["outcome"].as_str().or(reply.answer["detail"].as_str()).unwrap_or_default();
        anstream::println!("{event_type}  {id}  {}  {outcome}", reply.status);
    }
    if reply.status == 200 {
        return Ok(());
    }
    Err(Failure::Failed(format!("{url} answered {}", reply.status)))
}

fn list(global: &Global) -> Result<(), Failure> {
    let names: Vec<&str> = EXAMPLES.iter().map(|example| example.event_type).collect();
    if global.json {
        return output::json(&names);
    }
    for name in names {
        anstream::println!("{name}");
    }
    Ok(())
}

fn unknown(event_type: &str) -> Failure {
    let family = event_type.split('.').next().unwrap_or_default();
    let near: Vec<&str> =
        EXAMPLES.iter().map(|example| example.event_type).filter(|name| name.starts_with(family)).collect();
    let hint =
        if near.is_empty() { "see `faircopy trigger --list`".into() } else { format!("known: {}", near.join(", ")) };
    Failure::Usage(format!("`{event_type}` is not a known event type; {hint}"))
}

fn no_secret() -> Failure {
    Failure::Usage(
        "no signing secret: pass --secret or set CLERK_WEBHOOK_SIGNING_SECRET (`serve --dev` prints one)".into(),
    )
}

/// The example as if it happened now, with the asked changes.
fn body(example: &str, now_ms: i64, changes: &[String]) -> Result<String, Failure> {
    let mut event: Value = serde_json::from_str(example).map_err(|error| Failure::Failed(error.to_string()))?;
    event["timestamp"] = json!(now_ms);
    for pointer in ["/data/updated_at", "/data/organization/updated_at"] {
        if let Some(updated_at) = event.pointer_mut(pointer) {
            *updated_at = json!(now_ms);
        }
    }
    for change in changes {
        let (path, text) = change
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--set {change}: expected PATH=VALUE, as in data.first_name=Ada")))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        set(&mut event, path, value).map_err(|fault| Failure::Usage(format!("--set {path}: {fault}")))?;
    }
    serde_json::to_string(&event).map_err(|error| Failure::Failed(error.to_string()))
}

fn set(event: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut place = event;
    for part in path.split('.') {
        place = match place {
            Value::Object(entries) => entries.entry(part).or_insert(json!({})),
            Value::Array(items) => {
                let at: usize = part.parse().map_err(|_| format!("`{part}` is not a place in a list"))?;
                items.get_mut(at).ok_or_else(|| format!("the list has no place {at}"))?
            }
            Value::Null => {
                *place = json!({});
                place.as_object_mut().ok_or("unreachable")?.entry(part).or_insert(json!({}))
            }
            _ => return Err(format!("`{part}` stands below a plain value")),
        };
    }
    *place = value;
    Ok(())
}

/// A message id as Svix makes them.
pub(super) fn message_id() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letter = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    format!("msg_{}", app::random_bytes::<27>().map(letter).iter().collect::<String>())
}

/// Sends signed deliveries as Svix does.
pub(super) struct Sender {
    client: reqwest::Client,
    url: String,
    secret: Secret,
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) answer: Value,
}

impl Sender {
    pub(super) fn new(url: String, secret: Secret) -> Result<Self, Failure> {
        // Svix's own time limit; redirects count as failures there too.
        let client = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { client, url, secret })
    }

    pub(super) async fn send(&self, id: &str, timestamp: i64, body: String) -> Result<Reply, Failure> {
        let signature = self.secret.sign(id, timestamp, body.as_bytes());
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("svix-id", id)
            .header("svix-timestamp", timestamp)
            .header("svix-signature", signature)
            .body(body);
        let unreachable = |error: reqwest::Error| {
            Failure::Failed(format!(
                "{} cannot be reached: {}\n  Is `faircopy serve` running?",
                self.url,
                error.without_url()
            ))
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(unreachable)?;
        Ok(Reply { status, answer: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_set_by_path() {
        let check = |change: &str, pointer: &str, expected: Value| {
            let text = body(example::find("user.created").unwrap().body, 5, &[change.to_owned()]).unwrap();
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event.pointer(pointer), Some(&expected), "{change}");
        };
        check("data.first_name=Ada", "/data/first_name", json!("Ada"));
        check("data.banned=true", "/data/banned", json!(true));
        check("data.public_metadata.workspaceId=ws_1", "/data/public_metadata/workspaceId", json!("ws_1"));
        check("data.private_metadata.a.b=1", "/data/private_metadata/a/b", json!(1));
        check("data.first_name=Ada", "/data/updated_at", json!(5));
        assert!(body(example::find("user.created").unwrap().body, 5, &["data.id.x=1".into()]).is_err());
    }
}
