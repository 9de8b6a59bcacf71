//! A client of Liveblocks' REST API: rooms are deleted and listed, and nothing else.
//!
//! What it promises beside [`super::exchange`]'s bounds: whatever an id holds, it stays one segment of the path, so that no
//! name of a room reaches another address; and a room counts as gone only if Liveblocks itself has said so. A page of a
//! proxy, a wrong address and an answer that broke off are faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faircopy_core::Millis;
use faircopy_core::courier::MAX_AT_ONCE;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use tracing::Instrument as _;

use super::exchange::{self, Answer, Fault, MAX_ANSWER};
use crate::config::LiveblocksApi;
use crate::telemetry::Metrics;

/// Characters of a room's id: Liveblocks' own bound.
pub const MAX_ROOM_ID: usize = 128;
/// Rooms on a page: Liveblocks gives no more.
const MAX_PAGE: usize = 100;
/// The longest page that is read: 100 rooms with all the metadata (50 entries of 40 and 256 characters) and all the users and
/// groups (200 ids) that Liveblocks allows, four bytes each, are below it.
const MAX_LISTING: usize = 12 * 1024 * 1024;
/// The longest cursor that is taken: Liveblocks' are some dozens of characters.
const MAX_CURSOR: usize = 1024;
/// Liveblocks' word for a room that does not exist.
const NOT_FOUND: &str = "ROOM_NOT_FOUND";

/// What a deletion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The room was there, and is gone.
    Gone,
    /// There was none.
    WasGone,
}

/// Rooms, newest first, and where the next ones are. Liveblocks' own development server has another order, and one page only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most 100, as Liveblocks has it.
    pub rooms: Vec<Listed>,
    /// What [`Liveblocks::rooms`] takes for the page after this one; `None` at the end.
    pub next: Option<String>,
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, chosen by the application.
    pub id: String,
    /// When it was made, by Liveblocks' clock.
    pub created_at: Millis,
}

/// Liveblocks, asked with the configured key.
pub struct Liveblocks {
    client: reqwest::Client,
    base: Url,
    metrics: Metrics,
    /// The address has shown itself to be Liveblocks': it has given a list of rooms.
    is_proven: AtomicBool,
}

#[derive(Deserialize)]
struct Complaint {
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    next_cursor: Option<String>,
    data: Vec<Room>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    id: String,
    created_at: String,
}

impl Liveblocks {
    /// A client for these settings; `None` without a key. Nothing is asked yet.
    #[must_use]
    pub fn new(settings: &LiveblocksApi, metrics: Metrics) -> Option<Arc<Self>> {
        let key = settings.secret_key.as_ref()?.expose_secret();
        let base = Url::parse(&settings.url).ok()?;
        // The settings only take keys that a header can hold.
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
        bearer.set_sensitive(true);
        match exchange::client(&base, HeaderMap::from_iter([(AUTHORIZATION, bearer)]), MAX_AT_ONCE) {
            Ok(client) => Some(Arc::new(Self { client, base, metrics, is_proven: AtomicBool::new(false) })),
            Err(error) => {
                tracing::error!(%error, "Liveblocks can never be asked: there is no TLS");
                None
            }
        }
    }

    /// Deletes a room, for ever.
    pub async fn delete_room(&self, id: &str) -> Result<Deleted, Fault> {
        let url = self.room(id)?;
        let answer = self.ask("delete", self.client.delete(url), MAX_ANSWER).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(Deleted::Gone),
            StatusCode::OK if answer.is_json || answer.body.is_empty() => Ok(Deleted::Gone),
            StatusCode::OK => Err(Fault::Malformed),
            StatusCode::NOT_FOUND => self.was_gone(&answer).await,
            status => Err(Fault::Status(status.as_u16())),
        }
    }

    /// The rooms after this cursor, or the newest ones.
    pub async fn rooms(&self, cursor: Option<&str>) -> Result<Page, Fault> {
        self.page(cursor, MAX_PAGE).await
    }

    /// Whether the key is good and the address Liveblocks': asks for a list of one room.
    pub async fn check_key(&self) -> Result<(), Fault> {
        self.page(None, 1).await.map(drop)
    }

    /// A 404 is a room that is gone if it says so in Liveblocks' own word. Another word in Liveblocks' form counts as well, once
    /// the address has given a list of rooms: with a wrong address every room would be taken for gone.
    async fn was_gone(&self, answer: &Answer) -> Result<Deleted, Fault> {
        if !answer.is_json {
            return Err(Fault::Malformed);
        }
        let complaint: Complaint = serde_json::from_slice(&answer.body).map_err(|_| Fault::Malformed)?;
        if complaint.error != NOT_FOUND && !self.is_proven.load(Ordering::Relaxed) {
            self.check_key().await?;
        }
        Ok(Deleted::WasGone)
    }

    async fn page(&self, cursor: Option<&str>, limit: usize) -> Result<Page, Fault> {
        let mut url = self.address();
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("startingAfter", cursor);
        }
        let answer = self.ask("list", self.client.get(url), MAX_LISTING).await?;
        if answer.status != StatusCode::OK {
            return Err(Fault::Status(answer.status.as_u16()));
        }
        if !answer.is_json {
            return Err(Fault::Malformed);
        }
        let page = page_of(&answer.body, cursor)?;
        self.is_proven.store(true, Ordering::Relaxed);
        Ok(page)
    }

    async fn ask(&self, call: &'static str, request: reqwest::RequestBuilder, max: usize) -> Result<Answer, Fault> {
        let reads = |status| matches!(status, StatusCode::OK | StatusCode::NOT_FOUND);
        let span = exchange::span("liveblocks", call);
        let answer = exchange::exchange(request, max, reads).instrument(span.clone()).await;
        let status = answer.as_ref().map_or_else(Fault::kind, |answer| exchange::label(answer.status));
        exchange::ended(&span, status, answer.is_ok());
        self.metrics.liveblocks_request(call, status);
        answer
    }

    fn address(&self) -> Url {
        let mut url = self.base.clone();
        // The settings only take addresses that have a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["v2", "rooms"]);
        }
        url
    }

    fn room(&self, id: &str) -> Result<Url, Fault> {
        if !is_room_id(id) {
            return Err(Fault::Unnameable);
        }
        let mut url = self.address();
        let path = format!("{}/{}", url.path(), one_segment(id));
        url.set_path(&path);
        Ok(url)
    }
}

