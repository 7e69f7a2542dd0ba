//! Which rules see a record, and by which names: headers, processing pipelines, placeholders.

use serde_json::Value;

use crate::kit::{Writer, kafka};
use crate::service::App;

const RULES: &str = "\
title: On Linux
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0011
logsource: {product: linux, service: app}
detection: {sel: {User|expand: '%admins%'}, condition: sel}
level: high
---
title: On Windows
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0012
logsource: {product: windows, service: app}
detection: {sel: {User|expand: '%admins%'}, condition: sel}
level: high
---
title: Of another service
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0013
logsource: {product: linux, service: cron}
detection: {sel: {User: x}, condition: sel}
level: high
";

const PIPELINE: &str = "\
name: ours
transformations: [{type: field_name_mapping, mapping: {User: user.name}}]
";

#[test]
fn headers_say_what_records_are_and_pipelines_what_their_fields_are_called() {
    let Some(bootstrap) = kafka() else { return };
    let mut app = App::json(&bootstrap, "routing", 1);
    app.source = "format: json, lateness: 1s, tables: [none], pipelines: [ours.yml], \
        logsource: {product: {header: os}, service: app}";
    app.more = "placeholders: lists.yml\n".to_owned();
    std::fs::remove_file(app.rules.join("marked.yml")).unwrap();
    std::fs::write(app.rules.join("rules.yml"), RULES).unwrap();
    std::fs::write(app.dir.path().join("ours.yml"), PIPELINE).unwrap();
    std::fs::write(app.dir.path().join("lists.yml"), "admins: [root, 'adm*']\n").unwrap();
    let instance = app.start("a");

    let mut writer = Writer::new(&bootstrap, &app.topic);
    writer.send_with("os", "Linux", br#"{"user": {"name": "adm1"}}"#);
    writer.send_with("os", "windows", br#"{"user.name": "root"}"#);
    writer.send_with("os", "linux", br#"{"user": {"name": "guest"}}"#);
    writer.send_with("os", "linux", br#"{"User": "root"}"#);
    writer.finish(&bootstrap);
    let mut alerts = app.alerts();
    alerts.wait_for(2);
    app.settle();
    alerts.poll();
    let title = |a: &Value| a["finding_info"]["title"].as_str().map(str::to_owned);
    let mut titles: Vec<String> = alerts.json().iter().filter_map(title).collect();
    titles.sort();
    assert_eq!(titles, ["On Linux", "On Windows"]);

    let rules = instance.get_json("/api/v1/rules");
    let items = rules["items"].as_array().unwrap();
    let unfed: Vec<_> = items.iter().filter(|r| r["warning"].is_string()).collect();
    assert_eq!(unfed.len(), 1, "{rules}");
    assert_eq!(unfed[0]["title"], "Of another service");
    assert!(unfed[0]["warning"].as_str().unwrap().contains("W0302"), "{}", unfed[0]);
    assert!(instance.log().contains("Of another service"));
    instance.stop();
}
