//! Where outputs go: the alerts topic, the dead-letter topic, webhooks.

mod records;
pub mod webhook;

pub use records::{send_alert, send_late, send_reject};
