//! What is said about a finding: how bad it is, when it is told, when it is told again, and when it is over.
//!
//! A finding comes and goes as it is seen. An alert is calmer: what flickers is not told, and what was told is told to be over.

use crate::time::Millis;

/// A finding must stand so long before anybody is told: a look later it is still so.
pub const RAISE_AFTER_MS: i64 = 60_000;
/// And be gone so long before it is told to be over: what comes back within five minutes was not mended.
pub const RESOLVE_AFTER_MS: i64 = 5 * 60_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Somebody should look today.
    Warning,
    /// Somebody should look now: something is being lost, or soon will be.
    Critical,
}

impl Severity {
    /// As tables, settings and messages name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Warning, Self::Critical].into_iter().find(|severity| severity.as_str() == text)
    }
}

/// What is known of every finding of a name. Each is a section of `docs/errors.md` and of `docs/operate.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The finding's name.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// How bad it is unless the finding itself says otherwise.
    pub severity: Severity,
    /// What to do first, in a sentence.
    pub advice: &'static str,
}

/// The finding that each replica tells by itself, because it cannot be written: the database cannot be used.
pub const DATABASE_UNAVAILABLE: &str = "database-unavailable";

/// Every finding, in the order of their names.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "cascade-paused",
        title: "Deletions wait for a word",
        severity: Severity::Warning,
        advice: "Look at `faircopy cascade list --open`, then resume or cancel each.",
    },
    Kind {
        name: "cascade-stuck",
        title: "A deletion does not come to its end",
        severity: Severity::Warning,
        advice: "`faircopy cascade show <id>` says what it waits for.",
    },
    Kind {
        name: "clerk-unreadable",
        title: "Clerk cannot be read",
        severity: Severity::Warning,
        advice: "Check CLERK_SECRET_KEY, CLERK_API_URL and Clerk's status page.",
    },
    Kind {
        name: "clock-skew",
        title: "A clock is wrong",
        severity: Severity::Warning,
        advice: "Set the machine's clock by NTP (`timedatectl status`); deliveries are refused from 300 seconds on.",
    },
    Kind {
        name: "counts-differ",
        title: "The copy has more or fewer rows than Clerk",
        severity: Severity::Warning,
        advice: "Wait for the reconcile that was asked for; if it stays, run `faircopy reconcile --dry-run`.",
    },
    Kind {
        name: DATABASE_UNAVAILABLE,
        title: "The database cannot be used",
        severity: Severity::Critical,
        advice: "Start the database, or make room on its disk; deliveries are sent back and come again for a day.",
    },
    Kind {
        name: "destination-behind",
        title: "A destination is behind",
        severity: Severity::Warning,
        advice: "`faircopy destinations show <name>` says what it answers; mend it, and the rest follows by itself.",
    },
    Kind {
        name: "destination-parked",
        title: "A destination refuses some changes",
        severity: Severity::Warning,
        advice: "Look at `faircopy destinations show <name>`, mend what refuses them, then `faircopy destinations resume <name>`.",
    },
    Kind {
        name: "disk",
        title: "The disk is nearly full",
        severity: Severity::Warning,
        advice: "Make room on the disk of the database, or end the reader that keeps its log from being cut back.",
    },
    Kind {
        name: "drift",
        title: "The copy differs from Clerk, or was not compared with it",
        severity: Severity::Warning,
        advice: "Run `faircopy reconcile --dry-run`: it names each difference, and the guard that held it back.",
    },
    Kind {
        name: "endpoint-failing",
        title: "Clerk's endpoint is on its way to be disabled",
        severity: Severity::Warning,
        advice: "Mend what fails, then open the endpoint in Clerk's dashboard: enable it if it is disabled, and use Recover.",
    },
    Kind {
        name: "failures",
        title: "Deliveries are quarantined or sent back",
        severity: Severity::Warning,
        advice: "See `GET /admin/v1/deliveries?outcome=quarantined`; after a mend, `faircopy replay --failed`.",
    },
    Kind {
        name: "jobs-stuck",
        title: "Background work is not being done",
        severity: Severity::Warning,
        advice: "Check that `faircopy serve` runs and can write; `faircopy cascade list --open` shows the work.",
    },
    Kind {
        name: "outside-key-refused",
        title: "A service outside refuses our key",
        severity: Severity::Warning,
        advice: "Put a valid key into the settings (LIVEBLOCKS_SECRET_KEY, or the step's secret) and restart.",
    },
    Kind {
        name: "signature-failures",
        title: "Deliveries fail their signature check",
        severity: Severity::Warning,
        advice: "Compare CLERK_WEBHOOK_SIGNING_SECRET with the endpoint's secret in Clerk's dashboard.",
    },
    Kind {
        name: "silence",
        title: "No delivery for longer than usual",
        severity: Severity::Warning,
        advice: "Look at the endpoint in Clerk's dashboard, unless Clerk knows of nothing that the copy lacks.",
    },
    Kind {
        name: "undelivered",
        title: "Clerk changed, and no delivery told of it",
        severity: Severity::Warning,
        advice: "Look at the endpoint in Clerk's dashboard: whether it is enabled, and what its attempts are answered.",
    },
];

