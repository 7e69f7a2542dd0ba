//! One signed POST: the HTTP client of an endpoint, behind its egress policy.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use tokio::time::Instant;

use super::config::Endpoint;
use super::egress::{EgressError, EgressPolicy, GuardedResolver};
use super::policy::{Attempt, RetryAfter};
use super::sign::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, SignedHeaders};

/// How long a connection is kept for the next alert; shorter than the usual 60 s of receivers, so that a kept
/// connection is seldom one that the other side has just closed.
pub const IDLE_CONNECTION_S_MAX: u64 = 30;

/// How much of an answer is read, so that its connection can be used again. Its content is not looked at.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How long the rest of an answer is waited for; its status is known by then.
pub const ANSWER_MS_MAX: u64 = 1_000;

/// Why an endpoint's client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("http client of endpoint {endpoint} cannot be built: {source}")]
pub struct ClientError {
    /// The endpoint's name.
    endpoint: String,
    /// What reqwest says.
    source: reqwest::Error,
}

/// Carries one signed message to the receiver and says what came of it.
pub trait Transport: Send + Sync {
    /// Makes one attempt; never fails, because every way to fail is an [`Attempt`].
    fn post(&self, headers: &SignedHeaders, body: Bytes) -> impl Future<Output = Attempt> + Send;
}

/// The transport over HTTP.
#[derive(Debug)]
pub struct HttpTransport {
    client: Client,
    url: Url,
    egress: EgressPolicy,
}

impl HttpTransport {
    /// Builds the client of an endpoint: no redirect, no proxy, guarded resolver.
    ///
    /// # Errors
    ///
    /// Fails when the TLS library cannot be set up.
    pub fn new(endpoint: &Endpoint) -> Result<HttpTransport, ClientError> {
        let resolver = GuardedResolver::new(endpoint.egress().clone(), endpoint.is_tls());
        let client = Client::builder()
            .user_agent(concat!("Watchfire/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .https_only(endpoint.is_tls())
            .dns_resolver(resolver)
            .timeout(endpoint.timeout())
            .connect_timeout(endpoint.timeout())
            .pool_idle_timeout(Duration::from_secs(IDLE_CONNECTION_S_MAX))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|source| ClientError { endpoint: endpoint.name().to_owned(), source })?;
        Ok(HttpTransport { client, url: endpoint.url().clone(), egress: endpoint.egress().clone() })
    }

    /// The last lock: an address that slipped past the others makes even a 2xx worthless.
    fn reached_allowed_address(&self, response: &Response) -> bool {
        response.remote_addr().is_none_or(|remote| {
            self.egress.check_address(remote.ip(), self.url.scheme() == "https").is_ok()
        })
    }
}

impl Transport for HttpTransport {
    async fn post(&self, headers: &SignedHeaders, body: Bytes) -> Attempt {
        let start = Instant::now();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_ID, &headers.id)
            .header(HEADER_TIMESTAMP, &headers.timestamp)
            .header(HEADER_SIGNATURE, &headers.signature)
            .body(body);
        match request.send().await {
            Ok(response) if !self.reached_allowed_address(&response) => Attempt::Blocked,
            Ok(response) => answered(response).await,
            Err(error) => failed(&error, start.elapsed()),
        }
    }
}

async fn answered(mut response: Response) -> Attempt {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(RetryAfter::parse);
    let code = response.status().as_u16();
    let drain = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    // The answer is known; a body that does not end costs no more than its connection.
    let _ = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), drain).await;
    Attempt::Status { code, retry_after }
}

/// Sorts an error without ever printing it: its text holds the URL, and the URL may be a secret.
fn failed(error: &reqwest::Error, elapsed: Duration) -> Attempt {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<EgressError>() {
            return Attempt::Blocked;
        }
        cause = error.source();
    }
    if error.is_timeout() {
        Attempt::Timeout
    } else if error.is_connect() {
        Attempt::Connect { elapsed }
    } else {
        Attempt::Network
    }
}
