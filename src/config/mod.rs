//! The configuration file: as written ([`Config`]) and the checks that make it fit to run.
//!
//! One YAML file, `version: 1`. Unknown keys are errors with line and column. `${NAME}` and
//! `${NAME:-default}` are filled in from the environment before the file is read; secrets come from
//! files, named by keys that end in `_file`.

mod logsource;
mod security;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

pub use logsource::{SourceTag, SourceTags};
pub use security::{OAuth, Protocol, Sasl, Security};

use crate::time::parse_duration;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file, or a file that it names, cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not YAML, an unknown key, or a value of the wrong shape.
    #[error("{path}: {reason}")]
    Shape {
        /// The path.
        path: PathBuf,
        /// What the reader said, with line and column.
        reason: String,
    },
    /// A variable that has no value and no default.
    #[error(
        "{path}: the environment has no {name}, and no default is given: write ${{{name}:-default}}"
    )]
    Variable {
        /// The path.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// A value that makes no sense.
    #[error("{key}: {reason}")]
    Value {
        /// Where it stands.
        key: String,
        /// What is wrong, with the value and the limit.
        reason: String,
    },
}

/// The configuration as written, defaults filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the file's format: 1.
    pub version: u32,
    /// Prefix of the service's own topics and groups.
    #[serde(default = "default_app")]
    pub app: String,
    /// Name of this instance, stable over restarts and different for each; by default host name and
    /// HTTP port.
    #[serde(default)]
    pub instance: Option<String>,
    /// The Kafka cluster.
    pub kafka: Kafka,
    /// The topics that events come from.
    pub sources: Vec<Source>,
    /// Rule files and folders.
    pub rules: Vec<PathBuf>,
    /// File with lists of values for the placeholders of rules.
    #[serde(default)]
    pub placeholders: Option<PathBuf>,
    /// The service's own topics.
    #[serde(default)]
    pub topics: Topics,
    /// Threads per stage.
    #[serde(default)]
    pub workers: Workers,
    /// Whether what the first stage publishes can be there twice after a failure.
    #[serde(default)]
    pub delivery: Delivery,
    /// Longest time between two commits while there is something to commit.
    #[serde(default = "default_commit", deserialize_with = "duration")]
    pub commit_interval: Micros,
    /// Longest time between two statements about event time.
    #[serde(default = "default_marker", deserialize_with = "duration")]
    pub marker_interval: Micros,
    /// What correlations may take, and how often they tell of what goes on.
    #[serde(default)]
    pub correlation: Correlation,
    /// The HTTP API.
    #[serde(default)]
    pub http: Http,
    /// Receivers of alerts.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
}

/// Whether what the first stage publishes can be there twice after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Alerts and positions in one transaction.
    #[default]
    ExactlyOnce,
    /// Alerts of single events and matches are visible at once, and positions follow. After a failure
    /// some come again, with the same id; correlations count each event once in any case.
    AtLeastOnce,
}

/// What correlations may take, and how often they tell of what goes on. The bounds are for each
/// partition of `<app>.matches`, so that they are the same wherever it is worked on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// Least event time between two revisions of the alert of one episode; 0 publishes the first alone.
    #[serde(deserialize_with = "duration")]
    pub update_interval: Micros,
    /// Groups of one correlation.
    pub rule_groups_max: usize,
    /// Bytes that all groups together take.
    pub state_bytes_max: usize,
    /// In which time all that has changed is written to `<app>.state`, a part after the other: so much of
    /// the matches is read again by the next owner.
    #[serde(deserialize_with = "duration")]
    pub snapshot_interval: Micros,
}

impl Default for Correlation {
    fn default() -> Self {
        Self {
            update_interval: Micros(300_000_000),
            rule_groups_max: crate::limits::RULE_GROUPS_MAX,
            state_bytes_max: crate::limits::STATE_BYTES_MAX,
            snapshot_interval: Micros(60_000_000),
        }
    }
}

/// Microseconds of a duration that was written with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub i64);

impl Micros {
    /// As the standard library's duration.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.max(0) as u64)
    }
}

