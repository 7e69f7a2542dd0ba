//! Modifiers of an item: what they ask for, and which may stand together (Sigma modifiers appendix).
//! What they do to values is the business of [`super::item`].

use super::diagnostic::{Code, Diagnostic, nearest};
use super::matcher::{Comparison, DatePart, TextRelation};
use super::regex::Flags;
use super::tree::{DetectionItem, Modifier};

/// Every modifier that is known; `utf16le` is another name of `wide`.
const MODIFIERS: &[&str] = &[
    "all",
    "base64",
    "base64offset",
    "cased",
    "cidr",
    "contains",
    "day",
    "dotall",
    "endswith",
    "exists",
    "expand",
    "fieldref",
    "gt",
    "gte",
    "hour",
    "i",
    "ignorecase",
    "lt",
    "lte",
    "m",
    "minute",
    "month",
    "multiline",
    "neq",
    "re",
    "s",
    "startswith",
    "utf16",
    "utf16be",
    "utf16le",
    "week",
    "wide",
    "windash",
    "year",
];

/// What the modifiers together ask for, beyond changing the values.
#[derive(Default)]
pub struct Asked {
    pub all: bool,
    pub cased: bool,
    pub negated: bool,
    pub regex: bool,
    pub flags: Flags,
    pub cidr: bool,
    pub exists: bool,
    pub fieldref: bool,
    pub compare: Option<Comparison>,
    pub date: Option<DatePart>,
    pub relation: Option<TextRelation>,
}

/// What the modifiers of an item ask for.
///
/// # Errors
/// An unknown modifier, or two that must not stand together.
pub fn asked(item: &DetectionItem) -> Result<Asked, Diagnostic> {
    let mut asked = Asked::default();
    for modifier in &item.modifiers {
        match modifier.name.as_str() {
            "all" => asked.all = true,
            "cased" => asked.cased = true,
            "neq" => asked.negated = true,
            "re" => asked.regex = true,
            "i" | "ignorecase" => asked.flags.ignore_case = true,
            "m" | "multiline" => asked.flags.multi_line = true,
            "s" | "dotall" => asked.flags.dot_all = true,
            "cidr" => asked.cidr = true,
            "exists" => asked.exists = true,
            "fieldref" => asked.fieldref = true,
            "lt" => asked.compare = Some(Comparison::Lt),
            "lte" => asked.compare = Some(Comparison::Lte),
            "gt" => asked.compare = Some(Comparison::Gt),
            "gte" => asked.compare = Some(Comparison::Gte),
            "minute" => asked.date = Some(DatePart::Minute),
            "hour" => asked.date = Some(DatePart::Hour),
            "day" => asked.date = Some(DatePart::Day),
            "week" => asked.date = Some(DatePart::Week),
            "month" => asked.date = Some(DatePart::Month),
            "year" => asked.date = Some(DatePart::Year),
            "contains" => asked.relation = Some(TextRelation::Contains),
            "startswith" => asked.relation = Some(TextRelation::StartsWith),
            "endswith" => asked.relation = Some(TextRelation::EndsWith),
            "expand" | "windash" | "base64" | "base64offset" | "wide" | "utf16" | "utf16le"
            | "utf16be" => {}
            _ => return Err(unknown_modifier(modifier, item)),
        }
    }
    combination(item)?;
    Ok(asked)
}

fn unknown_modifier(modifier: &Modifier, item: &DetectionItem) -> Diagnostic {
    let name = modifier.name.as_str();
    let what = format!("unknown modifier `{name}`");
    let diagnostic =
        Diagnostic::error(Code::Modifier, item.place, what).within(modifier.at.clone());
    let lower = name.to_lowercase();
    if MODIFIERS.contains(&lower.as_str()) {
        return diagnostic.help(format!("modifiers are lower case: write `{lower}`")).fix(lower);
    }
    let meant = match lower.as_str() {
        "not" | "ne" => Some("use `neq`, or `not` in the condition"),
        "eq" | "equals" => Some("leave it out: a value without modifier must be equal"),
        "in" | "oneof" | "any" => Some("leave it out: one value of a list is enough"),
        "regex" | "regexp" | "matches" => Some("did you mean `re`?"),
        "prefix" => Some("did you mean `startswith`?"),
        "suffix" => Some("did you mean `endswith`?"),
        "nocase" => Some("leave it out: case does not count unless `cased` says so"),
        _ => None,
    };
    match (meant, nearest(name, MODIFIERS.iter().copied())) {
        (Some(help), _) => diagnostic.help(help),
        (None, Some(near)) => diagnostic.help(format!("did you mean `{near}`?")),
        (None, None) => diagnostic.help(format!("the modifiers are: {}", MODIFIERS.join(", "))),
    }
}

/// What a modifier does, for the rule of which may stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// `contains` and its kin: where in the text.
    Where,
    /// `wide` and its kin: text to bytes.
    Utf16,
    /// Bytes to base64.
    Base64,
    /// `windash`.
    Dashes,
    /// `re`.
    Regex,
    /// Flags of `re`.
    RegexFlag,
    /// `cidr`.
    Network,
    /// `exists`.
    Presence,
    /// `fieldref`.
    Reference,
    /// `lt` and its kin.
    Order,
    /// `hour` and its kin.
    Date,
    /// `neq`.
    Differs,
    /// `cased`.
    Case,
    /// `all`.
    All,
    /// `expand`.
    Expand,
}