/// Whether a room can have this id, and be asked for by it: `.` and `..` would not stay segments, even encoded, as each client and
/// server on the way takes them for steps.
#[must_use]
pub fn is_room_id(id: &str) -> bool {
    (1..=MAX_ROOM_ID).contains(&id.chars().count()) && id != "." && id != ".."
}

/// Everything but letters, digits and `-`, `_`, `.`, `~` in percents (RFC 3986's unreserved characters).
fn one_segment(id: &str) -> String {
    let encoded = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    id.bytes().map(encoded).collect()
}

/// A page as Liveblocks gives it, and nothing else: what cannot be read would be a room that nobody deletes.
fn page_of(body: &[u8], asked: Option<&str>) -> Result<Page, Fault> {
    let listing: Listing = serde_json::from_slice(body).map_err(|_| Fault::Malformed)?;
    let next = listing.next_cursor;
    // A cursor that leads to itself would be followed for ever.
    let leads_on = |next: &str| !next.is_empty() && next.len() <= MAX_CURSOR && Some(next) != asked;
    if !next.as_deref().is_none_or(leads_on) {
        return Err(Fault::Malformed);
    }
    let room = |room: Room| {
        let created_at = Millis::parse(&room.created_at)?;
        (!room.id.is_empty()).then_some(Listed { id: room.id, created_at })
    };
    let rooms = listing.data.into_iter().map(room).collect::<Option<_>>().ok_or(Fault::Malformed)?;
    Ok(Page { rooms, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn liveblocks(url: &str) -> Arc<Liveblocks> {
        let settings = LiveblocksApi { secret_key: Some("sk_test".to_owned().into()), url: url.into() };
        Liveblocks::new(&settings, Metrics::install()).unwrap()
    }

    #[test]
    fn whatever_an_id_holds_it_stays_one_segment() {
        let check = |id: &str, expected: &str| {
            for base in ["https://api.test", "https://api.test/", "https://api.test/proxy"] {
                let url = liveblocks(base).room(id).unwrap();
                assert_eq!(url.as_str(), format!("{}/v2/rooms/{expected}", base.trim_end_matches('/')), "{id}");
                assert!(url.query().is_none() && url.fragment().is_none());
            }
        };
        check("doc:1", "doc%3A1");
        check("../v2/rooms", "..%2Fv2%2Frooms");
        check("%2f", "%252f");
        check("%2e%2e", "%252e%252e");
        check("a?b", "a%3Fb");
        check("a#b", "a%23b");
        check("a b", "a%20b");
        check(" ", "%20");
        check("a\\..\\b", "a%5C..%5Cb");
        check("...", "...");
        check("räume", "r%C3%A4ume");
        check("a\r\nb\0\t", "a%0D%0Ab%00%09");
        check(&"é".repeat(128), &"%C3%A9".repeat(128));
    }

    #[test]
    fn what_is_no_name_of_a_room_is_not_asked_for() {
        for id in ["", ".", "..", &"x".repeat(129), &"é".repeat(129)] {
            assert_eq!(liveblocks("https://api.test").room(id), Err(Fault::Unnameable), "{id}");
        }
    }

    #[test]
    fn broken_pages_are_faults() {
        let check =
            |body: &str, is_page: bool| assert_eq!(page_of(body.as_bytes(), Some("c1")).is_ok(), is_page, "{body}");
        let room = r#"{"type":"room","id":"a","createdAt":"2026-01-02T03:04:05.678Z","metadata":{}}"#;
        check(&format!(r#"{{"nextCursor":null,"data":[{room}]}}"#), true);
        check(&format!(r#"{{"nextCursor":"c2","nextPage":"/v2/…","data":[{room},{room}]}}"#), true);
        check(r#"{"data":[]}"#, true);
        check(&format!(r#"{{"nextCursor":"c1","data":[{room}]}}"#), false);
        check(&format!(r#"{{"nextCursor":"","data":[{room}]}}"#), false);
        check(&format!(r#"{{"nextCursor":7,"data":[{room}]}}"#), false);
        check(&format!(r#"{{"nextCursor":"{}","data":[]}}"#, "c".repeat(1025)), false);
        // Liveblocks' own development server gives everything at once, however little was asked for.
        check(&format!(r#"{{"data":[{}]}}"#, vec![room; 101].join(",")), true);
        check(r#"{"data":[{"id":"a"}]}"#, false);
        check(r#"{"data":[{"id":"","createdAt":"2026-01-02T03:04:05Z"}]}"#, false);
        check(r#"{"data":[{"id":"a","createdAt":"yesterday"}]}"#, false);
        check(r#"{"data":[{"createdAt":"2026-01-02T03:04:05Z"}]}"#, false);
        for body in ["", "{}", "[]", "null", "<html>", r#"{"data":{}}"#, r#"{"data":["#] {
            check(body, false);
        }
    }
}
