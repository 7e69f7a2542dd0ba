//! The service as processes: an app with its configuration, and instances of it that can be killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::conformance::kit::{topic_with, unique};
use crate::kit::{Topic, bounds, committed, wait_for};

/// Log lines that a failing test shows of each instance.
const LOG_LINES_SHOWN: usize = 150;

/// A rule over JSON events of product `test`: `mark: yes` alerts, with `n` in the event.
pub const MARKED: &str = "\
title: Marked
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0001
logsource: {product: test}
detection:
  marked: {mark: 'yes'}
  condition: marked
level: high
";

/// One app on one source topic; its files live as long as it does.
pub struct App {
    pub bootstrap: String,
    pub name: String,
    pub topic: String,
    pub dir: tempfile::TempDir,
    /// YAML of the source but for its topic.
    pub source: &'static str,
    /// YAML of more sources, each after a comma.
    pub more_sources: String,
    /// Where instances find Kafka, if not where the test does.
    pub detour: Option<String>,
    pub rules: PathBuf,
    /// librdkafka properties.
    pub properties: &'static str,
    /// How often alerts of running episodes are published again.
    pub update_interval: &'static str,
    /// In which time all of the state is written.
    pub snapshot_interval: &'static str,
    /// More lines of the configuration.
    pub more: String,
}

/// A rule for correlations to count.
pub const FAILED: &str = include_str!("../common/failed.yml");

impl App {
    /// Over syslog with the shipped rules.
    pub fn syslog(bootstrap: &str, what: &str) -> App {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
        App::new(bootstrap, what, 6, "format: syslog, lateness: 5s", rules)
    }

    /// Over JSON with [`MARKED`].
    pub fn json(bootstrap: &str, what: &str, partitions: i32) -> App {
        let source = "format: json, lateness: 1s, logsource: {product: test}";
        let mut app = App::new(bootstrap, what, partitions, source, PathBuf::new());
        app.rules = app.dir.path().join("rules");
        std::fs::create_dir(&app.rules).unwrap();
        std::fs::write(app.rules.join("marked.yml"), MARKED).unwrap();
        app
    }

    pub fn new(
        bootstrap: &str,
        what: &str,
        partitions: i32,
        source: &'static str,
        rules: PathBuf,
    ) -> App {
        let large = [("max.message.bytes", "4194304")];
        App {
            bootstrap: bootstrap.to_owned(),
            name: unique(what),
            topic: topic_with(bootstrap, &format!("{what}-events"), partitions, &large),
            dir: tempfile::tempdir().unwrap(),
            source,
            more_sources: String::new(),
            detour: None,
            rules,
            properties: "",
            update_interval: "0s",
            snapshot_interval: "3s",
            more: String::new(),
        }
    }