fn role(modifier: &str) -> Role {
    match modifier {
        "contains" | "startswith" | "endswith" => Role::Where,
        "base64" | "base64offset" => Role::Base64,
        "wide" | "utf16" | "utf16le" | "utf16be" => Role::Utf16,
        "windash" => Role::Dashes,
        "re" => Role::Regex,
        "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" => Role::RegexFlag,
        "cidr" => Role::Network,
        "exists" => Role::Presence,
        "fieldref" => Role::Reference,
        "lt" | "lte" | "gt" | "gte" => Role::Order,
        "minute" | "hour" | "day" | "week" | "month" | "year" => Role::Date,
        "neq" => Role::Differs,
        "cased" => Role::Case,
        "expand" => Role::Expand,
        _ => Role::All,
    }
}

/// Pairs that must not stand together, with why; the order within a pair does not count. What is not
/// listed may. (Sigma modifiers appendix; docs/semantics.md has the table for readers.)
const EXCLUDES: &[(Role, Role, &str)] = {
    use Role::{
        All, Base64, Case, Dashes, Date, Differs, Expand, Network, Order, Presence, Reference,
        Regex, Utf16, Where,
    };
    const KINDS: &str = "`re`, `cidr`, `exists`, `fieldref` and comparisons exclude each other";
    const TEXT: &str = "numbers, dates and networks have no text to shape";
    const ALONE: &str = "`exists` stands alone";
    const PLAIN: &str = "`re` takes only unmodified values";
    &[
        (Regex, Network, KINDS),
        (Regex, Reference, KINDS),
        (Regex, Order, KINDS),
        (Regex, Date, KINDS),
        (Network, Reference, KINDS),
        (Network, Order, KINDS),
        (Network, Date, KINDS),
        (Reference, Order, KINDS),
        (Reference, Date, KINDS),
        (Order, Order, "one comparison is enough: write a second item for the other bound"),
        (Date, Date, "one part of a date is compared at a time"),
        (Where, Where, "one of `contains`, `startswith`, `endswith` is enough"),
        (Presence, Regex, KINDS),
        (Presence, Network, KINDS),
        (Presence, Reference, KINDS),
        (Presence, Order, KINDS),
        (Presence, Date, ALONE),
        (Presence, Where, ALONE),
        (Presence, Utf16, ALONE),
        (Presence, Base64, ALONE),
        (Presence, Dashes, ALONE),
        (Presence, Differs, ALONE),
        (Presence, Case, ALONE),
        (Presence, All, ALONE),
        (Presence, Expand, ALONE),
        (Utf16, Utf16, "text has one encoding"),
        (Base64, Base64, "one of `base64` and `base64offset` is enough"),
        (Regex, Case, "case counts in `re` unless `i` says otherwise"),
        (Reference, Expand, "a `fieldref` names a field: it takes no placeholder"),
        (Network, Where, TEXT),
        (Network, Utf16, TEXT),
        (Network, Base64, TEXT),
        (Network, Dashes, TEXT),
        (Network, Case, TEXT),
        (Order, Where, TEXT),
        (Order, Utf16, TEXT),
        (Order, Base64, TEXT),
        (Order, Dashes, TEXT),
        (Order, Case, TEXT),
        (Date, Where, TEXT),
        (Date, Utf16, TEXT),
        (Date, Base64, TEXT),
        (Date, Dashes, TEXT),
        (Date, Case, TEXT),
        (Regex, Utf16, PLAIN),
        (Regex, Base64, PLAIN),
        (Regex, Dashes, PLAIN),
        (Reference, Utf16, "a `fieldref` names a field: it has no text to encode"),
        (Reference, Base64, "a `fieldref` names a field: it has no text to encode"),
        (Reference, Dashes, "a `fieldref` names a field: it has no dashes to vary"),
    ]
};

/// Pairs in an order that has no meaning: the first has made of the text what the second cannot take.
const DISORDER: &[(Role, Role)] = &[
    (Role::Base64, Role::Utf16),
    (Role::Base64, Role::Dashes),
    (Role::Utf16, Role::Dashes),
    (Role::Where, Role::Base64),
    (Role::Where, Role::Utf16),
];

/// Refuses modifiers that must not stand together.
fn combination(item: &DetectionItem) -> Result<(), Diagnostic> {
    let wrong = |modifier: &Modifier, what: &str| {
        Diagnostic::error(Code::Modifier, item.place, what).within(modifier.at.clone())
    };
    for (i, later) in item.modifiers.iter().enumerate() {
        let b = role(&later.name);
        for earlier in &item.modifiers[..i] {
            let a = role(&earlier.name);
            if earlier.name == later.name {
                let what = format!("`{}` stands there twice", later.name);
                return Err(wrong(later, &what).help("remove one of them"));
            }
            let pair = EXCLUDES.iter().find(|(x, y, _)| (*x, *y) == (a, b) || (*x, *y) == (b, a));
            if let Some((_, _, why)) = pair {
                let help = format!("remove `{}` or `{}`", earlier.name, later.name);
                return Err(wrong(later, why).help(help));
            }
            if DISORDER.contains(&(a, b)) {
                let what = format!("`{}` must stand before `{}`", later.name, earlier.name);
                let help = format!("write `{}|{}`", later.name, earlier.name);
                return Err(wrong(later, &what).help(help));
            }
        }
        if b == Role::Utf16 && !item.modifiers.iter().any(|m| role(&m.name) == Role::Base64) {
            let what = format!("`{}` gives bytes, which no event holds as text", later.name);
            let help = format!("write `{0}|base64` or `{0}|base64offset|contains`", later.name);
            return Err(wrong(later, &what).help(help));
        }
        if b == Role::RegexFlag && !item.has("re") {
            let help = format!("write `re|{}`", later.name);
            return Err(wrong(later, "`i`, `m` and `s` are flags of `re`").help(help));
        }
        if item.field.is_none() && matches!(b, Role::Reference | Role::Presence | Role::Differs) {
            let what = "keywords have no field to compare, to be present or to differ";
            return Err(wrong(later, what).help("name a field before the modifier"));
        }
    }
    Ok(())
}
