//! The command line: one file per subcommand.

mod check;
mod demo;
mod eval;
mod logging;
mod migrate;
mod run;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code when nothing is wrong.
const FINE: u8 = 0;
/// Exit code when a check found something that keeps no rule from running.
const FINDINGS: u8 = 1;
/// Exit code when a rule, or every rule, could not be loaded.
const RULE_ERROR: u8 = 2;
/// Exit code for wrong usage, configuration or surroundings.
const USAGE: u8 = 3;

/// Stream-processing threat and anomaly detection on Kafka.
#[derive(Parser)]
#[command(name = "watchfire", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Args),
    Demo(demo::Args),
    Eval(eval::Args),
    Migrate(migrate::Args),
    Run(run::Args),
    Webhook(webhook::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { FINE };
            // A closed pipe is no reason to fail while printing help.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Eval(args) => eval::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Run(args) => run::run(&args),
        Command::Webhook(args) => webhook::run(args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("error: {}", told(&e));
            ExitCode::from(USAGE)
        }
    }
}

/// An error with its causes, each said once: many name their cause in their own words already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}
