//! The shipped files of `deploy/` and `docker-compose.yml` agree with each other, with the scripts and
//! with the metrics that the program has. What promtool can check is checked by `scripts/test`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use yaml_serde::Value;

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn compose() -> Value {
    yaml_serde::from_str(&read("docker-compose.yml")).unwrap()
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"].as_mapping().unwrap().iter().map(|(name, it)| (name.as_str().unwrap(), it))
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_sequence().into_iter().flatten().filter_map(Value::as_str)
}

fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(path.to_str().unwrap()));
        } else {
            files.push(path);
        }
    }
    files
}

/// The words of `text` that begin with `prefix`, such as the names of metrics.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn every_shipped_yaml_and_json_file_parses() {
    for path in files_below("deploy").into_iter().chain([PathBuf::from("docker-compose.yml")]) {
        let text = read(&path);
        let parsed = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yml" | "yaml") => yaml_serde::from_str::<Value>(&text).map_err(|e| e.to_string()),
            Some("json") => serde_json::from_str::<Value>(&text).map_err(|e| e.to_string()),
            _ => continue,
        };
        parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn every_file_that_compose_mounts_or_copies_is_there() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for mount in strings(&service["volumes"]).filter(|mount| mount.starts_with("./")) {
            let source = mount.split(':').next().unwrap();
            assert!(Path::new(source).exists(), "{name} mounts {source}, which is not there");
        }
    }
    for line in read("Dockerfile").lines().filter(|line| line.starts_with("COPY ")) {
        let source = line.split(' ').find(|word| *word != "COPY").unwrap();
        assert!(source.starts_with("--from") || Path::new(source).exists(), "no {source}: {line}");
    }
}

#[test]
fn every_secret_that_a_service_names_is_mounted_there_and_made_by_our_script() {
    let compose = compose();
    let maker = read("deploy/make-secrets");
    for (name, secret) in compose["secrets"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        assert_eq!(secret["file"].as_str(), Some(&*format!("./deploy/secrets/{name}")));
        assert!(maker.contains(&format!("make {name} ")), "deploy/make-secrets makes no {name}");
    }
    for (name, service) in services(&compose) {
        let mounts = strings(&service["volumes"]).filter_map(|mount| mount.split(':').next());
        let configs = mounts.filter(|mount| mount.ends_with(".yml")).map(read);
        let text = configs.collect::<String>() + &yaml_serde::to_string(service).unwrap();
        let mounted: Vec<&str> = strings(&service["secrets"]).collect();
        for secret in text.split("/run/secrets/").skip(1) {
            let secret = secret.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            assert!(
                mounted.contains(&secret),
                "{name} names the secret {secret} without mounting it"
            );
        }
    }
}

#[test]
fn the_kafka_of_compose_is_the_one_that_tests_run_on() {
    let script = read("scripts/kafka");
    let version = script.split("KAFKA_VERSION:-").nth(1).and_then(|rest| rest.split('}').next());
    let image = format!("apache/kafka:{}", version.unwrap());
    for (name, service) in services(&compose()) {
        let used = service["image"].as_str().unwrap_or_default();
        assert!(!used.starts_with("apache/kafka") || used == image, "{name}: {used}, not {image}");
    }
}

#[test]
fn every_metric_in_alert_rules_and_dashboards_is_in_the_catalogue() {
    let sources: String = files_below("src/metrics").iter().map(read).collect();
    let catalogue = words(&sources, "watchfire_");
    let shipped = files_below("deploy/grafana/dashboards").into_iter();
    for path in shipped.chain([PathBuf::from("deploy/prometheus/alerts.yml")]) {
        for metric in words(&read(&path), "watchfire_") {
            let family = metric.trim_end_matches("_bucket");
            assert!(catalogue.contains(family), "{}: src/metrics has no {family}", path.display());
        }
    }
}
