//! What happens around every request, outermost first: seal, bound, authorise.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::AppState;
use super::limits::{BODY_BYTES_MAX, REQUEST_MS_MAX};
use super::problem::Problem;

/// Counts and times the request, gives every error the one shape and every answer its headers.
pub(super) async fn seal(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method_label(request.method());
    let path = request.uri().path().to_owned();

    let mut response = shaped(next.run(request).await, path);
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let code = response.status();
    state.metrics.http_requests.add([route, method, code.as_str()], 1);
    state.metrics.http_request_seconds.observe([route], start.elapsed());
    response
}

/// On every answer: it is what it says, nobody keeps it, nobody frames it. There is no CORS header on purpose.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Writes an error as a problem that names the path, also one that came from the framework.
fn shaped(response: Response, path: String) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    // Readiness answers 503 with a report of its own.
    if response.extensions().get::<Report>().is_some() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let problem = parts.extensions.remove::<Problem>();
    let problem = problem.unwrap_or_else(|| Problem::new(status, "the request cannot be served"));
    let mut sealed = Problem { instance: Some(path), ..problem }.into_response();
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = parts.headers.remove(&name) {
            sealed.headers_mut().insert(name, value);
        }
    }
    sealed
}

/// Marks an answer that is no problem although its status is an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report;

/// A client may send any word as a method; only known ones become a label.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Bounds size, number and duration of requests.
pub(super) async fn bound(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    if content_length(request.headers()).is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        let detail = format!("a request body may have {BODY_BYTES_MAX} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    // A flood of requests must not look like a dead process.
    let probe = ["/healthz", "/readyz", "/startupz"].contains(&request.uri().path());
    let place = places.try_acquire();
    if place.is_err() && !probe {
        return busy("too many requests are being worked on");
    }
    match timeout(Duration::from_millis(REQUEST_MS_MAX), next.run(request)).await {
        Ok(response) => response,
        Err(_) => busy(&format!("the answer took longer than {REQUEST_MS_MAX} ms")),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn busy(detail: &str) -> Response {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    ([(header::RETRY_AFTER, "1")], problem).into_response()
}

/// Lets only holders of the token to the API and the metrics.
pub(super) async fn authorise(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let guarded = path == "/metrics" || path == "/api" || path.starts_with("/api/");
    if let (true, Some(token)) = (guarded, &state.token)
        && let Err(denied) = token.check(request.headers())
    {
        state.metrics.auth_failures.add([denied.reason()], 1);
        let problem = Problem::new(StatusCode::UNAUTHORIZED, denied.to_string());
        return ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Asks a server with so many places, whose one route never answers.
    async fn ask(places: usize, path: &str) -> String {
        let never = || async { std::future::pending::<()>().await };
        let places = Arc::new(Semaphore::new(places));
        let app = Router::new()
            .route("/never", get(never))
            .route("/healthz", get(|| async { "ok" }))
            .layer(from_fn_with_state(places, bound));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_answered() {
        let start = Instant::now();
        let answer = ask(1, "/never").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("10000 ms"), "{answer}");
        assert_eq!(start.elapsed().as_millis() as u64 / 100, REQUEST_MS_MAX / 100);
    }

    #[tokio::test]
    async fn a_full_house_refuses_requests_but_not_health_checks() {
        let answer = ask(0, "/never").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"),
            "{answer}"
        );
        assert!(ask(0, "/healthz").await.starts_with("HTTP/1.1 200"));
    }
}
