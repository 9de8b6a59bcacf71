//! `faircopy replay`.

use std::io::BufRead;
use std::path::PathBuf;

use faircopy_core::Millis;
use faircopy_core::event::Context;
use faircopy_store::{Arrival, Content, Delivery, DeliveryFilter, Outcome, Store, Writer};
use serde_json::{Value, json};

use super::{Failure, Global, output, require_schema};
use crate::app::{Clock, SystemClock};
use crate::config::Config;
use crate::replay;

/// Deliveries read and committed together: bounds memory whatever the history's length.
const PAGE: i64 = 200;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy replay --failed\n  faircopy replay msg_2abc msg_2def\n  \
    faircopy replay --since 2026-01-31T12:00:00Z\n  faircopy replay --file events.jsonl   lines saved by `clerk webhooks listen`")]
pub(super) struct Arguments {
    /// Message ids of stored deliveries
    #[arg(value_name = "SVIX-ID")]
    ids: Vec<String>,
    /// All that are quarantined
    #[arg(long, conflicts_with_all = ["ids", "all"])]
    failed: bool,
    /// All that arrived since
    #[arg(long, value_name = "TIME", conflicts_with = "ids")]
    since: Option<String>,
    /// All, oldest first
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Events from a file, one JSON object a line (an event, or an object with the event under `payload` or `body`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ids", "failed", "since", "all"])]
    file: Option<PathBuf>,
}

#[derive(Default, serde::Serialize)]
struct Summary {
    replayed: usize,
    applied: usize,
    stale: usize,
    ignored: usize,
    quarantined: usize,
    not_kept: usize,
    erased: usize,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let store = config.store();
    require_schema(&store).await?;
    let mut replayer = Replayer { config: &config, store: &store, writer: store.writer(), summary: Summary::default() };
    if let Some(file) = &arguments.file {
        replayer.file(file).await?;
    } else if !arguments.ids.is_empty() {
        replayer.named(&arguments.ids).await?;
    } else if arguments.failed || arguments.all || arguments.since.is_some() {
        let since = arguments.since.as_deref().map(|text| {
            Millis::parse(text)
                .ok_or_else(|| Failure::Usage("--since expects a time such as 2026-01-31T12:00:00Z".into()))
        });
        let outcome = arguments.failed.then(|| Outcome::Quarantined.as_str().to_owned());
        replayer.matching(DeliveryFilter { outcome, since: since.transpose()?, ..DeliveryFilter::default() }).await?;
    } else {
        return Err(Failure::Usage("say what to replay: message ids, --failed, --since, --all or --file".into()));
    }
    let summary = replayer.summary;
    if global.json {
        return output::json(&summary);
    }
    anstream::println!(
        "{} replayed: {} applied, {} already known, {} ignored, {} quarantined",
        summary.replayed,
        summary.applied,
        summary.stale,
        summary.ignored,
        summary.quarantined
    );
    if summary.not_kept > 0 {
        anstream::eprintln!(
            "{} could not be replayed: nothing of their bodies was kept. Resend them from Clerk.",
            summary.not_kept
        );
    }
    if summary.erased > 0 {
        anstream::eprintln!("{} were left alone: what they said was erased.", summary.erased);
    }
    Ok(())
}

struct Replayer<'a> {
    config: &'a Config,
    store: &'a Store,
    writer: Writer,
    summary: Summary,
}