/// What is known of a finding's name; of one that only a newer version knows, its name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Where an alert stands between its finding and those who are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When the finding was first seen.
    pub first_at: Millis,
    /// When it had stood long enough to be told.
    pub raised_at: Option<Millis>,
    /// Since when the finding is not seen any more.
    pub gone_at: Option<Millis>,
    /// When it had been gone long enough to be over.
    pub resolved_at: Option<Millis>,
}

impl Standing {
    /// A finding that is seen for the first time.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { first_at: now, raised_at: None, gone_at: None, resolved_at: None }
    }

    /// What a look makes of it; `None` for what came and went before anybody was told.
    #[must_use]
    pub fn look(self, is_found: bool, now: Millis) -> Option<Self> {
        match (is_found, self.raised_at) {
            (true, None) => {
                let raised_at = has_passed(self.first_at, RAISE_AFTER_MS, now).then_some(now);
                Some(Self { raised_at, ..self })
            }
            (true, Some(_)) => Some(Self { gone_at: None, ..self }),
            (false, None) => None,
            (false, Some(_)) => {
                let gone_at = self.gone_at.unwrap_or(now);
                let resolved_at = has_passed(gone_at, RESOLVE_AFTER_MS, now).then_some(now);
                Some(Self { gone_at: Some(gone_at), resolved_at, ..self })
            }
        }
    }
}

/// Whether so much time has passed since then. A clock that went back holds nothing up.
fn has_passed(at: Millis, millis: i64, now: Millis) -> bool {
    !(0..millis).contains(&now.0.saturating_sub(at.0))
}

/// What a target is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is there, or has become worse.
    Raised,
    /// It still is.
    Repeated,
    /// It is over.
    Resolved,
}

impl Event {
    /// As tables, messages and metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Raised, Self::Repeated, Self::Resolved].into_iter().find(|event| event.as_str() == text)
    }
}

/// What a target was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub event: Event,
    /// How bad it was then.
    pub severity: Severity,
    /// When.
    pub at: Millis,
    /// The how-manieth message that was.
    pub number: i64,
}

/// What a target wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Nothing that is less bad.
    pub minimum: Severity,
    /// Again after so long, while it lasts; `None` for once.
    pub repeat_ms: Option<i64>,
}

