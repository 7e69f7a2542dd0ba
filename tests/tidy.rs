//! The borders and manners of `src/` that no compiler checks: which module may import which, what stays
//! out of the pure half, how long files and functions grow, that no file lies dead.
//!
//! A check is a function over one [`File`]; each is tried on small bad examples below. Text is searched
//! with comments and literals blanked, and without the unit tests.

use std::{fs, path::Path};

/// A module may import from those before its `<`: none of its own row, none after.
const ORDER: &str = "limits < ids < time < decimal prefetch < event < decode rule window < detect < correlate < alert \
    < pipeline < config < metrics < bus < kafka < broker < source state sink http < runtime < cli";
/// Before this: no I/O, no clock, no threads, so that the engine runs the same everywhere.
const FIRST_IMPURE: &str = "config";
const IMPURE: &str = "tokio rdkafka axum prometheus dashmap tracing reqwest std::env std::fs std::net \
    std::process std::thread std::time::Instant std::time::SystemTime";
/// Of `std::net` the addresses are values; only the sockets are I/O.
const PURE_OF_NET: &str = "IpAddr Ipv4Addr Ipv6Addr SocketAddr AddrParseError";
/// `broker` stands in for Kafka, so it knows nothing of what Watchfire does with it.
const BROKER_IMPORTS: &str = "limits ids time";
const ENVIRONMENT_READERS: &str = "config cli";
/// Where the unit tests of a file begin; they may also fill a file `tests.rs`.
const TESTS: &str = "#[cfg(test)]\nmod tests {";
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

struct File {
    path: String,
    text: String,
    /// Of the same length as `text`, or cut before the unit tests.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let mut code = blank(text);
        let tests = if path.ends_with("/tests.rs") { Some(0) } else { code.find(TESTS) };
        code.truncate(tests.unwrap_or(code.len()));
        Self { path: path.into(), text: text.into(), code }
    }

    /// `src/event/value.rs` is `["event", "value"]`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.trim_end_matches("/mod").split('/').collect()
    }

    fn finding(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line(&self.text, at))
    }
}

fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn has(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|known| known == word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and literals turned into spaces.
fn blank(text: &str) -> String {
    let (mut out, mut at, mut last) = (text.as_bytes().to_vec(), 0, ' ');
    while let Some(first) = text[at..].chars().next() {
        let dead = literal_bytes(&text[at..], last);
        out[at..at + dead].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        last = if dead > 0 { ' ' } else { first };
        at += dead.max(first.len_utf8());
    }
    String::from_utf8(out).unwrap()
}

/// Bytes of the comment, string or character that `rest` begins with; 0 if it begins with code.
fn literal_bytes(rest: &str, last: char) -> usize {
    let until = |from: usize, end: &str| {
        rest[from..].find(end).map_or(rest.len(), |length| from + length + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    } else if rest.starts_with("/*") {
        return until(2, "*/");
    } else if let Some(raw) = rest.strip_prefix('r').filter(|_| !is_word(last) || last == 'b') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let is_string = raw[hashes..].starts_with('"');
        return if is_string { until(hashes + 2, &format!("\"{}", &raw[..hashes])) } else { 0 };
    }
    let mut chars = rest.char_indices();
    let quote = chars.next().map(|(_, c)| c).filter(|c| matches!(c, '"' | '\''));
    if quote == Some('\'') && !rest[1..].starts_with('\\') {
        return chars.nth(1).map_or(0, |(at, c)| if c == '\'' { at + 1 } else { 0 }); // or a lifetime
    }
    while let (Some(quote), Some((at, c))) = (quote, chars.next()) {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    0
}

/// All paths in the code with their places; `use a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<(usize, String)> {
    let (mut found, mut groups, mut path, mut start) = (vec![], vec![], String::new(), 0);
    for (at, c) in code.char_indices() {
        let base = groups.last().cloned().unwrap_or_default();
        if is_word(c) || c == ':' {
            start = if path == base { at } else { start };
            path.push(c);
        } else if c == '{' && path.ends_with("::") {
            groups.push(path.clone());
        } else if !(c.is_whitespace() && path == base) {
            found.push((start, std::mem::take(&mut path)));
            groups.truncate(groups.len() - usize::from(c == '}' && !groups.is_empty()));
            path = groups.last().cloned().unwrap_or_default();
        }
    }
    found.retain(|(_, path)| path.contains("::"));
    found
}

fn row(module: &str) -> Option<usize> {
    ORDER.split('<').position(|row| has(row, module))
}

fn imports(file: &File) -> Vec<String> {
    let module = file.module();
    let (own, mut findings) = (module[0], Vec::new());
    if has("lib main", own) {
        return findings;
    }
    let Some(rank) = row(own) else {
        return vec![file.finding(0, "no place in ORDER of tests/tidy.rs: give the module one")];
    };
    for (at, path) in paths(&file.code) {
        let steps: Vec<&str> = path.split("::").collect();
        let supers = steps.iter().take_while(|step| **step == "super").count();
        let rooted = steps[0] == "crate" || supers > 0 && supers >= module.len();
        let target = if rooted { steps[supers.max(1)] } else { own };
        let upward = row(target).is_none_or(|row| row >= rank);
        if target != own && (upward || own == "broker" && !has(BROKER_IMPORTS, target)) {
            let what =
                format!("`{own}` may not import `{target}`: move what they share to the left");
            findings.push(file.finding(at, &what));
        }
        let impure = IMPURE
            .split_whitespace()
            .find(|root| format!("{path}::").starts_with(&format!("{root}::")));
        let address =
            steps[..2] == ["std", "net"] && steps.get(2).is_some_and(|name| has(PURE_OF_NET, name));
        if let Some(impure) = impure.filter(|_| Some(rank) < row(FIRST_IMPURE) && !address) {
            findings
                .push(file.finding(at, &format!("{impure} in the pure half: hand the value in")));
        } else if impure == Some("std::env") && !has(ENVIRONMENT_READERS, own) {
            findings.push(
                file.finding(at, "only config and cli read the environment: hand the value in"),
            );
        }
    }
    findings
}

fn lengths(file: &File) -> Vec<String> {
    let (code, mut findings) = (&file.code, Vec::new());
    if code.lines().count() > FILE_LINES_MAX {
        findings
            .push(file.finding(0, "over 600 lines without its tests: split it by what it does"));
    }
    for (at, _) in code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(is_word)) {
        let lines = line(code, function_end(code, at)) - line(code, at) + 1;
        let above = file.text[..at].lines().rev().skip(1).map(str::trim_start);
        let mut above = above.skip_while(|line| line.starts_with("#[") || line.starts_with("///"));
        let excused = above.next().is_some_and(|line| line.starts_with("// tidy: long because "));
        if lines > FUNCTION_LINES_MAX && !excused {
            let what = "lines in one function: split it, or say `// tidy: long because …` above";
            findings.push(file.finding(at, &format!("{lines} {what}")));
        }
    }
    findings
}

/// Where the body of the function at `at` closes; a declaration ends at its semicolon.
fn function_end(code: &str, at: usize) -> usize {
    let (mut depth, mut body) = (0, false);
    for (n, c) in code[at..].char_indices() {
        body |= c == '{' && depth == 0;
        depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        if depth == 0 && (c == ';' || body && c == '}') {
            return at + n;
        }
    }
    code.len()
}

