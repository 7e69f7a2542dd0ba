//! Mappings: fields read out of free text, declared in YAML.
//!
//! A mapping says when it applies (`when`), what the event then is (`logsource`, `set`), and patterns
//! over one text field. The first pattern that matches gives its named captures as fields. Regular
//! expressions run in linear time; each stands behind a literal that is looked for first.

use std::borrow::Cow;

use memchr::memmem::Finder;
use regex::Regex;
use serde::Deserialize;

use crate::event::{Event, EventSource, FieldPath, Value};
use crate::limits::REGEX_BYTES_MAX;

/// One mapping, compiled.
#[derive(Clone, Debug)]
pub struct Mapping {
    name: String,
    when: Vec<(FieldPath, Vec<String>)>,
    source: EventSource,
    set: Vec<(String, String)>,
    field: FieldPath,
    patterns: Vec<TextPattern>,
}

#[derive(Clone, Debug)]
struct TextPattern {
    literal: Finder<'static>,
    regex: Regex,
    captures: Vec<(usize, String, bool)>,
    set: Vec<(String, String)>,
}

/// Why a mapping cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// Not YAML, or an unknown key.
    #[error("mapping {name}: {reason}")]
    Shape {
        /// File or name of the mapping.
        name: String,
        /// What the reader said, with line and column.
        reason: String,
    },
    /// A regular expression that does not compile.
    #[error("mapping {name}, pattern {index}: {reason}")]
    Pattern {
        /// File or name of the mapping.
        name: String,
        /// Which pattern, from 1.
        index: usize,
        /// What the compiler said.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    when: std::collections::BTreeMap<String, OneOrMany>,
    #[serde(default)]
    logsource: WrittenSource,
    #[serde(default)]
    set: std::collections::BTreeMap<String, String>,
    #[serde(default = "message")]
    field: String,
    #[serde(default)]
    patterns: Vec<WrittenPattern>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSource {
    #[serde(default)]
    product: OneOrMany,
    #[serde(default)]
    category: OneOrMany,
    #[serde(default)]
    service: OneOrMany,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPattern {
    literal: String,
    regex: String,
    #[serde(default)]
    set: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

fn message() -> String {
    "message".to_owned()
}

/// Captures whose values are numbers when they read as one.
const NUMBERS: &[&str] = &["src_port", "dst_port", "pid", "uid", "repeated"];

impl Mapping {
    /// Compiles a mapping from YAML; `file` names it in errors.
    ///
    /// # Errors
    /// [`MappingError`] with the file and what is wrong.
    pub fn parse(file: &str, yaml: &str) -> Result<Self, MappingError> {
        let written: Written = yaml_serde::from_str(yaml)
            .map_err(|e| MappingError::Shape { name: file.to_owned(), reason: e.to_string() })?;
        let mut source = EventSource::default();
        written.logsource.product.into_vec().iter().for_each(|n| source.add_product(n));
        written.logsource.category.into_vec().iter().for_each(|n| source.add_category(n));
        written.logsource.service.into_vec().iter().for_each(|n| source.add_service(n));
        let mut patterns = Vec::with_capacity(written.patterns.len());
        for (i, pattern) in written.patterns.into_iter().enumerate() {
            let compiled = TextPattern::compile(pattern).map_err(|reason| {
                MappingError::Pattern { name: file.to_owned(), index: i + 1, reason }
            })?;
            patterns.push(compiled);
        }
        let when = written.when.into_iter();
        Ok(Self {
            name: written.name,
            when: when.map(|(f, v)| (FieldPath::new(&f), v.into_vec())).collect(),
            source,
            set: written.set.into_iter().collect(),
            field: FieldPath::new(&written.field),
            patterns,
        })
    }

    /// The name it gives itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the events are that it is meant for.
    pub fn source(&self) -> &EventSource {
        &self.source
    }

    /// Adds what this mapping reads out of the event, if it is meant for it.
    pub fn apply(&self, event: &mut Event<'_>) {
        let holds = |(field, values): &(FieldPath, Vec<String>)| {
            event.text(field).is_some_and(|t| values.iter().any(|v| *v == *t))
        };
        if !self.when.iter().all(holds) {
            return;
        }
        event.source.extend(&self.source);
        let text = event.text(&self.field).map(Cow::into_owned);
        let read = text.as_deref().and_then(|t| self.patterns.iter().find_map(|p| p.read(t)));
        for (name, value) in read.into_iter().flatten() {
            event.derive(name, value);
        }
        for (name, value) in &self.set {
            event.derive(name.clone(), Value::Str(value.clone().into()));
        }
    }
}

impl TextPattern {
    fn compile(written: WrittenPattern) -> Result<Self, String> {
        if written.literal.is_empty() {
            return Err("`literal` is empty: write text that every match contains".to_owned());
        }
        let regex = regex::RegexBuilder::new(&written.regex)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|e| e.to_string())?;
        let named = regex.capture_names().enumerate();
        let captures = named
            .filter_map(|(i, name)| name.map(|n| (i, n.to_owned(), NUMBERS.contains(&n))))
            .collect();
        Ok(Self {
            literal: Finder::new(&written.literal).into_owned(),
            regex,
            captures,
            set: written.set.into_iter().collect(),
        })
    }

    fn read(&self, text: &str) -> Option<Vec<(String, Value<'static>)>> {
        self.literal.find(text.as_bytes())?;
        let found = self.regex.captures(text)?;
        let mut fields = Vec::with_capacity(self.captures.len() + self.set.len());
        for (index, name, number) in &self.captures {
            let Some(value) = found.get(*index).map(|m| m.as_str()) else { continue };
            let parsed = if *number { value.parse().ok().map(Value::Int) } else { None };
            let value = parsed.unwrap_or_else(|| Value::Str(value.to_owned().into()));
            fields.push((name.clone(), value));
        }
        for (name, value) in &self.set {
            fields.push((name.clone(), Value::Str(value.clone().into())));
        }
        Some(fields)
    }
}

/// The mappings that come with Watchfire, by file name: sshd, sudo, PAM.
///
/// # Errors
/// Never in a released build: a test compiles them.
pub fn shipped_mappings() -> Result<Vec<Mapping>, MappingError> {
    [
        ("mappings/sshd.yml", include_str!("../../mappings/sshd.yml")),
        ("mappings/sudo.yml", include_str!("../../mappings/sudo.yml")),
        ("mappings/pam.yml", include_str!("../../mappings/pam.yml")),
    ]
    .into_iter()
    .map(|(file, yaml)| Mapping::parse(file, yaml))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Format};
    use super::*;
    use crate::time::Timestamp;

    /// The named fields of a syslog message, as `name=value` in the order asked.
    fn read(program: &str, message: &str, names: &[&str]) -> String {
        let line = format!("Mar 27 13:06:56 h {program}[7]: {message}");
        let decoder = Decoder::new(Format::Syslog, shipped_mappings().expect("shipped"));
        let now = Timestamp::parse("2017-06-01T00:00:00Z").expect("time");
        let event = decoder.decode(Some(line.as_bytes()), now).expect("decodes");
        let show = |n: &&str| event.text(&FieldPath::new(n)).map(|v| format!("{n}={v}"));
        names.iter().filter_map(show).collect::<Vec<_>>().join(" ")
    }

    const SSHD: &[&str] =
        &["service", "user", "src_ip", "src_port", "auth_method", "outcome", "repeated"];

    #[test]
    fn sshd_messages_yield_user_source_method_and_outcome() {
        for (message, expect) in [
            (
                "Failed password for root from 10.0.0.1 port 5 ssh2",
                "service=sshd user=root src_ip=10.0.0.1 src_port=5 auth_method=password outcome=failure",
            ),
            (
                "Failed password for invalid user  from 34.204.227.175 port 19074 ssh2",
                "service=sshd user= src_ip=34.204.227.175 src_port=19074 auth_method=password outcome=failure",
            ),
            (
                "Failed keyboard-interactive/pam for invalid user a b from ::1 port 1 ssh2",
                "service=sshd user=a b src_ip=::1 src_port=1 auth_method=keyboard-interactive/pam outcome=failure",
            ),
            (
                "message repeated 5 times: [ Failed password for root from 1.2.3.4 port 6 ssh2]",
                "service=sshd user=root src_ip=1.2.3.4 src_port=6 auth_method=password outcome=failure repeated=5",
            ),
            (
                "Accepted publickey for ubuntu from 85.245.107.41 port 54259 ssh2: RSA SHA256:Kl8k",
                "service=sshd user=ubuntu src_ip=85.245.107.41 src_port=54259 auth_method=publickey outcome=success",
            ),
            (
                "Invalid user support from 95.152.57.58",
                "service=sshd user=support src_ip=95.152.57.58",
            ),
            (
                "Connection closed by authenticating user root 1.2.3.4 port 22 [preauth]",
                "service=sshd user=root src_ip=1.2.3.4 src_port=22",
            ),
            ("Server listening on :: port 22.", "service=sshd"),
        ] {
            assert_eq!(read("sshd", message, SSHD), expect, "{message}");
        }
    }

    #[test]
    fn a_user_name_cannot_forge_the_address() {
        let forged =
            "Failed password for invalid user x from 9.9.9.9 port 1 ssh2 from 1.2.3.4 port 2 ssh2";
        let fields = read("sshd", forged, &["user", "src_ip", "src_port"]);
        assert_eq!(fields, "user=x from 9.9.9.9 port 1 ssh2 src_ip=1.2.3.4 src_port=2");
    }

    #[test]
    fn sudo_and_pam_messages_are_read() {
        let sudo = "  ubuntu : TTY=pts/0 ; PWD=/home/ubuntu ; USER=root ; COMMAND=/bin/su - x";
        let names = ["user", "tty", "cwd", "target_user", "command", "outcome", "attempts"];
        let expect = "user=ubuntu tty=pts/0 cwd=/home/ubuntu target_user=root command=/bin/su - x outcome=success";
        assert_eq!(read("sudo", sudo, &names), expect);
        let failed = "  bob : 3 incorrect password attempts ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh";
        assert!(read("sudo", failed, &names).ends_with("outcome=failure attempts=3"));
        let denied = "bob : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh";
        assert!(read("sudo", denied, &names).ends_with("outcome=failure"));
        let pam = "pam_unix(su:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.9  user=bob";
        let names = ["pam_service", "user", "src_ip", "outcome"];
        assert_eq!(
            read("su", pam, &names),
            "pam_service=su user=bob src_ip=10.0.0.9 outcome=failure"
        );
        // sshd reports the outcome of the same attempt itself; PAM must not count it twice.
        assert_eq!(read("sshd", &pam.replace("su:", "sshd:"), &["outcome"]), "");
    }
}
