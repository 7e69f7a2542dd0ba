//! Correlations that run and yet do not do all that they say.

use crate::limits::MATCHES_RETENTION_MICROS;
use crate::rule::correlation::Correlation;
use crate::rule::diagnostic::{Code, Diagnostic, nearest};
use crate::rule::yaml::Node;

/// Looks at a correlation; `node` is its mapping.
pub fn correlation(node: &Node, correlation: &Correlation, found: &mut Vec<Diagnostic>) {
    aliases(correlation, found);
    if correlation.timespan_micros > MATCHES_RETENTION_MICROS {
        let place = node.get("timespan").map_or(node.place, |n| n.place);
        let days = MATCHES_RETENTION_MICROS / 86_400_000_000;
        let what = format!("the timespan is longer than the {days} days that matches are kept");
        let help = "keep the matches topic at least that long, or ask for a shorter timespan: \
                    after a restart only matches that are kept count";
        found.push(Diagnostic::hint(Code::Cost, place, what).help(help));
    }
}

/// Aliases that nothing uses, or that name a rule which the correlation is not about.
fn aliases(correlation: &Correlation, found: &mut Vec<Diagnostic>) {
    let group_by = || correlation.group_by.iter().map(crate::event::FieldPath::as_str);
    for alias in &correlation.aliases {
        if !group_by().any(|g| g == alias.name.text) {
            let what = format!("`group-by` does not use the alias `{}`", alias.name.text);
            let help = format!("write `group-by: [{}]`, or remove the alias", alias.name.text);
            found.push(Diagnostic::warning(Code::Reference, alias.name.place, what).help(help));
        }
        let rules = || correlation.rules.iter().map(|k| k.text.as_str());
        for (rule, _) in alias.fields.iter().filter(|(r, _)| !rules().any(|k| k == r.text)) {
            let what = format!("the correlation is not about a rule `{}`", rule.text);
            let help = match nearest(&rule.text, rules()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name the rule as `rules` names it".to_owned(),
            };
            found.push(Diagnostic::warning(Code::Reference, rule.place, what).help(help));
        }
    }
}
