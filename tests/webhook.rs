//! The notifier against scripted receivers: what is sent, when, and what is committed.
//!
//! Clock tests run on tokio's paused clock over a scripted transport; socket tests run in real time over a
//! schedule of milliseconds, and check signatures with the reference implementation.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfire::metrics::Metrics;
use watchfire::rule::Level;
use watchfire::sink::webhook::{
    AlertSource, AlertTopics, Attempt, DeadLetter, EndpointConfig, Exit, HttpTransport,
    KafkaSource, Notifier, Position, RetryAfter, RetryPolicy, SCHEDULE, Secret, SignedHeaders,
    SigningKeys, SourceError, SourcedAlert, Transport, group_id, verify,
};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA";

fn endpoint(url: &str) -> EndpointConfig {
    EndpointConfig {
        name: "pager".to_owned(),
        url: url.to_owned(),
        secrets: vec![Secret::parse(KEY).unwrap(), Secret::parse(NEXT_KEY).unwrap()],
        allow_private: true,
        allow_cidrs: vec![],
        min_level: None,
        timeout: Duration::from_secs(1),
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("0.0.0-test").unwrap())
}

fn alert(n: i64, level: &str) -> SourcedAlert {
    let alert = format!(
        r#"{{"time":{},"finding_info":{{"uid":"alert-{n}","tags":[{{"name":"level","value":"{level}"}}]}}}}"#,
        1_795_293_641_000 + n
    );
    let position = Position { partition: 0, offset: n, tenure: 0 };
    SourcedAlert { position, key: Some(Bytes::from(format!("key-{n}"))), alert: Bytes::from(alert) }
}

// ---- a topic in memory ---------------------------------------------------------------------------------

/// An alerts topic, its committed offset and its dead letters; outlives the notifiers that read it.
#[derive(Clone, Default)]
struct Topic {
    alerts: Arc<Vec<SourcedAlert>>,
    next: Arc<AtomicI64>,
    dead: Arc<Mutex<Vec<DeadLetter>>>,
    dead_failures: Arc<AtomicUsize>,
    revoke: Arc<Notify>,
}

impl Topic {
    fn new(alerts: Vec<SourcedAlert>) -> Topic {
        Topic { alerts: Arc::new(alerts), ..Topic::default() }
    }

    fn open(&self) -> Reader {
        Reader { topic: self.clone(), read: self.committed() }
    }

    fn committed(&self) -> i64 {
        self.next.load(Ordering::SeqCst)
    }
}

/// One consumer of the topic: starts at the committed offset, as after a crash.
struct Reader {
    topic: Topic,
    read: i64,
}

impl AlertSource for Reader {
    async fn next(&mut self) -> Result<Option<SourcedAlert>, SourceError> {
        let alert = self.topic.alerts.get(self.read as usize).cloned();
        self.read += 1;
        Ok(alert)
    }

    async fn revoked(&mut self, _: Position) {
        self.topic.revoke.notified().await;
    }

    async fn commit(&mut self, position: Position) -> Result<(), SourceError> {
        self.topic.next.store(position.offset + 1, Ordering::SeqCst);
        Ok(())
    }

    async fn dead_letter(&mut self, letter: &DeadLetter) -> Result<(), SourceError> {
        assert_eq!(self.topic.committed(), letter.sourced.position.offset, "committed too early");
        if self.topic.dead_failures.load(Ordering::SeqCst) > 0 {
            self.topic.dead_failures.fetch_sub(1, Ordering::SeqCst);
            return Err(SourceError::DeadLetter { reason: "broker is away".to_owned() });
        }
        self.topic.dead.lock().unwrap().push(letter.clone());
        Ok(())
    }
}

// ---- paused clock --------------------------------------------------------------------------------------

const START_MS: i64 = 1_795_293_641_000;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The wall clock of a paused test: moves with tokio's.
fn virtual_ms() -> i64 {
    let start = START.get().unwrap_or_else(|| {
        START.set(Some(Instant::now()));
        Instant::now()
    });
    START_MS + i64::try_from(start.elapsed().as_millis()).unwrap()
}

