//! The HTTP server as a client sees it: real sockets, real bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use watchfire::http::{
    AlertIndex, AppState, BearerToken, Gap, Health, RuleState, RuleView, Rules, ServeError,
    openapi_json, serve,
};
use watchfire::metrics::Metrics;

const TOKEN: &str = "watchfire_test_0123456789abcdefghijklmnop";

struct Answer {
    code: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is a problem with this status and kind, and returns it.
    fn problem(&self, code: u16, kind: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.code, code, "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], code);
        assert_eq!(problem["type"], format!("urn:watchfire:problem:{kind}"));
        assert!(problem["instance"].as_str().unwrap().starts_with('/'), "{problem}");
        problem
    }
}

struct Server {
    addr: SocketAddr,
    state: AppState,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(token: Option<&str>) -> Server {
        let state = AppState {
            metrics: Arc::new(Metrics::new("0.0.0-test").unwrap()),
            health: Arc::new(Health::new(&["assigned", "restored"])),
            alerts: Arc::new(AlertIndex::new(1 << 20)),
            rules: Arc::new(Rules::new(rules())),
            token: token.map(|token| BearerToken::new(token).unwrap()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, state.clone(), shutdown.clone()));
        Server { addr, state, shutdown, task }
    }

    async fn request(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let client = Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("http://{}{path}", self.addr));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let (code, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { code, headers, text: response.text().await.unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    /// Sends raw bytes and returns the raw answer.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn insert(&self, id: &str, time_ms: i64, level: &str) -> String {
        let alert = alert(id, time_ms, level);
        self.state.alerts.insert((0, time_ms), Bytes::from(alert.clone())).unwrap();
        alert
    }
}

/// An alert whose key order, spaces and number form would not survive being parsed and written again.
fn alert(id: &str, time_ms: i64, level: &str) -> String {
    format!(
        r#"{{ "z": 1.50, "time":{time_ms}, "finding_info":{{"uid":"{id}","analytic":{{"uid":"r-1"}},"tags":[{{"name":"level","value":"{level}"}}]}}, "a":"\u0041" }}"#
    )
}

fn rules() -> Vec<RuleView> {
    let rule = RuleView {
        id: "r-2".to_owned(),
        title: "Failed <b>logins</b>".to_owned(),
        kind: "event".to_owned(),
        level: Some("high".to_owned()),
        status: Some("stable".to_owned()),
        author: Some("somebody".to_owned()),
        tags: vec!["attack.t1110".to_owned()],
        file: "rules/logins.yml".to_owned(),
        state: RuleState::Active,
        error: None,
        warming_seconds: None,
        warning: None,
    };
    let broken = RuleView {
        id: "r-1".to_owned(),
        state: RuleState::Broken,
        error: Some("unknown modifier".to_owned()),
        ..rule.clone()
    };
    let twin = RuleView { state: RuleState::Broken, ..rule.clone() };
    vec![twin, rule, broken]
}

#[tokio::test]
async fn alerts_are_listed_verbatim_in_pages() {
    let server = Server::start(None).await;
    let stored: Vec<String> =
        (1..=5).map(|n| server.insert(&format!("a{n}"), n * 1_000, "high")).collect();
    server.insert("low", 9_000, "low");

    let first = server.get("/api/v1/alerts?limit=3&level=medium").await;
    assert_eq!((first.code, first.header("content-type")), (200, "application/json"));
    let newest: Vec<&str> = stored.iter().rev().map(String::as_str).collect();
    assert!(
        first.text.starts_with(&format!("{{\"items\":[{}],\"next\":\"", newest[..3].join(",")))
    );
    assert_eq!(first.json()["dropped"], 0);

    let cursor = first.json()["next"].as_str().unwrap().to_owned();
    let second = server.get(&format!("/api/v1/alerts?level=medium&cursor={cursor}&limit=3")).await;
    let expected = format!("{{\"items\":[{}],\"next\":null,\"dropped\":0}}", newest[3..].join(","));
    assert_eq!(second.text, expected);

    let other = server.get(&format!("/api/v1/alerts?cursor={cursor}")).await;
    let problem = other.problem(400, "invalid-parameter");
    assert_eq!(problem["errors"][0]["parameter"], "cursor");
    assert_eq!(problem["errors"][0]["limit"], "a cursor of the same from, to, rule and level");

    assert_eq!(server.get("/api/v1/alerts/a3").await.text, stored[2]);
    server.get("/api/v1/alerts/none").await.problem(404, "not-found");
    let empty = server.get("/api/v1/alerts?from=1970-01-01T00:00:10Z&rule=r-1").await;
    assert_eq!(empty.json()["items"], json!([]));
}

#[tokio::test]
async fn faulty_parameters_are_all_named() {
    let server = Server::start(None).await;
    let answer = server.get("/api/v1/alerts?limit=0&level=High&x=1&to=never").await;
    let problem = answer.problem(400, "invalid-parameter");
    let names: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["parameter"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["limit", "level", "x", "to"]);
    assert_eq!(problem["errors"][0]["limit"], "1 to 1000");
    assert_eq!(problem["instance"], "/api/v1/alerts");
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let server = Server::start(None).await;
    server.get("/nothing").await.problem(404, "not-found");
    server.get("/api/v1/alerts/%ff").await.problem(400, "bad-request");
    server.get("/api/v1/rules/none").await.problem(404, "not-found");
    let answer = server.request(Method::DELETE, "/api/v1/alerts", None).await;
    answer.problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD");

    let answer = server
        .raw("POST /api/v1/alerts HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert!(
        answer.contains("payload-too-large") || answer.contains("content-too-large"),
        "{answer}"
    );

    let head = server.request(Method::HEAD, "/nothing", None).await;
    assert_eq!((head.code, head.text.as_str()), (404, ""));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = Server::start(Some(TOKEN)).await;
    for path in ["/", "/healthz", "/readyz", "/metrics", "/nothing", "/api/v1/alerts"] {
        let answer = server.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(answer.headers.get("access-control-allow-origin").is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_token_guards_api_and_metrics_but_not_health() {
    let server = Server::start(Some(TOKEN)).await;
    for path in ["/metrics", "/api/v1/alerts", "/api/v1/openapi.json", "/api/nothing", "/api"] {
        let answer = server.get(path).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
        let wrong = server.request(Method::GET, path, Some("wrong")).await;
        wrong.problem(401, "unauthorized");
    }
    for path in ["/healthz", "/readyz", "/startupz", "/"] {
        assert_ne!(server.get(path).await.code, 401, "{path}");
    }
    assert_eq!(server.request(Method::GET, "/api/v1/rules", Some(TOKEN)).await.code, 200);
    let metrics = server.request(Method::GET, "/metrics", Some(TOKEN)).await.text;
    assert!(metrics.contains("watchfire_auth_failures_total{reason=\"missing\"} 5\n"), "{metrics}");
    assert!(metrics.contains("watchfire_auth_failures_total{reason=\"wrong\"} 5\n"), "{metrics}");
}

#[tokio::test]
async fn readiness_lists_checks_and_losses() {
    let server = Server::start(None).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.code, answer.json()["status"].as_str()), (503, Some("starting")));
    assert_eq!(answer.json()["checks"][0]["name"], "assigned");
    assert_eq!(server.get("/startupz").await.code, 503);
    assert_eq!(
        (server.get("/healthz").await.code, server.get("/healthz").await.text),
        (200, "ok\n".into())
    );

    server.state.health.set_check("assigned", true, "8 partitions");
    assert_eq!(server.get("/readyz").await.code, 503);
    server.state.health.set_check("restored", true, "0 keys");
    let answer = server.get("/readyz").await;
    assert_eq!((answer.code, answer.json()["status"].as_str()), (200, Some("ready")));

    let detected_by = "log start".to_owned();
    let gap =
        Gap { topic: "logs".to_owned(), partition: 3, from: 10, to: 25, detected_by, time: 77 };
    server.state.health.report_gap(gap);
    let answer = server.get("/readyz").await;
    assert_eq!((answer.code, answer.json()["status"].as_str()), (200, Some("degraded")));
    let listed = json!(
        {"topic": "logs", "partition": 3, "from": 10, "to": 25, "detected_by": "log start", "time": 77}
    );
    assert_eq!(answer.json()["gaps"], json!([listed]));
    let gaps = server.get("/api/v1/gaps").await.json();
    assert_eq!(gaps, json!({"items": [listed], "events_lost": 15, "unlisted": 0}));

    server.state.health.set_check("assigned", false, "revoked");
    assert_eq!((server.get("/readyz").await.code, server.get("/startupz").await.code), (503, 200));
}

#[tokio::test]
async fn rules_are_listed_with_their_faults() {
    let server = Server::start(None).await;
    let rules = server.get("/api/v1/rules").await.json();
    let ids: Vec<&str> = rules["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["r-1", "r-2", "r-2"]);
    let broken = server.get("/api/v1/rules/r-1").await.json();
    assert_eq!(
        (&broken["state"], &broken["error"]),
        (&json!("broken"), &json!("unknown modifier"))
    );
    assert_eq!(server.get("/api/v1/rules/r-2").await.json()["state"], "active");
    server.state.rules.replace(vec![]);
    server.get("/api/v1/rules/r-2").await.problem(404, "not-found");
}

#[tokio::test]
async fn metrics_count_routes_not_paths() {
    let server = Server::start(None).await;
    server.insert("a", 1, "low");
    server.state.health.report_gap(Gap {
        topic: "logs".to_owned(),
        partition: 0,
        from: 1,
        to: 2,
        detected_by: "x".to_owned(),
        time: 1,
    });
    for path in ["/api/v1/alerts/a", "/api/v1/alerts/b", "/x", "/y"] {
        server.get(path).await;
    }
    server.raw("BREW / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "watchfire_http_requests_total{code=\"200\",method=\"GET\",route=\"/api/v1/alerts/{id}\"} 1",
        "watchfire_http_requests_total{code=\"404\",method=\"GET\",route=\"/api/v1/alerts/{id}\"} 1",
        "watchfire_http_requests_total{code=\"404\",method=\"GET\",route=\"unmatched\"} 2",
        "watchfire_http_requests_total{code=\"405\",method=\"other\",route=\"/\"} 1",
        "watchfire_http_request_seconds_count{route=\"unmatched\"} 2",
        "watchfire_alert_index_alerts 1",
        "watchfire_gaps_open 1",
        "watchfire_ready 0",
        "watchfire_build_info{version=\"0.0.0-test\"} 1",
    ] {
        assert!(answer.text.contains(&format!("{line}\n")), "{line} is missing in {}", answer.text);
    }
}

#[tokio::test]
async fn the_index_page_names_urls_that_exist() {
    let server = Server::start(None).await;
    let page = server.get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let urls: Vec<&str> =
        page.text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(urls.len(), 8);
    for url in urls {
        assert!([200, 503].contains(&server.get(url).await.code), "{url}");
    }
}

#[tokio::test]
async fn a_silent_client_does_not_hold_up_the_end() {
    let server = Server::start(None).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    silent.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    assert_eq!(server.get("/healthz").await.code, 200);
    server.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), server.task).await;
    assert!(ended.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn a_public_address_without_token_is_refused() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let server = Server::start(None).await;
    let error = serve(listener, server.state.clone(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind(_)), "{error}");
    assert!(error.to_string().contains("no api token is set"), "{error}");
}

/// Every path and status that the document names exists, and the committed copy is the served one.
#[tokio::test]
async fn the_openapi_document_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let generated = openapi_json().unwrap();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == generated, "docs/openapi.json is out of date: run with UPDATE_OPENAPI=1");

    let server = Server::start(None).await;
    let served = server.get("/api/v1/openapi.json").await.json();
    assert_eq!(served, serde_json::from_str::<Value>(&committed).unwrap());
    assert_eq!(served["openapi"], "3.1.0");
    for (path, _) in served["paths"].as_object().unwrap() {
        let answer = server.get(&path.replace("{id}", "r-2")).await;
        let known = &served["paths"][path]["get"]["responses"][answer.code.to_string()];
        assert!(known.is_object(), "{path} answered {} which is not described", answer.code);
    }
    let name = HeaderName::from_static("content-type");
    assert!(server.get("/healthz").await.headers.contains_key(name));
}
