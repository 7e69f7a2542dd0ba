//! `watchfire webhook …`: helpers around webhooks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use clap::Subcommand;

use crate::config::read_secret;
use crate::runtime::{SystemClock, terminated};
use crate::sink::webhook::{
    HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret, SignedHeaders, SigningKeys, verify,
};
use crate::time::Clock;

/// Helpers around webhooks.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive webhooks: verify the signature of each, print one line, answer 204 (or 401)
    Listen {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:9000")]
        bind: SocketAddr,
        /// File with the `whsec_…` key
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
    },
}

/// Runs the subcommand; the result is the exit code.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let Command::Listen { bind, secret_file } = args.command;
    let secrets: Result<Vec<Secret>, _> =
        read_secret(&secret_file)?.lines().map(Secret::parse).collect();
    let keys = Arc::new(SigningKeys::new(secrets?)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            tokio::net::TcpListener::bind(bind).await.with_context(|| format!("{bind}"))?;
        eprintln!("receiving webhooks on http://{}", listener.local_addr()?);
        let app = Router::new().route("/", post(receive)).with_state(keys);
        axum::serve(listener, app).with_graceful_shutdown(terminated()).await?;
        Ok(super::FINE)
    })
}

async fn receive(
    State(keys): State<Arc<SigningKeys>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let signed = SignedHeaders {
        id: header(HEADER_ID),
        timestamp: header(HEADER_TIMESTAMP),
        signature: header(HEADER_SIGNATURE),
    };
    let id = &signed.id;
    if let Err(e) = verify(&keys, &signed, &body, SystemClock.now().millis() / 1000) {
        println!("REFUSED   {id}: {e}");
        return StatusCode::UNAUTHORIZED;
    }
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let sentence = document["data"]["message"].as_str().unwrap_or_default();
    println!("VERIFIED  {id}: {sentence}");
    StatusCode::NO_CONTENT
}
