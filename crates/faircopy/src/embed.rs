//! Faircopy inside a Rust application: one process, one port, and each request signed in from the copy.
//!
//! [`Embedded`] is the running service without its listener. [`Embedded::routes`] are its own routes (webhooks, API,
//! health); [`Embedded::layer`] goes around the application's, and each handler inside takes a [`Session`]:
//!
//! ```no_run
//! use axum::{Json, Router, routing::get};
//! use faircopy::config::{Config, Environment, Flags};
//! use faircopy::embed::{Embedded, Problem, Session};
//!
//! async fn team(session: Session) -> Result<Json<Vec<String>>, Problem> {
//!     session.require_permission("org:team:read")?;
//!     let members = session.members(None, 50).await?;
//!     Ok(Json(members.into_iter().filter_map(|member| member.name).collect()))
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load(&Flags::default(), &Environment::of_process())?;
//! let faircopy = Embedded::start(config).await?;
//! let app = Router::new().route("/team", get(team)).layer(faircopy.layer()).merge(faircopy.routes());
//! # let _ = app;
//! # Ok(())
//! # }
//! ```
//!
//! The layer judges as `GET /v1/auth` does: the same token from the header or the cookie, the same refusals, the caller's
//! rows stored on the way, roles and memberships from the copy. A request without a good token is answered 401 as a
//! problem document and does not reach the application. `crates/faircopy/examples/embedded.rs` is a whole program.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use faircopy_core::token;
use faircopy_store::{Caller, Error, Membership};
use http::request::Parts;
use tokio::net::TcpListener;
use tower::{Layer, Service};

use crate::app::{self, App, Clock as _, SystemClock, Workers};
use crate::config::Config;
use crate::http::server;
use crate::http::session::{self, SignedIn};

pub use crate::http::problem::Problem;

/// A running Faircopy whose listener is the application's.
pub struct Embedded {
    app: Arc<App>,
    workers: Workers,
}

impl Embedded {
    /// Opens the database, applies pending migrations and starts the workers. Within a Tokio runtime.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let store = config.store();
        app::prepare_to_serve(&config, &store, SystemClock.now(), true).await?;
        let (app, workers) = App::start(config, store, Arc::new(SystemClock));
        Ok(Self { app, workers })
    }

    /// Webhooks, the API, health and metrics, at their usual paths: to be merged into the application's routes.
    pub fn routes(&self) -> Router {
        crate::http::router(&self.app)
    }

    /// What goes around the routes that only signed-in users may reach.
    #[must_use]
    pub fn layer(&self) -> AuthLayer {
        AuthLayer { app: self.app.clone() }
    }

    /// Serves an application within Faircopy's bounds (slow and idle clients, long heads) until `stop` resolves, answers what
    /// is in flight, and commits what was accepted.
    pub async fn serve(self, listener: TcpListener, application: Router, stop: impl Future<Output = ()>) {
        server::serve(listener, application, stop).await;
        self.stop().await;
    }

    /// Commits what was accepted. Everything that was made of this value ([`Embedded::routes`], [`Embedded::layer`]) must
    /// have been dropped: it could still accept something.
    pub async fn stop(self) {
        let store = self.app.store.clone();
        drop(self.app);
        self.workers.finish().await;
        store.close().await;
    }
}

/// Lets only signed-in users through, and says who they are: see the [module](self).
#[derive(Clone)]
pub struct AuthLayer {
    app: Arc<App>,
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { app: self.app.clone(), inner }
    }
}

/// The service that [`AuthLayer`] makes.
#[derive(Clone)]
pub struct Auth<S> {
    app: Arc<App>,
    inner: S,
}

impl<S> Service<Request> for Auth<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        // The one that is ready goes with the request; its copy has to become ready itself.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let app = self.app.clone();
        Box::pin(async move {
            match session::sign_in(&app, request.headers()).await {
                Ok(caller) => {
                    request.extensions_mut().insert(Session { app, caller });
                    inner.call(request).await
                }
                Err(problem) => Ok(problem.into_response()),
            }
        })
    }
}

/// The signed-in caller of a request inside [`AuthLayer`]: an extractor.
#[derive(Clone)]
pub struct Session {
    app: Arc<App>,
    caller: SignedIn,
}

/// Shows who it is, and nothing of the service.
impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.caller.fmt(out)
    }
}

impl Session {
    /// The Clerk user id.
    #[must_use]
    pub fn user(&self) -> &str {
        self.caller.session.user.as_str()
    }

    /// Everything that the verified token says.
    #[must_use]
    pub fn token(&self) -> &token::Session {
        &self.caller.session
    }

    /// The active organization, if the caller is a member of it in the copy.
    #[must_use]
    pub fn organization(&self) -> Option<&str> {
        self.caller.organization.as_ref().map(|id| id.as_str())
    }

    /// The role there, in Clerk's own form (`org:admin`), from the copy.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.caller.member.as_ref()?.role.as_deref()
    }

    /// The role's permissions there, from the copy.
    #[must_use]
    pub fn permissions(&self) -> &[String] {
        self.caller.member.as_ref().map_or(&[], |member| &member.permissions)
    }

    /// The active organization, or the problem that there is none: 404.
    pub fn require_organization(&self) -> Result<&str, Problem> {
        let none = || Problem::new("no-active-organization", "There is no active organization with the caller in it.");
        self.organization().ok_or_else(none)
    }

    /// Fails with 403 for whoever has another role in the active organization.
    pub fn require_role(&self, role: &str) -> Result<(), Problem> {
        self.require_organization()?;
        let denied = || Problem::new("not-permitted", format!("This takes the role `{role}`."));
        (self.role() == Some(role)).then_some(()).ok_or_else(denied)
    }

    /// Fails with 403 for whoever lacks a permission in the active organization.
    pub fn require_permission(&self, permission: &str) -> Result<(), Problem> {
        self.require_organization()?;
        let denied = || Problem::new("not-permitted", format!("This takes the permission `{permission}`."));
        self.permissions().iter().any(|granted| granted == permission).then_some(()).ok_or_else(denied)
    }

    /// Members of the active organization with their names, in the order of their user ids, after one of these: from the
    /// copy, with the caller's own membership as part of the question.
    pub async fn members(&self, after: Option<&str>, limit: u16) -> Result<Vec<Membership>, Problem> {
        self.require_organization()?;
        let SignedIn { session, organization, .. } = &self.caller;
        let reader = Caller { user: session.user.clone(), organization: organization.clone() };
        let mut members = self.app.store.members(&reader, after, limit.into()).await?;
        self.app.names.show(&mut members).await;
        Ok(members)
    }
}

/// Outside of [`AuthLayer`] nobody is signed in: 401.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a handler asks for a session, and no AuthLayer is around it");
            Problem::new("token-missing", "Nobody is signed in on this route.")
        })
    }
}
