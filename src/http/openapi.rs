//! The OpenAPI 3.1 document, generated from the handlers.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::api;
use super::health::{Check, Gap, Readiness, Status};
use super::problem::{ParameterError, Problem};
use super::rules::{RuleState, RuleView};

/// One page of alerts, as it is written; used for the description only.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the page is written byte by byte; this describes it")]
pub(super) struct AlertList {
    /// OCSF Detection Findings, newest first, byte by byte as they stand in the alerts topic.
    items: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Cursor of the next page; null on the last one.
    #[schema(required)]
    next: Option<String>,
    /// Oldest alerts that have left memory since the start; they are still in the alerts topic.
    dropped: u64,
}

/// How grave an alert is, lowest first.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the spelling only")]
pub(super) enum LevelName {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

/// Says how the token is sent.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Watchfire",
        description = "Alerts, rules, losses and health of a Watchfire process.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(
        api::list_alerts, api::get_alert, api::list_rules, api::get_rule, api::list_gaps,
        api::healthz, api::readyz, api::startupz, api::metrics, api::openapi,
    ),
    components(schemas(
        AlertList, LevelName, Problem, ParameterError, RuleView, RuleState, Readiness, Status, Check, Gap,
    )),
    tags(
        (name = "alerts", description = "What was found"),
        (name = "rules", description = "What is looked for"),
        (name = "pipeline", description = "How reading goes"),
        (name = "health", description = "How the process does"),
    ),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
pub(super) struct ApiDoc;

/// Returns the document as it is committed: pretty, with a newline at its end.
///
/// # Errors
///
/// Fails when the document cannot be written as JSON, which no valid one does.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    ApiDoc::openapi().to_pretty_json().map(|json| json + "\n")
}
