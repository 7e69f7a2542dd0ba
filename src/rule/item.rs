//! `field|modifier|…: values` → matchers (Sigma modifiers appendix). Modifiers apply left to right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use regex::RegexBuilder;

use super::detection::{Expr, Item, Values};
use super::diagnostic::{Code, Diagnostic, Place, nearest};
use super::matcher::{Comparison, DatePart, Matcher, Number, TextRelation};
use super::pattern::{Pattern, TextMatcher};
use super::yaml::{Key, Node, Yaml};
use crate::event::FieldPath;
use crate::limits::{REGEX_BYTES_MAX, WINDASH_DASHES_MAX};

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
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
    cidr: bool,
    exists: bool,
    fieldref: bool,
    compare: Option<Comparison>,
    date: Option<DatePart>,
    relation: Option<TextRelation>,
}

/// Compiles one member of a selection.
///
/// # Errors
/// Unknown modifier, illegal combination, or a value that a modifier cannot take; with its place.
pub fn compile(key: &Key, value: &Node) -> Result<Expr, Diagnostic> {
    let mut parts = key.text.split('|');
    let field = parts.next().unwrap_or_default();
    let modifiers: Vec<&str> = parts.collect();
    let (values, asked) = values(&modifiers, key.place, value, field.is_empty())?;
    if field.is_empty() {
        if asked.fieldref || asked.exists || asked.negated {
            let what = "keywords have no field to compare, to be present or to differ";
            return Err(Diagnostic::error(Code::Modifier, key.place, what));
        }
        return Ok(Expr::Keywords(values));
    }
    // Spaces are no part of a field's name (Sigma rules specification, Field Usage).
    let field = FieldPath::new(&field.replace(' ', ""));
    Ok(Expr::Item(Item { field, values, negated: asked.negated }))
}

/// Compiles one plain keyword.
///
/// # Errors
/// When the value cannot be searched for.
pub fn keywords(node: &Node) -> Result<Values, Diagnostic> {
    values(&[], node.place, node, true).map(|(values, _)| values)
}

fn values(
    modifiers: &[&str],
    place: Place,
    node: &Node,
    keyword: bool,
) -> Result<(Values, Asked), Diagnostic> {
    let asked = asked(modifiers, place)?;
    let nodes = match &node.value {
        Yaml::Seq(items) if items.is_empty() => {
            let what = "an empty list matches nothing";
            return Err(Diagnostic::error(Code::Value, node.place, what)
                .help("write the values, or `null` for an absent field"));
        }
        Yaml::Seq(items) => items.iter().collect(),
        _ => vec![node],
    };
    let mut matchers = Vec::new();
    for value in &nodes {
        let mut drafts = vec![draft(value, &asked)?];
        for modifier in modifiers {
            drafts = apply(modifier, drafts, value)?;
        }
        let mut forms = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let draft = if keyword { anywhere(draft, value) } else { draft };
            forms.push(matcher(draft, &asked, value)?);
        }
        // `all` asks for all values, not for all forms of one.
        matchers.push(if forms.len() == 1 { forms.remove(0) } else { Matcher::Any(forms) });
    }
    Ok((Values { matchers, all: asked.all }, asked))
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

fn asked(modifiers: &[&str], place: Place) -> Result<Asked, Diagnostic> {
    let mut asked = Asked::default();
    for modifier in modifiers {
        match *modifier {
            "all" => asked.all = true,
            "cased" => asked.cased = true,
            "neq" => asked.negated = true,
            "re" => asked.regex = true,
            "i" | "ignorecase" => asked.ignore_case = true,
            "m" | "multiline" => asked.multi_line = true,
            "s" | "dotall" => asked.dot_all = true,
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
            unknown => return Err(unknown_modifier(unknown, place)),
        }
    }
    combination(&asked, modifiers, place)?;
    Ok(asked)
}

fn unknown_modifier(name: &str, place: Place) -> Diagnostic {
    let diagnostic = Diagnostic::error(Code::Modifier, place, format!("unknown modifier `{name}`"));
    match nearest(name, MODIFIERS.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None if name == "not" => diagnostic.help("use `neq`, or `not` in the condition"),
        None => diagnostic.help(format!("the modifiers are: {}", MODIFIERS.join(", "))),
    }
}

