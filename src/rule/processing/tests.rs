//! Steps one by one against what pySigma says, whole views over rules and events, and hostile files.

use super::*;
use crate::detect::Engine;
use crate::event::Event;
use crate::rule::shown::{Shown, shown};
use crate::rule::tree::{DetectionItem, Selection};
use crate::rule::yaml::Key;
use crate::rule::{Number, Options, RuleSet, Severity};

fn pipeline(text: &str) -> Result<ProcessingPipeline, Vec<Diagnostic>> {
    ProcessingPipeline::parse(&"p.yml".into(), text).map(|(pipeline, _)| pipeline)
}

fn view(texts: &[&str]) -> View {
    let pipelines = texts.iter().map(|t| Arc::new(pipeline(t).expect(t))).collect();
    View::new("v", pipelines)
}

const HEAD: &str = "title: case\nlogsource: {product: windows, category: process_creation}\n\
    tags: [attack.t1059]\nlevel: high\ndate: '2023-05-17'\ncustom: '4'\n";

/// The selections of a rule after a view, written as `conformance/pipelines.py` writes pySigma's.
fn transformed(view: &View, rule: &Node) -> String {
    let head = yaml::parse(HEAD).expect("the head").remove(0);
    let header = Header::read(&head, &"r.yml".into(), HEAD).expect("the head");
    let logsource = detection::logsource(head.get("logsource").expect("one")).expect("one");
    let mut rule = rule.clone();
    if let Yaml::Map(members) = &mut rule.value {
        let key = Key { place: rule.place, text: "condition".to_owned() };
        members.push((key, Node { place: rule.place, value: Yaml::Str("1 of them".to_owned()) }));
    }
    let tree = DetectionTree::read(&rule, &[], &mut Vec::new()).expect("a rule");
    let mut subject = Subject::new(&header, false, &logsource);
    subject.parts = vec![("r.yml".into(), prune::joined(&tree))];
    if view.apply(&mut subject).is_err() {
        return "refused".to_owned();
    }
    let trees = subject.parts.into_iter().filter_map(|(_, tree)| prune::pruned(tree));
    let selections = trees.flat_map(|tree| tree.selections);
    selections.map(|(_, s)| written(&s, true)).collect::<Vec<_>>().join(" ; ")
}

fn written(selection: &Selection, top: bool) -> String {
    let (parts, join) = match selection {
        Selection::Item(item) => return item_written(item),
        Selection::All(parts) => (parts, " & "),
        Selection::Any(parts) => (parts, " | "),
    };
    let inner = top && parts.len() == 1;
    let joined: Vec<String> = parts.iter().map(|p| written(p, inner)).collect();
    match top || parts.len() < 2 {
        true => joined.join(join),
        false => format!("({})", joined.join(join)),
    }
}

fn item_written(item: &DetectionItem) -> String {
    let value = |v: Shown| match v {
        Shown::Text(pattern) => format!("'{}'", value::plain(&pattern)),
        Shown::Number(Number::Int(n)) => n.to_string(),
        Shown::Number(Number::Float(n)) => n.to_string(),
        Shown::Bool(b) => b.to_string(),
        Shown::Null => "null".to_owned(),
        Shown::FieldRef(name) => format!("ref({name})"),
        Shown::Other => "regex".to_owned(),
    };
    let values: Vec<String> = shown(item).into_iter().map(value).collect();
    let values = values.join(if item.has("all") { "+" } else { "," });
    let not = if item.has("neq") { "not " } else { "" };
    format!("{not}{}={values}", item.field.as_deref().unwrap_or("keyword"))
}

#[test]
fn steps_do_what_pysigma_does() {
    let cases = yaml::parse(include_str!("cases.yml")).expect("the cases").remove(0);
    let Yaml::Seq(cases) = &cases.value else { panic!("a list of cases") };
    let text = |case: &Node, key: &str| case.get(key).and_then(Node::scalar_text).expect("a text");
    assert!(cases.len() >= 25);
    for case in cases {
        let view = view(&[&text(case, "pipeline")]);
        let found = transformed(&view, case.get("rule").expect("a rule"));
        assert_eq!(found, text(case, "expect"), "{}", text(case, "name"));
    }
}

