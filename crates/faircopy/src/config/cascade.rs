//! What goes with an organization or a user, and how carefully: `[[content]]`, `[cascade]`.

use std::sync::Arc;

use faircopy_core::cascade::job::{Rules, SECOND_SWEEP_MS};
use faircopy_core::cascade::{Burst, Declared, Target, Tree, burst, tree};
use serde::Deserialize;

use super::{ConfigError, Sources, StepSettings};

/// 30 days: who wants to keep content longer does not want it deleted.
const MAX_HOLD_SECONDS: i64 = 30 * 86_400;
/// A day: what comes back later than that is an orphan, and found as such.
const MAX_SECOND_SWEEP_SECONDS: i64 = 86_400;
/// A day.
const MAX_BURST_MINUTES: i64 = 24 * 60;
/// More within a window is no bound.
const MAX_BURST: i64 = 1_000_000;

/// Which content goes, and how carefully.
#[derive(Debug, Clone)]
pub struct Cascade {
    /// The built-in tables and those that are declared.
    pub tree: Arc<Tree>,
    /// The hold, and the second sweep.
    pub rules: Rules,
    /// How many deletions are too many.
    pub burst: Burst,
}

/// `[cascade]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CascadeFile {
    builtin: Option<bool>,
    hold_seconds: Option<i64>,
    burst: Option<i64>,
    burst_minutes: Option<i64>,
    second_sweep_seconds: Option<i64>,
}

/// `[[content]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContentFile {
    table: String,
    key: Key,
    parent: String,
    parent_key: String,
    #[serde(default)]
    external: Vec<ExternalFile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "`key` must be a column (`\"id\"`), or a list of columns")]
enum Key {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "`external` must be a list of patterns: `\"doc:{id}\"` for Liveblocks, `{ step = \"name\", id = \"{id}\" }` for a step"
)]
enum ExternalFile {
    Liveblocks(String),
    Step(ExternalStep),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalStep {
    step: String,
    id: String,
}

impl CascadeFile {
    pub(super) fn read(
        &self,
        content: &[ContentFile],
        steps: &[StepSettings],
        sources: &Sources<'_>,
    ) -> Result<Cascade, ConfigError> {
        let hold = self.hold_seconds.map(|seconds| seconds.to_string());
        let hold = sources.first(None, &["FAIRCOPY_CASCADE_HOLD_SECONDS"], hold)?;
        let second_sweep = within("second_sweep_seconds", self.second_sweep_seconds, 0..=MAX_SECOND_SWEEP_SECONDS)?;
        let window = within("burst_minutes", self.burst_minutes, 1..=MAX_BURST_MINUTES)?;
        let deletions = within("burst", self.burst, 0..=MAX_BURST)?;
        Ok(Cascade {
            tree: Arc::new(tree_of(self.builtin != Some(false), content, steps)?),
            rules: Rules {
                hold_ms: 1000 * hold.map_or(Ok(0), |hold| hold.read(hold_of))?,
                second_sweep_ms: second_sweep.map_or(SECOND_SWEEP_MS, |seconds| 1000 * seconds),
            },
            burst: Burst {
                deletions: deletions.and_then(|number| number.try_into().ok()).unwrap_or(burst::MAX_DELETIONS),
                window_ms: window.map_or(burst::WINDOW_MS, |minutes| 60_000 * minutes),
            },
        })
    }
}

fn hold_of(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0..=MAX_HOLD_SECONDS).contains(seconds));
    seconds.ok_or_else(|| format!("is not a number of seconds; expected 0 to {MAX_HOLD_SECONDS}"))
}

fn within(key: &str, value: Option<i64>, bounds: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, ConfigError> {
    match value {
        Some(value) if !bounds.contains(&value) => Err(invalid(
            format!("cascade.{key}"),
            format!("is {value}; expected {} to {}", bounds.start(), bounds.end()),
        )),
        other => Ok(other),
    }
}

fn invalid(name: impl Into<String>, fault: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { name: name.into(), fault: fault.into() }
}

/// The tree, or all that is wrong with what was declared.
fn tree_of(builtin: bool, content: &[ContentFile], steps: &[StepSettings]) -> Result<Tree, ConfigError> {
    let mut declared = if builtin { tree::built_in() } else { Vec::new() };
    for entry in content {
        declared.push(declared_of(entry, steps)?);
    }
    Tree::build(&declared).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        invalid("[[content]]", format!("cannot be used (docs/content-tree.md):{}", faults.concat()))
    })
}

