//! `field|modifier|…: values` → matchers (Sigma modifiers appendix). Modifiers apply left to right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::detection::{Expr, Item, Values};
use super::diagnostic::{Code, Diagnostic, nearest};
use super::matcher::{Comparison, DatePart, Matcher, Number, TextRelation};
use super::pattern::{Pattern, TextMatcher};
use super::placeholder::{self, Placeholders};
use super::regex::{Flags, TextRegex};
use super::tree::{DetectionItem, Modifier};
use super::yaml::{Node, Yaml};
use crate::event::FieldPath;
use crate::limits::WINDASH_DASHES_MAX;

/// Every modifier that is known. `as` other names: `utf16le` is `wide`.
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

/// A value on its way through the modifiers.
#[derive(Clone)]
enum Draft {
    Text(Pattern),
    /// Text before its wildcards are read, for `re`, `cidr`, `fieldref` and `expand`.
    Raw(String),
    Bytes(Vec<u8>),
    Number(Number),
    Bool(bool),
    Null,
}

/// What the modifiers together ask for, beyond changing the values.
#[derive(Default)]
struct Asked {
    all: bool,
    cased: bool,
    negated: bool,
    regex: bool,
    flags: Flags,
    cidr: bool,
    exists: bool,
    fieldref: bool,
    compare: Option<Comparison>,
    date: Option<DatePart>,
    relation: Option<TextRelation>,
}

