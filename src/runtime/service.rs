//! Start and stop of everything, in order.
//!
//! Start: bind HTTP (so that a second process with the same name fails before it joins a group) →
//! topics → alert index → workers → webhooks → serve. Stop: workers commit and leave → webhooks →
//! HTTP.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::alerts::follow_alerts;
use super::correlate::CorrelateStage;
use super::filter::{FilterStage, SourceSpec};
use super::shared::Shared;
use super::stage::Stage;
use super::upkeep::look_after;
use super::worker::Worker;
use super::{LoadError, LoadedRules, Stopwatch, SystemClock, load_mappings, load_tables};
use crate::bus::BusError;
use crate::config::{Config, ConfigError, Source, Webhook, read_secret};
use crate::decode::{Decoder, EventClock, Format};
use crate::http;
use crate::kafka::{
    ClientError, Clients, IfOthers, KafkaBus, TopicError, TopicSpec, ensure_topics,
    partition_count, retention_ms,
};
use crate::limits::{
    FENCED_MAX, RESTART_BACKOFF_MS_MAX, RESTART_BACKOFF_MS_MIN, RESTART_SETTLED_MS,
};
use crate::metrics::{Metrics, MetricsError};
use crate::sink::webhook;
use crate::time::Clock;

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration names something that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mapping is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A Kafka client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A topic of our own cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The API must not be bound there.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// The token cannot be used.
    #[error("http.token_file: {0}")]
    Token(#[from] http::TokenError),
    /// A webhook cannot be set up.
    #[error("webhook {name}: {reason}")]
    Webhook {
        /// Its name.
        name: String,
        /// What is wrong; no secret is in it.
        reason: String,
    },
    /// The system refused a socket or thread.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No rule is left to run.
    #[error("no rule could be loaded from {0:?}")]
    NoRules(Vec<PathBuf>),
}

/// A running service.
pub struct Service {
    shared: Arc<Shared>,
    alerts: Arc<http::AlertIndex>,
    runtime: tokio::runtime::Runtime,
    threads: Vec<JoinHandle<()>>,
    cancel: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    address: SocketAddr,
}

impl Service {
    /// Starts everything. Rules that are broken are reported by the API; at least one must run.
    ///
    /// # Errors
    /// The first thing that makes starting pointless. A cluster that does not answer yet is waited for.
    pub fn start(config: Config, loaded: &LoadedRules) -> Result<Self, ServiceError> {
        if loaded.rules.is_empty() {
            return Err(ServiceError::NoRules(config.rules.clone()));
        }
        let system = |what: &str| {
            let what = what.to_owned();
            move |source| ServiceError::System { what, source }
        };
        let token = config.http.token_file.as_deref().map(read_secret).transpose()?;
        let token = token.as_deref().map(http::BearerToken::new).transpose()?;
        http::bind_policy(config.http.bind, token.is_some())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("watchfire-io")
            .enable_all()
            .build()
            .map_err(system("starting the I/O threads"))?;
        let what = format!("binding the API to {}", config.http.bind);
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(config.http.bind))
            .map_err(system(&what))?;
        let address = listener.local_addr().map_err(system(&what))?;
        let clients = Clients::new(&config)?;
        let shared = prepare(config, loaded, &clients, &runtime)?;
        let unfed = super::views::report_unfed(loaded, &shared.sources);
        shared.shown.replace(super::views::rule_views(loaded, &unfed));
        let alerts = Arc::new(http::AlertIndex::new(shared.config.http.alerts_bytes_max));
        let state = http::AppState {
            metrics: Arc::clone(&shared.metrics),
            health: Arc::clone(&shared.health),
            alerts: Arc::clone(&alerts),
            rules: Arc::clone(&shared.shown),
            token,
        };
        let mut service = Self {
            shared,
            alerts,
            runtime,
            threads: Vec::new(),
            cancel: CancellationToken::new(),
            tasks: Vec::new(),
            address,
        };
        service.serve(listener, state);
        service.spawn_threads(&clients)?;
        service.spawn_webhooks(&clients)?;
        Ok(service)
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the parts share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The alerts that the API shows.
    pub fn alerts(&self) -> &Arc<http::AlertIndex> {
        &self.alerts
    }

