//! Output topics that refuse: positions stand still, it is told, and nothing is missing or twice afterwards.

use std::collections::BTreeSet;

use rdkafka::admin::{AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};

use crate::conformance::kit::{admin, block_on};
use crate::kit::{Writer, kafka, wait_for};
use crate::service::App;

const EVENTS: usize = 200;

#[test]
fn an_alerts_topic_that_refuses_stops_the_positions_and_costs_nothing() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "refusing", 2);
    let alerts = format!("{}.alerts", app.name);
    // No alert fits: as with a quota, a full disk or missing rights, every write fails.
    let topic =
        NewTopic::new(&alerts, 3, TopicReplication::Fixed(1)).set("max.message.bytes", "200");
    let made = block_on(admin(&bootstrap).create_topics([&topic], &AdminOptions::new()));
    assert_eq!(made.expect("an answer"), [Ok(alerts.clone())]);
    let instance = app.start("a");
    let mut writer = Writer::new(&bootstrap, &app.topic);
    for n in 0..EVENTS {
        writer.send((n % 2) as i32, Some(format!(r#"{{"mark":"yes","n":{n}}}"#).as_bytes()));
    }
    writer.finish(&bootstrap);
    wait_for("readiness says why", || {
        let (status, body) = instance.get("/readyz");
        (status == 503 && body.contains("not delivered")).then_some(())
    });
    let log = instance.log();
    assert!(log.contains("MessageSizeTooLarge") || log.contains("Message size too large"), "{log}");
    assert_eq!(app.processed(), 0, "what was not published is not done");

    let resource = ResourceSpecifier::Topic(&alerts);
    let larger = AlterConfig::new(resource).set("max.message.bytes", "1048588");
    block_on(admin(&bootstrap).alter_configs([&larger], &AdminOptions::new())).expect("an answer");
    let mut alerts = app.alerts();
    alerts.wait_for(EVENTS);
    app.settle();
    alerts.poll();
    let ids: BTreeSet<&str> = alerts.records.iter().map(|r| r.headers["ce_id"].as_str()).collect();
    assert_eq!((alerts.records.len(), ids.len()), (EVENTS, EVENTS));
    wait_for("it is ready again", || (instance.get("/readyz").0 == 200).then_some(()));
}
