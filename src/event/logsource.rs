//! What kind of log an event is from, and which rules are meant for it (Sigma rules specification,
//! Log Source).
//!
//! Routing is part of being right, not only of being fast: a rule that says `not filter` alone would
//! fire on every foreign event. What is unknown about an event excludes nothing, unless its product and a
//! category or service are known: then that is taken to be the whole truth. Where configuration or a
//! mapping knows something, fields of the event itself add to it, but cannot make it complete: they
//! are content, and content must not switch rules off. The tables of `decode` count as configuration:
//! they are in force by default, and configuration turns them off.

use std::fmt;

use crate::limits::LOGSOURCE_NAME_BYTES_MAX;

/// What a rule is written for. Each part that is given must agree; lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Logsource {
    /// Such as `windows`, `linux`, `aws`.
    pub product: Option<Box<str>>,
    /// Such as `process_creation`.
    pub category: Option<Box<str>>,
    /// Such as `sshd`, `security`.
    pub service: Option<Box<str>>,
}

/// What is known about an event. It may be several at once: an sshd line is `sshd` and `auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventSource {
    product: Vec<Box<str>>,
    category: Vec<Box<str>>,
    service: Vec<Box<str>>,
    complete: bool,
}

impl EventSource {
    /// Adds a product name.
    pub fn add_product(&mut self, name: &str) {
        add(&mut self.product, name);
    }

    /// Adds a category.
    pub fn add_category(&mut self, name: &str) {
        add(&mut self.category, name);
    }

    /// Adds a service.
    pub fn add_service(&mut self, name: &str) {
        add(&mut self.service, name);
    }

    /// Adds all that `other` knows.
    pub fn extend(&mut self, other: &Self) {
        merge(&mut self.product, &other.product);
        merge(&mut self.category, &other.category);
        merge(&mut self.service, &other.service);
    }

    /// Whether both could be said of one event: what both know, they agree on somewhere.
    pub fn agrees(&self, other: &Self) -> bool {
        let meet = |a: &[Box<str>], b: &[Box<str>]| {
            a.is_empty() || b.is_empty() || a.iter().any(|n| b.contains(n))
        };
        meet(&self.product, &other.product)
            && meet(&self.category, &other.category)
            && meet(&self.service, &other.service)
    }

    /// Whether it knows that product.
    pub fn has_product(&self, name: &str) -> bool {
        has(&self.product, name)
    }

    /// Whether it knows that category.
    pub fn has_category(&self, name: &str) -> bool {
        has(&self.category, name)
    }

    /// Whether it knows that service.
    pub fn has_service(&self, name: &str) -> bool {
        has(&self.service, name)
    }

    /// The products that it knows.
    pub fn products(&self) -> &[Box<str>] {
        &self.product
    }

    /// The categories that it knows.
    pub fn categories(&self) -> &[Box<str>] {
        &self.category
    }

    /// The services that it knows.
    pub fn services(&self) -> &[Box<str>] {
        &self.service
    }

    /// Whether nothing is known, so that every rule applies.
    pub fn is_unknown(&self) -> bool {
        self.product.is_empty() && self.category.is_empty() && self.service.is_empty()
    }

    /// Takes what is known so far for the whole truth, if it is enough for that.
    pub fn settle(&mut self) {
        self.complete = self.is_enough();
    }

    fn is_enough(&self) -> bool {
        let kind_known = !self.category.is_empty() || !self.service.is_empty();
        kind_known && !self.product.is_empty()
    }
}

impl Logsource {
    /// Whether a rule for this logsource applies to an event from `source`.
    pub fn admits(&self, source: &EventSource) -> bool {
        let complete = source.complete;
        let agrees = |wanted: &Option<Box<str>>, known: &[Box<str>]| match wanted {
            None => true,
            Some(_) if known.is_empty() => !complete,
            Some(name) => known.contains(name),
        };
        agrees(&self.product, &source.product)
            && agrees(&self.category, &source.category)
            && agrees(&self.service, &source.service)
    }

    /// Whether every part given here is given there, and equal: a filter with this logsource applies
    /// to a rule with that one (Sigma filters specification).
    pub fn covers(&self, rule: &Self) -> bool {
        let agrees = |a: &Option<Box<str>>, b: &Option<Box<str>>| a.is_none() || a == b;
        agrees(&self.product, &rule.product)
            && agrees(&self.category, &rule.category)
            && agrees(&self.service, &rule.service)
    }
}

fn has(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Adds a name, unless it is too long to be one.
fn add(names: &mut Vec<Box<str>>, name: &str) {
    if name.len() > LOGSOURCE_NAME_BYTES_MAX {
        return;
    }
    let name = name.to_lowercase();
    if !name.is_empty() && !names.iter().any(|n| **n == *name) {
        names.push(name.into());
    }
}

/// Adds names that are in lower case already.
fn merge(names: &mut Vec<Box<str>>, more: &[Box<str>]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}

/// `product/category/service`, alternatives joined by `+`, `-` for what is not known.
impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |names: &[Box<str>]| match names {
            [] => "-".to_owned(),
            names => names.join("+"),
        };
        let (product, category) = (part(&self.product), part(&self.category));
        write!(f, "{product}/{category}/{}", part(&self.service))
    }
}

/// `product/category/service`, `-` for what is not given.
impl fmt::Display for Logsource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &'_ Option<Box<str>>| name.clone().unwrap_or_else(|| "-".into());
        let (product, category) = (part(&self.product), part(&self.category));
        write!(f, "{product}/{category}/{}", part(&self.service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(product: &str, category: &str, service: &str) -> Logsource {
        let part = |s: &str| (!s.is_empty()).then(|| s.into());
        Logsource { product: part(product), category: part(category), service: part(service) }
    }

    fn source(product: &str, category: &str, service: &str) -> EventSource {
        let mut s = EventSource::default();
        s.add_product(product);
        s.add_category(category);
        s.add_service(service);
        s.settle();
        s
    }

    #[test]
    fn unknown_parts_exclude_nothing_until_the_source_is_complete() {
        let sshd = rule("linux", "", "sshd");
        let creation = rule("linux", "process_creation", "");
        for (rule, source, expect) in [
            (&sshd, source("", "", ""), true),
            (&sshd, source("Linux", "", ""), true),
            (&sshd, source("windows", "", ""), false),
            (&sshd, source("linux", "", "sshd"), true),
            (&sshd, source("", "", "sshd"), true),
            (&creation, source("linux", "", ""), true),
            (&creation, source("linux", "", "sshd"), false),
            (&creation, source("", "process_creation", ""), true),
        ] {
            assert_eq!(rule.admits(&source), expect, "{rule:?} on {source:?}");
        }
    }

    #[test]
    fn an_event_may_be_of_several_services() {
        let mut s = source("linux", "", "sshd");
        s.add_service("auth");
        assert!(rule("linux", "", "auth").admits(&s) && rule("linux", "", "sshd").admits(&s));
    }

    #[test]
    fn a_filter_covers_rules_that_name_at_least_its_parts() {
        assert!(rule("windows", "", "").covers(&rule("windows", "process_creation", "")));
        assert!(!rule("windows", "", "security").covers(&rule("windows", "", "")));
    }
}
