//! The handlers; each reads from memory and answers at once.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::AppState;
use super::health::{Gap, Readiness, Status};
use super::index::Page;
use super::layers::Report;
use super::openapi::{AlertList, ApiDoc, LevelName};
use super::problem::{ParameterError, Problem};
use super::query;
use super::rules::RuleView;

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RuleList {
    /// The rules, by id.
    items: Vec<RuleView>,
}

/// Known losses.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GapList {
    /// The gaps, newest first.
    items: Vec<Gap>,
    /// Records lost in all of them, also in those not listed.
    events_lost: u64,
    /// Older gaps that are not listed any more.
    unlisted: u64,
}

/// Lists alerts, newest first, as they stand in the alerts topic.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "alerts",
    params(
        ("from" = Option<String>, Query, description = "Not before: RFC 3339, or ms since 1970"),
        ("to" = Option<String>, Query, description = "Before: RFC 3339, or ms since 1970"),
        ("rule" = Option<String>, Query, description = "Of this rule id"),
        ("level" = Option<LevelName>, Query, description = "Of this level or above"),
        ("limit" = Option<u32>, Query, description = "Alerts a page, 100 unless given",
            minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "One page", body = AlertList),
        (status = 400, description = "A parameter or cursor cannot be used",
            body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list_alerts(
    State(state): State<AppState>,
    pairs: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(pairs) =
        pairs.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let asked = query::parse(&pairs).map_err(Problem::parameters)?;
    let cursor = asked.cursor.as_deref();
    let page = state.alerts.query(&asked.filter, cursor, asked.limit).map_err(|error| {
        let cursor = cursor.unwrap_or_default();
        Problem::parameters(vec![ParameterError::new("cursor", cursor, error.to_string())])
    })?;
    Ok(json(page_body(&page, state.alerts.stats().dropped)))
}

/// Puts the alerts' own bytes into the list, so that what a client verifies is what Kafka holds.
fn page_body(page: &Page, dropped: u64) -> Bytes {
    let size: usize = page.items.iter().map(|item| item.len() + 1).sum();
    let mut body = BytesMut::with_capacity(size + 256);
    body.put_slice(b"{\"items\":[");
    for (n, item) in page.items.iter().enumerate() {
        if n > 0 {
            body.put_u8(b',');
        }
        body.put_slice(item);
    }
    // A cursor is base64 and needs no escaping.
    let next = page.next.as_ref().map_or("null".to_owned(), |next| format!("\"{next}\""));
    body.put_slice(format!("],\"next\":{next},\"dropped\":{dropped}}}").as_bytes());
    body.freeze()
}

/// Returns the newest revision of one alert.
#[utoipa::path(
    get, path = "/api/v1/alerts/{id}", tag = "alerts",
    params(("id" = String, Path, description = "`finding_info.uid` of the alert")),
    responses(
        (status = 200, description = "The alert, an OCSF Detection Finding", body = Object),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Not in memory, or never there",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get_alert(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    state.alerts.get(&id).map(json).ok_or_else(|| {
        let detail = "no alert in memory has this id; older ones are in the alerts topic";
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// Lists the loaded rules, broken ones too.
#[utoipa::path(
    get, path = "/api/v1/rules", tag = "rules",
    responses(
        (status = 200, description = "All rules, by id", body = RuleList),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list_rules(State(state): State<AppState>) -> Json<RuleList> {
    Json(RuleList { items: state.rules.all() })
}

/// Returns one rule.
#[utoipa::path(
    get, path = "/api/v1/rules/{id}", tag = "rules",
    params(("id" = String, Path, description = "Id of the rule")),
    responses(
        (status = 200, description = "The rule", body = RuleView),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such rule",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get_rule(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<RuleView>, Problem> {
    let rule = state.rules.get(&id).map(Json);
    rule.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no loaded rule has this id"))
}

/// Lists the records that were lost to retention before they were read.
#[utoipa::path(
    get, path = "/api/v1/gaps", tag = "pipeline",
    responses(
        (status = 200, description = "Known losses since the start, newest first", body = GapList),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list_gaps(State(state): State<AppState>) -> Json<GapList> {
    let Readiness { gaps, events_lost, gaps_unlisted, .. } = state.health.readiness();
    Json(GapList { items: gaps, events_lost, unlisted: gaps_unlisted })
}

/// Says that the process is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "health",
    responses((status = 200, description = "Alive", content_type = "text/plain", body = String)),
    security(()),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether the service works now, with every check and every known loss.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "Ready, or degraded by a loss", body = Readiness),
        (status = 503, description = "A check does not hold", body = Readiness),
    ),
    security(()),
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    let readiness = state.health.readiness();
    report(readiness.status != Status::Starting, readiness)
}

/// Says whether the service has been ready once.
#[utoipa::path(
    get, path = "/startupz", tag = "health",
    responses(
        (status = 200, description = "Started", body = Readiness),
        (status = 503, description = "Not yet ready for the first time", body = Readiness),
    ),
    security(()),
)]
pub(super) async fn startupz(State(state): State<AppState>) -> Response {
    report(state.health.has_started(), state.health.readiness())
}

fn report(ok: bool, readiness: Readiness) -> Response {
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(readiness)).into_response();
    response.extensions_mut().insert(Report);
    response
}

/// Shows all metrics in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, description = "Text format 0.0.4", content_type = "text/plain", body = String),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, Problem> {
    let AppState { metrics, health, alerts, .. } = &state;
    let stats = alerts.stats();
    metrics.alert_index_alerts.set([], stats.alerts as f64);
    metrics.alert_index_bytes.set([], stats.bytes as f64);
    metrics.alert_index_dropped.add([], alerts.take_dropped());
    metrics.gaps_open.set([], health.gap_count() as f64);
    let ready = health.readiness().status != Status::Starting;
    metrics.ready.set([], f64::from(u8::from(ready)));
    let text = metrics.encode().map_err(|error| {
        tracing::error!(%error, "metrics were not written");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Returns this description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "health",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = Object),
        (status = 401, description = "No valid token",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(ApiDoc::openapi())
}

/// Names what there is to see.
pub(super) async fn index() -> Html<String> {
    let urls = [
        ("/readyz", "state, checks, known losses"),
        ("/healthz", "alive"),
        ("/startupz", "has been ready once"),
        ("/metrics", "metrics for Prometheus"),
        ("/api/v1/alerts", "alerts, newest first"),
        ("/api/v1/rules", "loaded rules"),
        ("/api/v1/gaps", "records lost to retention"),
        ("/api/v1/openapi.json", "description of this API"),
    ];
    let line = |(url, what): (&str, &str)| format!("<li><a href=\"{url}\">{url}</a> {what}</li>\n");
    let list: String = urls.into_iter().map(line).collect();
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Watchfire</title>\n\
         <h1>Watchfire</h1>\n<ul>\n{list}</ul>\n</html>\n"
    ))
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Answers for a path that does not exist.
pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path; see / for what there is")
}

/// Answers for a method that a path does not take.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}