impl Wish {
    /// What a target is to be told now of an alert that is this bad.
    #[must_use]
    pub fn due(self, alert: Standing, severity: Severity, told: Option<Told>, now: Millis) -> Option<Event> {
        alert.raised_at?;
        let Some(told) = told else {
            let wanted = alert.resolved_at.is_none() && severity >= self.minimum;
            return wanted.then_some(Event::Raised);
        };
        if told.event == Event::Resolved {
            return None;
        }
        if alert.resolved_at.is_some() {
            return Some(Event::Resolved);
        }
        if severity > told.severity {
            return Some(Event::Raised);
        }
        let repeats = self.repeat_ms.is_some_and(|repeat_ms| has_passed(told.at, repeat_ms, now));
        (repeats && alert.gone_at.is_none()).then_some(Event::Repeated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    fn at(millis: i64) -> Millis {
        Millis(1_760_000_000_000 + millis)
    }

    #[test]
    fn every_finding_is_told_in_words_and_documented() {
        assert!(KINDS.is_sorted_by_key(|kind| kind.name));
        let errors = include_str!("../../../docs/errors.md");
        let operate = include_str!("../../../docs/operate.md");
        for kind in KINDS {
            assert!(errors.contains(&format!("## `{}`", kind.name)), "docs/errors.md lacks {}", kind.name);
            assert!(operate.contains(&format!("### `{}`", kind.name)), "docs/operate.md lacks {}", kind.name);
            assert!(!kind.title.is_empty() && kind.advice.ends_with('.'), "{}", kind.name);
        }
    }

    #[test]
    fn what_flickers_is_not_told_and_what_comes_back_is_not_over() {
        // Whether it is found at each minute, and how many alerts stand raised, and end.
        let check = |found: &[bool], raised: &[usize], resolved: &[usize]| {
            let (mut standing, mut was_raised, mut was_resolved) = (None::<Standing>, vec![], vec![]);
            for (minute, is_found) in found.iter().enumerate() {
                let now = at(minute as i64 * MINUTE);
                let before = standing;
                standing = match standing {
                    None => is_found.then(|| Standing::new(now)),
                    Some(standing) => standing.look(*is_found, now),
                };
                if standing.is_some_and(|s| s.raised_at.is_some()) && before.is_none_or(|s| s.raised_at.is_none()) {
                    was_raised.push(minute);
                }
                if standing.is_some_and(|s| s.resolved_at.is_some()) {
                    was_resolved.push(minute);
                    standing = None;
                }
            }
            assert_eq!((was_raised.as_slice(), was_resolved.as_slice()), (raised, resolved), "{found:?}");
        };
        let (yes, no) = (true, false);
        check(&[yes, no, yes, no, yes, no], &[], &[]);
        check(&[yes, yes, yes], &[1], &[]);
        check(&[yes, yes, no, no, no, no, no], &[1], &[]);
        check(&[yes, yes, no, no, no, no, no, no], &[1], &[7]);
        check(&[yes, yes, no, yes, no, no, no, no, no, no], &[1], &[9]);
        check(&[yes, yes, no, no, no, no, no, no, yes, yes], &[1, 9], &[7]);
        // A clock that went back.
        let first = Standing::new(at(HOUR));
        assert!(first.look(yes, at(0)).is_some_and(|standing| standing.raised_at.is_some()));
    }

    #[test]
    fn a_target_is_told_once_again_and_that_it_is_over() {
        let wish = Wish { minimum: Severity::Warning, repeat_ms: Some(24 * HOUR) };
        let raised = Standing { raised_at: Some(at(0)), ..Standing::new(at(0)) };
        let gone = Standing { gone_at: Some(at(HOUR)), ..raised };
        let over = Standing { resolved_at: Some(at(2 * HOUR)), ..gone };
        let told = |event, severity, at| Some(Told { event, severity, at, number: 1 });
        let (warning, critical) = (Severity::Warning, Severity::Critical);
        let due = |alert, severity, told, hours: i64| wish.due(alert, severity, told, at(hours * HOUR));
        assert_eq!(due(Standing::new(at(0)), critical, None, 0), None, "not yet");
        assert_eq!(due(raised, warning, None, 0), Some(Event::Raised));
        assert_eq!(due(gone, warning, None, 1), Some(Event::Raised), "it is not over yet");
        assert_eq!(due(over, warning, None, 2), None, "it came and went unheard");
        let first = told(Event::Raised, warning, at(0));
        assert_eq!(due(raised, warning, first, 23), None);
        assert_eq!(due(raised, warning, first, 24), Some(Event::Repeated));
        assert_eq!(due(gone, warning, first, 24), None);
        assert_eq!(due(raised, critical, first, 1), Some(Event::Raised), "it has become worse");
        assert_eq!(due(raised, warning, told(Event::Raised, critical, at(0)), 1), None, "it has become better");
        assert_eq!(due(over, warning, first, 2), Some(Event::Resolved));
        assert_eq!(due(over, warning, told(Event::Resolved, warning, at(0)), 99), None);
        let loud = Wish { minimum: critical, repeat_ms: None };
        assert_eq!(loud.due(raised, warning, None, at(0)), None);
        assert_eq!(loud.due(raised, critical, None, at(0)), Some(Event::Raised));
        assert_eq!(loud.due(raised, critical, told(Event::Raised, critical, at(0)), at(999 * HOUR)), None);
        assert_eq!(loud.due(over, warning, told(Event::Raised, critical, at(0)), at(3 * HOUR)), Some(Event::Resolved));
    }
}