fn manners(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for call in [".unwrap()", ".expect("] {
        let places = file.code.match_indices(call).filter(|(at, _)| {
            let argument = &file.text[at + call.len()..].trim_start(); // others may name a method so too
            call == ".unwrap()" || argument.starts_with('"') || argument.starts_with("&format!")
        });
        findings.extend(places.map(|(at, _)| file.finding(at, "return an error, do not panic")));
    }
    for word in ["TODO", "FIXME", "XXX"] {
        let places = file.text.match_indices(word).filter(|(at, _)| {
            let (before, after) = (&file.text[..*at], &file.text[at + word.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word)
        });
        findings.extend(places.map(|(at, _)| file.finding(at, "do it now, or open an issue")));
    }
    if !file.text.starts_with("//!") {
        findings
            .push(file.finding(0, "begin with `//!`: what the file owns, where its border runs"));
    }
    findings
}

/// A module's parent is the `mod.rs` of its folder, the file named like the folder, or the crate's root.
fn dead(file: &File, files: &[File]) -> Option<String> {
    let mut module = file.module();
    let (name, folder) = (module.pop()?, format!("src/{}", module.join("/")));
    let folder = folder.trim_end_matches('/');
    let parents = ["/mod.rs", ".rs", "/lib.rs", "/main.rs"].map(|end| format!("{folder}{end}"));
    let mut parents = files.iter().filter(|parent| parents.contains(&parent.path));
    let declared = parents.any(|parent| blank(&parent.text).contains(&format!("mod {name};")));
    let is_root = module.is_empty() && has("lib main", name);
    let what = "no `mod` reaches this file: declare it or delete it";
    (!declared && !is_root).then(|| file.finding(0, what))
}

fn read_sources(folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(File::new(path.to_str().unwrap(), &fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_sources_are_tidy() {
    let mut files = Vec::new();
    read_sources(Path::new("src"), &mut files);
    let checks = files.iter().flat_map(|file| [imports(file), lengths(file), manners(file)]);
    let dead = files.iter().filter_map(|file| dead(file, &files));
    let findings: Vec<String> = checks.flatten().chain(dead).collect();
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

/// Each line: what must be found, the file, its text; `-` where the check must find nothing.
fn try_all(check: fn(&File) -> Vec<String>, cases: &[(&str, &str, &str)]) {
    for (expected, module, text) in cases {
        let found = check(&File::new(&format!("src/{module}.rs"), text));
        let start = format!("src/{module}.rs:{expected}");
        let right = found.len() == 1 && found[0].starts_with(&start);
        assert!(right || *expected == "-" && found.is_empty(), "{module}: {text}\n{found:?}");
    }
}

#[test]
fn an_import_that_goes_up_or_sideways_is_found() {
    let cases = [
        (
            "2: `event`",
            "event/value",
            "use crate::ids::RuleId;\nuse crate::{time, detect::Engine};",
        ),
        ("1: `rule`", "rule/mod", "fn f() -> crate::decode::Reject {}"),
        ("2: `event`", "event/value", "\nuse super::super::rule::Rule;"),
        ("1: `broker`", "broker/mod", "use crate::kafka::Client;"),
        ("1: `event`", "event/mod", "use crate::Error;"),
        ("1: no place", "helpers", ""),
        ("-", "event/mod", "//! crate::cli\n#[cfg(test)]\nmod tests { use crate::cli; }"),
    ];
    try_all(imports, &cases);
}

#[test]
fn a_clock_a_socket_or_the_environment_in_the_pure_half_is_found() {
    let cases = [
        ("1: std::time::Instant", "detect/mod", "use std::{fmt, time::{Duration, Instant}};"),
        ("1: std::env", "detect/mod", "fn f() { std::env::var(\"X\") }"),
        ("1: tokio in the pure half", "detect/mod", "use tokio::sync::mpsc;"),
        ("1: std::net", "detect/mod", "use std::net::{IpAddr, TcpStream};"),
        ("-", "rule/mod", "use std::net::{IpAddr, Ipv4Addr};"),
        ("-", "sink/mod", "use std::{fs, time::Instant};"),
        ("1: only config and cli", "sink/mod", "use std::env;"),
    ];
    try_all(imports, &cases);
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let long =
        format!("impl A {{\n    fn f([u8; 3]) {{\n{}    }}\n}}\n", "        g();\n".repeat(69));
    let excuse = "    // tidy: long because it is a table\n    #[inline]\n    fn";
    let lines = "\n".repeat(600);
    let cases = [
        ("2: 71 lines", "time", long.as_str()),
        ("-", "time", &long.replace("    fn", excuse)),
        ("1: over 600", "time", &format!("{lines}\n")),
        ("-", "time", &format!("{lines}#[cfg(test)]\nmod tests {{\n{lines}}}")),
    ];
    try_all(lengths, &cases);
}

#[test]
fn a_panic_a_reminder_and_a_missing_head_are_found() {
    let cases = [
        ("3: return an error", "time", "//!\nfn f() {\n x.unwrap()\n}"),
        ("2: return an error", "time", "//!\nlet x = y.expect(\"z\");"),
        ("-", "time", "//!\nself.clock.expect(topic);"),
        ("3: do it now", "time", "//!\n\n// TODO: more"),
        ("1: begin with", "time", "use x;"),
        (
            "-",
            "time",
            "//! .unwrap()\nlet a = '\"'; // XXXL .unwrap()\nlet b = br#\"\" .unwrap()\"#;",
        ),
    ];
    try_all(manners, &cases);
}

#[test]
fn a_dead_file_is_found() {
    let texts =
        [("lib", "pub mod rule;"), ("rule/mod", "mod item;\n// mod gone;"), ("rule/item", "")];
    let texts = texts.iter().chain(&[("rule/gone", ""), ("time", "")]);
    let files: Vec<File> = texts.map(|(n, t)| File::new(&format!("src/{n}.rs"), t)).collect();
    let dead: Vec<String> = files.iter().filter_map(|file| dead(file, &files)).collect();
    assert!(dead.len() == 2 && dead[0].contains("rule/gone.rs:1: ") && dead[1].contains("time.rs"));
}
