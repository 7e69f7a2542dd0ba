//! Reads literate specs: Markdown whose fenced blocks are rules, events and what is expected of them.
//!
//! `tests/spec/README.md` describes the format. What does not follow it is an error with its line, so
//! that no block is passed over.

/// A decision: a heading with an id, and the cases below it.
pub struct Decision {
    pub id: String,
    pub heading: String,
    pub file: String,
    pub line: usize,
    pub cases: Vec<Case>,
}

/// Rules and what is expected of them.
#[derive(Default)]
pub struct Case {
    pub line: usize,
    pub files: Vec<(String, String)>,
    pub placeholders: Vec<(String, Vec<String>)>,
    pub events: Vec<Events>,
    pub diagnostics: Vec<Diagnosed>,
    pub alerts: Option<Vec<String>>,
    pub in_alert: Vec<String>,
}

/// One block of events.
pub struct Events {
    /// `product=linux` and the like, and `lateness=10s`.
    pub about: Vec<(String, String)>,
    pub lines: Vec<EventLine>,
}

/// One event and what is expected of it.
pub struct EventLine {
    pub line: usize,
    pub expect: Expect,
    pub json: String,
}

/// What a line of an `events` block says before its event.
#[derive(Clone, Debug)]
pub enum Expect {
    /// These rules match; of an empty list all.
    Hit(Vec<String>),
    /// No rule matches.
    Miss,
    /// It happens at this time (microseconds), in this partition, and may be late.
    At { micros: i64, partition: i32, late: bool },
}

/// An expected finding of the compiler: `error[W0104] at `token`: part of the text`.
pub struct Diagnosed {
    pub line: usize,
    pub head: String,
    pub token: Option<String>,
    pub part: String,
}

/// Reads the text of one file.
pub fn read(file: &str, text: &str) -> Result<Vec<Decision>, String> {
    let mut decisions: Vec<Decision> = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let wrong = |what: &str| format!("tests/spec/{file}:{number}: {what}");
        if let Some(heading) = line.strip_prefix("## ") {
            let id = heading.split(' ').next().unwrap_or_default().to_owned();
            if !is_id(&id) {
                return Err(wrong("a heading begins with an id such as `S3.4`"));
            }
            decisions.push(Decision {
                id,
                heading: heading.to_owned(),
                file: file.to_owned(),
                line: number,
                cases: Vec::new(),
            });
        }
        let Some(info) = line.strip_prefix("```") else { continue };
        let mut body = Vec::new();
        loop {
            match lines.next() {
                Some(("```", _)) => break,
                Some((line, number)) => body.push((line, number)),
                None => return Err(wrong("the block is never closed")),
            }
        }
        let decision = decisions.last_mut().ok_or_else(|| wrong("a block before any heading"))?;
        block(info, &body, number, &mut decision.cases)
            .map_err(|(line, what)| format!("tests/spec/{file}:{line}: {what}"))?;
    }
    match decisions.iter().find(|d| d.cases.is_empty()) {
        Some(d) => Err(format!("tests/spec/{file}:{}: no case shows that it is so", d.line)),
        None => Ok(decisions),
    }
}

fn is_id(id: &str) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    id.strip_prefix('S')
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(a, b)| number(a) && number(b))
}

type Wrong = (usize, String);