/// The Kafka cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Encryption and authentication.
    #[serde(default)]
    pub security: Security,
    /// Any other librdkafka property, for all clients; those that exactly-once needs cannot be set.
    #[serde(default)]
    pub properties: std::collections::BTreeMap<String, String>,
}

/// A topic that events come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub topic: String,
    /// How its records are written: `json` or `syslog`.
    pub format: String,
    /// Mappings: `sshd`, `sudo`, `pam`, `shipped`, `none`, files or folders. By default `shipped` for
    /// syslog and none for JSON.
    #[serde(default)]
    pub mappings: Vec<String>,
    /// Processing pipelines that fit the rules to its events: files or folders.
    #[serde(default)]
    pub pipelines: Vec<PathBuf>,
    /// How far events may be behind the latest of their partition and still count for correlations.
    #[serde(default = "default_lateness", deserialize_with = "duration")]
    pub lateness: Micros,
    /// What the events are, added to what they say themselves.
    #[serde(default)]
    pub logsource: SourceTags,
    /// Tables that tell what an event is: `windows`, `linux`, …, `shipped` for all of them, `none`,
    /// files or folders. By default `shipped`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Fields that hold the time of an event; by default the usual ones.
    #[serde(default)]
    pub time_fields: Vec<String>,
    /// IANA zone of times that name none.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Where to begin when the group has no position yet.
    #[serde(default)]
    pub start: Start,
}

/// Where a group without a position begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest record that is there.
    #[default]
    Earliest,
    /// With the next record that comes.
    Latest,
}

/// The service's own topics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Alerts; by default `<app>.alerts`.
    pub alerts: Option<String>,
    /// Partitions of `<app>.matches` when it is created; they cannot be changed later.
    pub matches_partitions: i32,
    /// Partitions of the alerts topic when it is created.
    pub alerts_partitions: i32,
    /// Replicas of topics that are created; −1 is the broker's default.
    pub replication_factor: i32,
}

impl Default for Topics {
    fn default() -> Self {
        Self { alerts: None, matches_partitions: 32, alerts_partitions: 3, replication_factor: -1 }
    }
}

/// Threads per stage; each is one consumer and one producer. 0 turns the stage off here.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// First stage: decode and match.
    pub filter: usize,
    /// Second stage: correlate.
    pub correlate: usize,
}

impl Default for Workers {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        Self { filter: cores, correlate: cores.div_ceil(2) }
    }
}

/// The HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address; anything but loopback needs a token.
    pub bind: SocketAddr,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Memory for alerts that can be asked for, bytes.
    pub alerts_bytes_max: usize,
}

impl Default for Http {
    fn default() -> Self {
        let bind = SocketAddr::from(([127, 0, 0, 1], 8080));
        Self { bind, token_file: None, alerts_bytes_max: 64 << 20 }
    }
}

/// A receiver of alerts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Name in metrics, logs and the consumer group.
    pub name: String,
    /// Where to send.
    pub url: String,
    /// File with the `whsec_…` key; up to three, one per line, while keys are exchanged.
    pub secret_file: PathBuf,
    /// Whether the receiver may lie in a private network.
    #[serde(default)]
    pub allow_private: bool,
    /// Networks that it may lie in besides public ones.
    #[serde(default)]
    pub allow_cidrs: Vec<String>,
    /// Alerts below this level are not sent.
    #[serde(default)]
    pub min_level: Option<String>,
    /// Longest time for one attempt.
    #[serde(default = "default_webhook_timeout", deserialize_with = "duration")]
    pub timeout: Micros,
}

fn default_app() -> String {
    "watchfire".to_owned()
}

fn default_commit() -> Micros {
    Micros(100_000)
}

fn default_marker() -> Micros {
    Micros(250_000)
}

fn default_lateness() -> Micros {
    Micros(10_000_000)
}

