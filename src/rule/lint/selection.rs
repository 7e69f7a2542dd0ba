//! Selections and filters: items that say nothing more, or less than they seem to.

use crate::rule::condition::Condition;
use crate::rule::diagnostic::{Code, Diagnostic};
use crate::rule::tree::{DetectionItem, DetectionTree, Selection};
use crate::rule::yaml::{Node, Yaml, reads_as_text};

/// Looks at the selections of a rule or filter.
pub fn tree(tree: &DetectionTree, found: &mut Vec<Diagnostic>) {
    for (at, (name, selection)) in tree.selections.iter().enumerate() {
        items(selection, &[], found);
        let twin = tree.selections[..at].iter().find(|(_, earlier)| same(earlier, selection));
        if let Some((first, _)) = twin {
            let what = format!("`{}` is the same as `{}`", name.text, first.text);
            found.push(
                Diagnostic::hint(Code::Repeated, name.place, what)
                    .label(first.place, "the same is here")
                    .help("remove one, or write what was meant to differ"),
            );
        }
    }
}

fn items(selection: &Selection, siblings: &[Selection], found: &mut Vec<Diagnostic>) {
    match selection {
        Selection::All(parts) => parts.iter().for_each(|p| items(p, parts, found)),
        Selection::Any(parts) => {
            let keywords: Vec<&Node> = parts.iter().filter_map(keyword).collect();
            repeated(&keywords, false, found);
            parts.iter().for_each(|p| items(p, &[], found));
        }
        Selection::Item(item) => self::item(item, siblings, found),
    }
}

fn keyword(part: &Selection) -> Option<&Node> {
    match part {
        Selection::Item(item) if item.field.is_none() => item.values.first(),
        _ => None,
    }
}

fn item(item: &DetectionItem, siblings: &[Selection], found: &mut Vec<Diagnostic>) {
    nulls(item, found);
    idle_all(item, siblings, found);
    encoded(item, found);
    for node in &item.values {
        wildcards(node, item, found);
        quoted_number(node, item, found);
    }
    let values: Vec<&Node> = item.values.iter().collect();
    let cased = ["cased", "re", "base64", "base64offset"].iter().any(|m| item.has(m));
    repeated(&values, cased, found);
}

fn nulls(item: &DetectionItem, found: &mut Vec<Diagnostic>) {
    if item.values.len() < 2 {
        return;
    }
    for value in item.values.iter().filter(|v| v.value == Yaml::Null) {
        let what = "`null` inside a list: the specification does not allow it";
        found.push(
            Diagnostic::warning(Code::Portability, value.place, what)
                .help("write a selection of its own for the absent field and join them by `or`"),
        );
    }
}

/// `all` on a single value changes nothing, unless it tells the key from another one of the mapping.
fn idle_all(item: &DetectionItem, siblings: &[Selection], found: &mut Vec<Diagnostic>) {
    let all = item.modifiers.iter().find(|m| m.name == "all");
    let (Some(all), [value], Some(field)) = (all, item.values.as_slice(), &item.field) else {
        return;
    };
    let rest = |i: &DetectionItem| -> Vec<String> {
        i.modifiers.iter().map(|m| m.name.clone()).filter(|n| n != "all").collect()
    };
    let tells_apart = siblings.iter().any(|s| match s {
        Selection::Item(other) => {
            other.place != item.place
                && other.field.as_ref() == Some(field)
                && rest(other) == rest(item)
        }
        _ => false,
    });
    // A placeholder may stand for several values.
    if tells_apart || item.has("expand") || matches!(value.value, Yaml::Seq(_) | Yaml::Map(_)) {
        return;
    }
    found.push(
        Diagnostic::hint(Code::IdleModifier, item.place, "`all` has no effect on a single value")
            .within(all.at.start - 1..all.at.end)
            .help("remove it, or write a list of values")
            .fix(""),
    );
}

fn encoded(item: &DetectionItem, found: &mut Vec<Diagnostic>) {
    let base64 = item.modifiers.iter().find(|m| m.name.starts_with("base64"));
    let Some(base64) = base64.filter(|_| !item.has("cased")) else { return };
    let what = "base64 is compared without regard to case: other texts match as well";
    found.push(
        Diagnostic::hint(Code::EncodedCase, item.place, what)
            .within(base64.at.clone())
            .help("add `cased` if false matches matter"),
    );
}

/// Whether wildcards are read in the values of this item.
fn takes_wildcards(item: &DetectionItem) -> bool {
    !["re", "cidr", "fieldref", "expand", "base64", "base64offset"].iter().any(|m| item.has(m))
}