fn compiled(rules: &str, views: Vec<View>) -> (Arc<RuleSet>, Vec<Diagnostic>) {
    let file: Arc<str> = "r.yml".into();
    let options = Options { views, ..Options::default() };
    let (set, mut found) = RuleSet::compile_with([(&file, rules)], &options);
    found.retain(|d| d.severity != Severity::Hint);
    (Arc::new(set), found)
}

fn hits(rules: &Arc<RuleSet>, view: usize, event: &str) -> Vec<usize> {
    let event = Event { body: serde_json::from_str(event).expect("an event"), ..Event::default() };
    let mut hits = Vec::new();
    Engine::for_view(Arc::clone(rules), view).detect(&event, |rule| hits.push(rule));
    hits
}

const RULE: &str = "title: one\nlogsource: {product: windows}\ndetection:\n  sel:\n    \
    Image|endswith: '\\cmd.exe'\n    ThreatName: x\n  condition: sel\n";

#[test]
fn each_view_has_its_own_names_and_the_plain_one_stays() {
    let ecs = "transformations: [{type: field_name_mapping, mapping: {Image: process.executable}}]";
    let spaced = "transformations: [{type: field_name_mapping, mapping: \
        {Image: [exe, 'File Path'], 'Threat Name': 'Threat Name'}}]";
    let (rules, found) = compiled(RULE, vec![view(&[ecs]), view(&[spaced])]);
    assert_eq!(found, []);
    let plain = r#"{"Image": "C:\\cmd.exe", "ThreatName": "x"}"#;
    let nested =
        r#"{"process": [{"executable": "a"}, {"executable": "b\\cmd.exe"}], "ThreatName": "x"}"#;
    let flat = r#"{"process.executable": "C:\\cmd.exe", "ThreatName": "x"}"#;
    let blanks = r#"{"File Path": "C:\\cmd.exe", "Threat Name": "X"}"#;
    for (event, expect) in
        [(plain, [1, 0, 0]), (nested, [0, 1, 0]), (flat, [0, 1, 0]), (blanks, [0, 0, 1])]
    {
        let found: Vec<usize> = (0..3).map(|v| hits(&rules, v, event).len()).collect();
        assert_eq!(found, expect, "{event}");
    }
}