fn default_webhook_timeout() -> Micros {
    Micros(15_000_000)
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Micros, D::Error> {
    let text = String::deserialize(d)?;
    parse_duration(&text).map(Micros).map_err(serde::de::Error::custom)
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] with the key or the place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let text = fill_in(&text, path, &|name| environment(name))?;
        let mut config = Self::parse(&text, path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.resolve_paths(folder);
        Ok(config)
    }

    /// Reads and checks the text of a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with the key or the place.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = yaml_serde::from_str(text)
            .map_err(|e| ConfigError::Shape { path: path.to_owned(), reason: e.to_string() })?;
        config.check()?;
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        };
        self.rules.iter_mut().for_each(resolve);
        self.placeholders.iter_mut().for_each(resolve);
        self.sources.iter_mut().flat_map(|s| s.pipelines.iter_mut()).for_each(resolve);
        let sources = self.sources.iter_mut();
        for name in sources.flat_map(|s| s.mappings.iter_mut().chain(&mut s.tables)) {
            let is_path = name.contains(['/', '.']);
            if is_path && Path::new(name).is_relative() {
                *name = folder.join(&*name).to_string_lossy().into_owned();
            }
        }
        self.http.token_file.iter_mut().for_each(resolve);
        self.webhooks.iter_mut().for_each(|w| resolve(&mut w.secret_file));
        self.kafka.security.paths_mut().for_each(resolve);
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong =
            |key: &str, reason: String| Err(ConfigError::Value { key: key.to_owned(), reason });
        if self.version != 1 {
            return wrong("version", format!("{} is not known: write 1", self.version));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.app.is_empty() || self.app.len() > 100 || !self.app.chars().all(plain) {
            return wrong("app", format!("`{}`: 1 to 100 of a–z, 0–9, `.`, `_`, `-`", self.app));
        }
        if self.kafka.brokers.is_empty() {
            return wrong("kafka.brokers", "at least one host:port is needed".to_owned());
        }
        if self.sources.is_empty() {
            return wrong("sources", "at least one source is needed".to_owned());
        }
        if !(1..=10_000).contains(&self.topics.matches_partitions) {
            let n = self.topics.matches_partitions;
            return wrong("topics.matches_partitions", format!("{n} is not from 1 to 10000"));
        }
        if !(1_000..=5_000_000).contains(&self.commit_interval.0) {
            let us = self.commit_interval.0;
            return wrong("commit_interval", format!("{us} us is not from 1ms to 5s"));
        }
        if !(10_000..=5_000_000).contains(&self.marker_interval.0) {
            let us = self.marker_interval.0;
            return wrong("marker_interval", format!("{us} us is not from 10ms to 5s"));
        }
        for (i, webhook) in self.webhooks.iter().enumerate() {
            // Two of one name would share a consumer group, and each get half of the alerts.
            if self.webhooks[..i].iter().any(|w| w.name == webhook.name) {
                return wrong(&format!("webhooks[{i}].name"), format!("`{}` twice", webhook.name));
            }
        }
        for (i, source) in self.sources.iter().enumerate() {
            if crate::decode::Format::parse(&source.format).is_none() {
                let reason = format!("`{}` is none of json, syslog", source.format);
                return wrong(&format!("sources[{i}].format"), reason);
            }
            let again = self.sources[..i].iter().any(|s| s.topic == source.topic);
            if again {
                return wrong(&format!("sources[{i}].topic"), format!("`{}` twice", source.topic));
            }
        }
        self.kafka.security.check()?;
        check_properties(&self.kafka.properties)
    }

    /// The topic that alerts go to.
    pub fn alerts_topic(&self) -> String {
        self.topics.alerts.clone().unwrap_or_else(|| format!("{}.alerts", self.app))
    }

    /// The topic between the stages.
    pub fn matches_topic(&self) -> String {
        format!("{}.matches", self.app)
    }

    /// The topic of records that could not be decoded or alerts that could not be delivered.
    pub fn dead_letters_topic(&self) -> String {
        format!("{}.dlq", self.app)
    }

    /// The topic in which the state of correlations is kept.
    pub fn state_topic(&self) -> String {
        format!("{}.state", self.app)
    }

    /// Matches that came too late for correlations.
    pub fn late_topic(&self) -> String {
        format!("{}.late", self.app)
    }

    /// The name of this instance.
    pub fn instance_name(&self) -> String {
        self.instance.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = if host.trim().is_empty() { "instance" } else { host.trim() };
            format!("{host}-{}", self.http.bind.port())
        })
    }
}

