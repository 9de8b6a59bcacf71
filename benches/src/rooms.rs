//! The stand-in for Liveblocks: rooms are made at it, deleted by Faircopy, and counted.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::arena::Arena;
use crate::line::Line;
use crate::sandbox::Sandbox;

/// A running sandbox as Liveblocks, without rooms.
pub(crate) struct Rooms {
    sandbox: Sandbox,
}

impl Rooms {
    /// Starts one.
    pub(crate) fn start(arena: &Arena) -> Result<Rooms> {
        Ok(Rooms { sandbox: Sandbox::start(arena, &[])? })
    }

    /// The variables that let Faircopy delete rooms at it.
    pub(crate) fn environment(&self) -> Result<[(&'static str, String); 2]> {
        Ok([
            ("LIVEBLOCKS_API_URL", self.sandbox.says("liveblocks_url")?.to_owned()),
            ("LIVEBLOCKS_SECRET_KEY", self.sandbox.says("liveblocks_key")?.to_owned()),
        ])
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.sandbox.pid()
    }

    /// Makes rooms over one connection, and then forgets that it was asked for that.
    pub(crate) fn make(&self, ids: impl Iterator<Item = String>) -> Result<()> {
        let mut line = self.line()?;
        for id in ids {
            line.ask("POST", "/v2/rooms", &json!({ "id": id, "defaultAccesses": [] }).to_string())?;
        }
        line.ask("DELETE", "/sandbox/v1/liveblocks/requests", "")?;
        Ok(())
    }

    /// What goes wrong from now on: 5 % of the requests are answered 500, a few 429, a few deletions lose their answer, and each
    /// answer takes 20 to 80 ms.
    pub(crate) fn have_a_bad_day(&self, seed: u64) -> Result<()> {
        let faults = json!({
            "seed": seed, "error_percent": 5.0, "limited_percent": 0.5, "retry_after_s": 1, "lost_percent": 1.0,
            "latency_ms": [20, 80],
        });
        self.line()?.ask("PUT", "/sandbox/v1/liveblocks/faults", &faults.to_string())?;
        Ok(())
    }

    /// How often the deletion of a room was asked for; fails unless exactly these rooms are left.
    pub(crate) fn deletions_but(&self, kept: &[String]) -> Result<u64> {
        let shown = self.line()?.get("/sandbox/v1/liveblocks")?;
        let rooms = shown["rooms"].as_array().context("the sandbox shows no rooms")?;
        let left: BTreeSet<&str> = rooms.iter().filter_map(|room| room["id"].as_str()).collect();
        let kept: BTreeSet<&str> = kept.iter().map(String::as_str).collect();
        if let Some(room) = left.difference(&kept).next() {
            bail!(
                "{} rooms are left at Liveblocks that should be gone, such as {room}",
                left.difference(&kept).count()
            );
        }
        if let Some(room) = kept.difference(&left).next() {
            bail!("{} rooms of others are gone at Liveblocks, such as {room}", kept.difference(&left).count());
        }
        shown["counts"]["delete"].as_u64().context("no room was deleted")
    }

    fn line(&self) -> Result<Line> {
        let key = self.sandbox.says("liveblocks_key")?;
        Line::open(self.sandbox.address(), format!("authorization: Bearer {key}\r\n"))
    }
}
