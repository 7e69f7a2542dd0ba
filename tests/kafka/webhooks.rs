//! A webhook receiver that fails now and then gets every alert all the same, signed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use serde_json::Value;

use crate::kit::{Writer, kafka, wait_at_most, wait_for};
use crate::service::App;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ALERTS: usize = 24;

/// What came, in order: id, body, answer.
type Requests = Arc<Mutex<Vec<(String, Value, StatusCode)>>>;

async fn receive(
    State(requests): State<Requests>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), StatusCode> {
    let mut requests = requests.lock().unwrap();
    let verified = standardwebhooks::Webhook::new(KEY).unwrap().verify(&body, &headers);
    let status = match (verified, (requests.len() + 1) % 5) {
        (Err(_), _) => StatusCode::UNAUTHORIZED,
        (_, 0) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NO_CONTENT,
    };
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    requests.push((id, serde_json::from_slice(&body).unwrap(), status));
    if status.is_success() { Ok(()) } else { Err(status) }
}

/// A receiver on loopback and an app that sends to it.
struct Receiver {
    requests: Requests,
    app: App,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    fn start(bootstrap: &str, what: &str) -> Receiver {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let requests = Requests::default();
        let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&requests));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut app = App::json(bootstrap, what, 2);
        std::fs::write(app.dir.path().join("secret"), format!("{KEY}\n")).unwrap();
        app.more = format!(
            "webhooks: [{{name: test, url: 'http://127.0.0.1:{port}/hook', secret_file: secret, \
             allow_private: true}}]\n"
        );
        Receiver { requests, app, _runtime: runtime }
    }

    /// Writes events that alert, and waits until so many requests were answered well.
    fn deliver(&self, alerts: usize) {
        let mut writer = Writer::new(&self.app.bootstrap, &self.app.topic);
        for n in 0..alerts {
            let event = format!(r#"{{"mark":"yes","n":{n}}}"#);
            writer.send((n % 2) as i32, Some(event.as_bytes()));
        }
        writer.finish(&self.app.bootstrap);
        wait_for("every alert is accepted", || (self.accepted().len() >= alerts).then_some(()));
    }

    /// Id and alert of the requests that were answered well.
    fn accepted(&self) -> Vec<(String, Value)> {
        let requests = self.requests.lock().unwrap();
        let good = requests.iter().filter(|r| r.2.is_success());
        good.map(|(id, body, _)| (id.clone(), body["data"].clone())).collect()
    }
}

#[test]
fn a_receiver_that_fails_every_fifth_time_gets_every_alert_signed() {
    let Some(bootstrap) = kafka() else { return };
    let receiver = Receiver::start(&bootstrap, "webhook");
    let _instance = receiver.app.start("a");
    receiver.deliver(ALERTS);
    let mut alerts = receiver.app.alerts();
    alerts.wait_for(ALERTS);
    receiver.app.settle();
    alerts.poll();

    let by_uid = |alert: Value| (alert["metadata"]["uid"].as_str().unwrap().to_owned(), alert);
    let published: BTreeMap<String, Value> = alerts.json().into_iter().map(by_uid).collect();
    let accepted = receiver.accepted();
    assert_eq!(accepted.len(), ALERTS, "an alert was accepted and sent again");
    let ids: BTreeMap<&String, ()> = accepted.iter().map(|(id, _)| (id, ())).collect();
    assert_eq!(ids.len(), ALERTS, "ids are not unique");
    let got: BTreeMap<String, Value> = accepted.iter().map(|(_, d)| by_uid(d.clone())).collect();
    assert_eq!(got, published);

    let requests = receiver.requests.lock().unwrap();
    let refused = requests.iter().filter(|r| r.2 == StatusCode::UNAUTHORIZED).count();
    assert_eq!(refused, 0, "signatures that do not verify");
    let failed: Vec<_> =
        requests.iter().filter(|r| r.2 == StatusCode::INTERNAL_SERVER_ERROR).collect();
    assert_eq!(failed.len(), requests.len() / 5);
    for (id, body, _) in failed {
        let again = requests.iter().filter(|r| r.0 == *id && r.2.is_success());
        assert!(again.map(|r| &r.1).eq([body]), "{id} came again with another body");
    }
}

#[test]
fn nothing_is_pending_once_everything_is_delivered() {
    let Some(bootstrap) = kafka() else { return };
    let receiver = Receiver::start(&bootstrap, "pending");
    let instance = receiver.app.start("a");
    receiver.deliver(3);
    // librdkafka's statistics, where this comes from, are taken every 5 s.
    wait_at_most(Duration::from_secs(20), "the metric says that nothing is pending", || {
        let pending = instance.metric("watchfire_notify_pending");
        (pending.len() == 1 && pending.values().all(|v| *v == 0.0)).then_some(())
    });
}
