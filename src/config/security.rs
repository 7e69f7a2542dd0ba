//! Encryption and authentication of Kafka connections.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;

/// `kafka.security`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Protocol of all listeners.
    pub protocol: Protocol,
    /// Certificates of the authorities that are trusted; by default the system's.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate, for mTLS.
    pub certificate_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
    /// The password of that key.
    pub key_password_file: Option<PathBuf>,
    /// Authentication by SASL.
    pub sasl: Option<Sasl>,
}

/// Kafka's security protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// Encrypted; authenticated when the client has a certificate.
    Ssl,
    /// Authenticated, not encrypted.
    SaslPlaintext,
    /// Encrypted and authenticated.
    SaslSsl,
}

impl Protocol {
    /// The name as Kafka writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

/// `kafka.security.sasl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub mechanism: String,
    /// User name of PLAIN and SCRAM.
    #[serde(default)]
    pub username: Option<String>,
    /// Password of PLAIN and SCRAM.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Where OAUTHBEARER tokens come from.
    #[serde(default)]
    pub oauth: Option<OAuth>,
}

/// `kafka.security.sasl.oauth`: a token from a file, or by OIDC client credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth {
    /// A file that always holds a valid token (a JWT), such as a projected service account token.
    pub token_file: Option<PathBuf>,
    /// OIDC token endpoint.
    pub token_endpoint: Option<String>,
    /// OIDC client id.
    pub client_id: Option<String>,
    /// OIDC client secret.
    pub client_secret_file: Option<PathBuf>,
    /// OIDC scope.
    pub scope: Option<String>,
}

impl Security {
    /// Whether what is given fits together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, reason: &str| {
            let key = format!("kafka.security.{key}");
            Err(ConfigError::Value { key, reason: reason.to_owned() })
        };
        match (&self.sasl, self.protocol.has_sasl()) {
            (None, true) => return wrong("sasl", "the protocol needs it"),
            (Some(_), false) => return wrong("sasl", "the protocol has no SASL: write SASL_SSL"),
            _ => {}
        }
        let tls = matches!(self.protocol, Protocol::Ssl | Protocol::SaslSsl);
        let files = [
            ("ca_file", &self.ca_file),
            ("certificate_file", &self.certificate_file),
            ("key_file", &self.key_file),
            ("key_password_file", &self.key_password_file),
        ];
        if let Some((key, _)) = files.iter().find(|(_, f)| f.is_some() && !tls) {
            return wrong(key, "the protocol has no TLS: write SSL or SASL_SSL");
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return wrong("key_file", "certificate_file and key_file go together");
        }
        let Some(sasl) = &self.sasl else { return Ok(()) };
        match sasl.mechanism.as_str() {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => {
                if sasl.username.is_none() || sasl.password_file.is_none() {
                    return wrong("sasl", "username and password_file are needed");
                }
            }
            "OAUTHBEARER" => {
                let oauth = sasl.oauth.clone().unwrap_or_default();
                let oidc = oauth.token_endpoint.is_some()
                    && oauth.client_id.is_some()
                    && oauth.client_secret_file.is_some();
                if oauth.token_file.is_some() == oidc {
                    let reason = "either token_file, or token_endpoint, client_id and \
                                  client_secret_file";
                    return wrong("sasl.oauth", reason);
                }
            }
            other => {
                let reason = format!(
                    "`{other}` is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
                );
                return wrong("sasl.mechanism", &reason);
            }
        }
        Ok(())
    }

    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let sasl = self.sasl.iter_mut().flat_map(|s| {
            let oauth = s
                .oauth
                .iter_mut()
                .flat_map(|o| o.token_file.iter_mut().chain(o.client_secret_file.iter_mut()));
            s.password_file.iter_mut().chain(oauth)
        });
        self.ca_file
            .iter_mut()
            .chain(self.certificate_file.iter_mut())
            .chain(self.key_file.iter_mut())
            .chain(self.key_password_file.iter_mut())
            .chain(sasl)
    }
}
