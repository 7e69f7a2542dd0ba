//! JSON payloads. serde_json itself refuses to nest deeper than 128.

use super::{Reject, RejectCode, reject};
use crate::event::Event;

/// Decodes one JSON object; strings without escapes stay borrowed.
pub fn decode(text: &str) -> Result<Event<'_>, Reject> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
            let start: String = text.chars().take(40).collect();
            return Err(reject(RejectCode::NotAnObject, format!("starts with `{start}`")));
        }
        _ => {}
    }
    match serde_json::from_str(text) {
        Ok(body) => Ok(Event { body, ..Event::default() }),
        Err(e) => Err(reject(RejectCode::InvalidJson, e.to_string())),
    }
}
