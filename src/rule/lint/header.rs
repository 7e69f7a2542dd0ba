//! Heads that readers and tools will miss something in: ids, status, dates, tags, misspelt keys.

use crate::rule::diagnostic::{Code, Diagnostic, nearest};
use crate::rule::yaml::{Node, Yaml};

/// The keys of a rule in the Sigma specification, and ours.
const KEYS: &[&str] = &[
    "action",
    "aliases",
    "anomaly",
    "author",
    "correlation",
    "date",
    "description",
    "detection",
    "falsepositives",
    "fields",
    "filter",
    "generate",
    "id",
    "level",
    "license",
    "logsource",
    "modified",
    "name",
    "references",
    "related",
    "scope",
    "sigma-version",
    "status",
    "tags",
    "taxonomy",
    "title",
];

const STATUSES: &[&str] = &["stable", "test", "experimental", "deprecated", "unsupported"];

/// The tactics of MITRE ATT&CK Enterprise as tags write them.
const TACTICS: &[&str] = &[
    "collection",
    "command-and-control",
    "credential-access",
    "defense-evasion",
    "defense-impairment",
    "discovery",
    "execution",
    "exfiltration",
    "impact",
    "initial-access",
    "lateral-movement",
    "persistence",
    "privilege-escalation",
    "reconnaissance",
    "resource-development",
    "stealth",
];

/// Looks at the head of a document of any kind.
pub fn header(document: &Node, found: &mut Vec<Diagnostic>) {
    missing(document, found);
    misspelt(document, found);
    id(document, found);
    status(document, found);
    ["date", "modified"].iter().for_each(|name| date(document, name, found));
    if let Some(Yaml::Seq(tags)) = document.get("tags").map(|n| &n.value) {
        tags.iter().for_each(|t| tag(t, found));
    }
}

fn missing(document: &Node, found: &mut Vec<Diagnostic>) {
    let place = document.key("title").map_or(document.place, |k| k.place);
    let mut told = |what: &str, help: &str| {
        found.push(Diagnostic::hint(Code::Header, place, what).help(help));
    };
    if document.get("id").is_none() {
        told(
            "the rule has no `id`: its alerts change their identity with its name",
            "give it a random UUID, such as `uuidgen` prints",
        );
    }
    if document.get("level").is_none() && document.get("filter").is_none() {
        told(
            "the rule has no `level`: it counts as informational",
            "write one of informational, low, medium, high, critical",
        );
    }
}

/// Keys of one's own are welcome; one that is nearly a known key is a slip.
fn misspelt(document: &Node, found: &mut Vec<Diagnostic>) {
    for (key, _) in document.members() {
        if KEYS.contains(&key.text.as_str()) {
            continue;
        }
        // Without any of these the document is refused, and that says what was meant.
        let told = |k: &str| matches!(k, "detection" | "correlation" | "anomaly" | "filter");
        let free = KEYS.iter().copied().filter(|k| document.get(k).is_none() && !told(k));
        let Some(near) = nearest(&key.text, free) else { continue };
        let what = format!("`{}` is no key of Sigma and is left out", key.text);
        let help = format!("did you mean `{near}`?");
        found.push(Diagnostic::warning(Code::Header, key.place, what).help(help));
    }
}

fn id(document: &Node, found: &mut Vec<Diagnostic>) {
    let Some((node, id)) = document.get("id").and_then(|n| Some((n, n.scalar_text()?))) else {
        return;
    };
    let groups: Vec<&str> = id.split('-').collect();
    let hex = |s: &&str| s.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths = groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12]);
    if !(lengths && groups.iter().all(hex)) {
        let what = format!("the id `{id}` is no UUID");
        found.push(
            Diagnostic::hint(Code::Header, node.place, what)
                .help("take one that `uuidgen` prints, and put a speaking name under `name`"),
        );
    }
}