impl Replayer<'_> {
    fn context(&self, signed_at: Millis) -> Context<'_> {
        Context { mode: self.config.profile_mode, signed_at, instance: self.config.instance_id.as_deref() }
    }

    async fn named(&mut self, ids: &[String]) -> Result<(), Failure> {
        for id in ids {
            let delivery = self.store.delivery(id).await?;
            let delivery = delivery.ok_or_else(|| Failure::Failed(format!("no delivery has the id {id}")))?;
            self.stored(vec![delivery]).await?;
        }
        Ok(())
    }

    async fn matching(&mut self, filter: DeliveryFilter) -> Result<(), Failure> {
        let mut cursor: Option<(String, String)> = None;
        loop {
            let after = cursor.as_ref().map(|(at, id)| (at.as_str(), id.as_str()));
            let page = self.store.deliveries(&filter, after, false, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            cursor = Some((last.received_at.clone(), last.svix_id.clone()));
            let mut deliveries = Vec::with_capacity(page.len());
            for summary in page {
                deliveries.extend(self.store.delivery(&summary.svix_id).await?);
            }
            self.stored(deliveries).await?;
        }
    }

    async fn stored(&mut self, deliveries: Vec<Delivery>) -> Result<(), Failure> {
        let now = SystemClock.now();
        let arrivals: Vec<Option<Arrival>> = deliveries
            .iter()
            .map(|delivery| replay::arrival(delivery, now, |signed_at| self.context(signed_at)))
            .collect();
        for (delivery, _) in deliveries.iter().zip(&arrivals).filter(|(_, arrival)| arrival.is_none()) {
            let is_erased = delivery.summary.erased_at.is_some();
            *(if is_erased { &mut self.summary.erased } else { &mut self.summary.not_kept }) += 1;
        }
        self.commit(arrivals.into_iter().flatten().collect()).await
    }

    async fn file(&mut self, path: &PathBuf) -> Result<(), Failure> {
        let file = std::fs::File::open(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        let now = SystemClock.now();
        let mut page = Vec::new();
        for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let (id, body) = saved_event(&line)
                .ok_or_else(|| Failure::Failed(format!("{}:{}: not a saved event", path.display(), number + 1)))?;
            let body_hash = Arrival::hash(body.as_bytes());
            // Without an id of its own a saved event is named by its content: replaying the file twice is harmless.
            let svix_id = id.unwrap_or_else(|| format!("file_{:016x}", body_hash.cast_unsigned()));
            let content = Content::read(body.as_bytes(), &self.context(now));
            page.push(Arrival { svix_id, signed_at: now, received_at: now, body_hash, content });
            if page.len() == usize::try_from(PAGE).unwrap_or(1) {
                self.commit(std::mem::take(&mut page)).await?;
            }
        }
        self.commit(page).await
    }

    async fn commit(&mut self, arrivals: Vec<Arrival>) -> Result<(), Failure> {
        if arrivals.is_empty() {
            return Ok(());
        }
        let now = SystemClock.now();
        let receipts = self.writer.commit(&arrivals, now).await?;
        for (arrival, receipt) in arrivals.iter().zip(receipts) {
            // A known id answers "duplicate"; what its reading came to is what a person wants to know.
            let outcome = match (&arrival.content.event.reading, receipt.outcome) {
                (faircopy_core::event::Reading::Quarantined(_), _) => &mut self.summary.quarantined,
                (faircopy_core::event::Reading::Ignored, _) => &mut self.summary.ignored,
                (_, Outcome::Applied) => &mut self.summary.applied,
                _ if receipt.news => &mut self.summary.applied,
                _ => &mut self.summary.stale,
            };
            *outcome += 1;
            self.summary.replayed += 1;
        }
        Ok(())
    }
}

/// One line of a file: an event, or an object that holds one. With the message id, where the line names it.
fn saved_event(line: &str) -> Option<(Option<String>, String)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let id = ["svix_id", "svix-id", "id", "message_id"]
        .iter()
        .filter_map(|key| value.get(key)?.as_str())
        .chain(value.pointer("/headers/svix-id").and_then(Value::as_str))
        .find(|id| id.starts_with("msg_"))
        .map(ToOwned::to_owned);
    if value.get("data").is_some() && value.get("type").is_some() {
        return Some((id, line.to_owned()));
    }
    let inner = ["payload", "body", "event"].iter().find_map(|key| value.get(key))?;
    let body = inner.as_str().map_or_else(|| json!(inner).to_string(), ToOwned::to_owned);
    Some((id, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_lines_of_several_forms_are_read() {
        let check = |line: &str, id: Option<&str>, body: &str| {
            assert_eq!(saved_event(line), Some((id.map(ToOwned::to_owned), body.to_owned())), "{line}");
        };
        check(r#"{"type":"a","data":{}}"#, None, r#"{"type":"a","data":{}}"#);
        check(r#"{"id":"msg_1","payload":{"type":"a"}}"#, Some("msg_1"), r#"{"type":"a"}"#);
        check(r#"{"headers":{"svix-id":"msg_2"},"body":"{\"type\": 1}"}"#, Some("msg_2"), r#"{"type": 1}"#);
        assert_eq!(saved_event("nonsense"), None);
        assert_eq!(saved_event(r#"{"x":1}"#), None);
    }
}
