//! Sweeps as they are remembered: where their walks stand, what was seen, what was looked for in vain, and what they found
//! (docs/decisions/0015-sweeps.md).

use std::collections::BTreeMap;

use faircopy_core::Millis;
use faircopy_core::id::{InvitationId, OrganizationId, UserId};
use faircopy_core::merge::{Key, Register};
use faircopy_core::record::Provenance;

use crate::engine::{Call, Row, Rows, Value};
use crate::error::{Error, Result};
use crate::leases::Fence;
use crate::registers;
use crate::{Store, Writer};

/// Sweeps that are remembered after their end: two months of a sweep an hour.
const KEPT: i64 = 1_500;
/// Rows of `sweep_seen` that are deleted at once.
const FORGET_AT_ONCE: i64 = 5_000;

/// What a list holds, and a table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Swept {
    /// `organizations`.
    Organization,
    /// `users`.
    User,
    /// `organization_members`.
    Member,
    /// `organization_invitations`.
    Invitation,
}

impl Swept {
    /// All of them, those that rule others first.
    pub const ALL: [Self; 4] = [Self::Organization, Self::User, Self::Member, Self::Invitation];

    /// As the change feed and metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
            Self::Member => "member",
            Self::Invitation => "invitation",
        }
    }

    /// The table, its key's columns, and the expression of a row's subject.
    fn table(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            Self::Organization => ("organizations", &["clerk_org_id"], "t.clerk_org_id"),
            Self::User => ("users", &["clerk_user_id"], "t.clerk_user_id"),
            Self::Member => {
                ("organization_members", &["clerk_org_id", "clerk_user_id"], "t.clerk_org_id || '/' || t.clerk_user_id")
            }
            Self::Invitation => {
                ("organization_invitations", &["clerk_invitation_id"], "t.clerk_org_id || '/' || t.clerk_invitation_id")
            }
        }
    }

    /// Where the table's key ends that a subject is of: [`Store::unseen`] goes on behind it.
    fn place(self, subject: &str) -> Vec<String> {
        match (self, subject.split_once('/')) {
            (Self::Member, Some((organization, user))) => vec![organization.to_owned(), user.to_owned()],
            (Self::Member, None) => vec![subject.to_owned(), String::new()],
            (Self::Invitation, Some((_, invitation))) => vec![invitation.to_owned()],
            _ => vec![subject.to_owned()],
        }
    }

    /// The register's key of a subject; `None` for what cannot be one.
    #[must_use]
    pub fn key(self, subject: &str) -> Option<Key> {
        match self {
            Self::Organization => OrganizationId::parse(subject).ok().map(Key::Organization),
            Self::User => UserId::parse(subject).ok().map(Key::User),
            Self::Invitation => InvitationId::parse(subject.split_once('/')?.1).ok().map(Key::Invitation),
            Self::Member => {
                let (organization, user) = subject.split_once('/')?;
                Some(Key::Pair(OrganizationId::parse(organization).ok()?, UserId::parse(user).ok()?))
            }
        }
    }
}

/// A sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Its number.
    pub id: i64,
    /// `backfill` or `reconcile`.
    pub kind: String,
    /// How it ended; `None` while it is under way.
    pub outcome: Option<String>,
    /// When it began, as RFC 3339.
    pub began_at: String,
    /// When it last made progress.
    pub saved_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Where it stands: whoever sweeps knows how to read it.
    pub state: String,
    /// What it found so far, as JSON.
    pub report: String,
}

/// A row of the copy that a walk has not seen.
#[derive(Debug, Clone)]
pub struct Unseen {
    /// Its id; of a member `<organization>/<user>`, of an invitation `<organization>/<invitation>`.
    pub subject: String,
    /// Whether only a token speaks for it.
    pub is_provisional: bool,
    /// What the merge remembers of it, if it does.
    pub register: Option<Register>,
}

/// A part of a table, gone through in the order of its key.
#[derive(Debug, Clone)]
pub struct Part {
    /// Those of its rows that were not seen.
    pub unseen: Vec<Unseen>,
    /// Its last row, after which the next part begins; `None` when there is nothing left.
    pub last: Option<String>,
}

/// A row that a direct read did not find either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Its id.
    pub subject: String,
    /// When Clerk was first asked for it, in vain.
    pub denied_at: Millis,
    /// Only a token spoke for it then.
    pub is_provisional: bool,
}