#[test]
fn of_several_fields_a_missing_one_does_not_satisfy_null_or_neq() {
    let many = "transformations: [{type: field_name_mapping, mapping: {User: [a, b]}}]";
    let rule = |item: &str| {
        format!(
            "title: one\nlogsource: {{product: windows}}\ndetection:\n  sel:\n    {item}\n  \
             condition: sel\n"
        )
    };
    for (item, event, expect) in [
        ("User|neq: x", r#"{"a": "x"}"#, 0),
        ("User|neq: x", r#"{"a": "y"}"#, 1),
        ("User: null", r#"{"b": "x"}"#, 0),
        ("User: null", "{}", 1),
        ("User|neq: null", r#"{"b": "x"}"#, 1),
        ("User|exists: false", r#"{"b": "x"}"#, 0),
        ("User|exists: true", r#"{"b": "x"}"#, 1),
        ("User: x", r#"{"b": "x"}"#, 1),
    ] {
        let (rules, _) = compiled(&rule(item), vec![view(&[many])]);
        assert_eq!(hits(&rules, 1, event).len(), expect, "{item} on {event}");
    }
}

#[test]
fn lower_priority_comes_first_whatever_the_order_given() {
    let first = "priority: 10\ntransformations: [{type: field_name_prefix, prefix: a.}]";
    let second = "priority: 20\ntransformations: [{type: field_name_prefix, prefix: b.}]";
    let rule = yaml::parse("sel: {A: 1}").expect("a rule").remove(0);
    assert_eq!(transformed(&view(&[second, first]), &rule), "b.a.A=1");
}

#[test]
fn a_refused_rule_runs_in_the_other_views() {
    let no = "name: strict\ntransformations: [{type: rule_failure, message: no such log}]";
    let ok = "transformations: []";
    let (rules, found) = compiled(RULE, vec![view(&[no]), view(&[ok])]);
    let event = r#"{"Image": "C:\\cmd.exe", "ThreatName": "x"}"#;
    assert_eq!([0, 1, 2].map(|v| hits(&rules, v, event).len()), [1, 0, 1]);
    let [refusal] = found.as_slice() else { panic!("{found:?}") };
    let expect = "the pipeline `strict` refuses `one`: no such log";
    assert_eq!((refusal.code, refusal.message.as_str()), (Code::Pipeline, expect));
    assert!(refusal.file.is_some() && refusal.place.line > 0);
}

#[test]
fn a_rule_of_which_nothing_is_left_is_refused_and_not_one_that_always_matches() {
    let (rules, found) =
        compiled(RULE, vec![view(&["transformations: [type: drop_detection_item]"])]);
    assert!(rules.detections[0].views[0].is_none());
    assert!(found.iter().any(|d| d.message.contains("leaves nothing")), "{found:?}");
}

#[test]
fn placeholders_that_only_a_pipeline_has_values_for_are_a_warning() {
    let rule = "title: one\nlogsource: {product: windows}\ndetection:\n  sel:\n    \
        User|expand: '%admins%'\n  condition: sel\n";
    let vars = "vars: {admins: [root, 'adm*']}\ntransformations: [type: value_placeholders]";
    let (rules, found) = compiled(rule, vec![view(&[vars])]);
    assert!(found.iter().all(|d| d.severity == Severity::Warning), "{found:?}");
    let event = r#"{"User": "ADM_x"}"#;
    assert_eq!([0, 1].map(|v| hits(&rules, v, event).len()), [0, 1]);
    let (rules, found) = compiled(rule, vec![view(&["transformations: []"])]);
    assert!(rules.is_empty() && found.iter().any(|d| d.code == Code::Placeholder));
}

#[test]
fn a_filter_goes_through_the_view_with_its_rule() {
    let filter = "---\ntitle: not us\nlogsource: {product: windows}\nfilter:\n  rules: any\n  sel:\n    \
        User: us\n  condition: not sel\n";
    let map = "transformations: [{type: field_name_prefix, prefix: w.}]";
    let (rules, _) = compiled(&format!("{RULE}{filter}"), vec![view(&[map])]);
    let event = |user: &str| {
        format!(r#"{{"w": {{"Image": "\\cmd.exe", "ThreatName": "x", "User": "{user}"}}}}"#)
    };
    assert_eq!(hits(&rules, 1, &event("them")).len(), 1);
    assert_eq!(hits(&rules, 1, &event("us")).len(), 0);
}

const BURST: &str = "title: one\nname: one\nlogsource: {product: windows}\ndetection:\n  sel:\n    \
    A: 1\n  condition: sel\n---\ntitle: many\ncorrelation:\n  type: value_count\n  rules: [one]\n  \
    group-by: [User, Host]\n  timespan: 1m\n  condition: {gte: 2, field: Target}\n";

#[test]
fn fields_of_correlations_are_looked_for_where_the_view_says() {
    let map = "transformations:\n- type: field_name_mapping\n  mapping: {User: [user.name, uid], \
        Target: t}\n  rule_conditions: [{type: logsource, product: windows}]\n";
    let (rules, found) = compiled(BURST, vec![view(&[map])]);
    assert_eq!(found, []);
    let changed = rules.detections[0].changed(1).expect("the rule in the view");
    let held = |name: &str| {
        let field = FieldPath::new(name);
        changed.holders(&field).iter().map(|f| f.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(held("User"), ["user.name", "uid"]);
    assert_eq!(held("Target"), ["t"]);
    assert_eq!(held("Host"), ["Host"]);
    assert_eq!(changed.families, [0]);
    let no = "transformations: [{type: rule_failure, message: no, rule_conditions: \
        [{type: is_sigma_correlation_rule}]}]";
    let (rules, found) = compiled(BURST, vec![view(&[no])]);
    assert!(rules.detections[0].changed(1).is_some_and(|v| v.families.is_empty()));
    assert!(found.iter().any(|d| d.message.contains("refuses `many`")), "{found:?}");
}

#[test]
fn what_is_wrong_with_a_pipeline_is_told_with_its_place() {
    for (text, at, what) in [
        ("nam: x", "nam", "did you mean `name`"),
        ("transformations: [{type: field_name_maping}]", "field_name_maping", "field_name_mapping"),
        ("transformations: [{type: field_name_mapping, mapping: {a: []}}]", "[]", "empty list"),
        ("transformations: [{type: field_name_mapping}]", "", "needs `mapping`"),
        ("transformations: [{type: query_expression_placeholders}]", "query_", "no query"),
        ("transformations: [{type: replace_string, regex: '(', replacement: x}]", "'('", "regular"),
        (
            r"transformations: [{type: replace_string, regex: a, replacement: '\1'}]",
            "'",
            "no group 1",
        ),
        ("transformations: [{type: drop_detection_item, colour: red}]", "colour", "no key"),
        (
            "transformations: [{type: drop_detection_item, rule_conditions: [{type: logsorce}]}]",
            "logsorce",
            "did you mean `logsource`",
        ),
        (
            "transformations: [{type: drop_detection_item, rule_conditions: {a: {type: \
             is_sigma_rule}}, rule_cond_expr: a or b}]",
            "b}]",
            "no selection is named `b`",
        ),
        (
            "transformations: [{type: drop_detection_item, rule_conditions: {a: {type: \
             is_sigma_rule}, c: {type: is_sigma_rule}}, rule_cond_expr: a}]",
            "a}]",
            "does not use the condition `c`",
        ),
        ("vars: [a]", "[a]", "must be a mapping"),
        ("priority: high", "high", "must be an integer"),
        ("- a", "- a", "must be a mapping"),
        ("transformations: [{type: change_logsource}]", "", "needs one of"),
        ("transformations: [{type: case, method: title}]", "title", "must be one of"),
    ] {
        let found = pipeline(text).err().unwrap_or_default();
        let fits = |d: &&Diagnostic| {
            d.to_string().contains(what) && text[d.place.bytes_in(text).start..].starts_with(at)
        };
        assert!(found.iter().any(|d| fits(&d)), "{text}: {found:#?}");
        assert!(found.iter().all(|d| d.help.is_some() && d.file.is_some()), "{found:#?}");
    }
}

#[test]
fn parts_for_queries_are_a_warning() {
    let text = "transformations: []\npostprocessing: [{type: embed, prefix: x}]\nfinalizers: []\n";
    let (_, found) = ProcessingPipeline::parse(&"p.yml".into(), text).expect("a pipeline");
    let codes: Vec<_> = found.iter().map(|d| (d.severity, d.code)).collect();
    assert_eq!(codes, [(Severity::Warning, Code::Pipeline)]);
}

/// Every case with pieces cut out, doubled or replaced by something of another kind.
#[test]
fn any_text_is_a_pipeline_or_a_finding() {
    let cases = include_str!("cases.yml");
    let rule = yaml::parse("sel: {A|endswith: x*, B: [1, null]}").expect("a rule").remove(0);
    let mut read = 0;
    for case in cases.split("- name:").skip(1) {
        let Some((_, text)) = case.split_once("pipeline: |\n") else { continue };
        let text = text.split("\n  rule:").next().unwrap_or_default();
        let text: String =
            text.lines().map(|l| format!("{}\n", l.trim_start_matches("    "))).collect();
        for (i, c) in text.char_indices() {
            let (before, after) = (&text[..i], &text[i + c.len_utf8()..]);
            for put in ["", "[", "{a: 1}", "~", "9", "'"] {
                match pipeline(&format!("{before}{put}{after}")) {
                    Ok(p) => {
                        read += 1;
                        let view = View::new("v", vec![Arc::new(p)]);
                        transformed(&view, &rule);
                    }
                    Err(found) => assert!(!found.is_empty()),
                }
            }
        }
    }
    assert!(read > 1_000, "{read}");
}

#[test]
fn what_would_grow_is_bounded() {
    let mut deep = "type: nest, items: [{type: drop_detection_item}]".to_owned();
    for _ in 0..20 {
        deep = format!("type: nest, items: [{{{deep}}}]");
    }
    let found = pipeline(&format!("transformations: [{{{deep}}}]")).expect_err("too deep");
    assert!(found.iter().any(|d| d.message.contains("limit of")), "{found:?}");
    let huge =
        "transformations: [{type: replace_string, regex: 'a{1000}{1000}{1000}', replacement: x}]";
    assert!(pipeline(huge).is_err());
}
