//! The rooms themselves: PURE. What Liveblocks checks is checked, and what it answers is made here.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::query::Query;

/// Rooms on a page when nothing is asked for, and at most: Liveblocks' own.
const PAGE: usize = 20;
const MAX_PAGE: usize = 100;
/// Characters of a room's id: Liveblocks' own bound.
const MAX_ID_CHARS: usize = 128;
/// Entries of a room's metadata, and characters of a key and of a value: Liveblocks' own bounds.
const MAX_METADATA: usize = 50;
const MAX_METADATA_KEY_CHARS: usize = 40;
const MAX_METADATA_VALUE_CHARS: usize = 256;
/// Users, and groups, that a room may name: Liveblocks' own bound.
const MAX_ACCESSES: usize = 100;
/// Deleted rooms that are remembered, so that a client that reconnects finds its room as it was.
const MAX_REMEMBERED: usize = 10_000;
/// The organization of a room that names none.
const DEFAULT_ORGANIZATION: &str = "default";

/// Why a request is refused: Liveblocks' status, code and sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// The member `error` of its body.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub suggestion: &'static str,
}

impl Refusal {
    pub(super) fn body(&self) -> Value {
        json!({ "error": self.code, "message": self.message, "suggestion": self.suggestion, "docs": "" })
    }

    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self {
            status: 422,
            code: "UNPROCESSABLE_ENTITY",
            message: message.into(),
            suggestion: "Send what https://liveblocks.io/docs/api-reference/rest-api-endpoints describes.",
        }
    }

    fn not_found() -> Self {
        Self {
            status: 404,
            code: "ROOM_NOT_FOUND",
            message: "Room not found.".into(),
            suggestion: "List the rooms that exist with GET /v2/rooms.",
        }
    }

    fn exists() -> Self {
        Self {
            status: 409,
            code: "ROOM_ALREADY_EXISTS",
            message: "The room already exists.".into(),
            suggestion: "Choose another id, or ask for `?idempotent` to get the room as it is.",
        }
    }
}

/// One room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// Its name, chosen by the application.
    pub id: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When somebody was in it last.
    pub last_connection_at_ms: Option<i64>,
    /// Whose it is.
    pub organization_id: String,
    /// Strings, and lists of strings.
    pub metadata: BTreeMap<String, Value>,
    /// What everybody may do.
    pub default_accesses: Vec<String>,
    /// What these users may do.
    pub users_accesses: BTreeMap<String, Vec<String>>,
    /// What these groups may do.
    pub groups_accesses: BTreeMap<String, Vec<String>>,
    /// The how manieth room it was: newer rooms have greater numbers, whatever the clock says.
    number: u64,
}

impl Room {
    /// The room as Liveblocks shows it.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!({
            "type": "room", "id": self.id, "createdAt": stamp(self.created_at_ms), "organizationId": self.organization_id,
            "metadata": self.metadata, "defaultAccesses": self.default_accesses,
            "usersAccesses": self.users_accesses, "groupsAccesses": self.groups_accesses,
        });
        if let Some(last) = self.last_connection_at_ms {
            document["lastConnectionAt"] = stamp(last).into();
        }
        document
    }

    /// Its metadata under this key, where that is one string: lists cannot be filtered by.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }
}

/// A time as JavaScript writes it. What no calendar has is written as 1970.
fn stamp(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// All rooms, and those that were deleted last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rooms {
    rooms: BTreeMap<String, Room>,
    deleted: VecDeque<Room>,
    made: u64,
    /// What changed since somebody asked.
    #[serde(skip)]
    changes: Vec<RoomChange>,
}

/// A room as it is now, or one that was deleted: what the sandbox's file has of rooms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoomChange {
    Is(Room),
    Deleted(String),
}

impl Rooms {
    /// Every room, in the order of their ids.
    pub fn all(&self) -> impl Iterator<Item = &Room> {
        self.rooms.values()
    }

    /// The room of this id.
    ///
    /// # Errors
    /// `ROOM_NOT_FOUND`.
    pub fn get(&self, id: &str) -> Result<&Room, Refusal> {
        self.rooms.get(id).ok_or_else(Refusal::not_found)
    }

    /// Makes the room that this document describes. With `idempotent` one that exists is given as it is.
    ///
    /// # Errors
    /// When it exists, or when Liveblocks would not take the document.
    pub fn create(&mut self, wanted: &Value, idempotent: bool, now_ms: i64) -> Result<&Room, Refusal> {
        let room = read_room(wanted, now_ms)?;
        if self.rooms.contains_key(&room.id) {
            return if idempotent { self.get(&room.id) } else { Err(Refusal::exists()) };
        }
        Ok(self.insert(room))
    }

    fn insert(&mut self, mut room: Room) -> &Room {
        self.made += 1;
        room.number = self.made;
        self.put(room)
    }

    fn put(&mut self, room: Room) -> &Room {
        self.changes.push(RoomChange::Is(room.clone()));
        self.rooms.entry(room.id.clone()).insert_entry(room).into_mut()
    }