fn status(document: &Node, found: &mut Vec<Diagnostic>) {
    let Some((node, text)) = document.get("status").and_then(|n| Some((n, n.as_str()?))) else {
        return;
    };
    if STATUSES.contains(&text) {
        return;
    }
    let diagnostic =
        Diagnostic::warning(Code::Header, node.place, format!("unknown status `{text}`"));
    let lower = text.to_lowercase();
    found.push(if STATUSES.contains(&lower.as_str()) {
        let help = format!("statuses are lower case: write `{lower}`");
        diagnostic.within(0..text.chars().count()).help(help).fix(lower)
    } else if let Some(near) = nearest(&lower, STATUSES.iter().copied()) {
        diagnostic.help(format!("did you mean `{near}`?"))
    } else {
        diagnostic.help(format!("the statuses are: {}", STATUSES.join(", ")))
    });
}

fn date(document: &Node, name: &str, found: &mut Vec<Diagnostic>) {
    let Some((node, text)) = document.get(name).and_then(|n| Some((n, n.scalar_text()?))) else {
        return;
    };
    if is_date(&text) {
        return;
    }
    let dashed = text.replace('/', "-");
    found.push(if is_date(&dashed) {
        let what = format!("`{name}` is written with slashes, as Sigma 1 did");
        Diagnostic::hint(Code::Header, node.place, what)
            .within(0..text.chars().count())
            .help(format!("write `{dashed}`"))
            .fix(dashed)
    } else {
        let what = format!("`{name}: {text}` is no date");
        Diagnostic::warning(Code::Header, node.place, what)
            .help("write year, month and day: `2025-01-31`")
    });
}

fn is_date(text: &str) -> bool {
    let shape = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
    shape && text.parse::<jiff::civil::Date>().is_ok()
}

fn tag(node: &Node, found: &mut Vec<Diagnostic>) {
    let Some(text) = node.as_str() else { return };
    let lower = text.to_lowercase();
    let all = 0..text.chars().count();
    if lower != text {
        let what = format!("the tag `{text}` has capitals: tags are lower case");
        let help = format!("write `{lower}`");
        let hint = Diagnostic::hint(Code::Header, node.place, what).within(all);
        found.push(hint.help(help).fix(lower));
        return;
    }
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let named = text.split_once('.').filter(|(space, name)| !space.is_empty() && !name.is_empty());
    let Some((space, name)) = named.filter(|_| text.chars().all(word)) else {
        let what = format!("the tag `{text}` has no namespace, or a character that tags have not");
        found.push(
            Diagnostic::hint(Code::Header, node.place, what).help(
                "write `namespace.name`, such as `attack.t1110` or `detection.threat-hunting`",
            ),
        );
        return;
    };
    if space == "attack" {
        attack(node, name, found);
    }
}

/// Tactics, techniques, groups, software and data sources of MITRE ATT&CK.
fn attack(node: &Node, name: &str, found: &mut Vec<Diagnostic>) {
    if TACTICS.contains(&name) || is_attack_id(name) {
        return;
    }
    let dashed = name.replace('_', "-");
    if TACTICS.contains(&dashed.as_str()) {
        let what = "ATT&CK tactics are written with dashes since Sigma 2";
        let start = "attack.".len();
        let hint = Diagnostic::hint(Code::Header, node.place, what);
        let hint = hint.within(start..start + name.chars().count());
        found.push(hint.help(format!("write `attack.{dashed}`")).fix(dashed));
        return;
    }
    let what = format!("`attack.{name}` is no tactic, technique, group or software of ATT&CK");
    found.push(Diagnostic::hint(Code::Header, node.place, what).help(
        match nearest(name, TACTICS.iter().copied()) {
            Some(near) => format!("did you mean `attack.{near}`?"),
            None => "techniques are written `attack.t1110` or `attack.t1110.001`".to_owned(),
        },
    ));
}

fn is_attack_id(name: &str) -> bool {
    let digits = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
    let (id, sub) = name.split_once('.').map_or((name, None), |(id, sub)| (id, Some(sub)));
    let with = |letters: &str| id.strip_prefix(letters).is_some_and(|d| digits(d, 4));
    match sub {
        Some(sub) => with("t") && digits(sub, 3),
        None => ["t", "ta", "g", "s", "m", "c", "ds"].into_iter().any(with),
    }
}
