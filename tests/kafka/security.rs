//! Encryption and authentication as far as they can be tested without a listener for them: clients are made from good
//! configurations, wrong ones are refused by the name of the key.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use watchfire::config::Config;
use watchfire::kafka::{Clients, WorkerContext};

use crate::kit::wait_at_most;
use crate::service::Instance;

fn text(brokers: &str, security: &str) -> String {
    format!(
        "version: 1\n\
         kafka: {{brokers: ['{brokers}'], security: {{{security}}}}}\n\
         sources: [{{topic: t, format: json}}]\n\
         rules: [.]\n"
    )
}

fn consumer(security: &str) -> Result<BaseConsumer<WorkerContext>, String> {
    consumer_of("127.0.0.1:1", security)
}

fn consumer_of(brokers: &str, security: &str) -> Result<BaseConsumer<WorkerContext>, String> {
    let config =
        Config::parse(&text(brokers, security), Path::new("w.yml")).map_err(|e| e.to_string())?;
    let clients = Clients::new(&config).map_err(|e| e.to_string())?;
    let context = WorkerContext::new(clients.tokens());
    let made = clients.worker_consumer("filter", 0).create_with_context(context);
    made.map_err(|e| e.to_string())
}

/// A folder with a certificate, its key, a password and a token.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("cert.pem", include_str!("cert.pem"));
    write("key.pem", include_str!("key.pem"));
    write("password", "secret\n");
    // {"sub":"watchfire","exp":4102444800}, not signed.
    write("token", "e30.eyJzdWIiOiJ3YXRjaGZpcmUiLCJleHAiOjQxMDI0NDQ4MDB9.\n");
    dir
}

#[test]
fn clients_are_made_for_every_way_to_authenticate() {
    let dir = files();
    let d = dir.path().display();
    let ways = [
        "protocol: SSL".to_owned(),
        format!("protocol: SSL, ca_file: '{d}/cert.pem'"),
        format!(
            "protocol: SSL, ca_file: '{d}/cert.pem', certificate_file: '{d}/cert.pem', \
             key_file: '{d}/key.pem'"
        ),
        format!(
            "protocol: SASL_SSL, ca_file: '{d}/cert.pem', sasl: {{mechanism: SCRAM-SHA-512, \
             username: u, password_file: '{d}/password'}}"
        ),
        format!(
            "protocol: SASL_SSL, sasl: {{mechanism: SCRAM-SHA-256, username: u, \
             password_file: '{d}/password'}}"
        ),
        format!(
            "protocol: SASL_PLAINTEXT, sasl: {{mechanism: PLAIN, username: u, \
             password_file: '{d}/password'}}"
        ),
        format!(
            "protocol: SASL_SSL, sasl: {{mechanism: OAUTHBEARER, \
             oauth: {{token_file: '{d}/token'}}}}"
        ),
    ];
    let refused = |way: &String| consumer(way).err().map(|error| format!("{way}: {error}"));
    let refused: Vec<String> = ways.iter().filter_map(refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn a_client_is_made_that_gets_its_tokens_by_oidc() {
    let dir = files();
    let security = format!(
        "protocol: SASL_SSL, sasl: {{mechanism: OAUTHBEARER, oauth: {{\
         token_endpoint: 'https://127.0.0.1:1/token', client_id: c, \
         client_secret_file: '{}/password', scope: s}}}}",
        dir.path().display()
    );
    assert_eq!(consumer(&security).err(), None);
}

#[test]
fn wrong_combinations_are_refused_by_the_name_of_the_key() {
    let dir = files();
    let d = dir.path().display();
    let scram = "mechanism: SCRAM-SHA-512, username: u";
    let cases = [
        ("protocol: SASL_SSL".to_owned(), "kafka.security.sasl: "),
        (format!("sasl: {{{scram}, password_file: '{d}/password'}}"), "kafka.security.sasl: "),
        (format!("protocol: SASL_SSL, sasl: {{{scram}}}"), "password_file"),
        (format!("protocol: SASL_SSL, sasl: {{{scram}, password_file: '{d}/none'}}"), "/none: "),
        ("protocol: SASL_SSL, sasl: {mechanism: GSSAPI}".to_owned(), "sasl.mechanism: `GSSAPI`"),
        ("protocol: SASL_SSL, sasl: {mechanism: OAUTHBEARER}".to_owned(), "sasl.oauth: "),
        (
            format!(
                "protocol: SASL_SSL, sasl: {{mechanism: OAUTHBEARER, oauth: {{\
                 token_file: '{d}/token', token_endpoint: 'https://a', client_id: c, \
                 client_secret_file: '{d}/password'}}}}"
            ),
            "sasl.oauth: ",
        ),
        (format!("protocol: SSL, certificate_file: '{d}/cert.pem'"), "kafka.security.key_file: "),
        (format!("protocol: SSL, key_file: '{d}/key.pem'"), "kafka.security.key_file: "),
        (format!("protocol: SSL, ca: '{d}/cert.pem'"), "unknown field `ca`"),
    ];
    assert_refused(&cases);
}

#[test]
fn files_for_tls_without_tls_are_refused() {
    let dir = files();
    let d = dir.path().display();
    // Everything would go over the wire in the clear, though nobody meant it to.
    assert_refused(&[
        (format!("ca_file: '{d}/cert.pem'"), "kafka.security."),
        (format!("certificate_file: '{d}/cert.pem', key_file: '{d}/key.pem'"), "kafka.security."),
    ]);
}

/// Each configuration is refused, and the text of the refusal holds the expected part.
fn assert_refused(cases: &[(String, &str)]) {
    let wrong = cases.iter().filter_map(|(security, expected)| match consumer(security) {
        Err(error) if error.contains(expected) => None,
        Err(error) => Some(format!("{security}: says `{error}`, not `{expected}`")),
        Ok(_) => Some(format!("{security}: is accepted")),
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A listener in a broker's place. librdkafka does not connect to it before it has a token.
fn broker() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_consumer_with_a_token_file_talks_to_the_brokers() {
    let dir = files();
    let (broker, address) = broker();
    let security = format!(
        "protocol: SASL_PLAINTEXT, sasl: {{mechanism: OAUTHBEARER, \
         oauth: {{token_file: '{}/token'}}}}",
        dir.path().display()
    );
    let consumer = consumer_of(&address, &security).unwrap();
    wait_at_most(Duration::from_secs(20), "it connects", || {
        // Tokens are fetched within a poll; errors are that this is no broker.
        let _ = consumer.poll(Duration::from_millis(10));
        broker.accept().ok()
    });
}

#[test]
fn a_service_with_a_token_file_talks_to_the_brokers() {
    let dir = files();
    let path = dir.path();
    let (broker, address) = broker();
    let security = format!(
        "protocol: SASL_PLAINTEXT, sasl: {{mechanism: OAUTHBEARER, \
         oauth: {{token_file: '{}/token'}}}}",
        path.display()
    );
    let config = text(&address, &security);
    let config = config.replace("rules: [.]", "rules: [marked.yml]\nhttp: {bind: '127.0.0.1:0'}");
    std::fs::write(path.join("w.yml"), config).unwrap();
    std::fs::write(path.join("marked.yml"), crate::service::MARKED).unwrap();
    let _instance = Instance::spawn(&path.join("w.yml"), &path.join("log"));
    wait_at_most(Duration::from_secs(20), "it connects", || broker.accept().ok());
}
