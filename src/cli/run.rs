//! `watchfire run`: the service on Kafka.

use std::path::PathBuf;

use crate::config::Config;
use crate::runtime::{RuleFiles, Service, load_rules};

/// Run the service: read sources from Kafka, publish alerts, serve the API, call webhooks.
///
/// The configuration is one YAML file; `docs/configuration.md` describes every key. SIGINT or SIGTERM
/// ends it after a last commit; a second one ends it at once.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines are written on standard error
    #[arg(long, value_enum, default_value_t = super::logging::LogFormat::Text)]
    log_format: super::logging::LogFormat,
}

/// Runs the subcommand; the result is the exit code.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    super::logging::start(args.log_format, "info");
    let config = Config::load(&args.config)?;
    let loaded = load_rules(&RuleFiles {
        rules: config.rules.clone(),
        placeholders: config.placeholders.clone(),
        pipelines: config.sources.iter().map(|s| s.pipelines.clone()).collect(),
    })?;
    for diagnostic in loaded.serious() {
        eprintln!("{diagnostic}");
    }
    let instance = config.instance_name();
    let service = Service::start(config, &loaded)?;
    tracing::info!(
        rules = loaded.rules.len(),
        refused = loaded.errors(),
        api = %format!("http://{}", service.address()),
        instance,
        "watchfire runs"
    );
    service.wait();
    match service.stop() {
        None => Ok(super::FINE),
        Some(why) => anyhow::bail!("{why}"),
    }
}
