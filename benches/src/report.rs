//! The report: Markdown on standard output, and the same as JSON where it was asked for.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::args::Args;
use crate::machine::Machine;
use crate::round::Round;
use crate::summary::{Ratio, Spread, Summary};

/// A report in the making.
pub(crate) struct Report {
    title: String,
    counts: &'static str,
    machine: Machine,
    notes: Vec<String>,
    tables: Vec<String>,
    rounds: Vec<Round>,
    data: serde_json::Map<String, Value>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(title: impl Into<String>, machine: Machine) -> Report {
        let (title, data) = (title.into(), serde_json::Map::new());
        Report { title, counts: "deliveries", machine, notes: Vec::new(), tables: Vec::new(), rounds: Vec::new(), data }
    }

    /// What is counted, where it is not deliveries.
    pub(crate) fn counts(&mut self, what: &'static str) {
        self.counts = what;
    }

    /// Adds a sentence about how the figures came about.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Keeps rounds for the JSON file and for what is said about the surroundings.
    pub(crate) fn keep(&mut self, rounds: &[Round]) {
        self.rounds.extend_from_slice(rounds);
    }

    /// Adds a value to the JSON file.
    pub(crate) fn data(&mut self, key: &str, value: Value) {
        self.data.insert(key.to_owned(), value);
    }

    /// Adds a table; the first column is text, the others are figures.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let mut text = String::new();
        let rule: Vec<&str> = (0..header.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
        let _ = writeln!(text, "| {} |\n| {} |", header.join(" | "), rule.join(" | "));
        for row in rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        self.tables.push(text);
    }

    /// Adds the table of throughput, CPU time, latency and memory.
    pub(crate) fn summaries(&mut self, rows: &[(String, Summary)]) {
        let a_second = format!("{} a second", self.counts);
        let header = [
            "",
            a_second.as_str(),
            "CPU-s per 10,000",
            "… server",
            "… Postgres",
            "p50 ms",
            "p99 ms",
            "idle MiB",
            "peak MiB",
            "refused",
        ];
        let cells = |(name, summary): &(String, Summary)| {
            vec![
                name.clone(),
                summary.per_second.show(0),
                summary.cpu.show(2),
                summary.server_cpu.show(2),
                if summary.contestant.on_postgres() { summary.postgres_cpu.show(2) } else { String::new() },
                summary.p50_ms.show(2),
                summary.p99_ms.show(2),
                summary.idle_mib.show(0),
                summary.peak_mib.show(0),
                summary.refused.to_string(),
            ]
        };
        self.table(&header, &rows.iter().map(cells).collect::<Vec<_>>());
        self.data(
            "summaries",
            json!(rows.iter().map(|(name, summary)| json!({ "name": name, "summary": summary })).collect::<Vec<_>>()),
        );
    }

    /// Adds the table of ratios.
    pub(crate) fn ratios(&mut self, ratios: &[Ratio]) {
        if ratios.is_empty() {
            return;
        }
        let cells = |ratio: &Ratio| {
            let name = format!("{} / {}", ratio.of, ratio.against);
            vec![name, ratio.per_second.show(2), ratio.cpu.show(3)]
        };
        let a_second = format!("{} a second", self.counts);
        self.table(&["ratio", a_second.as_str(), "CPU-s per 10,000"], &ratios.iter().map(cells).collect::<Vec<_>>());
        self.data("ratios", json!(ratios));
    }

    /// Prints the report, and writes the JSON file when one was named.
    pub(crate) fn finish(mut self, args: &Args) -> Result<()> {
        println!("{}", self.markdown(args));
        if let Some(path) = &args.json {
            self.write_json(path)?;
        }
        Ok(())
    }

    fn markdown(&self, args: &Args) -> String {
        let mut text = format!("## {}\n\n`{}`\n\n", self.title, command());
        for line in self.machine.lines() {
            let _ = writeln!(text, "- {line}");
        }
        for table in &self.tables {
            let _ = write!(text, "\n{table}");
        }
        let _ = writeln!(text, "\nHow to read it:\n");
        let rounds = args.rounds;
        let _ = writeln!(text, "- Medians of {rounds} alternating rounds, (smallest–largest) in parentheses.");
        for note in self.notes.iter().chain(&self.not_held_still()) {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn not_held_still(&self) -> Vec<String> {
        let mut lines = vec![
            "Not held still: load generator, contestants and Postgres share the cores above and one disk; clock speed \
             and page cache are as the machine has them."
                .to_owned(),
        ];
        if !self.rounds.is_empty() {
            let spread = |field: fn(&Round) -> f64| Spread::of(self.rounds.iter().map(field));
            lines.push(format!(
                "While it was measured, programs without a part in it used {} cores, and the hypervisor kept {} cores \
                 for others. The load generator took {} CPU seconds per 10,000 {}, counted nowhere above.",
                spread(|round| round.foreign_cores).show(2),
                spread(|round| round.stolen_cores).show(2),
                spread(|round| round.generator_cpu).show(2),
                self.counts,
            ));
        }
        if cfg!(debug_assertions) {
            lines.push("THE RUNNER IS A DEBUG BUILD: run it with --release.".to_owned());
        }
        lines
    }

    fn write_json(&mut self, path: &Path) -> Result<()> {
        self.data("title", json!(self.title));
        self.data("command", json!(command()));
        self.data("machine", json!(self.machine));
        self.data("rounds", json!(self.rounds));
        let text = serde_json::to_string_pretty(&self.data)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The command that makes this report again.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let separator = if arguments.is_empty() { "" } else { " -- " };
    format!("cargo run --release -p faircopy-bench{separator}{}", arguments.join(" "))
}
