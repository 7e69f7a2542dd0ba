//! Signing keys of an endpoint. They never print: not in logs, not in errors, not in `Debug`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a key starts with in a configuration (Standard Webhooks, symmetric keys).
const PREFIX: &str = "whsec_";

/// Shortest key, in bytes: the least that Standard Webhooks allows, 192 bits.
pub const SECRET_BYTES_MIN: usize = 24;

/// Longest key, in bytes: one block of SHA-256, beyond which HMAC would hash the key first.
pub const SECRET_BYTES_MAX: usize = 64;

/// Most keys of an endpoint at once: old, present and next, for a rotation without a gap.
pub const KEYS_MAX: usize = 3;

/// Why a key cannot be used. The key itself is never part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not start with `whsec_`.
    #[error("webhook secret does not start with {PREFIX}")]
    Prefix,
    /// What follows the prefix is not base64.
    #[error("webhook secret is not base64 after {PREFIX}")]
    Base64,
    /// It is too short or too long.
    #[error(
        "webhook secret has {bytes} bytes, allowed are {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
    )]
    Length {
        /// Its length after decoding.
        bytes: usize,
    },
    /// There is none, or there are too many.
    #[error("endpoint has {keys} webhook secrets, allowed are 1 to {KEYS_MAX}")]
    Keys {
        /// How many there are.
        keys: usize,
    },
}

/// One symmetric key of 24 to 64 bytes.
///
/// It is held padded with zeros to the block of SHA-256, which is what HMAC does with a shorter key first.
#[derive(Clone)]
pub struct Secret {
    block: [u8; SECRET_BYTES_MAX],
}

impl Secret {
    /// Reads a key as it is configured: `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// Fails when prefix, alphabet or length is wrong; the text names the fault, not the key.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        Secret::from_bytes(&STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?)
    }

    /// Takes raw key bytes.
    ///
    /// # Errors
    ///
    /// Fails when there are fewer than 24 or more than 64.
    pub fn from_bytes(key: &[u8]) -> Result<Secret, SecretError> {
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&key.len()) {
            return Err(SecretError::Length { bytes: key.len() });
        }
        let mut block = [0; SECRET_BYTES_MAX];
        block[..key.len()].copy_from_slice(key);
        Ok(Secret { block })
    }

    pub(super) fn block(&self) -> &[u8; SECRET_BYTES_MAX] {
        &self.block
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The keys of one endpoint, one to three; a message is signed with all of them.
#[derive(Debug, Clone)]
pub struct SigningKeys(Vec<Secret>);

impl SigningKeys {
    /// Takes the keys of an endpoint.
    ///
    /// # Errors
    ///
    /// Fails when there is none or more than three.
    pub fn new(keys: Vec<Secret>) -> Result<SigningKeys, SecretError> {
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(SecretError::Keys { keys: keys.len() });
        }
        Ok(SigningKeys(keys))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_24_to_64_bytes_are_taken() {
        for (bytes, allowed) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
            let text = format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
            assert_eq!(Secret::parse(&text).is_ok(), allowed, "{bytes} bytes");
        }
        assert_eq!(Secret::parse("C2FVsBQIhrscChlQIMV").unwrap_err(), SecretError::Prefix);
        assert_eq!(Secret::parse("whsec_!!").unwrap_err(), SecretError::Base64);
    }

    #[test]
    fn no_key_shows_in_debug_or_in_an_error() {
        let text = format!("whsec_{}", STANDARD.encode([b'k'; 30]));
        let secret = Secret::parse(&text).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:?}", SigningKeys::new(vec![secret]).unwrap()), "SigningKeys([***])");
        let error = Secret::parse("whsec_c2VjcmV0").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn an_endpoint_has_one_to_three_keys() {
        let key = || Secret::from_bytes(&[1; 24]).unwrap();
        for (keys, allowed) in [(0, false), (1, true), (3, true), (4, false)] {
            let result = SigningKeys::new((0..keys).map(|_| key()).collect());
            assert_eq!(result.is_ok(), allowed, "{keys} keys");
        }
    }
}