/// One attempt as the transport saw it.
#[derive(Debug, Clone)]
struct Sent {
    at_ms: i64,
    headers: SignedHeaders,
    body: Bytes,
}

/// Answers from a list; the last answer repeats.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Attempt>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Attempt>) -> Script {
        Script {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            sent: Arc::default(),
        }
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    fn waits(&self) -> Vec<f64> {
        self.sent()
            .windows(2)
            .map(|pair| (pair[1].at_ms - pair[0].at_ms) as f64 / 1_000.0)
            .collect()
    }
}

impl Transport for Script {
    async fn post(&self, headers: &SignedHeaders, body: Bytes) -> Attempt {
        self.sent.lock().unwrap().push(Sent {
            at_ms: virtual_ms(),
            headers: headers.clone(),
            body,
        });
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] }
    }
}

fn scripted(topic: &Topic, script: &Script, min_level: Option<Level>) -> Notifier<Reader, Script> {
    let config = EndpointConfig { min_level, ..endpoint("https://hooks.example/t0ken") };
    let (endpoint, retries) = (config.validate().unwrap(), RetryPolicy::default());
    virtual_ms();
    Notifier::new(endpoint, topic.open(), script.clone(), retries, metrics(), virtual_ms)
}

async fn run(topic: &Topic, script: &Script) -> Exit {
    scripted(topic, script, None).run(&CancellationToken::new()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_is_tried_for_three_days_and_the_alert_is_then_put_aside() {
    let topic = Topic::new(vec![alert(0, "high")]);
    let script = Script::new([Attempt::status(503)]);
    assert_eq!(run(&topic, &script).await, Exit::SourceEnded);

    let waits = script.waits();
    assert_eq!(waits.len(), SCHEDULE.len());
    for (wait, base) in waits.iter().zip(SCHEDULE) {
        let base = base.as_secs_f64();
        assert!(*wait >= base * 0.8 - 0.01 && *wait <= base * 1.2 + 0.01, "{wait} for {base}");
    }
    let dead = topic.dead.lock().unwrap().clone();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].attempts, dead[0].sourced.clone()), (13, alert(0, "high")));
    assert_eq!(dead[0].reason, "schedule exhausted, last outcome server_error");
    assert_eq!(dead[0].message_id.as_deref(), Some(script.sent()[0].headers.id.as_str()));
    assert_eq!(topic.committed(), 1);
    assert!(!format!("{dead:?}").contains("t0ken") && !format!("{dead:?}").contains("MfKQ9r8"));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_the_same_id_and_bytes_but_a_fresh_signed_timestamp() {
    let topic = Topic::new(vec![alert(0, "high")]);
    let script = Script::new([503, 503, 503, 503, 503, 200].map(Attempt::status));
    run(&topic, &script).await;

    let sent = script.sent();
    assert!(
        sent.last().unwrap().at_ms - sent[0].at_ms > 10 * 60 * 1_000,
        "an attempt 10 min later"
    );
    for attempt in &sent {
        assert_eq!((&attempt.headers.id, &attempt.body), (&sent[0].headers.id, &sent[0].body));
        assert_eq!(attempt.headers.timestamp, (attempt.at_ms / 1_000).to_string());
        for key in [KEY, NEXT_KEY] {
            let keys = SigningKeys::new(vec![Secret::parse(key).unwrap()]).unwrap();
            let now_s = attempt.at_ms / 1_000;
            assert_eq!(verify(&keys, &attempt.headers, &attempt.body, now_s), Ok(()));
        }
    }
    let signatures: BTreeSet<&str> =
        sent.iter().map(|sent| sent.headers.signature.as_str()).collect();
    assert_eq!(signatures.len(), sent.len());
    assert_eq!((topic.committed(), topic.dead.lock().unwrap().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_steer_the_waits() {
    let quick = Attempt::Connect { elapsed: Duration::from_millis(3) };
    let asks =
        |seconds| Attempt::Status { code: 429, retry_after: Some(RetryAfter::Seconds(seconds)) };
    let ok = Attempt::status(200);
    for (answers, bounds) in [
        (vec![quick, quick, ok], vec![(0.0, 0.0), (1.6, 2.4)]),
        (vec![asks(3), ok], vec![(3.0, 3.0)]),
        (vec![asks(0), ok], vec![(1.6, 2.4)]),
        (vec![asks(9_999), ok], vec![(3.2, 4.8)]),
        (vec![Attempt::Timeout, Attempt::Network, ok], vec![(1.6, 2.4), (8.0, 12.0)]),
        (vec![Attempt::status(401), Attempt::status(302), ok], vec![(8.0, 12.0), (24.0, 36.0)]),
    ] {
        let topic = Topic::new(vec![alert(0, "high")]);
        let script = Script::new(answers.clone());
        run(&topic, &script).await;
        let waits = script.waits();
        assert_eq!(waits.len(), bounds.len(), "{answers:?}");
        for (wait, (low, high)) in waits.iter().zip(bounds) {
            assert!(*wait >= low - 0.01 && *wait <= high + 0.01, "{answers:?}: {wait}");
        }
        assert_eq!(topic.committed(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_alert_is_put_aside_and_the_next_one_flows() {
    let topic = Topic::new(vec![alert(0, "high"), alert(1, "high")]);
    let script = Script::new([404, 404, 404, 422, 200].map(Attempt::status));
    run(&topic, &script).await;
    let dead = topic.dead.lock().unwrap().clone();
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "receiver refused with status 422"));
    assert_eq!((dead[0].attempts, topic.committed()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn gone_stops_the_endpoint_and_throws_nothing_away() {
    let topic = Topic::new(vec![alert(0, "high"), alert(1, "high"), alert(2, "high")]);
    let script = Script::new([200, 410].map(Attempt::status));
    assert_eq!(run(&topic, &script).await, Exit::Gone);
    assert_eq!((topic.committed(), topic.dead.lock().unwrap().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_kafka_does_not_take_is_offered_until_it_does() {
    let topic = Topic::new(vec![SourcedAlert { alert: Bytes::from_static(b"{"), ..alert(0, "") }]);
    topic.dead_failures.store(3, Ordering::SeqCst);
    let script = Script::new([Attempt::status(200)]);
    run(&topic, &script).await;
    let dead = topic.dead.lock().unwrap().clone();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].message_id.clone()), (1, 0, None));
    assert!(dead[0].reason.starts_with("alert of 1 bytes cannot be read"), "{}", dead[0].reason);
    assert_eq!((topic.committed(), script.sent().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn alerts_below_the_least_level_are_passed_over() {
    let levels = ["low", "high", "odd", "medium", "critical"];
    let alerts = levels.iter().zip(0..).map(|(level, n)| alert(n, level)).collect();
    let topic = Topic::new(alerts);
    let script = Script::new([Attempt::status(204)]);
    let mut notifier = scripted(&topic, &script, Some(Level::High));
    notifier.run(&CancellationToken::new()).await.unwrap();
    let text = |sent: &Sent| String::from_utf8_lossy(&sent.body).into_owned();
    let sent: String = script.sent().iter().map(text).collect();
    for (n, sent_too) in [false, true, true, false, true].into_iter().enumerate() {
        assert_eq!(sent.contains(&format!("alert-{n}\"")), sent_too, "alert {n}");
    }
    assert_eq!(topic.committed(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_alert_is_left_to_its_new_owner() {
    let topic = Topic::new(vec![alert(0, "high"), alert(1, "high")]);
    let script = Script::new([503, 410].map(Attempt::status));
    topic.revoke.notify_one();
    assert_eq!(run(&topic, &script).await, Exit::Gone);
    assert_eq!(topic.committed(), 0);
    assert_ne!(script.sent()[0].headers.id, script.sent()[1].headers.id);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_long_wait_at_once() {
    let topic = Topic::new(vec![alert(0, "high")]);
    let script = Script::new([Attempt::status(503)]);
    let shutdown = CancellationToken::new();
    let mut notifier = scripted(&topic, &script, None);
    let ended = async {
        tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
        shutdown.cancel();
    };
    let (exit, ()) = tokio::join!(notifier.run(&shutdown), ended);
    assert_eq!(exit.unwrap(), Exit::Shutdown);
    assert_eq!(virtual_ms() - START_MS, 24 * 3_600 * 1_000);
    assert_eq!(topic.committed(), 0);
}

// ---- a receiver on a socket ----------------------------------------------------------------------------

/// A request as the receiver got it.
#[derive(Debug, Clone)]
struct Received {
    path: String,
    id: String,
    body: Bytes,
    verified: bool,
}

enum Reply {
    Status(u16),
    With(u16, header::HeaderName, String),
    Hang,
}

type Answer = dyn Fn(usize, &Received) -> Reply + Send + Sync;

#[derive(Clone)]
struct Receiver {
    addr: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    answer: Arc<Answer>,
}

impl Receiver {
    async fn start(answer: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let receiver = Receiver { addr, received: Arc::default(), answer: Arc::new(answer) };
        let app = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    fn url(&self) -> String {
        format!("http://{}/hook/t0ken", self.addr)
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let reference = |key| standardwebhooks::Webhook::new(key).unwrap();
    let verified = [KEY, NEXT_KEY].iter().all(|key| reference(key).verify(&body, &headers).is_ok());
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let received = Received { path: uri.path().to_owned(), id, body, verified };
    let reply = {
        let mut all = receiver.received.lock().unwrap();
        all.push(received.clone());
        (receiver.answer)(all.len() - 1, &received)
    };
    match reply {
        Reply::Status(code) => StatusCode::from_u16(code).unwrap().into_response(),
        Reply::With(code, name, value) => {
            (StatusCode::from_u16(code).unwrap(), [(name, value)]).into_response()
        }
        Reply::Hang => std::future::pending().await,
    }
}

fn real_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A schedule of milliseconds that does not end soon.
fn impatient() -> RetryPolicy {
    RetryPolicy::new(vec![Duration::from_millis(1); 50], vec![Duration::from_millis(1); 3])
}

fn over_http<S: AlertSource>(
    receiver: &Receiver,
    source: S,
    retries: RetryPolicy,
    metrics: &Arc<Metrics>,
) -> Notifier<S, HttpTransport> {
    let endpoint = endpoint(&receiver.url()).validate().unwrap();
    let transport = HttpTransport::new(&endpoint).unwrap();
    Notifier::new(endpoint, source, transport, retries, Arc::clone(metrics), real_ms)
}

/// A number that looks random and is the same on each run.
fn scatter(n: usize) -> u64 {
    (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

#[tokio::test]
async fn nothing_is_lost_or_changed_when_notifier_and_receiver_keep_failing() {
    let topic = Topic::new((0..400).map(|n| alert(n, "high")).collect());
    let receiver = Receiver::start(|n, _| match scatter(n) % 10 {
        0 => Reply::Status(500),
        1 => Reply::Status(429),
        2 => Reply::Status(408),
        _ => Reply::Status(200),
    })
    .await;
    let metrics = metrics();
    let mut kills = 0;
    while topic.committed() < 400 {
        let mut notifier = over_http(&receiver, topic.open(), impatient(), &metrics);
        let shutdown = CancellationToken::new();
        // Dropped at any point: in a request, in a wait, before a commit.
        tokio::select! {
            exit = notifier.run(&shutdown) => assert_eq!(exit.unwrap(), Exit::SourceEnded),
            () = tokio::time::sleep(Duration::from_micros(scatter(kills) % 60_000)) => {}
        }
        kills += 1;
    }

    let received = receiver.received();
    assert!(
        received.iter().all(|received| received.verified),
        "the reference library verifies all"
    );
    let mut bodies: BTreeMap<String, BTreeSet<Bytes>> = BTreeMap::new();
    for Received { id, body, .. } in received {
        bodies.entry(id).or_default().insert(body);
    }
    assert_eq!(bodies.len(), 400, "deduplicated by id, exactly the alerts of the topic");
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "the same bytes over all attempts");
    let sent: BTreeSet<String> =
        bodies.values().flatten().map(|body| String::from_utf8(body.to_vec()).unwrap()).collect();
    for n in 0..400 {
        let data = String::from_utf8(alert(n, "high").alert.to_vec()).unwrap();
        assert!(sent.iter().any(|body| body.ends_with(&format!("\"data\":{data}}}"))), "alert {n}");
    }
    assert!(kills > 1 && topic.dead.lock().unwrap().is_empty(), "{kills} kills");
}

#[tokio::test]
async fn each_kind_of_answer_is_told_apart_on_the_wire() {
    let receiver = Receiver::start(|n, received| match n {
        0 => Reply::With(307, header::LOCATION, "/elsewhere".to_owned()),
        1 => Reply::With(429, header::RETRY_AFTER, "7".to_owned()),
        2 => Reply::With(503, header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
        3 => Reply::Hang,
        _ if received.path == "/elsewhere" => Reply::Status(200),
        _ => Reply::Status(410),
    })
    .await;
    let endpoint = endpoint(&receiver.url()).validate().unwrap();
    let transport = HttpTransport::new(&endpoint).unwrap();
    let keys = SigningKeys::new(vec![Secret::parse(KEY).unwrap()]).unwrap();
    let headers = watchfire::sink::webhook::sign(&keys, "msg_1", real_ms() / 1_000, b"{}");
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(transport.post(&headers, Bytes::from_static(b"{}")).await);
    }
    let with = |code, retry_after| Attempt::Status { code, retry_after: Some(retry_after) };
    assert_eq!(
        seen,
        [
            Attempt::status(307),
            with(429, RetryAfter::Seconds(7)),
            with(503, RetryAfter::At(784_111_777_000)),
            Attempt::Timeout,
            Attempt::status(410),
        ]
    );
    assert!(receiver.received().iter().all(|received| received.path == "/hook/t0ken"));
}

#[tokio::test]
async fn addresses_that_are_not_allowed_are_never_connected_to() {
    let receiver = Receiver::start(|_, _| Reply::Status(200)).await;
    let port = receiver.addr.port();
    let strict = |url: String| EndpointConfig { allow_private: false, ..endpoint(&url) };
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let error = strict(format!("https://{host}:{port}/t0ken")).validate().unwrap_err();
        assert!(!error.to_string().contains("t0ken"), "{error}");
    }
    // A name is only known at connect; the resolver refuses it then.
    for scheme in ["http", "https"] {
        let endpoint = strict(format!("{scheme}://localhost:{port}/t0ken")).validate().unwrap();
        let transport = HttpTransport::new(&endpoint).unwrap();
        let keys = SigningKeys::new(vec![Secret::parse(KEY).unwrap()]).unwrap();
        let headers = watchfire::sink::webhook::sign(&keys, "msg_1", 1, b"{}");
        let attempt = transport.post(&headers, Bytes::from_static(b"{}")).await;
        assert_eq!(attempt, Attempt::Blocked, "{scheme}");
    }
    assert!(receiver.received().is_empty());

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let transport = HttpTransport::new(&endpoint(&url).validate().unwrap()).unwrap();
    let keys = SigningKeys::new(vec![Secret::parse(KEY).unwrap()]).unwrap();
    let headers = watchfire::sink::webhook::sign(&keys, "msg_1", 1, b"{}");
    let attempt = transport.post(&headers, Bytes::new()).await;
    assert!(matches!(attempt, Attempt::Connect { .. }), "{attempt:?}");
}

// ---- Kafka ---------------------------------------------------------------------------------------------

struct Cluster {
    // Lives as long as the brokers are wanted.
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    fn start() -> Cluster {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("alerts", 1, 1).unwrap();
        mock.create_topic("shared", 2, 1).unwrap();
        mock.create_topic("dead", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers());
        let producer = config.create().unwrap();
        Cluster { mock, producer }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.mock.bootstrap_servers());
        config
    }

    fn topics(&self) -> AlertTopics {
        let mut consumer = self.config();
        // Longer than the mock's delay before a group's first rebalance (3 s), yet so short that a notifier which stopped polling in a wait would lose its place.
        consumer.set("session.timeout.ms", "4000").set("max.poll.interval.ms", "4000");
        consumer.set("heartbeat.interval.ms", "300");
        AlertTopics {
            consumer,
            producer: self.config(),
            tokens: None,
            app: "watchfire".to_owned(),
            alerts: "alerts".to_owned(),
            dead_letters: "dead".to_owned(),
        }
    }

    fn produce(&self, numbers: std::ops::Range<i64>) {
        for n in numbers {
            let SourcedAlert { key, alert, .. } = alert(n, "high");
            let key = key.unwrap();
            self.producer
                .send(BaseRecord::to("alerts").key(key.as_ref()).payload(alert.as_ref()))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    fn committed(&self) -> Option<i64> {
        let mut config = self.config();
        config.set("group.id", group_id("watchfire", "pager"));
        let consumer: BaseConsumer = config.create().unwrap();
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition("alerts", 0);
        let offsets = consumer.committed_offsets(wanted, Duration::from_secs(10)).unwrap();
        match offsets.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}

/// Delivers until the receiver has got `count` requests and the offset `committed` is seen.
async fn deliver(cluster: &Cluster, receiver: &Receiver, metrics: &Arc<Metrics>, count: usize) {
    let config = endpoint(&receiver.url()).validate().unwrap();
    let source = KafkaSource::open(&config, &cluster.topics(), Arc::clone(metrics)).unwrap();
    // The first wait is longer than the group would put up with.
    let mut schedule = vec![Duration::from_millis(6_000)];
    schedule.extend([Duration::from_millis(1); 9]);
    let retries = RetryPolicy::new(schedule, vec![Duration::from_millis(1); 3]);
    let mut notifier = over_http(receiver, source, retries, metrics);
    let shutdown = CancellationToken::new();
    let stop = async {
        while receiver.received().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The answer to the last request is on its way; a delivery after it would show as a surplus.
        tokio::time::sleep(Duration::from_millis(200)).await;
        shutdown.cancel();
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::join!(notifier.run(&shutdown), stop)
    });
    let Ok((exit, ())) = ended.await else {
        let shown = String::from_utf8(metrics.encode().unwrap()).unwrap();
        panic!("{} of {count} in half a minute: {shown}", receiver.received().len());
    };
    assert_eq!(exit.unwrap(), Exit::Shutdown);
    notifier.into_source().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_a_long_wait_costs_no_place_and_a_restart_repeats_nothing() {
    let cluster = Cluster::start();
    cluster.produce(0..300);
    let metrics = metrics();
    // The first alert fails once and waits; number 5 is refused for good.
    let receiver = Receiver::start(|n, received| {
        let refused = String::from_utf8_lossy(&received.body).contains("\"alert-5\"");
        Reply::Status(if n == 0 {
            503
        } else if refused {
            404
        } else {
            200
        })
    })
    .await;
    deliver(&cluster, &receiver, &metrics, 300 + 1 + 3).await;
    assert_eq!(cluster.committed(), Some(300));

    cluster.produce(300..320);
    deliver(&cluster, &receiver, &metrics, 300 + 1 + 3 + 20).await;
    assert_eq!(cluster.committed(), Some(320));

    let received = receiver.received();
    assert_eq!(received.len(), 324, "nothing is sent twice");
    assert!(received.iter().all(|received| received.verified));
    let numbers: Vec<i64> = received
        .iter()
        .map(|received| {
            let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
            let id = body["data"]["finding_info"]["uid"].as_str().unwrap().to_owned();
            id.strip_prefix("alert-").unwrap().parse().unwrap()
        })
        .collect();
    assert!(numbers.is_sorted(), "in the order of the topic");
    assert_eq!(metrics.notify_dead_letters.get(["pager"]), 1);
    assert_eq!(metrics.notify_attempts.get(["pager", "delivered"]), 319);

    let shown = String::from_utf8(metrics.encode().unwrap()).unwrap();
    assert!(shown.contains("watchfire_notify_pending{endpoint=\"pager\"}"), "{shown}");
    check_dead_letter(&cluster);
}

/// Checks that alert 5, and nothing else, lies in the dead-letter topic with what led to it.
fn check_dead_letter(cluster: &Cluster) {
    let mut config = cluster.config();
    config.set("group.id", "check").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut dead = TopicPartitionList::new();
    dead.add_partition_offset("dead", 0, Offset::Beginning).unwrap();
    consumer.assign(&dead).unwrap();
    let letter = consumer.poll(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(letter.payload().unwrap(), alert(5, "high").alert.as_ref());
    assert_eq!(letter.key().unwrap(), b"key-5");
    let headers: BTreeMap<&str, &str> = letter
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap()))
        .collect();
    assert_eq!(headers["watchfire-reason"], "receiver refused with status 404");
    assert_eq!((headers["watchfire-endpoint"], headers["watchfire-attempts"]), ("pager", "4"));
    assert_eq!((headers["watchfire-topic"], headers["watchfire-offset"]), ("alerts", "5"));
    assert!(consumer.poll(Duration::from_millis(300)).is_none(), "one dead letter only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_a_second_instance_takes_its_share_and_stale_alerts_are_dropped() {
    let cluster = Cluster::start();
    for n in 0..20 {
        let SourcedAlert { alert, .. } = alert(n, "high");
        let record = BaseRecord::<(), _>::to("shared").partition((n % 2) as i32);
        let sent = cluster.producer.send(record.payload(alert.as_ref()));
        sent.map_err(|(error, _)| error).unwrap();
    }
    cluster.producer.flush(Duration::from_secs(10)).unwrap();
    let topics = AlertTopics { alerts: "shared".to_owned(), ..cluster.topics() };
    let config = endpoint("https://hooks.example/").validate().unwrap();
    let open = || KafkaSource::open(&config, &topics, metrics()).unwrap();
    let limit = Duration::from_secs(30);

    let mut first = open();
    let taken = tokio::time::timeout(limit, first.next()).await.unwrap().unwrap().unwrap();
    let mut second = open();
    tokio::time::timeout(limit, first.revoked(taken.position)).await.unwrap();
    // Delivered in an earlier tenure: its new owner will repeat it, so this must not be committed.
    first.commit(taken.position).await.unwrap();

    let (mut seen, mut owners) = (BTreeSet::new(), BTreeMap::new());
    while seen.len() < 20 {
        let (owner, sourced) = tokio::time::timeout(limit, async {
            tokio::select! {
                sourced = first.next() => (1, sourced.unwrap().unwrap()),
                sourced = second.next() => (2, sourced.unwrap().unwrap()),
            }
        })
        .await
        .unwrap();
        let earlier = owner == 1 && sourced.position.tenure == taken.position.tenure;
        assert!(!earlier, "{:?} is of an earlier tenure", sourced.position);
        owners.insert(sourced.position.partition, owner);
        seen.insert(sourced.alert.clone());
        let source = if owner == 1 { &mut first } else { &mut second };
        source.commit(sourced.position).await.unwrap();
    }
    assert!(seen.contains(&taken.alert), "the alert of the earlier tenure is delivered again");
    assert_eq!(owners.values().copied().collect::<BTreeSet<i32>>(), BTreeSet::from([1, 2]));
    first.close().await;
    second.close().await;
}
