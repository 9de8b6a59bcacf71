//! What is wrong, and how to mend it, for the dashboard.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::doctor::Report;

/// What is wrong, and how to mend it.
///
/// The same checks as `faircopy doctor`, of this replica; `docs/errors.md` has a section for each code. At most 30 seconds old, so
/// that nobody has Clerk asked by asking this. No secret is shown but for its last four characters.
#[utoipa::path(get, path = "/admin/v1/doctor", operation_id = "getDoctor", tag = "admin",
    responses((status = 200, description = "Every check.", body = Report)))]
pub(super) async fn report(State(app): State<Arc<App>>) -> Json<Report> {
    Json(app.checkup.report(&app).await)
}
