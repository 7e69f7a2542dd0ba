//! Settings of every client, in one place, with their reasons.

use rdkafka::ClientConfig;

use crate::config::{Config, ConfigError, Kafka, Sasl, Security, read_secret};
use crate::limits::{CONSUMER_QUEUE_KIB, SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS};

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A secret cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// librdkafka refused a setting.
    #[error("kafka client: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

/// Makes the configuration of each kind of client.
#[derive(Clone, Debug)]
pub struct Clients {
    base: ClientConfig,
    app: String,
    instance: String,
    token_file: Option<std::path::PathBuf>,
}

impl Clients {
    /// From the configuration; secrets are read now.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        let oauth = config.kafka.security.sasl.as_ref().and_then(|s| s.oauth.as_ref());
        Ok(Self {
            base: base(&config.kafka)?,
            app: config.app.clone(),
            instance: config.instance_name(),
            token_file: oauth.and_then(|o| o.token_file.clone()),
        })
    }

    /// The file that OAUTHBEARER tokens are read from, if any.
    pub fn token_file(&self) -> Option<std::path::PathBuf> {
        self.token_file.clone()
    }

    /// For administration, and for consumers and producers without a group or transaction.
    pub fn plain(&self) -> ClientConfig {
        self.base.clone()
    }

    /// The stable name of a worker: its `group.instance.id` and `transactional.id`.
    pub fn worker_name(&self, stage: &str, number: usize) -> String {
        format!("{}-{stage}-{}-{number}", self.app, self.instance)
    }

    /// The consumer of one worker of a stage.
    pub fn worker_consumer(&self, stage: &str, number: usize) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("group.id", format!("{}-{stage}", self.app))
            .set("group.instance.id", self.worker_name(stage, number))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION_TIMEOUT_MS.to_string())
            // Offsets of a transaction that is still open are waited for only in this mode; without
            // it a new owner could start before them and process records twice.
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Never reset in silence: a lost position is looked up, counted and raised.
            .set("auto.offset.reset", "error")
            .set("statistics.interval.ms", "500")
            .set("queued.max.messages.kbytes", CONSUMER_QUEUE_KIB.to_string())
            .set("fetch.max.bytes", "16777216")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("check.crcs", "true");
        config
    }

    /// The transactional producer of one worker of a stage.
    pub fn worker_producer(&self, stage: &str, number: usize) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("transactional.id", self.worker_name(stage, number))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            // A failed message makes the transaction abortable; successes need no report.
            .set("delivery.report.only.error", "true");
        config
    }
}

fn base(kafka: &Kafka) -> Result<ClientConfig, ClientError> {
    let mut config = ClientConfig::new();
    for (key, value) in &kafka.properties {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", kafka.brokers.join(","))
        .set("client.id", "watchfire")
        .set("socket.nagle.disable", "true")
        .set("topic.metadata.refresh.interval.ms", "10000");
    secure(&mut config, &kafka.security)?;
    Ok(config)
}

fn secure(config: &mut ClientConfig, security: &Security) -> Result<(), ClientError> {
    config.set("security.protocol", security.protocol.as_str());
    let files = [
        ("ssl.ca.location", &security.ca_file),
        ("ssl.certificate.location", &security.certificate_file),
        ("ssl.key.location", &security.key_file),
    ];
    for (key, file) in files {
        if let Some(file) = file {
            config.set(key, file.to_string_lossy());
        }
    }
    if let Some(file) = &security.key_password_file {
        config.set("ssl.key.password", read_secret(file)?);
    }
    match &security.sasl {
        Some(sasl) => authenticate(config, sasl),
        None => Ok(()),
    }
}

fn authenticate(config: &mut ClientConfig, sasl: &Sasl) -> Result<(), ClientError> {
    config.set("sasl.mechanism", &sasl.mechanism);
    if let Some(name) = &sasl.username {
        config.set("sasl.username", name);
    }
    if let Some(file) = &sasl.password_file {
        config.set("sasl.password", read_secret(file)?);
    }
    let Some(oauth) = &sasl.oauth else { return Ok(()) };
    if let (Some(endpoint), Some(id), Some(secret)) =
        (&oauth.token_endpoint, &oauth.client_id, &oauth.client_secret_file)
    {
        config
            .set("sasl.oauthbearer.method", "oidc")
            .set("sasl.oauthbearer.token.endpoint.url", endpoint)
            .set("sasl.oauthbearer.client.id", id)
            .set("sasl.oauthbearer.client.secret", read_secret(secret)?);
    }
    if let Some(scope) = &oauth.scope {
        config.set("sasl.oauthbearer.scope", scope);
    }
    Ok(())
}
