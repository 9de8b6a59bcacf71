//! What the copy knows of a session's user and active organization, and whether its token says anything new.

use std::sync::LazyLock;

use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::merge::{Change, Key, Register, Workset};
use faircopy_core::{Millis, record};

use crate::desk::Desk;
use crate::engine::{Row, Rows};
use crate::error::{Error, Result};
use crate::{Store, registers};

/// How fresh an answer is. What is read after it is at least as fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// The last number of the change feed.
    pub sequence: i64,
    /// Up to when the copy is known to hold what happened, as far as [`Freshness::basis`] goes. `None` where nothing is known.
    pub as_of: Option<Millis>,
    /// What that is known from.
    pub basis: Basis,
}

/// What the freshness of an answer is known from (docs/freshness.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Basis {
    /// Nothing: no delivery has arrived, and nothing was compared.
    #[default]
    None,
    /// The arrival of the newest delivery, which proves that deliveries arrive. Where one is known to be missing, the time is
    /// no later than since when.
    Delivered,
    /// A comparison with Clerk that left no difference: what happened before it began is in the copy.
    Reconciled,
    /// A read of Clerk for this very answer: it holds for what the answer shows, and for nothing else.
    Read,
}

impl Basis {
    /// As the header names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Delivered => "delivered",
            Self::Reconciled => "reconciled",
            Self::Read => "read",
        }
    }
}

/// What the copy says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// In Clerk's own form.
    pub role: Option<String>,
    /// The role's permissions.
    pub permissions: Vec<String>,
}

/// What the copy knows of a session's user and active organization: one statement, one snapshot.
#[derive(Debug, Clone)]
pub struct Standing {
    /// When this was so.
    pub freshness: Freshness,
    /// The user is known to have been deleted.
    pub is_deleted: bool,
    /// There is a row of the user.
    pub has_user: bool,
    /// There is a row of the organization.
    pub has_organization: bool,
    /// The user's membership of the organization.
    pub member: Option<Member>,
    /// The membership is known from Clerk itself: no token changes it (merge.md, I10).
    has_full_member: bool,
    /// The slug of an organization that is known from a token only.
    provisional_slug: Option<Option<String>>,
    depth: Depth,
    /// What the merge remembers.
    registers: Vec<(Key, Register)>,
}

/// How much of a standing is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The rows. They settle what most requests ask: everybody is known, and the token says nothing else.
    Rows,
    /// The registers too, which say why a row is not there, and which of two words is newer.
    Registers,
}

/// Where questions about standings wait for their turn: one desk for each depth.
#[derive(Clone, Default)]
pub(crate) struct Questions {
    rows: Desk<Question, Result<Standing>>,
    registers: Desk<Question, Result<Standing>>,
}

impl Questions {
    fn desk(&self, depth: Depth) -> &Desk<Question, Result<Standing>> {
        match depth {
            Depth::Rows => &self.rows,
            Depth::Registers => &self.registers,
        }
    }
}

/// One question to the copy.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    user: UserId,
    organization: Option<OrganizationId>,
}

impl Store {
    /// Reads what is known of a user and, where one is active, an organization.
    pub async fn standing(&self, user: &UserId, organization: Option<&OrganizationId>) -> Result<Standing> {
        self.ask(user, organization, Depth::Registers).await
    }

    /// The same for a session whose token `said` this. Where the rows alone show that nothing of it is news, no more is read.
    pub async fn standing_after(
        &self,
        said: &[Observation],
        user: &UserId,
        organization: Option<&OrganizationId>,
    ) -> Result<Standing> {
        let standing = self.ask(user, organization, Depth::Rows).await?;
        if standing.holds(said) { Ok(standing) } else { self.standing(user, organization).await }
    }

    /// Who asks while others are being answered is answered with all who ask meanwhile: the read of an answer always begins
    /// after its question came.
    async fn ask(&self, user: &UserId, organization: Option<&OrganizationId>, depth: Depth) -> Result<Standing> {
        let question = Question { user: user.clone(), organization: organization.cloned() };
        let (answer, is_new_reader) = self.questions.desk(depth).ask(question)?;
        if is_new_reader {
            let store = self.clone();
            // A task of its own: a caller that hangs up takes nobody's answer with it.
            tokio::spawn(async move {
                let reader = store.questions.desk(depth).reader();
                while let Some(asked) = reader.next() {
                    let answers = store.standings(asked.questions(), depth).await;
                    asked.answer(answers);
                }
            });
        }
        answer.await.unwrap_or_else(|_| Err(Error::Unavailable("the read was given up".into())))
    }

