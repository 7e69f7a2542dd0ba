//! Errors as RFC 9457 problem details; the only shape in which this server reports one.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::ECHO_CHARS_MAX;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// One faulty parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ParameterError {
    /// Its name.
    pub parameter: String,
    /// The value given, clipped.
    pub value: String,
    /// What would have been allowed.
    pub limit: String,
}

impl ParameterError {
    /// Names a parameter, the value it had and what it may have.
    pub fn new(parameter: &str, value: &str, limit: impl Into<String>) -> ParameterError {
        ParameterError {
            parameter: parameter.chars().take(ECHO_CHARS_MAX).collect(),
            value: value.chars().take(ECHO_CHARS_MAX).collect(),
            limit: limit.into(),
        }
    }
}

/// A problem detail (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same in words.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// Path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Faulty parameters, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ParameterError>,
}

impl Problem {
    /// Describes a problem of a kind that the status says enough about.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("Error");
        Problem {
            kind: format!(
                "urn:watchfire:problem:{}",
                title.to_lowercase().replace([' ', '\''], "-")
            ),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
        }
    }

    /// Describes a request with faulty parameters.
    pub fn parameters(errors: Vec<ParameterError>) -> Problem {
        let names: Vec<&str> = errors.iter().map(|error| error.parameter.as_str()).collect();
        Problem {
            kind: "urn:watchfire:problem:invalid-parameter".to_owned(),
            title: "Invalid parameter".to_owned(),
            detail: format!("cannot be used: {}", names.join(", ")),
            errors,
            ..Problem::new(StatusCode::BAD_REQUEST, "")
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        // The outermost layer knows the path and writes the body again with it.
        response.extensions_mut().insert(self);
        response
    }
}