    /// What changed since this was asked last.
    pub(crate) fn take_changes(&mut self) -> Vec<RoomChange> {
        std::mem::take(&mut self.changes)
    }

    /// Everything as changes to nothing: those that were deleted first.
    pub(crate) fn as_changes(&self) -> impl Iterator<Item = RoomChange> + '_ {
        let gone =
            self.deleted.iter().flat_map(|room| [RoomChange::Is(room.clone()), RoomChange::Deleted(room.id.clone())]);
        gone.chain(self.all().cloned().map(RoomChange::Is))
    }

    /// Puts a change back.
    pub(crate) fn apply(&mut self, change: RoomChange) {
        match change {
            RoomChange::Is(room) => {
                self.made = self.made.max(room.number);
                self.forget_deleted(&room.id);
                self.put(room);
            }
            // What the file says was deleted was there.
            RoomChange::Deleted(id) => drop(self.delete(&id)),
        }
        self.changes.clear();
    }

    /// The last deleted room of this id, which is then no longer remembered.
    fn forget_deleted(&mut self, id: &str) -> Option<Room> {
        self.deleted.iter().rposition(|room| room.id == id).and_then(|at| self.deleted.remove(at))
    }

    /// Deletes a room.
    ///
    /// # Errors
    /// `ROOM_NOT_FOUND`.
    pub fn delete(&mut self, id: &str) -> Result<(), Refusal> {
        let room = self.rooms.remove(id).ok_or_else(Refusal::not_found)?;
        self.changes.push(RoomChange::Deleted(room.id.clone()));
        self.deleted.push_back(room);
        if self.deleted.len() > MAX_REMEMBERED {
            self.deleted.pop_front();
        }
        Ok(())
    }

    /// A client that still has the room open connects: the room was there, or is there again, newly made. One that was
    /// deleted has what it had; one that was never seen is open to everybody.
    ///
    /// # Errors
    /// When no room may have this id.
    pub fn reconnect(&mut self, id: &str, now_ms: i64) -> Result<&Room, Refusal> {
        if let Some(mut room) = self.rooms.remove(id) {
            room.last_connection_at_ms = Some(now_ms);
            return Ok(self.put(room));
        }
        let mut room = match self.forget_deleted(id) {
            Some(room) => room,
            None => read_room(&json!({ "id": id, "defaultAccesses": ["room:write"] }), now_ms)?,
        };
        room.created_at_ms = now_ms;
        room.last_connection_at_ms = Some(now_ms);
        Ok(self.insert(room))
    }

    /// A page of rooms, newest first.
    ///
    /// # Errors
    /// When a parameter is not what Liveblocks takes.
    pub fn list(&self, parameters: &[(String, String)]) -> Result<Value, Refusal> {
        let asked = Asked::read(parameters)?;
        let mut found: Vec<&Room> = self.rooms.values().filter(|room| asked.wants(room)).collect();
        found.sort_unstable_by_key(|room| std::cmp::Reverse(room.number));
        let more = found.len() > asked.limit;
        found.truncate(asked.limit);
        let cursor = found.last().filter(|_| more).map(|room| cursor(room.number));
        let next = cursor.as_ref().map(|cursor| format!("/v2/rooms?startingAfter={cursor}"));
        let documents: Vec<Value> = found.into_iter().map(Room::document).collect();
        Ok(json!({ "nextCursor": cursor, "nextPage": next, "data": documents }))
    }
}

/// A place in the list: it stays when the room that it was made of is deleted.
fn cursor(number: u64) -> String {
    format!("{number:016x}")
}

/// What a list is asked for.
struct Asked<'q> {
    limit: usize,
    before: Option<u64>,
    metadata: Vec<(&'q str, &'q str)>,
    user: Option<&'q str>,
    groups: Vec<&'q str>,
    organization: Option<&'q str>,
    query: Query,
}

impl<'q> Asked<'q> {
    fn read(parameters: &'q [(String, String)]) -> Result<Self, Refusal> {
        let mut asked = Self {
            limit: PAGE,
            before: None,
            metadata: Vec::new(),
            user: None,
            groups: Vec::new(),
            organization: None,
            query: Query::default(),
        };
        for (name, value) in parameters {
            match (name.as_str(), value.as_str()) {
                ("limit", value) => asked.limit = read_limit(value)?,
                ("startingAfter", value) => asked.before = Some(read_cursor(value)?),
                ("userId", value) => asked.user = Some(value),
                ("groupIds", value) => asked.groups.extend(value.split(',').filter(|group| !group.is_empty())),
                ("organizationId", value) => asked.organization = Some(value),
                ("query", value) => asked.query = Query::parse(value).map_err(|why| invalid_query(&why))?,
                (name, value) => asked.metadata.extend(name.strip_prefix("metadata.").map(|key| (key, value))),
            }
        }
        Ok(asked)
    }

