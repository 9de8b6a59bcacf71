//! How a worker raises findings and takes them back: once each, and said in the log.

use faircopy_core::Millis;
use faircopy_core::alert::Severity;
use faircopy_store::{Error, Fence, Finding, Writer};

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble<'a> {
    /// How bad it is; `None` for as bad as its name.
    pub(super) severity: Option<Severity>,
    /// Since when it is so.
    pub(super) since: Millis,
    /// In a sentence.
    pub(super) detail: &'a str,
}

/// Raises a finding, keeps it or clears it. `known` is what was known before.
pub(super) async fn settle(
    writer: &mut Writer,
    fence: &Fence,
    known: &[Finding],
    name: &'static str,
    found: Option<Trouble<'_>>,
    now: Millis,
) -> Result<(), Error> {
    let Some(Trouble { severity, since, detail }) = found else {
        if known.iter().any(|finding| finding.name == name) && writer.clear_finding(name, fence).await? {
            tracing::info!(code = name, "what was found is over");
        }
        return Ok(());
    };
    if writer.raise_finding_as(name, severity, since, detail, now, fence).await? {
        tracing::warn!(%since, detail, code = name, "found: see docs/errors.md");
    }
    Ok(())
}
