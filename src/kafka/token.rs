//! Where OAUTHBEARER tokens come from: a file that is kept fresh by somebody else, or an OIDC token
//! endpoint (client credentials grant, RFC 6749 section 4.4).

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;

use crate::limits::BROKER_CALL_MS_MAX;

/// A source of tokens.
#[derive(Clone)]
pub enum TokenSource {
    /// This file always holds a valid token.
    File(PathBuf),
    /// A token endpoint, asked with the client's id and secret.
    Oidc {
        /// Its URL.
        endpoint: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: String,
        /// Scope, if any.
        scope: Option<String>,
    },
}

/// The secret is never printed.
impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Oidc { endpoint, client_id, .. } => f
                .debug_struct("Oidc")
                .field("endpoint", endpoint)
                .field("client_id", client_id)
                .finish(),
        }
    }
}

/// Why there is no token. No secret is in it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("token file: {0}")]
    File(#[from] std::io::Error),
    /// The endpoint cannot be asked, or refused.
    #[error("token endpoint: {0}")]
    Endpoint(#[from] reqwest::Error),
    /// The answer holds no token.
    #[error("the token endpoint's answer has no access_token")]
    Answer,
    /// librdkafka refuses the token.
    #[error("the token is refused: {0}")]
    Refused(String),
    /// The token is none that can be used.
    #[error("the token is no JWT with `sub` and `exp`")]
    Claims,
}

impl TokenSource {
    /// Gets a token. Blocks, for a few seconds at most: it is called by Kafka clients on their own
    /// threads, when a token is about to expire.
    ///
    /// # Errors
    /// [`TokenError`]; the client asks again some seconds later.
    pub fn fetch(&self) -> Result<OAuthToken, TokenError> {
        let token = match self {
            Self::File(path) => std::fs::read_to_string(path)?.trim().to_owned(),
            Self::Oidc { endpoint, client_id, client_secret, scope } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(ask(endpoint, client_id, client_secret, scope.as_deref()))?
            }
        };
        let (principal_name, lifetime_ms) = claims(&token).ok_or(TokenError::Claims)?;
        Ok(OAuthToken { token, principal_name, lifetime_ms })
    }
}

async fn ask(
    endpoint: &str,
    client_id: &str,
    client_secret: &str,
    scope: Option<&str>,
) -> Result<String, TokenError> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_millis(BROKER_CALL_MS_MAX))
        .build()?;
    let encoded = |text: &str| -> String { form_encoded(text) };
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = scope {
        form = format!("{form}&scope={}", encoded(scope));
    }
    let answer = client
        .post(endpoint)
        // RFC 6749 section 2.3.1: both are form-encoded before they become user and password.
        .basic_auth(encoded(client_id), Some(encoded(client_secret)))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).map_err(|_| TokenError::Answer)?;
    answer["access_token"].as_str().map(str::to_owned).ok_or(TokenError::Answer)
}

fn form_encoded(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
    text.bytes()
        .map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// `sub` and `exp` (as milliseconds) of a JWT. Its signature is the broker's business.
fn claims(token: &str) -> Option<(String, i64)> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some((claims["sub"].as_str()?.to_owned(), claims["exp"].as_f64()? as i64 * 1000))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// {"sub":"watchfire","exp":1700000000}
    const TOKEN: &str = "e30.eyJzdWIiOiJ3YXRjaGZpcmUiLCJleHAiOjE3MDAwMDAwMDB9.";

    #[test]
    fn the_claims_of_a_token_are_read() {
        assert_eq!(claims(TOKEN), Some(("watchfire".into(), 1_700_000_000_000)));
        assert_eq!(claims("opaque"), None);
    }

    #[test]
    fn an_endpoint_is_asked_with_the_clients_credentials() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}/token", listener.local_addr().expect("address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut request = String::new();
            let mut buffer = [0; 1024];
            while !request.contains("scope=") {
                let n = stream.read(&mut buffer).expect("request");
                request.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
            let body = format!("{{\"access_token\":\"{TOKEN}\",\"expires_in\":60}}");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).expect("answered");
            request.to_lowercase()
        });
        let source = TokenSource::Oidc {
            endpoint,
            client_id: "watch fire".into(),
            client_secret: "s:1".into(),
            scope: Some("kafka".into()),
        };
        let token = source.fetch().expect("a token");
        assert_eq!((token.principal_name.as_str(), token.token.as_str()), ("watchfire", TOKEN));
        let request = server.join().expect("served");
        // watch%20fire:s%3A1
        assert!(request.contains("authorization: basic d2f0y2glmjbmaxjlonmlm0ex"), "{request}");
        assert!(request.ends_with("grant_type=client_credentials&scope=kafka"), "{request}");
    }
}
