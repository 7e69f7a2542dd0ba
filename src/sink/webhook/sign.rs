//! Standard Webhooks signatures, symmetric `v1`: HMAC-SHA256 over `id.timestamp.body`.
//!
//! Pure: the time is given. Source: standardwebhooks.com, "Signature scheme".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::secret::{Secret, SigningKeys};

/// Header that carries the message's stable id.
pub const HEADER_ID: &str = "webhook-id";
/// Header that carries the time of the attempt, in seconds since 1970.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// Header that carries the signatures, one for each key.
pub const HEADER_SIGNATURE: &str = "webhook-signature";

/// How far a message's timestamp may lie from the receiver's clock: what the reference libraries allow.
pub const TIMESTAMP_SKEW_S_MAX: i64 = 300;

/// The three headers of a signed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// Value of [`HEADER_ID`].
    pub id: String,
    /// Value of [`HEADER_TIMESTAMP`].
    pub timestamp: String,
    /// Value of [`HEADER_SIGNATURE`].
    pub signature: String,
}

/// Why a message is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The timestamp is not a number of seconds.
    #[error("webhook timestamp is not a number of seconds")]
    Timestamp,
    /// The message is old, or its sender's clock runs ahead.
    #[error("webhook timestamp is {skew_s} s away, allowed are {TIMESTAMP_SKEW_S_MAX} s")]
    Skew {
        /// Distance of the two clocks in seconds.
        skew_s: u64,
    },
    /// No signature fits any key.
    #[error("no v1 signature fits")]
    Signature,
}

/// Signs a message with every key, so that a receiver may know any one of them.
pub fn sign(keys: &SigningKeys, id: &str, timestamp_s: i64, body: &[u8]) -> SignedHeaders {
    let timestamp = timestamp_s.to_string();
    let signatures: Vec<String> = keys
        .iter()
        .map(|key| format!("v1,{}", STANDARD.encode(mac(key, id, &timestamp, body))))
        .collect();
    SignedHeaders { id: id.to_owned(), timestamp, signature: signatures.join(" ") }
}

/// Checks a message as a receiver must: time first, then each signature against each key, in constant time.
///
/// # Errors
///
/// Fails when the time is too far from `now_s` or no signature fits.
pub fn verify(
    keys: &SigningKeys,
    headers: &SignedHeaders,
    body: &[u8],
    now_s: i64,
) -> Result<(), VerifyError> {
    let timestamp_s: i64 = headers.timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
    let skew_s = now_s.abs_diff(timestamp_s);
    if skew_s > TIMESTAMP_SKEW_S_MAX.unsigned_abs() {
        return Err(VerifyError::Skew { skew_s });
    }
    let given: Vec<Vec<u8>> = headers
        .signature
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .collect();
    let mut fits = subtle::Choice::from(0);
    for key in keys.iter() {
        let expected = mac(key, &headers.id, &headers.timestamp, body);
        for signature in &given {
            fits |= signature.as_slice().ct_eq(&expected);
        }
    }
    if bool::from(fits) { Ok(()) } else { Err(VerifyError::Signature) }
}

fn mac(key: &Secret, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new(&(*key.block()).into());
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(texts: &[&str]) -> SigningKeys {
        SigningKeys::new(texts.iter().map(|text| Secret::parse(text).unwrap()).collect()).unwrap()
    }

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA";

    /// The example of the specification's own test suite.
    #[test]
    fn the_signature_of_the_specification_comes_out() {
        let body = br#"{"test": 2432232314}"#;
        let headers = sign(&keys(&[KEY]), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(headers.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(verify(&keys(&[KEY]), &headers, body, 1_614_265_330), Ok(()));
    }

    #[test]
    fn a_changed_message_does_not_verify() {
        let signed = sign(&keys(&[KEY]), "msg_1", 1_000, b"body");
        let check = |headers: &SignedHeaders, body: &[u8], now_s| {
            verify(&keys(&[KEY]), headers, body, now_s)
        };
        assert_eq!(check(&signed, b"body", 1_300), Ok(()));
        assert_eq!(check(&signed, b"body", 1_301), Err(VerifyError::Skew { skew_s: 301 }));
        assert_eq!(check(&signed, b"body", 699), Err(VerifyError::Skew { skew_s: 301 }));
        assert_eq!(check(&signed, b"bodY", 1_000), Err(VerifyError::Signature));
        let changed = SignedHeaders { id: "msg_2".to_owned(), ..signed.clone() };
        assert_eq!(check(&changed, b"body", 1_000), Err(VerifyError::Signature));
        let changed = SignedHeaders { timestamp: "1001".to_owned(), ..signed.clone() };
        assert_eq!(check(&changed, b"body", 1_000), Err(VerifyError::Signature));
        let changed = SignedHeaders { timestamp: "soon".to_owned(), ..signed };
        assert_eq!(check(&changed, b"body", 1_000), Err(VerifyError::Timestamp));
        for signature in ["", "v1", "v1,", "v1a,AAAA", "v2,AAAA", "v1,!!!"] {
            let headers = SignedHeaders {
                id: "msg_1".to_owned(),
                timestamp: "1000".to_owned(),
                signature: signature.to_owned(),
            };
            assert_eq!(check(&headers, b"body", 1_000), Err(VerifyError::Signature), "{signature}");
        }
    }

    proptest! {
        #[test]
        fn any_one_of_the_keys_verifies_and_a_stranger_does_not(
            raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 24..=64), 1..=3),
            body in prop::collection::vec(any::<u8>(), 0..200),
            timestamp_s in 0i64..10_000_000_000,
        ) {
            let secrets: Vec<Secret> = raw.iter().map(|key| Secret::from_bytes(key).unwrap()).collect();
            let headers = sign(&SigningKeys::new(secrets.clone()).unwrap(), "msg_1", timestamp_s, &body);
            for secret in secrets {
                let one = SigningKeys::new(vec![secret]).unwrap();
                prop_assert_eq!(verify(&one, &headers, &body, timestamp_s), Ok(()));
            }
            let stranger = keys(&[OTHER]);
            prop_assert_eq!(
                verify(&stranger, &headers, &body, timestamp_s), Err(VerifyError::Signature)
            );
        }
    }
}