fn declared_of(entry: &ContentFile, steps: &[StepSettings]) -> Result<Declared, ConfigError> {
    let external = entry.external.iter().map(|external| match external {
        ExternalFile::Liveblocks(pattern) => Ok((Target::Liveblocks, pattern.clone())),
        ExternalFile::Step(ExternalStep { step, id }) if steps.iter().any(|known| known.name == *step) => {
            Ok((Target::Step(step.clone()), id.clone()))
        }
        ExternalFile::Step(ExternalStep { step, .. }) => {
            let fault = format!(
                "content table `{}`: `external` names the step `{step}`, and no [[step]] has that name",
                entry.table
            );
            Err(invalid("[[content]]", format!("cannot be used: {fault}")))
        }
    });
    Ok(Declared {
        table: entry.table.clone(),
        key: match entry.key.clone() {
            Key::One(column) => vec![column],
            Key::Several(columns) => columns,
        },
        parent: entry.parent.clone(),
        parent_key: entry.parent_key.clone(),
        external: external.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Flags};
    use super::*;
    use crate::config::Config;

    const STEP: &str = "[[step]]\nname = 'search'\nurl = 'https://search.test/gone'\n\
        secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'\n";

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Cascade, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faircopy.toml");
        std::fs::write(&path, text).unwrap();
        let environment = Environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let flags = Flags { config: Some(path), ..Flags::default() };
        Config::load(&flags, &environment).map(|config| config.cascade).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_the_built_in_tables_go() {
        let cascade = load("", &[]).unwrap();
        assert_eq!(*cascade.tree, Tree::built_in());
        assert_eq!((cascade.rules, cascade.burst), (Rules::default(), Burst::default()));
        assert_eq!(*load("[cascade]\nbuiltin = false", &[]).unwrap().tree, Tree::default());
    }

    #[test]
    fn everything_can_be_set() {
        let text = "[cascade]\nhold_seconds = 60\nburst = 5\nburst_minutes = 10\nsecond_sweep_seconds = 0\n";
        let cascade = load(text, &[]).unwrap();
        assert_eq!(cascade.rules, Rules { hold_ms: 60_000, second_sweep_ms: 0 });
        assert_eq!(cascade.burst, Burst { deletions: 5, window_ms: 600_000 });
        let held = load(text, &[("FAIRCOPY_CASCADE_HOLD_SECONDS", "3600")]).unwrap();
        assert_eq!(held.rules.hold_ms, 3_600_000, "the environment goes before the file");
    }

    #[test]
    fn content_is_declared_with_patterns_for_liveblocks_and_for_steps() {
        let text = format!(
            "{STEP}[[content]]\ntable = 'app.notes'\nkey = 'id'\nparent = 'rooms'\nparent_key = 'room_id'\n\
             external = ['note:{{id}}', {{ step = 'search', id = 'note-{{id}}' }}]\n\
             [[content]]\ntable = 'likes'\nkey = ['note_id', 'user_id']\nparent = 'app.notes'\nparent_key = 'note_id'\n\
             [[content]]\ntable = 'likes'\nkey = ['note_id', 'user_id']\nparent = 'user'\nparent_key = 'user_id'\n"
        );
        let cascade = load(&text, &[]).unwrap();
        let targets: Vec<&str> = cascade.tree.targets().into_iter().map(Target::name).collect();
        assert_eq!(targets, ["liveblocks", "search"]);
        assert_eq!(cascade.tree.below(tree::Root::User).count(), 2);
    }

    #[test]
    fn unusable_values_are_refused_by_name() {
        let check = |text: &str, expected: &[&str]| {
            let error = load(text, &[]).unwrap_err();
            assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        };
        let content = |rest: &str| format!("[[content]]\ntable = 'a'\n{rest}");
        let whole = |key: &str, parent: &str, external: &str| {
            content(&format!("key = {key}\nparent = '{parent}'\nparent_key = 'p'\nexternal = {external}\n"))
        };
        check("[cascade]\nhold_seconds = -1", &["FAIRCOPY_CASCADE_HOLD_SECONDS", "expected 0 to 2592000"]);
        check("[cascade]\nhold_seconds = 'soon'", &["hold_seconds"]);
        check("[cascade]\nburst = -1", &["cascade.burst is -1", "expected"]);
        check("[cascade]\nburst_minutes = 0", &["cascade.burst_minutes is 0", "expected"]);
        check("[cascade]\nsecond_sweep_seconds = 86401", &["cascade.second_sweep_seconds", "expected"]);
        check("[cascade]\nwait = 1", &["wait"]);
        check(&content("key = 'id'"), &["parent"]);
        check(&content("keys = 'id'"), &["keys"]);
        check(&whole("1", "workspace", "[]"), &["`key` must be a column"]);
        check(&whole("'id'", "workspace", "[1]"), &["`external` must be a list of patterns"]);
        check(&whole("'id'", "workspace", "['doc']"), &["[[content]]", "content table `a`: `external`", "no column"]);
        check(&whole("'id'", "nowhere", "[]"), &["content table `a`: `parent` is `nowhere`"]);
        check(&whole("'id'", "workspace", "[{ step = 'mail', id = '{id}' }]"), &["the step `mail`", "no [[step]]"]);
        let held = load("", &[("FAIRCOPY_CASCADE_HOLD_SECONDS", "soon")]).unwrap_err();
        assert!(held.starts_with("FAIRCOPY_CASCADE_HOLD_SECONDS is not"), "{held}");
    }
}