/// Compiles one item of a selection. What is wrong is added to `found`, with its place: unknown
/// modifier, illegal combination, values that a modifier cannot take.
pub fn compile(
    item: &DetectionItem,
    lists: &Placeholders,
    found: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let asked = match asked(item) {
        Ok(asked) => asked,
        Err(diagnostic) => {
            found.push(diagnostic);
            return None;
        }
    };
    let mut matchers = Vec::with_capacity(item.values.len());
    for node in &item.values {
        match value(node, item, &asked, lists) {
            Ok(matcher) => matchers.push(matcher),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    if matchers.len() < item.values.len() {
        return None;
    }
    let values = Values { matchers, all: asked.all };
    Some(match &item.field {
        None => Expr::Keywords(values),
        Some(field) => {
            Expr::Item(Item { field: FieldPath::new(field), values, negated: asked.negated })
        }
    })
}

/// One value with all its forms. `all` asks for all values, not for all forms of one.
fn value(
    node: &Node,
    item: &DetectionItem,
    asked: &Asked,
    lists: &Placeholders,
) -> Result<Matcher, Diagnostic> {
    let mut forms = Vec::new();
    for form in placeholder::forms(node, item.has("expand"), lists)? {
        let mut drafts = vec![draft(&form, asked)?];
        for modifier in &item.modifiers {
            drafts = apply(&modifier.name, drafts, &form)?;
        }
        for draft in drafts {
            let draft = if item.field.is_none() { anywhere(draft, &form) } else { draft };
            forms.push(matcher(draft, asked, &form)?);
        }
    }
    Ok(if forms.len() == 1 { forms.remove(0) } else { Matcher::Any(forms) })
}

/// A keyword matches anywhere in a value, and a number by its digits.
fn anywhere(draft: Draft, node: &Node) -> Draft {
    match draft {
        Draft::Text(pattern) => Draft::Text(pattern.anywhere()),
        Draft::Number(_) | Draft::Bool(_) => {
            Draft::Text(Pattern::literal(&node.scalar_text().unwrap_or_default()).anywhere())
        }
        draft => draft,
    }
}

fn asked(item: &DetectionItem) -> Result<Asked, Diagnostic> {
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
    /// Changes the text's bytes.
    Encode,
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
    /// `all`, `expand`.
    Free,
}

fn role(modifier: &str) -> Role {
    match modifier {
        "contains" | "startswith" | "endswith" => Role::Where,
        "base64" | "base64offset" | "wide" | "utf16" | "utf16le" | "utf16be" => Role::Encode,
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
        _ => Role::Free,
    }
}

/// Pairs that must not stand together, with why; the order within a pair does not count. What is not
/// listed may. (Sigma modifiers appendix; docs/semantics.md has the table for readers.)
const EXCLUDES: &[(Role, Role, &str)] = {
    use Role::{
        Case, Dashes, Date, Differs, Encode, Network, Order, Presence, Reference, Regex, Where,
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
        (Presence, Encode, ALONE),
        (Presence, Dashes, ALONE),
        (Presence, Differs, ALONE),
        (Presence, Case, ALONE),
        (Network, Where, TEXT),
        (Network, Encode, TEXT),
        (Network, Dashes, TEXT),
        (Network, Case, TEXT),
        (Order, Where, TEXT),
        (Order, Encode, TEXT),
        (Order, Dashes, TEXT),
        (Order, Case, TEXT),
        (Date, Where, TEXT),
        (Date, Encode, TEXT),
        (Date, Dashes, TEXT),
        (Date, Case, TEXT),
        (Regex, Encode, PLAIN),
        (Regex, Dashes, PLAIN),
        (Reference, Encode, "a `fieldref` names a field: it has no text to encode"),
        (Reference, Dashes, "a `fieldref` names a field: it has no dashes to vary"),
    ]
};

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

fn draft(node: &Node, asked: &Asked) -> Result<Draft, Diagnostic> {
    let raw = asked.regex || asked.cidr || asked.fieldref;
    Ok(match &node.value {
        Yaml::Null => Draft::Null,
        Yaml::Bool(b) => Draft::Bool(*b),
        Yaml::Int(n) if asked.regex => Draft::Raw(n.to_string()),
        Yaml::Int(n) => Draft::Number(Number::Int(*n)),
        Yaml::Float(n) => Draft::Number(Number::Float(*n)),
        Yaml::Str(s) if raw => Draft::Raw(s.clone()),
        Yaml::Str(s) => Draft::Text(Pattern::parse(s)),
        Yaml::Seq(items) if items.is_empty() => {
            let what = "an empty list matches nothing";
            return Err(Diagnostic::error(Code::Value, node.place, what)
                .help("write the values, or `null` for an absent field"));
        }
        Yaml::Seq(_) | Yaml::Map(_) => {
            let what = format!("a value must be a scalar, this is {}", node.kind());
            return Err(Diagnostic::error(Code::Value, node.place, what)
                .help("nested fields are written with dots: `parent.child: value`"));
        }
    })
}

fn apply(modifier: &str, drafts: Vec<Draft>, node: &Node) -> Result<Vec<Draft>, Diagnostic> {
    let needs_text = || {
        let what = format!("`{modifier}` needs a string, this is {}", node.kind());
        Diagnostic::error(Code::Value, node.place, what).help(match node.value {
            Yaml::Null => format!("an absent field has no text: leave `{modifier}` out"),
            _ => "put the value in quotes".to_owned(),
        })
    };
    let mut out = Vec::with_capacity(drafts.len());
    for draft in drafts {
        match (modifier, draft) {
            ("contains" | "startswith" | "endswith", raw @ Draft::Raw(_)) => out.push(raw),
            ("contains" | "startswith" | "endswith", draft) => {
                let number =
                    matches!(draft, Draft::Number(_)).then(|| node.scalar_text()).flatten();
                let pattern = match number {
                    Some(digits) => Pattern::literal(&digits),
                    None => text_of(draft).ok_or_else(needs_text)?,
                };
                out.push(Draft::Text(match modifier {
                    "contains" => pattern.anywhere(),
                    "startswith" => pattern.then_anything(),
                    _ => pattern.after_anything(),
                }));
            }
            ("windash", Draft::Text(pattern)) => {
                let forms = pattern.with_any_dash(WINDASH_DASHES_MAX).ok_or_else(|| {
                    let what =
                        format!("more than {WINDASH_DASHES_MAX} dashes in a `windash` value");
                    Diagnostic::error(Code::Value, node.place, what)
                        .help("write the parts as a list with `windash|contains|all`")
                })?;
                out.extend(forms.into_iter().map(Draft::Text));
            }
            ("wide" | "utf16le" | "utf16be" | "utf16", draft) => {
                let text = plain(draft).ok_or_else(needs_text)?;
                out.push(Draft::Bytes(utf16(modifier, &text)));
            }
            ("base64", draft) => {
                let bytes = bytes_of(draft).ok_or_else(|| no_wildcard(modifier, node))?;
                out.push(Draft::Text(Pattern::literal(&STANDARD.encode(bytes))));
            }
            ("base64offset", draft) => {
                let bytes = bytes_of(draft).ok_or_else(|| no_wildcard(modifier, node))?;
                out.extend(base64_offsets(&bytes).map(|s| Draft::Text(Pattern::literal(&s))));
            }
            ("windash", _) => return Err(needs_text()),
            (_, draft) => out.push(draft),
        }
    }
    Ok(out)
}

fn no_wildcard(modifier: &str, node: &Node) -> Diagnostic {
    let Some(text) = node.as_str() else {
        let what = format!("`{modifier}` needs a string, this is {}", node.kind());
        return Diagnostic::error(Code::Value, node.place, what).help("put the value in quotes");
    };
    let what = format!("`{modifier}` needs a string without wildcards");
    let diagnostic = Diagnostic::error(Code::Value, node.place, what)
        .help("escape a literal `*` or `?` with `\\`; encoded text has no wildcards");
    match first_wildcard(text) {
        Some(at) => diagnostic.within(at..at + 1),
        None => diagnostic,
    }
}

/// The character of the first `*` or `?` that no backslash escapes.
fn first_wildcard(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.chars().enumerate() {
        if matches!(c, '*' | '?') && !escaped {
            return Some(at);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn text_of(draft: Draft) -> Option<Pattern> {
    match draft {
        Draft::Text(pattern) => Some(pattern),
        Draft::Bytes(bytes) => Some(Pattern::literal(&String::from_utf8_lossy(&bytes))),
        _ => None,
    }
}

fn plain(draft: Draft) -> Option<String> {
    text_of(draft)?.as_literal().map(str::to_owned)
}

fn bytes_of(draft: Draft) -> Option<Vec<u8>> {
    match draft {
        Draft::Bytes(bytes) => Some(bytes),
        draft => plain(draft).map(String::into_bytes),
    }
}

fn utf16(modifier: &str, text: &str) -> Vec<u8> {
    let units = text.encode_utf16();
    match modifier {
        "utf16be" => units.flat_map(u16::to_be_bytes).collect(),
        "utf16" => [0xFF, 0xFE].into_iter().chain(units.flat_map(u16::to_le_bytes)).collect(),
        _ => units.flat_map(u16::to_le_bytes).collect(),
    }
}

/// The three forms that these bytes take inside longer base64 text, cut to what does not depend on
/// their neighbours.
fn base64_offsets(bytes: &[u8]) -> impl Iterator<Item = String> {
    const SKIP: [usize; 3] = [0, 2, 3];
    const DROP: [usize; 3] = [0, 3, 2];
    (0..3usize).map(move |offset| {
        let padded: Vec<u8> =
            std::iter::repeat_n(b' ', offset).chain(bytes.iter().copied()).collect();
        let text = STANDARD.encode(&padded);
        let end = text.len() - DROP[(bytes.len() + offset) % 3];
        text[SKIP[offset].min(end)..end].to_owned()
    })
}

fn matcher(draft: Draft, asked: &Asked, node: &Node) -> Result<Matcher, Diagnostic> {
    let wrong =
        |what: String, help: &str| Diagnostic::error(Code::Value, node.place, what).help(help);
    if asked.exists {
        return match draft {
            Draft::Bool(b) => Ok(Matcher::Exists(b)),
            _ => Err(wrong(
                format!("`exists` takes `true` or `false`, this is {}", node.kind()),
                "write it without quotes: `exists: true`",
            )),
        };
    }
    if let Some(part) = asked.date {
        return match draft {
            Draft::Number(Number::Int(n)) => {
                Ok(Matcher::Date(part, asked.compare.unwrap_or(Comparison::Eq), n))
            }
            _ => Err(wrong(
                format!("a part of a date is an integer, this is {}", node.kind()),
                "write a number, such as `hour: 22` (UTC)",
            )),
        };
    }
    if let Some(op) = asked.compare {
        return match (draft, node.as_str().map(str::parse::<i64>)) {
            (Draft::Number(n), _) => Ok(Matcher::Compare(op, n)),
            (_, Some(Ok(n))) => Ok(Matcher::Compare(op, Number::Int(n))),
            _ => Err(wrong(
                format!("a comparison needs a number, this is {}", node.kind()),
                "write a number without unit; for text there is no order",
            )),
        };
    }
    Ok(match draft {
        Draft::Raw(text) if asked.regex => Matcher::Regex(regex(&text, asked, node)?),
        Draft::Raw(text) if asked.cidr => Matcher::Cidr(network(&text, node)?),
        Draft::Raw(text) => Matcher::FieldRef {
            field: FieldPath::new(&text.replace(' ', "")),
            relation: asked.relation.unwrap_or(TextRelation::Equals),
            cased: asked.cased,
        },
        _ if asked.regex || asked.cidr || asked.fieldref => {
            let what = format!("this modifier needs a string, this is {}", node.kind());
            return Err(wrong(what, "put the value in quotes"));
        }
        Draft::Number(n) => Matcher::Number(n),
        Draft::Bool(b) => Matcher::Bool(b),
        Draft::Null => Matcher::Null,
        text => match text_of(text) {
            Some(pattern) => Matcher::Text(TextMatcher::new(&pattern, asked.cased)),
            None => return Err(wrong(format!("unexpected {}", node.kind()), "write a string")),
        },
    })
}

fn regex(text: &str, asked: &Asked, node: &Node) -> Result<TextRegex, Diagnostic> {
    TextRegex::new(text, asked.flags).map_err(|error| {
        let what = format!("not a regular expression: {}", error.reason);
        let diagnostic = Diagnostic::error(Code::Value, node.place, what)
            .help("the syntax is that of RE2, with look-around and back-references besides");
        match error.at {
            Some(at) => diagnostic.within(at),
            None => diagnostic,
        }
    })
}

fn network(text: &str, node: &Node) -> Result<IpNet, Diagnostic> {
    let net: Option<IpNet> =
        text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    match net {
        Some(net) if net.trunc() == net => Ok(net),
        Some(net) => Err(Diagnostic::error(
            Code::Value,
            node.place,
            format!("`{text}` has bits set beyond its prefix"),
        )
        .help(format!("did you mean `{}`?", net.trunc()))),
        None => {
            let what = format!("`{text}` is no network such as 10.0.0.0/8 or fc00::/7");
            let help = match text.rsplit_once(':') {
                Some((address, port))
                    if address.parse::<std::net::Ipv4Addr>().is_ok()
                        && port.parse::<u16>().is_ok() =>
                {
                    format!("a network has no port: write `{address}`")
                }
                _ if text.contains('*') => "wildcards are not read here: write the prefix".into(),
                _ => "write address and prefix length, such as `192.168.0.0/16`".into(),
            };
            Err(Diagnostic::error(Code::Value, node.place, what).help(help))
        }
    }
}
