//! An endpoint as it is configured, and as it runs.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;

use super::egress::{EgressError, EgressPolicy};
use super::secret::{Secret, SecretError, SigningKeys};
use crate::rule::Level;

/// Time of one attempt unless configured: what receivers of Standard Webhooks are told to answer within.
pub const TIMEOUT_S_DEFAULT: u64 = 15;

/// Shortest time of an attempt that may be configured.
pub const TIMEOUT_S_MIN: u64 = 1;

/// Longest time of an attempt that may be configured.
pub const TIMEOUT_S_MAX: u64 = 60;

/// Longest name of an endpoint; it becomes part of a consumer group's id and a metric label.
pub const NAME_BYTES_MAX: usize = 64;

/// Why an endpoint cannot be used. Texts hold neither secrets nor more of the URL than its host.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Its name is empty, too long or holds other characters.
    #[error(
        "endpoint name {name:?} is not 1 to {NAME_BYTES_MAX} of the characters a-z, A-Z, 0-9, '.', '_' and '-'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Its URL leads where it may not.
    #[error("endpoint {name}: {source}")]
    Egress {
        /// The endpoint's name.
        name: String,
        /// What is wrong.
        source: EgressError,
    },
    /// It has no usable keys.
    #[error("endpoint {name}: {source}")]
    Secrets {
        /// The endpoint's name.
        name: String,
        /// What is wrong.
        source: SecretError,
    },
    /// Its timeout is out of bounds.
    #[error(
        "endpoint {name}: timeout is {timeout_ms} ms, allowed are {TIMEOUT_S_MIN} to {TIMEOUT_S_MAX} s"
    )]
    Timeout {
        /// The endpoint's name.
        name: String,
        /// The timeout.
        timeout_ms: u128,
    },
}

/// A webhook endpoint as it is configured.
#[derive(Clone)]
pub struct EndpointConfig {
    /// Its name: part of the consumer group, label of its metrics.
    pub name: String,
    /// Where alerts are posted to. May hold a secret in its path, hence never printed.
    pub url: String,
    /// Its signing keys, one to three.
    pub secrets: Vec<Secret>,
    /// Whether private and loopback addresses may be reached, also by plain http.
    pub allow_private: bool,
    /// Networks that may be reached besides, also by plain http.
    pub allow_cidrs: Vec<IpNet>,
    /// Alerts below are not sent.
    pub min_level: Option<Level>,
    /// Time of one attempt.
    pub timeout: Duration,
}

impl EndpointConfig {
    /// Checks everything that can be known before the first attempt.
    ///
    /// # Errors
    ///
    /// Fails with the first fault found.
    pub fn validate(self) -> Result<Endpoint, EndpointError> {
        let EndpointConfig { name, url, secrets, allow_private, allow_cidrs, min_level, timeout } =
            self;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(legal) {
            return Err(EndpointError::Name { name });
        }
        let bounds = Duration::from_secs(TIMEOUT_S_MIN)..=Duration::from_secs(TIMEOUT_S_MAX);
        if !bounds.contains(&timeout) {
            return Err(EndpointError::Timeout { name, timeout_ms: timeout.as_millis() });
        }
        let keys = match SigningKeys::new(secrets) {
            Ok(keys) => keys,
            Err(source) => return Err(EndpointError::Secrets { name, source }),
        };
        let egress = EgressPolicy::new(allow_private, allow_cidrs);
        match egress.check_url(&url) {
            Ok(url) => Ok(Endpoint { name, url, keys, egress, min_level, timeout }),
            Err(source) => Err(EndpointError::Egress { name, source }),
        }
    }
}

impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("name", &self.name)
            .field("url", &"***")
            .field("secrets", &self.secrets)
            .field("allow_private", &self.allow_private)
            .field("allow_cidrs", &self.allow_cidrs)
            .field("min_level", &self.min_level)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A webhook endpoint that was checked.
#[derive(Clone)]
pub struct Endpoint {
    name: String,
    url: Url,
    keys: SigningKeys,
    egress: EgressPolicy,
    min_level: Option<Level>,
    timeout: Duration,
}

impl Endpoint {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the host it posts to, the only part of its URL that may be shown.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Returns the least level it is sent.
    pub fn min_level(&self) -> Option<Level> {
        self.min_level
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(super) fn keys(&self) -> &SigningKeys {
        &self.keys
    }

    pub(super) fn egress(&self) -> &EgressPolicy {
        &self.egress
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).field("host", &self.host()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EndpointConfig {
        EndpointConfig {
            name: "pager".to_owned(),
            url: "https://hooks.example/t0ken".to_owned(),
            secrets: vec![Secret::from_bytes(b"0123456789abcdefghijklmnop").unwrap()],
            allow_private: false,
            allow_cidrs: vec![],
            min_level: None,
            timeout: Duration::from_secs(TIMEOUT_S_DEFAULT),
        }
    }

    #[test]
    fn a_faulty_endpoint_is_refused_with_value_and_limit() {
        assert!(config().validate().is_ok());
        for (fault, text) in [
            (EndpointConfig { name: "a b".to_owned(), ..config() }, "\"a b\" is not 1 to 64"),
            (
                EndpointConfig { secrets: vec![], ..config() },
                "0 webhook secrets, allowed are 1 to 3",
            ),
            (
                EndpointConfig { timeout: Duration::from_secs(90), ..config() },
                "90000 ms, allowed are 1 to 60 s",
            ),
            (
                EndpointConfig { url: "https://10.0.0.1/t0ken".to_owned(), ..config() },
                "10.0.0.1 is private",
            ),
        ] {
            let error = fault.validate().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn neither_secret_nor_path_is_printed() {
        let shown = format!("{:?} {:?}", config(), config().validate().unwrap());
        assert!(!shown.contains("t0ken") && !shown.contains("0123"), "{shown}");
        assert!(shown.contains("hooks.example"), "{shown}");
    }
}
