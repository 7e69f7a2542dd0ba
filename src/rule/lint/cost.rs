//! Patterns that cost much on every event.

use crate::limits::REGEX_STEPS_MAX;
use crate::rule::cost::{self, RegexShape};
use crate::rule::diagnostic::{Code, Diagnostic};
use crate::rule::tree::DetectionTree;

/// Looks at what a detection asks of events that it does not match in the end.
pub fn cost(tree: &DetectionTree, found: &mut Vec<Diagnostic>) {
    let mut items = Vec::new();
    tree.selections.iter().for_each(|(_, s)| s.items(&mut items));
    for item in items.into_iter().filter(|i| i.has("re")) {
        for (node, text) in item.values.iter().filter_map(|n| Some((n, n.as_str()?))) {
            if cost::regex_shape(text, item) == RegexShape::Backtracking {
                let what = "look-around and back-references need an engine that goes back";
                let help = format!(
                    "it takes at most {REGEX_STEPS_MAX} steps for one value and counts as no match \
                     beyond; where it can be done, say it by two selections"
                );
                found.push(Diagnostic::hint(Code::Cost, node.place, what).help(help));
            }
        }
    }
    if let Some(node) = cost::regex_on_every_event(tree) {
        let what = "every event of the logsource is searched by this regular expression";
        let help = format!(
            "add an item that is cheap to decide, such as `EventID: 4688`, or a text of at least {} \
             characters that must stand in the match",
            cost::ANCHOR_CHARACTERS_MIN
        );
        found.push(Diagnostic::hint(Code::Cost, node.place, what).help(help));
    }
}