/// Which modifiers may stand together.
fn combination(asked: &Asked, modifiers: &[&str], place: Place) -> Result<(), Diagnostic> {
    let flags = asked.ignore_case || asked.multi_line || asked.dot_all;
    let kinds = [asked.regex, asked.cidr, asked.exists, asked.fieldref, asked.compare.is_some()];
    let encodes = modifiers.iter().any(|m| {
        matches!(*m, "base64" | "base64offset" | "wide" | "utf16" | "utf16le" | "utf16be")
    });
    let shaped = asked.relation.is_some() || encodes || modifiers.contains(&"windash");
    let wrong = if flags && !asked.regex {
        Some("`i`, `m` and `s` are flags of `re`")
    } else if kinds.iter().filter(|k| **k).count() > 1 {
        Some("`re`, `cidr`, `exists`, `fieldref` and comparisons exclude each other")
    } else if asked.exists && modifiers.len() > 1 {
        Some("`exists` stands alone")
    } else if (asked.cidr || asked.compare.is_some() || asked.date.is_some()) && shaped {
        Some("numbers, dates and networks have no text to shape")
    } else if asked.regex && (encodes || modifiers.contains(&"windash")) {
        Some("`re` takes only unmodified values")
    } else {
        None
    };
    match wrong {
        Some(what) => Err(Diagnostic::error(Code::Modifier, place, what)),
        None => Ok(()),
    }
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
        Diagnostic::error(Code::Value, node.place, what).help("put the value in quotes")
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
            ("expand", Draft::Text(_) | Draft::Raw(_)) if placeholder(node).is_some() => {
                let name = placeholder(node).unwrap_or_default();
                let what = format!("the placeholder `%{name}%` has no list of values");
                return Err(Diagnostic::error(Code::Unsupported, node.place, what).help(
                    "a rule whose placeholder is unknown must be refused (Sigma, Placeholders)",
                ));
            }
            ("windash", _) => return Err(needs_text()),
            (_, draft) => out.push(draft),
        }
    }
    Ok(out)
}

fn no_wildcard(modifier: &str, node: &Node) -> Diagnostic {
    let what = format!("`{modifier}` needs a string without wildcards");
    Diagnostic::error(Code::Value, node.place, what).help("escape a literal `*` or `?` with `\\`")
}

fn placeholder(node: &Node) -> Option<&str> {
    let text = node.as_str()?;
    let start = text.match_indices('%').map(|(i, _)| i).find(|&i| !text[..i].ends_with('\\'))?;
    let rest = &text[start + 1..];
    rest.find('%').map(|end| &rest[..end]).filter(|name| !name.is_empty())
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
    let wrong = |what: String| Diagnostic::error(Code::Value, node.place, what);
    if asked.exists {
        return match draft {
            Draft::Bool(b) => Ok(Matcher::Exists(b)),
            _ => Err(wrong("`exists` takes `true` or `false`".into())),
        };
    }
    if let Some(part) = asked.date {
        return match draft {
            Draft::Number(Number::Int(n)) => {
                Ok(Matcher::Date(part, asked.compare.unwrap_or(Comparison::Eq), n))
            }
            _ => Err(wrong("a part of a date is compared with an integer".into())),
        };
    }
    if let Some(op) = asked.compare {
        return match (draft, node.as_str().map(str::parse::<i64>)) {
            (Draft::Number(n), _) => Ok(Matcher::Compare(op, n)),
            (_, Some(Ok(n))) => Ok(Matcher::Compare(op, Number::Int(n))),
            _ => Err(wrong(format!("a comparison needs a number, this is {}", node.kind()))),
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
            return Err(wrong(format!("this modifier needs a string, this is {}", node.kind())));
        }
        Draft::Number(n) => Matcher::Number(n),
        Draft::Bool(b) => Matcher::Bool(b),
        Draft::Null => Matcher::Null,
        text => match text_of(text) {
            Some(pattern) => Matcher::Text(TextMatcher::new(&pattern, asked.cased)),
            None => return Err(wrong(format!("unexpected {}", node.kind()))),
        },
    })
}

fn regex(text: &str, asked: &Asked, node: &Node) -> Result<regex::Regex, Diagnostic> {
    RegexBuilder::new(text)
        .case_insensitive(asked.ignore_case)
        .multi_line(asked.multi_line)
        .dot_matches_new_line(asked.dot_all)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|e| {
            let last = e.to_string();
            let reason = last.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let what = format!("not a regular expression that runs in linear time: {reason}");
            Diagnostic::error(Code::Value, node.place, what)
                .help("look-around and back-references are refused: they can take exponential time")
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
            Err(Diagnostic::error(Code::Value, node.place, what))
        }
    }
}
