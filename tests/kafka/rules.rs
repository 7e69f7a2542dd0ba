//! Broken rule files: said with their place, shown by the API, and in nobody's way.

use serde_json::Value;

use crate::kit::{Writer, kafka};
use crate::service::App;

const BAD_YAML: &str = "\
title: Bad YAML
logsource: {product: test}
detection:
  marked: {mark: 'yes'
  condition: marked
";

const BAD_MODIFIER: &str = "\
title: Unknown modifier
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0002
logsource: {product: test}
detection:
  marked: {mark|contain: 'yes'}
  condition: marked
level: high
";

const BAD_SELECTION: &str = "\
title: Unknown selection
id: 0b9f2c3e-5f0c-4c8a-9f0d-3f1c7f7f0003
logsource: {product: test}
detection:
  marked: {mark: 'yes'}
  condition: marked or market
level: high
";

#[test]
fn broken_rules_are_named_with_their_place_and_the_others_run() {
    let Some(bootstrap) = kafka() else { return };
    let app = App::json(&bootstrap, "broken-rules", 1);
    // Line and column where each is wrong; for the first, where the parser notices.
    let broken = [
        ("bad_yaml.yml", BAD_YAML, ":5:3: error[W0001]: "),
        ("bad_modifier.yml", BAD_MODIFIER, ":5:17: error[W0104]: "),
        ("bad_selection.yml", BAD_SELECTION, ":6:24: error[W0103]: "),
    ];
    for (name, text, _) in broken {
        std::fs::write(app.rules.join(name), text).unwrap();
    }
    let instance = app.start("a");
    let mut writer = Writer::new(&bootstrap, &app.topic);
    writer.send(0, Some(br#"{"mark":"yes"}"#));
    writer.finish(&bootstrap);
    let mut alerts = app.alerts();
    alerts.wait_for(1);
    app.settle();
    alerts.poll();
    assert_eq!(alerts.records.len(), 1);
    assert_eq!(alerts.json()[0]["finding_info"]["title"], "Marked");

    let log = instance.log();
    let rules = instance.get_json("/api/v1/rules");
    let rules = rules["items"].as_array().unwrap();
    assert_eq!(rules.len(), 4, "{rules:?}");
    let of_file = |path: &str| rules.iter().find(|r| r["file"] == *path).unwrap();
    for (name, _, place) in broken {
        let path = app.rules.join(name).display().to_string();
        let said = format!("{path}{place}");
        assert!(log.contains(&said), "`{said}` is not in\n{log}");
        let rule = of_file(&path);
        assert_eq!(rule["state"], "broken");
        let error = rule["error"].as_str().unwrap();
        assert!(error.starts_with(&said), "{error}");
    }
    let marked: &Value = of_file(&app.rules.join("marked.yml").display().to_string());
    assert_eq!((&marked["state"], &marked["error"]), (&"active".into(), &Value::Null));
    assert_eq!(instance.metric("watchfire_rule_load_errors")[""], 3.0);
}
