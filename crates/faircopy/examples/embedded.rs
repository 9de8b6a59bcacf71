//! A small application with Faircopy inside: `GET /team` lists the members of the caller's active organization.
//!
//! ```sh
//! CLERK_WEBHOOK_SIGNING_SECRET=whsec_… CLERK_JWT_ISSUER_DOMAIN=https://clerk.example.com \
//!     cargo run --example embedded
//! ```
//!
//! Clerk's deliveries arrive at `/webhooks/clerk` of the same port.

use axum::routing::get;
use axum::{Json, Router};
use faircopy::config::{Config, Environment, Flags};
use faircopy::embed::{Embedded, Problem, Session};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(&Flags::default(), &Environment::of_process())?;
    let listener = faircopy::http::server::bind(config.listen)?;
    let faircopy = Embedded::start(config).await?;
    let protected = Router::new().route("/team", get(team)).route("/admin", get(admin)).layer(faircopy.layer());
    let application = Router::new().route("/", get(home)).merge(protected).merge(faircopy.routes());
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    faircopy.serve(listener, application, stop).await;
    Ok(())
}

async fn home() -> &'static str {
    "Everybody may see this."
}

/// For members of the active organization.
async fn team(session: Session) -> Result<Json<Value>, Problem> {
    let members = session.members(None, 50).await?;
    let names: Vec<_> = members.iter().map(|member| json!({"name": member.name, "role": member.role})).collect();
    Ok(Json(json!({"you": session.user(), "organization": session.organization(), "members": names})))
}

/// For its administrators.
async fn admin(session: Session) -> Result<Json<Value>, Problem> {
    session.require_role("org:admin")?;
    Ok(Json(json!({"administrator": session.user()})))
}