fn wildcards(node: &Node, item: &DetectionItem, found: &mut Vec<Diagnostic>) {
    let Some(text) = node.as_str().filter(|_| takes_wildcards(item)) else { return };
    if text == "*" {
        if item.field.is_some() {
            let what = "`*` matches every value, an empty one too";
            found.push(
                Diagnostic::hint(Code::Wildcard, node.place, what)
                    .help("write `field|exists: true`, or `?*` for a value that is not empty"),
            );
        }
        return;
    }
    let (front, back) = match item {
        i if i.has("contains") || i.field.is_none() => (true, true),
        i if i.has("startswith") => (false, true),
        i if i.has("endswith") => (true, false),
        _ => return,
    };
    let modifier = ["contains", "startswith", "endswith"].into_iter().find(|m| item.has(m));
    let modifier = modifier.map_or("a keyword".to_owned(), |m| format!("`{m}`"));
    let length = text.chars().count();
    let ends = [
        (front, 0..1, text.strip_prefix('*')),
        (back && ends_wild(text), length.saturating_sub(1)..length, text.strip_suffix('*')),
    ];
    for (_, at, rest) in ends.into_iter().filter(|(idle, ..)| *idle) {
        let Some(rest) = rest else { continue };
        let what = format!("this `*` does nothing: {modifier} leaves the ends open anyhow");
        let hint = Diagnostic::hint(Code::Wildcard, node.place, what).within(at);
        let hint = hint.help("remove it");
        found.push(if reads_as_text(rest.trim_start_matches('*')) { hint.fix("") } else { hint });
    }
}

/// Whether the text ends in a `*` that is a wildcard: an even number of backslashes before it.
fn ends_wild(text: &str) -> bool {
    let Some(before) = text.strip_suffix('*') else { return false };
    let slashes = before.len() - before.trim_end_matches('\\').len();
    !before.is_empty() && slashes % 2 == 0
}

fn quoted_number(node: &Node, item: &DetectionItem, found: &mut Vec<Diagnostic>) {
    let compares = ["lt", "lte", "gt", "gte"].iter().any(|m| item.has(m));
    let Some(text) = node.as_str().filter(|_| compares) else { return };
    if text.parse::<i64>().is_ok_and(|n| n.to_string() == text) {
        let what = "a number in quotes: other tools compare it as text, or refuse it";
        let hint = Diagnostic::hint(Code::Portability, node.place, what);
        found.push(hint.help(format!("write `{text}`")).fix(text));
    }
}

/// Values that stand in the list a second time.
fn repeated(values: &[&Node], cased: bool, found: &mut Vec<Diagnostic>) {
    let mut seen = std::collections::BTreeMap::new();
    for node in values {
        let Some(text) = node.scalar_text() else { continue };
        let quoted = node.as_str().is_some();
        let folded = if cased { text } else { text.to_lowercase() };
        if let Some(first) = seen.get(&(quoted, folded.clone())) {
            let what = "this value stands in the list already";
            found.push(
                Diagnostic::hint(Code::Repeated, node.place, what)
                    .label(*first, "the first is here")
                    .help("remove one; case makes no difference unless `cased` says so"),
            );
            continue;
        }
        seen.insert((quoted, folded), node.place);
    }
}

/// Whether two selections say the same, wherever they stand.
fn same(a: &Selection, b: &Selection) -> bool {
    let all = |a: &[Selection], b: &[Selection]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
    };
    match (a, b) {
        (Selection::All(a), Selection::All(b)) | (Selection::Any(a), Selection::Any(b)) => {
            all(a, b)
        }
        (Selection::Item(a), Selection::Item(b)) => {
            let values = |i: &DetectionItem| -> Vec<Yaml> {
                i.values.iter().map(|v| v.value.clone()).collect()
            };
            let names = |i: &DetectionItem| -> Vec<String> {
                i.modifiers.iter().map(|m| m.name.clone()).collect()
            };
            a.field == b.field
                && a.values.len() == b.values.len()
                && names(a) == names(b)
                && values(a) == values(b)
        }
        _ => false,
    }
}

/// A filter joins the rule by `and`: without a `not` it keeps what it names (Sigma filters
/// specification; pySigma).
pub fn filter(body: &Node, tree: &DetectionTree, found: &mut Vec<Diagnostic>) {
    if tree.conditions.iter().any(Condition::negates) {
        return;
    }
    let place = body.get("condition").map_or(body.place, |n| n.place);
    let what = "without a `not` this filter keeps only the events that it names";
    found.push(
        Diagnostic::warning(Code::FilterKeeps, place, what)
            .help("to leave them out write `condition: not selection`"),
    );
}