    fn wants(&self, room: &Room) -> bool {
        // Liveblocks joins the user and the groups by OR, everything else by AND.
        let nobody = self.user.is_none() && self.groups.is_empty();
        let named = self.user.is_some_and(|user| room.users_accesses.contains_key(user))
            || self.groups.iter().any(|group| room.groups_accesses.contains_key(*group));
        self.before.is_none_or(|number| room.number < number)
            && (nobody || named)
            && self.organization.is_none_or(|organization| room.organization_id == organization)
            && self.metadata.iter().all(|(key, value)| room.text(key) == Some(value))
            && self.query.wants(room)
    }
}

fn invalid_query(why: &str) -> Refusal {
    Refusal {
        status: 422,
        code: "INVALID_QUERY",
        message: format!("Invalid query: {why}."),
        suggestion: "Write conditions such as roomId^'prefix:' or metadata['key']:'value', joined by AND.",
    }
}

fn read_limit(text: &str) -> Result<usize, Refusal> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| Refusal::unprocessable(format!("'limit' must be from 1 to {MAX_PAGE}.")))
}

fn read_cursor(text: &str) -> Result<u64, Refusal> {
    let number = u64::from_str_radix(text, 16).ok().filter(|number| cursor(*number) == text);
    number.ok_or_else(|| Refusal::unprocessable("'startingAfter' must be the `nextCursor` of the page before."))
}

fn read_room(wanted: &Value, now_ms: i64) -> Result<Room, Refusal> {
    let Some(wanted) = wanted.as_object() else {
        return Err(Refusal::unprocessable("The body must be a JSON object."));
    };
    let id = wanted.get("id").ok_or_else(|| Refusal::unprocessable("Missing key: 'id'."))?;
    let id = id.as_str().filter(|id| fits(id, MAX_ID_CHARS) && !id.is_empty());
    let id = id.ok_or_else(|| {
        Refusal::unprocessable(format!("Value at key 'id': must be a string of 1 to {MAX_ID_CHARS} characters."))
    })?;
    let default =
        wanted.get("defaultAccesses").ok_or_else(|| Refusal::unprocessable("Missing key: 'defaultAccesses'."))?;
    Ok(Room {
        id: id.to_owned(),
        created_at_ms: now_ms,
        last_connection_at_ms: None,
        organization_id: read_organization(wanted)?,
        metadata: read_metadata(wanted.get("metadata"))?,
        default_accesses: read_permissions("defaultAccesses", default)?,
        users_accesses: read_accesses(wanted, "usersAccesses")?,
        groups_accesses: read_accesses(wanted, "groupsAccesses")?,
        number: 0,
    })
}

fn fits(text: &str, max_chars: usize) -> bool {
    text.chars().count() <= max_chars
}

fn read_organization(wanted: &Map<String, Value>) -> Result<String, Refusal> {
    match wanted.get("organizationId") {
        None | Some(Value::Null) => Ok(DEFAULT_ORGANIZATION.to_owned()),
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        Some(_) => Err(Refusal::unprocessable("Value at key 'organizationId': must be a string.")),
    }
}

fn read_metadata(wanted: Option<&Value>) -> Result<BTreeMap<String, Value>, Refusal> {
    let rule = || {
        Refusal::unprocessable(format!(
            "Value at key 'metadata': must have at most {MAX_METADATA} entries, keys of at most {MAX_METADATA_KEY_CHARS} \
             characters, and values that are strings (or lists of them) of at most {MAX_METADATA_VALUE_CHARS}."
        ))
    };
    let wanted = match wanted {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(wanted)) => wanted,
        Some(_) => return Err(rule()),
    };
    let text = |value: &Value| value.as_str().is_some_and(|text| fits(text, MAX_METADATA_VALUE_CHARS));
    let value_fits = |value: &Value| value.as_array().map_or_else(|| text(value), |list| list.iter().all(text));
    let entry_fits = |(key, value): (&String, &Value)| fits(key, MAX_METADATA_KEY_CHARS) && value_fits(value);
    if wanted.len() > MAX_METADATA || !wanted.iter().all(entry_fits) {
        return Err(rule());
    }
    Ok(wanted.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn read_permissions(name: &str, wanted: &Value) -> Result<Vec<String>, Refusal> {
    // Of the form `room:write`, `comments:read`, `*:write`: Liveblocks adds to them, so the words are left open.
    let permission = |value: &Value| value.as_str().filter(|text| text.contains(':')).map(str::to_owned);
    let list = wanted.as_array().and_then(|list| list.iter().map(permission).collect::<Option<Vec<_>>>());
    list.ok_or_else(|| Refusal::unprocessable(format!("Value at key '{name}': must be a list of permissions.")))
}

fn read_accesses(wanted: &Map<String, Value>, name: &str) -> Result<BTreeMap<String, Vec<String>>, Refusal> {
    let wanted = match wanted.get(name) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(wanted)) if wanted.len() <= MAX_ACCESSES => wanted,
        Some(_) => {
            return Err(Refusal::unprocessable(format!(
                "Value at key '{name}': must be an object with at most {MAX_ACCESSES} ids."
            )));
        }
    };
    wanted.iter().map(|(id, value)| Ok((id.clone(), read_permissions(name, value)?))).collect()
}
