//! Logsources that no event will have, or that every event has.

use crate::event::Logsource;
use crate::rule::diagnostic::{Code, Diagnostic, nearest};
use crate::rule::yaml::Node;

/// `kind name` lines: what public rules call their logsources. Names alone, in no order that matters.
const KNOWN: &str = include_str!("../taxonomy.txt");

/// Looks at the logsource of a rule. One without any part applies to every event.
pub fn logsource(document: &Node, logsource: &Logsource, found: &mut Vec<Diagnostic>) {
    let Some(node) = document.get("logsource") else { return };
    let unknown_keys = keys(node, found);
    if *logsource == Logsource::default() && !unknown_keys {
        let place = document.key("logsource").map_or(node.place, |k| k.place);
        let what = "the logsource names no product, category or service: the rule sees every event";
        found.push(
            Diagnostic::warning(Code::Logsource, place, what)
                .help("name at least one of them, such as `product: linux`"),
        );
    }
    let parts = [
        ("product", &logsource.product),
        ("category", &logsource.category),
        ("service", &logsource.service),
    ];
    for (kind, name) in parts.into_iter().filter_map(|(k, n)| Some((k, n.as_deref()?))) {
        part(node, kind, name, found);
    }
}

/// Keys that Sigma does not know in a logsource; true when there is one.
fn keys(node: &Node, found: &mut Vec<Diagnostic>) -> bool {
    const KEYS: [&str; 4] = ["product", "category", "service", "definition"];
    let before = found.len();
    for (key, _) in node.members().iter().filter(|(k, _)| !KEYS.contains(&k.text.as_str())) {
        let what = format!("a logsource has no `{}`: it is left out", key.text);
        let free = KEYS.into_iter().filter(|k| node.get(k).is_none());
        let help = match nearest(&key.text, free) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "it has product, category, service and, for people, definition".to_owned(),
        };
        found.push(Diagnostic::warning(Code::Logsource, key.place, what).help(help));
    }
    found.len() > before
}

/// A name near to a known one is probably a slip; any other may be one's own.
fn part(node: &Node, kind: &str, name: &str, found: &mut Vec<Diagnostic>) {
    let of = |kind: &'static str| {
        KNOWN.lines().filter_map(|l| l.split_once(' ')).filter(move |(k, _)| *k == kind)
    };
    let all = |wanted: &str| match wanted {
        "product" => of("product"),
        "category" => of("category"),
        _ => of("service"),
    };
    if all(kind).any(|(_, known)| known == name) {
        return;
    }
    let place = node.get(kind).map_or(node.place, |n| n.place);
    let elsewhere = ["product", "category", "service"]
        .into_iter()
        .find(|other| all(other).any(|(_, known)| known == name));
    let near = nearest(name, all(kind).map(|(_, known)| known));
    let told = format!("no public rule has the {kind} `{name}`");
    found.push(match (elsewhere, near) {
        (Some(other), _) => Diagnostic::hint(Code::Logsource, place, told)
            .help(format!("did you mean `{other}: {name}`?")),
        (None, Some(near)) => Diagnostic::warning(Code::Logsource, place, told)
            .help(format!("did you mean `{near}`?")),
        (None, None) => Diagnostic::hint(Code::Logsource, place, told)
            .help("that is fine when a source of your configuration has this name"),
    });
}