    /// Waits until the process is told to end or cannot go on. A second signal ends it at once.
    pub fn wait(&self) {
        self.runtime.block_on(async {
            tokio::select! {
                () = super::signals::terminated() => tracing::info!("stopping"),
                () = self.stopped() => {}
            }
        });
        self.shared.stop.store(true, Ordering::SeqCst);
        #[allow(clippy::disallowed_methods, reason = "a second signal means: at once")]
        self.runtime.spawn(async {
            super::signals::terminated().await;
            tracing::warn!("stopping at once");
            std::process::exit(130);
        });
    }

    async fn stopped(&self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends everything in order; gives why it could not go on, if so.
    pub fn stop(self) -> Option<String> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
        self.cancel.cancel();
        self.runtime.block_on(async {
            for task in self.tasks {
                let _ = tokio::time::timeout(Duration::from_secs(10), task).await;
            }
        });
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        self.shared.failure()
    }

    fn serve(&mut self, listener: tokio::net::TcpListener, state: http::AppState) {
        let (cancel, shared) = (self.cancel.clone(), Arc::clone(&self.shared));
        self.tasks.push(self.runtime.spawn(async move {
            if let Err(e) = http::serve(listener, state, cancel).await {
                shared.fail(e.to_string());
            }
        }));
    }