/// Properties that exactly-once and loss accounting depend on.
const OWNED: &[&str] = &[
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "partition.assignment.strategy",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "statistics.interval.ms",
    "transactional.id",
];

/// Refuses properties that the service sets itself.
fn check_properties(
    properties: &std::collections::BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    match properties.keys().find(|k| OWNED.contains(&k.as_str())) {
        None => Ok(()),
        Some(key) => Err(ConfigError::Value {
            key: format!("kafka.properties.{key}"),
            reason: "watchfire sets this itself: it decides whether data can be lost".to_owned(),
        }),
    }
}

#[allow(clippy::disallowed_methods, reason = "the one reading of the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Fills in `${NAME}` and `${NAME:-default}`; `$${` stays `${`.
fn fill_in(
    text: &str,
    path: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some(end) = after.find('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        let value = lookup(name).or_else(|| default.map(str::to_owned));
        out.push_str(&value.ok_or_else(|| ConfigError::Variable {
            path: path.to_owned(),
            name: name.to_owned(),
        })?);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads a secret from a file, without the line end.
///
/// # Errors
/// When the file cannot be read or is empty. The secret is in no error.
pub fn read_secret(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let secret = text.trim_end_matches(['\n', '\r']).to_owned();
    if secret.is_empty() {
        let reason = "the file is empty".to_owned();
        return Err(ConfigError::Value { key: path.display().to_string(), reason });
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "version: 1\nkafka: {brokers: [a:1]}\nsources: [{topic: t, format: json}]\nrules: [r]\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("w.yml")).map_err(|e| e.to_string())
    }

    #[test]
    fn the_least_configuration_has_defaults() {
        let config = parse(LEAST).expect("parses");
        assert_eq!(config.alerts_topic(), "watchfire.alerts");
        assert_eq!(config.sources[0].lateness, Micros(10_000_000));
        assert!(config.http.bind.ip().is_loopback());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (extra, expect) in [
            ("comit_interval: 1s\n", "unknown field `comit_interval`"),
            ("commit_interval: 100\n", "write a number and a unit"),
            ("commit_interval: 1h\n", "commit_interval: 3600000000 us is not from 1ms to 5s"),
            ("app: 'a b'\n", "app: `a b`"),
        ] {
            let error = parse(&format!("{LEAST}{extra}")).expect_err(extra);
            assert!(error.contains(expect), "{error}");
        }
        let error = parse(&LEAST.replace("json", "xml")).expect_err("format");
        assert!(error.contains("sources[0].format: `xml`"), "{error}");
        for (logsource, expect) in [
            ("{product: 5}", "a name, or `field` or `header`"),
            ("{product: {field: a, header: b}}", "one of `field` and `header`"),
            ("{product: {map: {a: b}}}", "one of `field` and `header`"),
            ("{product: {field: a, mpa: {}}}", "unknown field `mpa`"),
            ("{host: a}", "unknown field `host`"),
        ] {
            let text =
                LEAST.replace("format: json", &format!("format: json, logsource: {logsource}"));
            let error = parse(&text).expect_err(logsource);
            assert!(error.contains(expect), "{logsource}: {error}");
        }
        let error = parse(&LEAST.replace("version: 1", "version: 2")).expect_err("version");
        assert!(error.contains("version: 2"), "{error}");
    }

    #[test]
    fn variables_are_filled_in() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        let fill =
            |text: &str| fill_in(text, Path::new("w.yml"), &lookup).map_err(|e| e.to_string());
        assert_eq!(fill("${A} ${B:-y} $${C}").as_deref(), Ok("x y ${C}"));
        assert!(fill("${B}").is_err_and(|e| e.contains("no B")));
    }
}