fn block(
    info: &str,
    body: &[(&str, usize)],
    line: usize,
    cases: &mut Vec<Case>,
) -> Result<(), Wrong> {
    let mut words = info.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let text = |indent: &str| body.iter().map(|(l, _)| format!("{indent}{l}\n")).collect();
    let head = "title: spec\nlogsource: {category: any}\ndetection:\n";
    let rule = match kind {
        "yaml" => Some(text("")),
        "detection" => Some(format!("{head}{}", text("  "))),
        "selection" => {
            Some(format!("{head}  selection:\n{}  condition: selection\n", text("    ")))
        }
        _ => None,
    };
    if let Some(rule) = rule {
        let Some(name) = words.next() else {
            let files = vec![("rules.yml".to_owned(), rule)];
            cases.push(Case { line, files, ..Case::default() });
            return Ok(());
        };
        let case = cases.last_mut().ok_or((line, "a second file before the first".to_owned()))?;
        case.files.push((name.to_owned(), rule));
        return Ok(());
    }
    let case = cases.last_mut().ok_or((line, "a block before the rule that it is about".into()))?;
    let lines = body.iter().filter(|(l, _)| !l.is_empty() && !l.starts_with('#'));
    match kind {
        "events" => case.events.push(Events {
            about: words.map(pair).collect::<Result<_, _>>().map_err(|e| (line, e))?,
            lines: lines
                .map(|(l, n)| event(l, *n).map_err(|e| (*n, e)))
                .collect::<Result<_, _>>()?,
        }),
        "diagnostics" => {
            for (l, n) in lines {
                case.diagnostics.push(diagnosed(l, *n).ok_or((*n, DIAGNOSED.to_owned()))?);
            }
        }
        "alerts" => {
            let found = lines.filter(|(l, _)| *l != "none");
            let squeezed = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ");
            case.alerts = Some(found.map(|(l, _)| squeezed(l)).collect());
        }
        "in-alert" => case.in_alert.extend(lines.map(|(l, _)| (*l).to_owned())),
        "placeholders" => {
            for (l, n) in lines {
                let (name, values) =
                    l.split_once(": ").ok_or((*n, "expected `name: value, value`".to_owned()))?;
                let values = values.split(", ").map(str::to_owned).collect();
                case.placeholders.push((name.to_owned(), values));
            }
        }
        _ => return Err((line, format!("no block is called `{kind}`"))),
    }
    Ok(())
}

fn pair(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((name @ ("product" | "category" | "service" | "lateness"), value)) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("`{word}` is none of product=, category=, service=, lateness=")),
    }
}

fn event(line: &str, number: usize) -> Result<EventLine, String> {
    let at = line.find('{').ok_or("a line of events holds one JSON object")?;
    let (words, json) = (line[..at].split_whitespace().collect::<Vec<_>>(), line[at..].to_owned());
    serde_json::from_str::<serde_json::Value>(&json).map_err(|e| e.to_string())?;
    let expect = match words.as_slice() {
        ["hit", rules @ ..] => Expect::Hit(rules.iter().map(|r| (*r).to_owned()).collect()),
        ["miss"] => Expect::Miss,
        [time] | [time, "late"] => {
            let (time, partition) = time.split_once('@').unwrap_or((time, "0"));
            let partition = partition.parse().map_err(|_| "no partition after `@`")?;
            Expect::At { micros: micros(time)?, partition, late: words.len() > 1 }
        }
        _ => return Err("expected `hit`, `hit RULE …`, `miss` or a time before the event".into()),
    };
    Ok(EventLine { line: number, expect, json })
}

/// Microseconds of `12s`, `0.25s`.
fn micros(text: &str) -> Result<i64, String> {
    let seconds = text.strip_suffix('s').and_then(|n| n.parse::<f64>().ok());
    seconds
        .map(|s| (s * 1e6).round() as i64)
        .ok_or_else(|| format!("`{text}` is neither `hit` nor `miss` nor a time as `12s`"))
}

const DIAGNOSED: &str = "expected `error[W0104] at `token`: part of its text`";

fn diagnosed(line: &str, number: usize) -> Option<Diagnosed> {
    let (head, rest) = line.split_once(']')?;
    let (token, part) = match rest.strip_prefix(" at `") {
        Some(rest) => rest.split_once("`: ").map(|(t, p)| (Some(t.to_owned()), p))?,
        None => (None, rest.strip_prefix(": ")?),
    };
    Some(Diagnosed { line: number, head: format!("{head}]"), token, part: part.to_owned() })
}