    /// All of them with one statement.
    async fn standings(&self, questions: Vec<&Question>, depth: Depth) -> Result<Vec<Result<Standing>>> {
        static ROWS: LazyLock<String> = LazyLock::new(|| statement("", ""));
        static REGISTERS: LazyLock<String> = LazyLock::new(|| {
            let [user, organization, pair] =
                ["ru.", "ro.", "rp."].map(|register| registers::COLUMNS.replace("r.", register));
            statement(
                &format!(", {user}, {organization}, {pair}"),
                "{find-left registers ru ru.subject = v.user_id} {find-left registers ro ro.subject = v.org_id} \
                 {find-left registers rp rp.subject = v.pair}",
            )
        });
        let statement = match depth {
            Depth::Rows => &ROWS,
            Depth::Registers => &REGISTERS,
        };
        let pair = |question: &Question| {
            let organization = question.organization.clone()?;
            Some(Key::Pair(organization, question.user.clone()).to_string())
        };
        let organization = |question: &Question| question.organization.as_ref().map(|id| id.as_str().to_owned());
        let rows = Rows::new(questions.len())
            .int("place", (0..).take(questions.len()).map(Some))
            .text("user_id", questions.iter().map(|question| Some(question.user.as_str().to_owned())))
            .text("org_id", questions.iter().map(|question| organization(question)))
            .text("pair", questions.iter().map(|question| pair(question)));
        let found = self.readers.read_over(statement, rows).await?;
        let mut answers: Vec<Option<Result<Standing>>> = questions.iter().map(|_| None).collect();
        for row in &found {
            let place = row.int(PLACE)?.and_then(|place| usize::try_from(place).ok());
            if let Some((question, answer)) = place.and_then(|at| Some((questions.get(at)?, answers.get_mut(at)?))) {
                *answer = Some(read(row, &question.user, depth));
            }
        }
        let no_counter = || Err(Error::Refused("the change feed has no counter".into()));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(no_counter)).collect())
    }

    /// How fresh the copy is now.
    pub async fn freshness(&self) -> Result<Freshness> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| format!("SELECT {FRESHNESS} FROM {FRESH_FROM}"));
        let rows = self.readers.read(&STATEMENT, vec![]).await?;
        rows.first().map_or(Ok(Freshness::default()), freshness)
    }
}

/// The columns that say how fresh the copy is, read by [`freshness`]: the number of the last change, the time, whether it is
/// proven. Only where nothing is proven yet are the deliveries looked at, and what is known to be missing among them.
const FRESHNESS: &str = "f.sequence, coalesce({time p.complete_at}, (\
    SELECT {time CASE WHEN t.since < d.newest THEN t.since ELSE d.newest END} \
    FROM (SELECT max(received_at) AS newest FROM {s}webhook_deliveries) d \
    LEFT JOIN (SELECT min(since) AS since FROM {s}findings WHERE name IN ('undelivered', 'counts-differ')) t ON true)), \
    p.complete_at IS NOT NULL";
/// What they are read from: two tables of one row each.
const FRESH_FROM: &str = "{s}feed f LEFT JOIN {s}proofs p ON true";

/// Where in a row its question's number is, and where its three registers begin.
const PLACE: usize = 9;
const REGISTERS: [usize; 3] = [11, 11 + registers::WIDTH, 11 + 2 * registers::WIDTH];

/// Asks for the rows of each question, and for `more` of what they are `joined` with.
fn statement(more: &str, joined: &str) -> String {
    format!(
        "SELECT {FRESHNESS}, u.clerk_user_id, \
         o.provenance, o.slug, m.clerk_user_id, m.role, {{text m.permissions}}, v.place, \
         m.provenance{more} \
         FROM {{rows}} AS v CROSS JOIN {FRESH_FROM} \
         {{find-left users u u.clerk_user_id = v.user_id}} {{find-left organizations o o.clerk_org_id = v.org_id}} \
         {{find-left organization_members m m.clerk_org_id = v.org_id AND m.clerk_user_id = v.user_id}} {joined}"
    )
}