    fn config(&self, instance: &str) -> PathBuf {
        let App { name, topic, source, more_sources, properties, more, .. } = self;
        let App { update_interval, snapshot_interval, .. } = self;
        let brokers = self.detour.as_ref().unwrap_or(&self.bootstrap).replace(',', "', '");
        let text = format!(
            "version: 1\n\
             app: {name}\n\
             instance: {instance}\n\
             kafka: {{brokers: ['{brokers}'], properties: {{{properties}}}}}\n\
             sources: [{{topic: {topic}, {source}}}{more_sources}]\n\
             rules: ['{rules}']\n\
             topics: {{matches_partitions: 4}}\n\
             workers: {{filter: 1, correlate: 1}}\n\
             correlation: {{update_interval: {update_interval}, snapshot_interval: {snapshot_interval}}}\n\
             http: {{bind: '127.0.0.1:0'}}\n\
             {more}",
            rules = self.rules.display(),
        );
        let path = self.dir.path().join(format!("{instance}.yml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts an instance and waits until its API answers.
    pub fn start(&self, instance: &str) -> Instance {
        let mut started = self.spawn(instance);
        started.wait_until_it_runs();
        started
    }

    /// Starts an instance without waiting.
    pub fn spawn(&self, instance: &str) -> Instance {
        Instance::spawn(&self.config(instance), &self.dir.path().join(unique(instance)))
    }

    pub fn alerts(&self) -> Topic {
        Topic::open(&self.bootstrap, &format!("{}.alerts", self.name))
    }

    pub fn dead_letters(&self) -> Topic {
        Topic::open(&self.bootstrap, &format!("{}.dlq", self.name))
    }

    /// How many records of the source are processed and committed.
    pub fn processed(&self) -> i64 {
        committed(&self.bootstrap, &format!("{}-filter", self.name), &self.topic).values().sum()
    }

    /// Whether all of these sources is committed by the first stage.
    pub fn has_read(&self, topics: &[&str]) -> bool {
        let group = format!("{}-filter", self.name);
        topics.iter().all(|topic| {
            let positions = committed(&self.bootstrap, &group, topic);
            let ends = bounds(&self.bootstrap, topic);
            ends.iter().all(|(p, (_, end))| positions[p] == *end)
        })
    }

    /// Waits until the whole source is committed by the first stage.
    pub fn wait_until_read(&self) {
        wait_for("the source is read to its end", || self.has_read(&[&self.topic]).then_some(()));
    }

    /// Waits until everything written so far is through both stages, and again and again for two seconds. The second
    /// stage always has something to read, since event time goes on.
    pub fn settle(&self) {
        self.wait_until_read();
        let matches = format!("{}.matches", self.name);
        let group = format!("{}-correlate", self.name);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let ends = bounds(&self.bootstrap, &matches);
            wait_for("the second stage has caught up", || {
                let positions = committed(&self.bootstrap, &group, &matches);
                ends.iter().all(|(p, (_, end))| positions[p] >= *end).then_some(())
            });
        }
    }
}

/// A running process of the service; killed when dropped.
pub struct Instance {
    child: Child,
    log: PathBuf,
    address: String,
}

impl Instance {
    pub fn spawn(config: &Path, log: &Path) -> Instance {
        let file = File::create(log).unwrap();
        // What the tests themselves are to say is not meant for the service.
        let level = std::env::var("WATCHFIRE_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
        let child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .args(["run", "--config"])
            .arg(config)
            .env("RUST_LOG", level)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("the service starts");
        Instance { child, log: log.to_owned(), address: String::new() }
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn wait_until_it_runs(&mut self) {
        self.address = wait_for("the service says that it runs", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}");
            let log = self.log();
            let line = log.lines().find(|l| l.contains("watchfire runs"))?;
            let (_, rest) = line.split_once("api=")?;
            Some(rest.split_whitespace().next()?.to_owned())
        });
    }

    /// The number of the process.
    #[allow(dead_code, reason = "for tests/chaos")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(sent.success(), "kill -s {name} {pid}: {sent}");
    }

    /// SIGKILL: the process has no say in it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; how it ended, and after how long.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal("TERM");
        let status = wait_for("it ends", || self.child.try_wait().unwrap());
        (status, began.elapsed())
    }

    /// Ends it as an operator would; it must end well and soon.
    pub fn stop(mut self) {
        let (status, after) = self.terminate();
        assert!(status.success(), "{status}");
        assert!(after < Duration::from_secs(10), "took {after:?}");
    }

    /// GET of a path: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = client.get(format!("{}{path}", self.address)).send().await;
            let answer = answer.unwrap_or_else(|e| panic!("GET {path}: {e:?}"));
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    pub fn get_json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).1).expect("JSON")
    }

    /// All alerts that the API shows, in pages of `limit`.
    pub fn alerts(&self, limit: usize) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get_json(&format!("/api/v1/alerts?limit={limit}{cursor}"));
            let items = page["items"].as_array().expect("items");
            assert!(items.len() <= limit);
            all.extend(items.iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// The series of a metric: labels as written → value.
    pub fn metric(&self, name: &str) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let series = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let own = labels.is_empty() || labels.starts_with('{');
            own.then(|| (labels.to_owned(), value.parse().expect("a number")))
        });
        series.collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!("---- log of {} ----\n{}", self.log.display(), lines[shown..].join("\n"));
        }
    }
}
