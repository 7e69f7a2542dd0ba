//! `field|modifier|…: values` → matchers (Sigma modifiers appendix). Modifiers apply left to right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::detection::{Expr, Item, Values};
use super::diagnostic::{Code, Diagnostic};
use super::matcher::{Comparison, Matcher, Number, TextRelation};
use super::modifier::{Asked, asked};
use super::pattern::Pattern;
use super::placeholder::{self, Placeholders};
use super::regex::TextRegex;
use super::tree::DetectionItem;
use super::yaml::{Node, Yaml};
use crate::event::FieldPath;
use crate::limits::WINDASH_DASHES_MAX;

/// A value on its way through the modifiers.
#[derive(Clone)]
pub enum Draft {
    Text(Pattern),
    /// Text before its wildcards are read, for `re`, `cidr`, `fieldref` and `expand`.
    Raw(String),
    Bytes(Vec<u8>),
    Number(Number),
    Bool(bool),
    Null,
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

pub fn draft(node: &Node, asked: &Asked) -> Result<Draft, Diagnostic> {
    let raw = asked.regex || asked.cidr || asked.fieldref;
    Ok(match &node.value {
        Yaml::Null => Draft::Null,
        Yaml::Bool(b) => Draft::Bool(*b),
        Yaml::Int(n) if asked.regex => Draft::Raw(n.to_string()),
        Yaml::Int(n) => Draft::Number(Number::Int(*n)),
        Yaml::Float(n) if n.is_finite() => Draft::Number(Number::Float(*n)),
        Yaml::Float(n) => {
            let what = format!("{n} is no number that an event can have");
            return Err(Diagnostic::error(Code::Value, node.place, what)
                .help("put it in quotes to look for the text"));
        }
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

pub fn apply(modifier: &str, drafts: Vec<Draft>, node: &Node) -> Result<Vec<Draft>, Diagnostic> {
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
                if bytes.len() < BASE64_OFFSET_BYTES_MIN {
                    return Err(too_short(node, bytes.len()));
                }
                out.extend(base64_offsets(&bytes).map(|s| Draft::Text(Pattern::literal(&s))));
            }
            ("windash", _) => return Err(needs_text()),
            (_, draft) => out.push(draft),
        }
    }
    Ok(out)
}

/// Of a single byte one of the three forms is empty: it would be found in everything.
const BASE64_OFFSET_BYTES_MIN: usize = 2;

fn too_short(node: &Node, bytes: usize) -> Diagnostic {
    let what = format!(
        "`base64offset` needs a value of at least {BASE64_OFFSET_BYTES_MIN} bytes, this has {bytes}"
    );
    Diagnostic::error(Code::Value, node.place, what)
        .help("what is left of a shorter one after the cut is found in everything")
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
        Draft::Bytes(bytes) => String::from_utf8(bytes).ok().map(|text| Pattern::literal(&text)),
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
                let range = part.range();
                let fits = i64::try_from(n).ok().filter(|n| range.contains(n));
                let op = asked.compare.unwrap_or(Comparison::Eq);
                fits.map(|n| Matcher::Date(part, op, n)).ok_or_else(|| {
                    wrong(
                        format!("{n} is not from {} to {}", range.start(), range.end()),
                        "write a value that such a part can have",
                    )
                })
            }
            _ => Err(wrong(
                format!("a part of a date is an integer, this is {}", node.kind()),
                "write a number, such as `hour: 22` (UTC)",
            )),
        };
    }
    if let Some(op) = asked.compare {
        let text = node.as_str().unwrap_or_default();
        let float = |n: &f64| n.is_finite();
        return match (draft, text.parse::<i128>(), text.parse::<f64>().ok().filter(float)) {
            (Draft::Number(n), ..) => Ok(Matcher::Compare(op, n)),
            (_, Ok(n), _) => Ok(Matcher::Compare(op, Number::Int(n))),
            (_, _, Some(n)) => Ok(Matcher::Compare(op, Number::Float(n))),
            _ => Err(wrong(
                format!("a comparison needs a number, this is {}", node.kind()),
                "write a number without unit; for text there is no order",
            )),
        };
    }
    Ok(match draft {
        Draft::Raw(text) if asked.regex => Matcher::Regex(regex(&text, asked, node)?),
        Draft::Raw(text) if asked.cidr => Matcher::Cidr(network(&text, node)?),
        Draft::Raw(text) if text.trim().is_empty() => {
            return Err(wrong("`fieldref` names no field".into(), "write the other field"));
        }
        Draft::Raw(text) => Matcher::FieldRef {
            field: FieldPath::new(&text),
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
            Some(pattern) => Matcher::Text { pattern, cased: asked.cased },
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
