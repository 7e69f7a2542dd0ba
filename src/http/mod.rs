//! The HTTP server: alerts, rules, losses, health and metrics, all from memory.
//!
//! Owns what is seen from outside: routes, parameters, errors (RFC 9457, always), authorisation, bounds. It
//! changes nothing; whoever feeds [`AlertIndex`], [`Rules`] and [`Health`] lives elsewhere.
//!
//! | file | owns |
//! |---|---|
//! | `index`, `query` | alerts in memory; the parameters of a list |
//! | `health`, `rules` | what workers and loader report |
//! | `api`, `openapi` | handlers and their description |
//! | `layers`, `auth`, `problem` | what happens around a handler |
//! | `listen`, `limits` | bounds of connections, and all numbers |
//!
//! Not here yet: live tail, triage, ETags, roles, rate limits per token.

mod api;
mod auth;
mod health;
mod index;
mod layers;
pub mod limits;
mod listen;
mod openapi;
mod problem;
mod query;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use auth::{BearerToken, BindError, Denied, TokenError, bind_policy};
pub use health::{Check, Gap, Health, Readiness, Status};
pub use index::{
    AlertFilter, AlertIndex, CursorError, IndexError, IndexStats, Inserted, Page, Position,
};
pub use openapi::openapi_json;
pub use problem::{PROBLEM_JSON, ParameterError, Problem};
pub use query::{AlertQuery, parse as parse_alert_query};
pub use rules::{RuleState, RuleView, Rules};

use crate::metrics::Metrics;

/// What the handlers read from.
#[derive(Debug, Clone)]
pub struct AppState {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Checks and gaps.
    pub health: Arc<Health>,
    /// Alerts in memory.
    pub alerts: Arc<AlertIndex>,
    /// The loaded rules.
    pub rules: Arc<Rules>,
    /// The token that clients must present, if any.
    pub token: Option<BearerToken>,
}

/// Why the server has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It would serve alerts to everybody.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The listener failed.
    #[error("http server failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Puts the routes and what surrounds them together.
pub fn router(state: AppState) -> Router {
    let places = Arc::new(Semaphore::new(limits::REQUESTS_MAX));
    Router::new()
        .route("/", get(api::index))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/startupz", get(api::startupz))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/alerts", get(api::list_alerts))
        .route("/api/v1/alerts/{id}", get(api::get_alert))
        .route("/api/v1/rules", get(api::list_rules))
        .route("/api/v1/rules/{id}", get(api::get_rule))
        .route("/api/v1/gaps", get(api::list_gaps))
        .route("/api/v1/openapi.json", get(api::openapi))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(from_fn_with_state(state.clone(), layers::authorise))
        .layer(from_fn_with_state(places, layers::bound))
        .layer(from_fn_with_state(state.clone(), layers::seal))
        .with_state(state)
}

/// Serves until `shutdown`; then lets open requests end, for a while.
///
/// # Errors
///
/// Fails when the address is not loopback and there is no token, or when the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let addr = listener.local_addr()?;
    bind_policy(addr, state.token.is_some())?;
    let idle = Duration::from_millis(limits::CONNECTION_IDLE_MS_MAX);
    let listener = listen::BoundedListener::new(listener, limits::CONNECTIONS_MAX, idle);
    tracing::info!(%addr, token = state.token.is_some(), "http server listens");
    let serving = axum::serve(listener, router(state))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_millis(limits::DRAIN_MS_MAX)).await;
    };
    tokio::select! {
        ended = async { serving.await } => Ok(ended?),
        () = drained => {
            tracing::warn!(%addr, drain_ms = limits::DRAIN_MS_MAX, "open requests were cut off");
            Ok(())
        }
    }
}