    fn spawn_threads(&mut self, clients: &Clients) -> Result<(), ServiceError> {
        let workers = self.shared.config.workers;
        for number in 0..workers.filter {
            let (shared, clients) = (Arc::clone(&self.shared), clients.clone());
            self.spawn(format!("filter-{number}"), move || {
                supervise(&shared, &clients, number, || FilterStage::new(&shared, number));
            })?;
        }
        for number in 0..workers.correlate {
            let (shared, clients) = (Arc::clone(&self.shared), clients.clone());
            self.spawn(format!("correlate-{number}"), move || {
                supervise(&shared, &clients, number, || CorrelateStage::new(&shared, number));
            })?;
        }
        let (shared, alerts, own) =
            (Arc::clone(&self.shared), Arc::clone(&self.alerts), clients.clone());
        self.spawn("alert-index".to_owned(), move || follow_alerts(&shared, &alerts, &own))?;
        let (shared, own, consumer) =
            (Arc::clone(&self.shared), clients.clone(), clients.metadata()?);
        self.spawn("upkeep".to_owned(), move || look_after(&shared, &own, &consumer))
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), ServiceError> {
        let shared = Arc::clone(&self.shared);
        let thread_name = name.clone();
        // A panic is a bug, and going on without this thread would lose data in silence.
        let guarded = move || {
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                shared.fail(format!("the thread {thread_name} panicked"));
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(guarded)
            .map_err(|source| ServiceError::System { what: format!("starting {name}"), source })?;
        self.threads.push(thread);
        Ok(())
    }

    fn spawn_webhooks(&mut self, clients: &Clients) -> Result<(), ServiceError> {
        let topics = webhook::AlertTopics {
            consumer: clients.plain(),
            producer: clients.plain(),
            tokens: clients.tokens(),
            app: self.shared.config.app.clone(),
            alerts: self.shared.topics.alerts.clone(),
            dead_letters: self.shared.topics.dead_letters.clone(),
        };
        for config in &self.shared.config.webhooks {
            let wrong =
                |reason: String| ServiceError::Webhook { name: config.name.clone(), reason };
            let endpoint = endpoint(config)?;
            let now_ms: webhook::NowMs = || SystemClock.now().millis();
            let (metrics, cancel) = (Arc::clone(&self.shared.metrics), self.cancel.clone());
            let _guard = self.runtime.enter();
            let task = webhook::spawn(endpoint, &topics, metrics, now_ms, cancel)
                .map_err(|e| wrong(e.to_string()))?;
            let name = config.name.clone();
            self.tasks.push(self.runtime.spawn(async move {
                match task.await {
                    Ok(Ok(exit)) => tracing::info!(webhook = name, ?exit, "webhook ended"),
                    Ok(Err(error)) => tracing::error!(webhook = name, %error, "webhook failed"),
                    Err(error) => tracing::error!(webhook = name, %error, "webhook panicked"),
                }
            }));
        }
        Ok(())
    }
}

fn endpoint(config: &Webhook) -> Result<webhook::Endpoint, ServiceError> {
    let wrong = |reason: String| ServiceError::Webhook { name: config.name.clone(), reason };
    let keys = read_secret(&config.secret_file)?;
    let keys: Result<Vec<_>, _> = keys.lines().map(webhook::Secret::parse).collect();
    let cidrs: Result<Vec<ipnet::IpNet>, _> =
        config.allow_cidrs.iter().map(|c| c.parse()).collect();
    let level = config.min_level.as_deref().map(|l| {
        crate::rule::Level::parse(l).ok_or_else(|| wrong(format!("min_level `{l}` is no level")))
    });
    let written = webhook::EndpointConfig {
        name: config.name.clone(),
        url: config.url.clone(),
        secrets: keys.map_err(|e| wrong(e.to_string()))?,
        allow_private: config.allow_private,
        allow_cidrs: cidrs.map_err(|e| wrong(format!("allow_cidrs: {e}")))?,
        min_level: level.transpose()?,
        timeout: config.timeout.duration(),
    };
    written.validate().map_err(|e| wrong(e.to_string()))
}

/// Topics, sources and what all share. Waits for a cluster that does not answer yet.
fn prepare(
    config: Config,
    loaded: &LoadedRules,
    clients: &Clients,
    runtime: &tokio::runtime::Runtime,
) -> Result<Arc<Shared>, ServiceError> {
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"))?);
    super::views::describe_rules(&metrics, loaded);
    let admin = clients.admin()?;
    let own = own_topics(&config);
    loop {
        match runtime.block_on(ensure_topics(&admin, &own)) {
            Ok(()) => break,
            Err(e @ TopicError::Kafka { .. }) => {
                tracing::warn!(error = %e, "waiting for the cluster");
                std::thread::sleep(Duration::from_millis(RESTART_BACKOFF_MS_MAX));
            }
            Err(e) => return Err(e.into()),
        }
    }
    let mut sources = Vec::new();
    for (i, source) in config.sources.iter().enumerate() {
        let mut spec = source_spec(source)?;
        spec.view = loaded.view(i);
        spec.retention_ms =
            runtime.block_on(retention_ms(&admin, &source.topic)).unwrap_or_default();
        sources.push(spec);
    }
    let consumer = clients.metadata()?;
    let matches_partitions = partition_count(&consumer, &config.matches_topic())?.max(1);
    let checks = checks(&config);
    let names: Vec<&str> = checks.iter().map(String::as_str).collect();
    let health = Arc::new(http::Health::new(&names));
    let rules = Arc::clone(&loaded.rules);
    let clock = Box::new(SystemClock);
    let shared = Shared::new(config, rules, sources, matches_partitions, metrics, health, clock);
    for source in &shared.sources {
        let count = partition_count(&consumer, &source.topic)?;
        if count == 0 {
            tracing::warn!(topic = &*source.topic, "the source topic does not exist yet");
        }
        shared.set_partition_count(&source.topic, count);
    }
    let detail = format!("{} run, {} were refused", loaded.rules.len(), loaded.errors());
    shared.health.set_check("rules", true, detail);
    Ok(Arc::new(shared))
}

fn checks(config: &Config) -> Vec<String> {
    let stage = |name: &'static str, n: usize| (0..n).map(move |i| format!("{name}-{i}"));
    let workers =
        stage("filter", config.workers.filter).chain(stage("correlate", config.workers.correlate));
    ["rules".to_owned(), "alerts".to_owned()].into_iter().chain(workers).collect()
}

fn own_topics(config: &Config) -> Vec<TopicSpec> {
    const DAY_MS: i64 = 86_400_000;
    let topic = |name: String, partitions: i32, policy, settings| TopicSpec {
        name,
        partitions,
        if_others: IfOthers::Fine,
        policy,
        replication_factor: config.topics.replication_factor,
        settings,
    };
    // Matches rebuild state; alerts and dead letters are the record of what happened.
    let log = |name: String, partitions: i32| {
        topic(name, partitions, "delete", vec![("retention.ms", (7 * DAY_MS).to_string())])
    };
    let partitions = config.topics.matches_partitions;
    let state = vec![
        // The segment that is written to is never compacted: small ones keep what a restore reads close to
        // what is alive.
        ("segment.bytes", (64 << 20).to_string()),
        ("segment.ms", (DAY_MS / 24).to_string()),
        ("min.cleanable.dirty.ratio", "0.2".to_owned()),
        ("max.compaction.lag.ms", (DAY_MS / 24).to_string()),
        // Longer than any restore: a reader that misses a deletion would see the group again.
        ("delete.retention.ms", DAY_MS.to_string()),
    ];
    vec![
        TopicSpec { if_others: IfOthers::Torn, ..log(config.matches_topic(), partitions) },
        TopicSpec {
            if_others: IfOthers::Remade,
            ..topic(config.state_topic(), partitions, "compact", state)
        },
        log(config.alerts_topic(), config.topics.alerts_partitions),
        log(config.dead_letters_topic(), config.topics.alerts_partitions),
        log(config.late_topic(), config.topics.alerts_partitions),
    ]
}

fn source_spec(source: &Source) -> Result<SourceSpec, ServiceError> {
    let wrong = |reason: String| {
        let key = format!("source {}", source.topic);
        ServiceError::Config(ConfigError::Value { key, reason })
    };
    let format = Format::parse(&source.format)
        .ok_or_else(|| wrong(format!("format `{}` is not known", source.format)))?;
    let usual = if format == Format::Syslog { "shipped" } else { "none" };
    let names = match source.mappings.as_slice() {
        [] => vec![usual.to_owned()],
        names => names.to_vec(),
    };
    let mut decoder =
        Decoder::new(format, load_mappings(&names)?).with_tables(load_tables(&source.tables)?);
    if !source.time_fields.is_empty() {
        decoder.clock = EventClock::new(source.time_fields.iter().map(String::as_str));
    }
    if let Some(zone) = &source.timezone {
        decoder.clock.zone = jiff::tz::TimeZone::get(zone).map_err(|e| wrong(e.to_string()))?;
    }
    source.logsource.apply(&mut decoder);
    Ok(SourceSpec {
        topic: source.topic.as_str().into(),
        decoder: Arc::new(decoder),
        view: 0,
        lateness: source.lateness.0,
        start: source.start,
        retention_ms: None,
    })
}

/// Runs a worker, and builds it anew whenever it fails, until told to stop.
fn supervise<S: Stage>(
    shared: &Arc<Shared>,
    clients: &Clients,
    number: usize,
    stage: impl Fn() -> S,
) {
    let (mut backoff, mut fenced) = (RESTART_BACKOFF_MS_MIN, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        let clock = Stopwatch::start();
        let ended = work(shared, clients, number, stage());
        let Err(error) = ended else { return };
        let name = format!("{}-{number}", S::NAME);
        if clock.elapsed() >= Duration::from_millis(RESTART_SETTLED_MS) {
            (backoff, fenced) = (RESTART_BACKOFF_MS_MIN, 0);
        }
        fenced += usize::from(error.is_fenced());
        if fenced >= FENCED_MAX {
            let hint = "give each instance a name of its own: `instance:` in the configuration";
            shared.fail(format!("{name}: {error}; {hint}"));
            return;
        }
        tracing::warn!(worker = name, %error, "the worker is built anew");
        shared.health.set_check(&name, false, error.to_string());
        std::thread::sleep(Duration::from_millis(backoff));
        backoff = (backoff * 2).min(RESTART_BACKOFF_MS_MAX);
    }
}

fn work<S: Stage>(
    shared: &Shared,
    clients: &Clients,
    number: usize,
    stage: S,
) -> Result<(), BusError> {
    let (bus, outbox) = KafkaBus::connect(clients, S::NAME, number, &stage.topics())?;
    let interval = shared.config.commit_interval.duration();
    let worker = Worker::new(bus, outbox, stage, interval, &*shared.clock, &shared.metrics);
    worker.run(&shared.stop)
}