fn read(row: &Row, user: &UserId, depth: Depth) -> Result<Standing> {
    let mut registers = Vec::with_capacity(REGISTERS.len());
    let places = if depth == Depth::Registers { &REGISTERS[..] } else { &[] };
    for &first in places {
        if row.text(first)?.is_some() {
            registers.push(registers::read(row, first)?);
        }
    }
    let token = record::Provenance::Token.as_str();
    let provenance = row.text(4)?;
    let member = match row.text(6)? {
        None => None,
        Some(_) => Some(Member { role: row.text(7)?, permissions: permissions(row.text(8)?) }),
    };
    let own = Key::User(user.clone());
    Ok(Standing {
        freshness: freshness(row)?,
        is_deleted: registers.iter().any(|(key, register)| *key == own && register.tombstone.is_some()),
        has_user: row.text(3)?.is_some(),
        has_organization: provenance.is_some(),
        member,
        has_full_member: row.text(10)?.is_some_and(|provenance| provenance != token),
        provisional_slug: match provenance.as_deref() {
            Some(known) if known == token => Some(row.text(5)?),
            _ => None,
        },
        depth,
        registers,
    })
}

fn freshness(row: &Row) -> Result<Freshness> {
    let as_of = row.text(1)?.and_then(|text| Millis::parse(&text));
    let basis = match (as_of, row.bool(2)?) {
        (None, _) => Basis::None,
        (Some(_), Some(true)) => Basis::Reconciled,
        (Some(_), _) => Basis::Delivered,
    };
    Ok(Freshness { sequence: row.int(0)?.unwrap_or_default(), as_of, basis })
}

/// A list of permissions as the column holds it.
pub(crate) fn permissions(json: Option<String>) -> Vec<String> {
    json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

impl Standing {
    /// Whether the rows already are what a token said: then the merge need not be asked. A row that is there was not deleted.
    fn holds(&self, said: &[Observation]) -> bool {
        said.iter().all(|observation| match &observation.fact {
            Fact::PartOfUser(..) => self.has_user,
            Fact::PartOfOrganization(said, _) => {
                self.has_organization && self.provisional_slug.as_ref().is_none_or(|slug| *slug == said.slug)
            }
            Fact::TokenMember(member, _) => {
                let is_known = |known: &Member| known.role == member.role && known.permissions == member.permissions;
                self.has_full_member || self.member.as_ref().is_some_and(is_known)
            }
            _ => false,
        })
    }

    /// The observations, of those of a token, that would change a row. The merge itself says so: it is run on what was
    /// read, and nothing is written. A token that only confirms what the rows hold costs no write; the word that it
    /// would have left for the pair comes again with the next request.
    #[must_use]
    pub fn news(&self, observations: Vec<Observation>) -> Vec<Observation> {
        // No more than the rows was read because they hold all of it.
        if self.depth == Depth::Rows {
            return Vec::new();
        }
        let mut workset = Workset::new(self.registers.clone());
        for observation in &observations {
            workset.merge(observation);
        }
        let changes = workset.finish();
        let changes_a_row = |observation: &Observation| match &observation.fact {
            Fact::PartOfUser(user, _) => !self.has_user && matches!(changes.users.get(&user.id), Some(Change::Put(..))),
            Fact::PartOfOrganization(organization, _) => match changes.organizations.get(&organization.id) {
                Some(Change::Put(put, _)) => {
                    !self.has_organization || self.provisional_slug.as_ref().is_some_and(|known| *known != put.slug)
                }
                _ => false,
            },
            Fact::TokenMember(member, _) => {
                let pair = (member.organization.clone(), member.user.clone());
                match (changes.members.get(&pair), &self.member) {
                    (Some(Change::Put(put, _)), Some(known)) => {
                        put.role != known.role || put.permissions != known.permissions
                    }
                    (Some(Change::Put(..)), None) | (Some(Change::Remove | Change::Withdraw), Some(_)) => true,
                    (Some(Change::Remove | Change::Withdraw) | None, _) => false,
                }
            }
            _ => true,
        };
        observations.into_iter().filter(changes_a_row).collect()
    }
}
