//! Settings of every client, in one place, with their reasons.

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;

use super::native::set_token;
use super::{TokenError, TokenSource, WorkerContext};
use crate::config::{Config, ConfigError, Delivery, Kafka, OAuth, Sasl, Security, read_secret};
use crate::limits::{
    CONSUMER_QUEUE_KIB, CONSUMER_QUEUE_RECORDS, FETCH_BYTES_MAX, PRODUCER_IDLE_MS_MAX,
    SESSION_TIMEOUT_MS, STATISTICS_INTERVAL_MS, TRANSACTION_TIMEOUT_MS,
};

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A secret cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no token to authenticate with.
    #[error(transparent)]
    Token(#[from] TokenError),
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
    tokens: Option<TokenSource>,
    delivery: Delivery,
}

impl Clients {
    /// From the configuration; secrets are read now.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        let oauth = config.kafka.security.sasl.as_ref().and_then(|s| s.oauth.as_ref());
        Ok(Self {
            tokens: oauth.map(token_source).transpose()?,
            base: base(&config.kafka)?,
            app: config.app.clone(),
            delivery: config.delivery,
            instance: config.instance_name(),
        })
    }

    /// The source of OAUTHBEARER tokens, if any.
    pub fn tokens(&self) -> Option<TokenSource> {
        self.tokens.clone()
    }

    /// A consumer without a group: metadata and administration go through it.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn metadata(&self) -> Result<BaseConsumer<WorkerContext>, ClientError> {
        let context = WorkerContext::new(self.tokens());
        Ok(BaseConsumer::from_config_and_context(&self.base, context)?)
    }

    /// A client for administration.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn admin(&self) -> Result<AdminClient<WorkerContext>, ClientError> {
        let context = WorkerContext::new(self.tokens());
        let admin = AdminClient::from_config_and_context(&self.base, context)?;
        if let Some(source) = &self.tokens {
            set_token(admin.inner(), source)?;
        }
        Ok(admin)
    }

    /// For administration, and for consumers and producers without a group or transaction.
    pub fn plain(&self) -> ClientConfig {
        self.base.clone()
    }

    /// The stable name of a worker: its `group.instance.id` and `transactional.id`.
    pub fn worker_name(&self, stage: &str, number: usize) -> String {
        format!("{}-{stage}-{}-{number}", self.app, self.instance)
    }

    /// The group of a stage.
    pub fn group(&self, stage: &str) -> String {
        format!("{}-{stage}", self.app)
    }

    /// The consumer of one worker of a stage.
    pub fn worker_consumer(&self, stage: &str, number: usize) -> ClientConfig {
        let mut config = self.guest(stage);
        config.set("group.instance.id", self.worker_name(stage, number));
        config
    }

    /// A consumer of a stage's group that is no worker of it: it has no name of its own.
    pub fn guest(&self, stage: &str) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("group.id", self.group(stage))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION_TIMEOUT_MS.to_string())
            // Offsets of a transaction that is still open are waited for only in this mode; without
            // it a new owner could start before them and process records twice.
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Never reset in silence: a lost position is looked up, counted and raised.
            .set("auto.offset.reset", "error")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_string())
            // What waits for the worker is bounded by bytes; so many small records are not more.
            .set("queued.max.messages.kbytes", CONSUMER_QUEUE_KIB.to_string())
            .set("queued.min.messages", CONSUMER_QUEUE_RECORDS.to_string())
            // An answer of each broker may come on top, as large as its records are when unpacked. A
            // record that is larger than this comes all the same, alone.
            .set("fetch.max.bytes", FETCH_BYTES_MAX.to_string())
            .set("fetch.wait.max.ms", "50")
            // A full queue is emptied in some 100 ms; the default of 1 s would leave the worker idle.
            .set("fetch.queue.backoff.ms", "5")
            // One instruction for 8 bytes of what is still compressed: it does not show in a profile.
            .set("check.crcs", "true");
        config
    }

    /// The producer of one worker of a stage. The second stage is transactional in any case: what it has
    /// counted and what it has said of that belong together.
    pub fn worker_producer(&self, stage: &str, number: usize) -> ClientConfig {
        let mut config = self.base.clone();
        if stage != "filter" || self.delivery == Delivery::ExactlyOnce {
            config
                .set("transactional.id", self.worker_name(stage, number))
                .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
        }
        config
            .set("enable.idempotence", "true")
            .set("connections.max.idle.ms", PRODUCER_IDLE_MS_MAX.to_string())
            .set("compression.type", "lz4")
            // Nobody sees outputs before the commit, which sends at once what is gathered by then: fewer
            // and larger requests, better compressed.
            .set("linger.ms", "100")
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
    Ok(())
}

fn token_source(oauth: &OAuth) -> Result<TokenSource, ClientError> {
    if let Some(file) = &oauth.token_file {
        return Ok(TokenSource::File(file.clone()));
    }
    let secret = oauth.client_secret_file.as_deref().map(read_secret).transpose()?;
    Ok(TokenSource::Oidc {
        endpoint: oauth.token_endpoint.clone().unwrap_or_default(),
        client_id: oauth.client_id.clone().unwrap_or_default(),
        client_secret: secret.unwrap_or_default(),
        scope: oauth.scope.clone(),
    })
}
