//! Gives a client its OAUTHBEARER token at once.
//!
//! Clients ask for tokens through an event that somebody must poll for. The administration client of
//! rust-rdkafka polls for the results of its calls only, so it would never get one; it is used for some
//! seconds at the start, for which one token is enough.

use std::ffi::CString;

use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;

use super::{TokenError, TokenSource};

/// Fetches a token and sets it.
///
/// # Errors
/// When there is no token, or librdkafka refuses it.
#[allow(unsafe_code, reason = "rust-rdkafka has no safe call for this")]
pub fn set_token<C: ClientContext>(
    client: &Client<C>,
    source: &TokenSource,
) -> Result<(), TokenError> {
    let token = source.fetch()?;
    let text = |s: String| CString::new(s).map_err(|_| TokenError::Claims);
    let (value, principal) = (text(token.token)?, text(token.principal_name)?);
    let mut reason = [0; 512];
    // SAFETY: `client` keeps its handle alive during the call; both strings end in NUL and outlive it;
    // the list of extensions may be null when its length is 0; `reason` is as long as is said.
    let code = unsafe {
        rdkafka::bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        _ => {
            let bytes: Vec<u8> = reason.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
            Err(TokenError::Refused(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}