/// Progress, to be remembered in one step.
#[derive(Debug, Default)]
pub struct Progress<'a> {
    /// Where it stands now.
    pub state: String,
    /// What it found so far.
    pub report: String,
    /// What was seen, by kind.
    pub seen: Vec<(Swept, &'a str)>,
    /// What was looked for in vain, when, and whether only a token spoke for it.
    pub absent: Vec<(Swept, &'a str, Millis, bool)>,
    /// What was found after all, or is gone now.
    pub settled: Vec<(Swept, &'a str)>,
}

const COLUMNS: &str = "id, kind, outcome, {time began_at}, {time saved_at}, {time finished_at}, state, report";

impl Store {
    /// The newest sweep of a kind that is not over.
    pub async fn sweep_under_way(&self, kind: &str) -> Result<Option<Sweep>> {
        let statement = format!(
            "SELECT {COLUMNS} FROM {{s}}sweeps WHERE finished_at IS NULL AND kind = $1 ORDER BY id DESC LIMIT 1"
        );
        self.readers.read(&statement, vec![kind.into()]).await?.first().map(sweep).transpose()
    }

    /// The newest sweep of a kind that has come to its end.
    pub async fn last_sweep(&self, kind: &str) -> Result<Option<Sweep>> {
        let statement = format!(
            "SELECT {COLUMNS} FROM {{s}}sweeps WHERE outcome <> 'abandoned' AND kind = $1 ORDER BY id DESC LIMIT 1"
        );
        self.readers.read(&statement, vec![kind.into()]).await?.first().map(sweep).transpose()
    }

    /// The newest sweeps, newest first.
    pub async fn sweeps(&self, limit: i64) -> Result<Vec<Sweep>> {
        self.sweeps_before(None, limit).await
    }

    /// Sweeps, newest first, after one of them (its number).
    pub async fn sweeps_before(&self, before: Option<i64>, limit: i64) -> Result<Vec<Sweep>> {
        let statement = format!("SELECT {COLUMNS} FROM {{s}}sweeps WHERE id < $1 ORDER BY id DESC LIMIT $2");
        let scalars = vec![before.unwrap_or(i64::MAX).into(), limit.into()];
        self.readers.read(&statement, scalars).await?.iter().map(sweep).collect()
    }

    /// One sweep.
    pub async fn sweep(&self, id: i64) -> Result<Option<Sweep>> {
        let statement = format!("SELECT {COLUMNS} FROM {{s}}sweeps WHERE id = $1");
        self.readers.read(&statement, vec![id.into()]).await?.first().map(sweep).transpose()
    }

    /// The time before which everything is proven to be in the copy; `None` where nothing was proven yet.
    pub async fn proven_at(&self) -> Result<Option<Millis>> {
        let rows = self.readers.read("SELECT {time complete_at} FROM {s}proofs", vec![]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.text(0))?.and_then(|text| Millis::parse(&text)))
    }

    /// The instance that the copy is of, as far as it knows: that of earlier sweeps, or of the deliveries that were applied.
    pub async fn known_instance(&self) -> Result<Option<String>> {
        const STATEMENT: &str = "SELECT coalesce((SELECT instance_id FROM {s}proofs), \
            (SELECT instance_id FROM {s}webhook_deliveries WHERE outcome = 'applied' AND instance_id IS NOT NULL \
             ORDER BY received_at DESC LIMIT 1))";
        self.readers.read(STATEMENT, vec![]).await?.first().map_or(Ok(None), |row| row.text(0))
    }

    /// How many different rows of a kind a sweep has seen.
    pub async fn seen(&self, sweep: i64, kind: Swept) -> Result<u64> {
        let statement = "SELECT count(*) FROM {s}sweep_seen WHERE sweep = $1 AND kind = $2";
        self.count(statement, vec![sweep.into(), kind.as_str().into()]).await
    }

    /// How many rows of a kind the copy shows.
    pub async fn shown(&self, kind: Swept) -> Result<u64> {
        self.count(&format!("SELECT count(*) FROM {{s}}{}", kind.table().0), vec![]).await
    }

    /// How many rows of each kind Clerk itself has told of: those that only a token speaks for are left out.
    pub async fn confirmed(&self) -> Result<Vec<(Swept, u64)>> {
        let count = |kind: Swept| {
            let token = Provenance::Token.as_str();
            format!("(SELECT count(*) FROM {{s}}{} WHERE provenance <> '{token}')", kind.table().0)
        };
        // One statement, so that the counts are of one moment.
        let statement = format!("SELECT {}", Swept::ALL.map(count).join(", "));
        let rows = self.readers.read(&statement, vec![]).await?;
        let counted = |(at, kind)| {
            let rows = rows.first().map_or(Ok(None), |row| row.int(at))?;
            Ok((kind, u64::try_from(rows.unwrap_or_default()).unwrap_or_default()))
        };
        Swept::ALL.into_iter().enumerate().map(counted).collect()
    }

    async fn count(&self, statement: &str, scalars: Vec<Value>) -> Result<u64> {
        let rows = self.readers.read(statement, scalars).await?;
        let count = rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Of the next rows of a kind that the copy shows, `among` at most, those that the sweep has neither seen nor found
    /// absent yet. Parts follow one another by [`Part::last`], beginning with nothing; they have an order of their own.
    ///
    /// The cost is that of `among` rows, whatever the table holds and however few of them are unseen.
    pub async fn unseen(&self, sweep: i64, kind: Swept, after: &str, among: i64) -> Result<Part> {
        let (table, keys, subject) = kind.table();
        let columns = listed(keys);
        let statement = format!(
            "SELECT {subject}, t.provenance FROM {{s}}{table} AS t WHERE {behind} ORDER BY {columns} LIMIT ${last}",
            behind = behind(keys, 0),
            last = keys.len() + 1
        );
        let mut scalars: Vec<Value> = kind.place(after).iter().map(|key| key.as_str().into()).collect();
        scalars.push(among.into());
        let rows = self.readers.read(&statement, scalars).await?;
        let shown: Vec<(String, bool)> = rows.iter().map(shown).collect::<Result<_>>()?;
        let unseen = self.unseen_of(sweep, kind, &shown).await?;
        let is_end = i64::try_from(shown.len()).is_ok_and(|length| length < among);
        let last = shown.into_iter().next_back().map(|(subject, _)| subject).filter(|_| !is_end);
        Ok(Part { unseen, last })
    }

    async fn unseen_of(&self, sweep: i64, kind: Swept, shown: &[(String, bool)]) -> Result<Vec<Unseen>> {
        const STATEMENT: &str = "SELECT v.subject, v.is_token FROM {rows} AS v \
            WHERE NOT EXISTS (SELECT 1 FROM {s}sweep_seen s \
             WHERE s.sweep = v.sweep AND s.kind = v.kind AND s.subject = v.subject) \
            AND NOT EXISTS (SELECT 1 FROM {s}sweep_absences a \
             WHERE a.sweep = v.sweep AND a.kind = v.kind AND a.subject = v.subject)";
        let rows = Rows::new(shown.len())
            .int("sweep", shown.iter().map(|_| Some(sweep)))
            .text("kind", shown.iter().map(|_| Some(kind.as_str())))
            .text("subject", shown.iter().map(|(subject, _)| Some(subject.as_str())))
            .bool("is_token", shown.iter().map(|(_, is_token)| Some(*is_token)));
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let rows = self.readers.read_over(STATEMENT, rows.into_owned()).await?;
        let mut unseen = Vec::with_capacity(rows.len());
        for row in &rows {
            unseen.push((row.required(0)?, row.bool(1)?.unwrap_or_default()));
        }
        let keys: Vec<Key> = unseen.iter().filter_map(|(subject, _)| kind.key(subject)).collect();
        let mut registers: BTreeMap<Key, Register> = self.registers(&keys).await?.into_iter().collect();
        let unseen = unseen.into_iter().map(|(subject, is_provisional)| {
            let register = kind.key(&subject).and_then(|key| registers.remove(&key));
            Unseen { subject, is_provisional, register }
        });
        Ok(unseen.collect())
    }

    /// What a sweep has looked for in vain, in the order of the ids, after one of them.
    pub async fn absences(&self, sweep: i64, kind: Swept, after: &str, limit: i64) -> Result<Vec<Absence>> {
        let statement = "SELECT subject, denied_at, is_token FROM {s}sweep_absences WHERE sweep = $1 AND kind = $2 AND subject > $3 \
            ORDER BY subject LIMIT $4";
        let scalars = vec![sweep.into(), kind.as_str().into(), after.into(), limit.into()];
        let rows = self.readers.read(statement, scalars).await?;
        let absence = |row: &Row| {
            Ok(Absence {
                subject: row.required(0)?,
                denied_at: Millis(row.int(1)?.unwrap_or_default()),
                is_provisional: row.bool(2)?.unwrap_or_default(),
            })
        };
        rows.iter().map(absence).collect()
    }

    /// What the merge remembers of these, as far as it does.
    pub async fn registers(&self, keys: &[Key]) -> Result<Vec<(Key, Register)>> {
        let rows = Rows::new(keys.len()).text("subject", keys.iter().map(|key| Some(key.to_string())));
        if rows.is_empty() {
            return Ok(vec![]);
        }
        registers::read_all(&self.readers.read_over(registers::by_key_statement(), rows).await?)
    }
}

impl Writer {
    /// Begins a sweep, and forgets the oldest ones. What an unfinished one of the same kind has seen is forgotten too.
    pub async fn begin_sweep(&mut self, kind: &str, state: &str, now: Millis, fence: &Fence) -> Result<i64> {
        const END: &str = "UPDATE {s}sweeps SET finished_at = {as-time $2}, outcome = 'abandoned' \
            WHERE kind = $1 AND finished_at IS NULL";
        const BEGIN: &str = "INSERT INTO {s}sweeps (id, kind, began_at, saved_at, state, report) \
            SELECT coalesce(max(id), 0) + 1, $1, {as-time $2}, {as-time $2}, $3, '{}' FROM {s}sweeps";
        const FORGET: &str = "DELETE FROM {s}sweeps WHERE id <= (SELECT max(id) FROM {s}sweeps) - $1";
        let calls = vec![
            Call::new(END, vec![kind.into(), now.into()]),
            Call::new(BEGIN, vec![kind.into(), now.into(), state.into()]),
            Call::new(FORGET, vec![KEPT.into()]),
        ];
        self.write_under(Some(fence), calls).await?;
        let rows = self.look("SELECT max(id) FROM {s}sweeps", vec![]).await?;
        rows.first().map_or(Ok(None), |row| row.int(0))?.ok_or_else(|| Error::Refused("the sweep is not there".into()))
    }

    /// Remembers which instance the copy is of.
    pub async fn keep_instance(&mut self, instance: &str, fence: &Fence) -> Result<()> {
        let keep = "UPDATE {s}proofs SET instance_id = $1 WHERE instance_id IS DISTINCT FROM $1";
        self.write_under(Some(fence), vec![Call::new(keep, vec![instance.into()])]).await
    }

    /// Remembers progress, whole or not at all.
    pub async fn save_sweep(&mut self, id: i64, progress: &Progress<'_>, now: Millis, fence: &Fence) -> Result<()> {
        self.write_under(Some(fence), saving(id, progress, now)).await
    }

    /// Ends a sweep with its last progress. `complete_at` is the time before which everything is now proven to be in the
    /// copy; a proof never goes back.
    pub async fn finish_sweep(
        &mut self,
        id: i64,
        progress: &Progress<'_>,
        outcome: &str,
        complete_at: Option<Millis>,
        now: Millis,
        fence: &Fence,
    ) -> Result<()> {
        const END: &str = "UPDATE {s}sweeps SET finished_at = {as-time $2}, outcome = $3 WHERE id = $1";
        const PROVE: &str = "UPDATE {s}proofs SET complete_at = {as-time $1} \
            WHERE complete_at IS NULL OR complete_at < {as-time $1}";
        let mut calls = saving(id, progress, now);
        calls.push(Call::new(END, vec![id.into(), now.into(), outcome.into()]));
        calls.extend(complete_at.map(|at| Call::new(PROVE, vec![at.into()])));
        self.write_under(Some(fence), calls).await
    }

    /// Forgets what sweeps that are over have seen, a part at a time: others write in between.
    pub async fn forget_seen(&mut self) -> Result<()> {
        const OVER: &str = "SELECT s.id FROM {s}sweeps s WHERE s.finished_at IS NOT NULL \
            AND EXISTS (SELECT 1 FROM {s}sweep_seen v WHERE v.sweep = s.id)";
        const ABSENT: &str = "DELETE FROM {s}sweep_absences WHERE NOT EXISTS (\
            SELECT 1 FROM {s}sweeps s WHERE s.id = sweep AND s.finished_at IS NULL)";
        for row in self.look(OVER, vec![]).await? {
            for kind in Swept::ALL {
                self.forget_seen_of(row.int(0)?.unwrap_or_default(), kind).await?;
            }
        }
        self.look(ABSENT, vec![]).await.map(drop)
    }

    /// Along the key, from where the part before ended: rows that were just deleted are not gone through again.
    async fn forget_seen_of(&mut self, sweep: i64, kind: Swept) -> Result<()> {
        const END: &str = "SELECT v.subject FROM {s}sweep_seen v WHERE v.sweep = $1 AND v.kind = $2 AND v.subject > $3 \
            ORDER BY v.sweep, v.kind, v.subject LIMIT 1 OFFSET $4";
        const PART: &str = "DELETE FROM {s}sweep_seen \
            WHERE sweep = $1 AND kind = $2 AND subject > $3 AND subject <= $4";
        const REST: &str = "DELETE FROM {s}sweep_seen WHERE sweep = $1 AND kind = $2 AND subject > $3";
        let mut after = String::new();
        loop {
            let from: Vec<Value> = vec![sweep.into(), kind.as_str().into(), after.as_str().into()];
            let with = |scalar: Value| from.iter().cloned().chain([scalar]).collect::<Vec<Value>>();
            match self.look(END, with(FORGET_AT_ONCE.into())).await?.first() {
                Some(end) => {
                    let end = end.required(0)?;
                    self.look(PART, with(end.as_str().into())).await?;
                    after = end;
                }
                None => return self.look(REST, from).await.map(drop),
            }
        }
    }

    /// One statement by itself.
    async fn look(&mut self, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = connection.run(Call::new(statement, scalars));
        let result = crate::engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }
}

fn saving<'a>(id: i64, progress: &'a Progress<'_>, now: Millis) -> Vec<Call<'a>> {
    const SAVE: &str = "UPDATE {s}sweeps SET state = $2, report = $3, saved_at = {as-time $4} WHERE id = $1";
    const SEEN: &str = "INSERT INTO {s}sweep_seen (sweep, kind, subject) {values v.*} ON CONFLICT DO NOTHING";
    const ABSENT: &str = "INSERT INTO {s}sweep_absences (sweep, kind, subject, denied_at, is_token) {values v.*} \
        ON CONFLICT DO NOTHING";
    const SETTLED: &str = "DELETE FROM {s}sweep_absences WHERE (sweep, kind, subject) IN \
        (SELECT v.sweep, v.kind, v.subject FROM {rows} AS v)";
    let named = |rows: &'a [(Swept, &'a str)]| {
        Rows::new(rows.len())
            .int("sweep", rows.iter().map(move |_| Some(id)))
            .text("kind", rows.iter().map(|(kind, _)| Some(kind.as_str())))
            .text("subject", rows.iter().map(|(_, subject)| Some(*subject)))
    };
    let absent = &progress.absent;
    let denied = Rows::new(absent.len())
        .int("sweep", absent.iter().map(move |_| Some(id)))
        .text("kind", absent.iter().map(|(kind, ..)| Some(kind.as_str())))
        .text("subject", absent.iter().map(|(_, subject, ..)| Some(*subject)))
        .int("denied_at", absent.iter().map(|(_, _, at, _)| Some(at.0)))
        .bool("is_token", absent.iter().map(|(.., is_token)| Some(*is_token)));
    let (state, report) = (progress.state.as_str(), progress.report.as_str());
    vec![
        Call::new(SAVE, vec![id.into(), state.into(), report.into(), now.into()]),
        Call::over(SEEN, named(&progress.seen)),
        Call::over(ABSENT, denied),
        Call::over(SETTLED, named(&progress.settled)),
    ]
}

fn sweep(row: &Row) -> Result<Sweep> {
    Ok(Sweep {
        id: row.int(0)?.unwrap_or_default(),
        kind: row.required(1)?,
        outcome: row.text(2)?,
        began_at: row.required(3)?,
        saved_at: row.required(4)?,
        finished_at: row.text(5)?,
        state: row.required(6)?,
        report: row.required(7)?,
    })
}

/// A row of the copy: its subject, and whether only a token speaks for it.
fn shown(row: &Row) -> Result<(String, bool)> {
    Ok((row.required(0)?, row.required(1)? == "token"))
}

/// The columns of a key, in a list.
fn listed(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("t.{key}")).collect::<Vec<_>>().join(", ")
}

/// What lies behind a place in the order of a key, whose values are the parameters after so many others.
fn behind(keys: &[&str], others: usize) -> String {
    let parameters: Vec<String> = (1..=keys.len()).map(|number| format!("${}", others + number)).collect();
    match keys {
        [key] => format!("t.{key} > {}", parameters[0]),
        _ => format!("({}) > ({})", listed(keys), parameters.join(", ")),
    }
}
