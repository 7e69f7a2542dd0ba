//! Who may ask: one optional bearer token, and the rule that no token means loopback only.

use std::fmt;
use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::limits::TOKEN_BYTES_MIN;

/// Why a token cannot be used. The token is never part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It can be guessed.
    #[error("api token has {bytes} bytes, at least {TOKEN_BYTES_MIN} are needed")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// It could not stand in a header.
    #[error("api token holds white space or characters outside of ASCII")]
    Characters,
}

/// The bearer token, held as its SHA-256: a random token needs no slow hash, and a slow one would let anybody
/// keep the server busy.
#[derive(Clone)]
pub struct BearerToken {
    digest: [u8; 32],
}

impl BearerToken {
    /// Takes the token that clients must present; surrounding white space is dropped.
    ///
    /// # Errors
    ///
    /// Fails when it is too short or could not stand in a header.
    pub fn new(token: &str) -> Result<BearerToken, TokenError> {
        let token = token.trim();
        if token.len() < TOKEN_BYTES_MIN {
            return Err(TokenError::TooShort { bytes: token.len() });
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        Ok(BearerToken { digest: Sha256::digest(token).into() })
    }

    /// Checks the `Authorization` header of a request, in a time that tells nothing of the token.
    ///
    /// # Errors
    ///
    /// Fails when the header is missing, of another form, or holds another token.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(Denied::Missing)?;
        if values.next().is_some() {
            return Err(Denied::Malformed);
        }
        let (scheme, token) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(Denied::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Malformed);
        }
        let digest: [u8; 32] = Sha256::digest(token.trim()).into();
        if bool::from(digest.ct_eq(&self.digest)) { Ok(()) } else { Err(Denied::Wrong) }
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No `Authorization` header.
    #[error("no bearer token was sent")]
    Missing,
    /// A header that is no bearer token.
    #[error("the authorization header is not one bearer token")]
    Malformed,
    /// Another token.
    #[error("the bearer token is not valid")]
    Wrong,
}

impl Denied {
    /// Returns the reason as a metric label.
    pub const fn reason(self) -> &'static str {
        match self {
            Denied::Missing => "missing",
            Denied::Malformed => "malformed",
            Denied::Wrong => "wrong",
        }
    }
}

/// Why the server does not listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Everybody on the network could read alerts.
    #[error(
        "address {addr} is not loopback and no api token is set: set a token, or listen on 127.0.0.1 or [::1]"
    )]
    Open {
        /// The address.
        addr: SocketAddr,
    },
}

/// Refuses to serve alerts to a network without a token.
///
/// # Errors
///
/// Fails when the address is not loopback and there is no token.
pub fn bind_policy(addr: SocketAddr, has_token: bool) -> Result<(), BindError> {
    if has_token || addr.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(BindError::Open { addr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "watchfire_test_0123456789abcdefghij";

    #[test]
    fn only_loopback_is_served_without_a_token() {
        for (addr, loopback) in [
            ("127.0.0.1:8080", true),
            ("127.9.9.9:0", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("10.0.0.1:8080", false),
            ("[fe80::1]:8080", false),
        ] {
            let addr = addr.parse().unwrap();
            assert_eq!(bind_policy(addr, false).is_ok(), loopback, "{addr}");
            assert!(bind_policy(addr, true).is_ok(), "{addr}");
        }
        let error = bind_policy("0.0.0.0:8080".parse().unwrap(), false).unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:8080") && error.contains("token"), "{error}");
    }

    #[test]
    fn one_right_token_opens() {
        let token = BearerToken::new(&format!("{TOKEN}\n")).unwrap();
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            token.check(&headers)
        };
        let right = format!("Bearer {TOKEN}");
        assert_eq!(check(&[&right]), Ok(()));
        assert_eq!(check(&[&format!("bearer {TOKEN}")]), Ok(()));
        assert_eq!(check(&[]), Err(Denied::Missing));
        assert_eq!(check(&[&right, &right]), Err(Denied::Malformed));
        assert_eq!(check(&["Basic abc"]), Err(Denied::Malformed));
        assert_eq!(check(&[TOKEN]), Err(Denied::Malformed));
        assert_eq!(check(&["Bearer "]), Err(Denied::Wrong));
        assert_eq!(check(&[&format!("Bearer {TOKEN}x")]), Err(Denied::Wrong));
    }

    #[test]
    fn a_token_is_long_printable_and_never_printed() {
        assert_eq!(BearerToken::new("short").unwrap_err(), TokenError::TooShort { bytes: 5 });
        assert_eq!(BearerToken::new(&"ä".repeat(32)).unwrap_err(), TokenError::Characters);
        assert_eq!(format!("{:?}", BearerToken::new(TOKEN).unwrap()), "***");
    }
}
