//! Items: a field, modifiers and values, with what an event must hold to be hit.
//!
//! Words and fields are few in one round, so that rules share them: equal items, equal text under other
//! modifiers, and events that hit rules they were not made for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::random::Random;
use super::rule::{Bait, Item, Scalar, Slot};

/// What the rules and events of one round are about.
pub struct World {
    pub fields: Vec<&'static str>,
    pub words: Vec<String>,
}

const FIELDS: &[&str] = &[
    "Image",
    "CommandLine",
    "user",
    "user.name",
    "user.name.first",
    "a.b",
    "a.b.c",
    "proc.args",
    "src_ip",
    "Threat Name",
    "größe",
    "message",
    "x",
];

const WORDS: &[&str] = &[
    "cmd",
    "PowerShell",
    "whoami",
    "aab",
    "abab",
    "C:\\Windows\\System32\\cmd.exe",
    "/usr/bin/curl",
    " -enc ",
    "/c",
    "net user -add",
    "foo-bar",
    "straße",
    "STRASSE",
    "\u{212A}elvin",
    "kelvin",
    "\u{130}stanbul",
    "ΣΊΣΥΦΟΣ",
    "σίσυφος",
    "Привет",
    "42",
    "true",
    "10.1.2.3",
    "a*b",
    "what?",
    "back\\slash",
    "tail\\",
    "\\\\server\\share",
    "%user%",
    "two\nlines",
    "e\u{301}",
    "😀",
    "it's",
    "\"quoted\": #no",
];

const NUMBERS: &[&str] = &[
    "0",
    "42",
    "-1",
    "1000",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "1.5",
    "-0.5",
    "0x2A",
];

const NETWORKS: &[(&str, &str)] = &[
    ("10.0.0.0/8", "10.1.2.3"),
    ("10.1.2.3", "10.1.2.3"),
    ("192.168.1.0/24", "192.168.1.255"),
    ("fc00::/7", "FD00::1"),
    ("2001:db8::/32", "2001:db8::5"),
    ("::ffff:0:0/96", "::ffff:10.1.2.3"),
];

/// A time as events write it, and its minute, hour, day, week, month, year.
const TIMES: &[(&str, [i64; 6])] = &[
    ("2024-02-29T05:10:00Z", [10, 5, 29, 9, 2, 2024]),
    ("2024-02-29T07:10:00+02:00", [10, 5, 29, 9, 2, 2024]),
    ("1709183400", [10, 5, 29, 9, 2, 2024]),
    ("2021-01-03 23:59:00", [59, 23, 3, 53, 1, 2021]),
];

type Make = fn(&mut Random, &World) -> Item;

/// Every kind of item, and how often it is made.
const KINDS: &[(usize, Make)] = &[
    (16, plain),
    (20, shaped),
    (6, cased),
    (5, dashes),
    (7, regex),
    (4, network),
    (7, number),
    (2, boolean),
    (3, null),
    (3, exists),
    (5, comparison),
    (3, date),
    (6, reference),
    (4, encoded),
    (7, differs),
    (2, mixed),
];

impl World {
    /// A random choice of fields and words.
    pub fn new(random: &mut Random) -> Self {
        let (fields, words) = (random.from(1, 5), random.from(3, 9));
        let fields = random.several(FIELDS, fields);
        let words = random.several(WORDS, words).into_iter().map(str::to_owned).collect();
        Self { fields, words }
    }

    fn field(&self, random: &mut Random) -> String {
        (*random.pick(&self.fields)).to_owned()
    }

    /// One of the words.
    pub fn word<'w>(&'w self, random: &mut Random) -> &'w str {
        random.pick::<String>(&self.words)
    }
}

/// An item of any kind.
pub fn item(random: &mut Random, world: &World) -> Item {
    let kind = random.weighted(KINDS.iter().map(|(weight, _)| *weight));
    KINDS[kind].1(random, world)
}

/// An item of keywords.
pub fn keywords(random: &mut Random, world: &World) -> Item {
    let (modifiers, count): (&[&'static str], usize) = match random.below(4) {
        0 => (&["all"], 2),
        1 => (&["re"], 1),
        2 => (&["contains", "all"], 2),
        _ => (&["contains"], 1),
    };
    if modifiers == ["re"] {
        let (pattern, sample) = expression(world.word(random), random, "");
        return build(
            "",
            modifiers,
            [(pattern, Bait::Text(sample, Slot::Inside))],
            &["keywords re"],
        );
    }
    let values: Vec<_> = (0..count).map(|_| text(random, world, Slot::Inside)).collect();
    build("", modifiers, values, &["keywords"])
}

/// One plain keyword.
pub fn keyword(random: &mut Random, world: &World) -> (Scalar, Bait) {
    if random.percent(15) {
        let digits = random.pick(&["42", "1000", "1.5"]);
        let bait = Bait::Text((*digits).to_owned(), Slot::Inside);
        return (Scalar::Plain((*digits).to_owned()), bait);
    }
    text(random, world, Slot::Inside)
}

fn build(
    field: impl Into<String>,
    modifiers: &[&'static str],
    values: impl IntoIterator<Item = (Scalar, Bait)>,
    labels: &[&'static str],
) -> Item {
    let (values, baits): (Vec<Scalar>, Vec<Bait>) = values.into_iter().unzip();
    let labels = modifiers.iter().chain(labels).copied().collect();
    Item { field: field.into(), modifiers: modifiers.to_vec(), values, baits, labels }
}

/// Between one and three values, more often one.
fn count(random: &mut Random) -> usize {
    *random.pick(&[1, 1, 1, 2, 3])
}

/// Literal text as a Sigma string: `*` and `?` escaped, backslashes sometimes.
fn escaped(random: &mut Random, text: &str) -> String {
    let double = random.percent(30);
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '*' | '?' => out.push('\\'),
            '\\' if double => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

/// A Sigma string with or without wildcards, and text that it matches.
fn text(random: &mut Random, world: &World, slot: Slot) -> (Scalar, Bait) {
    let word = world.word(random).to_owned();
    let (pattern, sample) = match random.below(10) {
        0..=4 => (escaped(random, &word), word),
        5 => (escaped(random, &word.to_uppercase()), word),
        6 => {
            let cut: String = word.chars().skip(random.below(3)).take(3).collect();
            (escaped(random, &cut), cut)
        }
        7 | 8 => {
            let other = world.word(random).to_owned();
            let pattern = format!("{}*{}", escaped(random, &word), escaped(random, &other));
            (pattern, format!("{word}..{other}"))
        }
        _ => {
            let at = random.below(word.chars().count());
            let with = |c: (usize, char)| if c.0 == at { '?' } else { c.1 };
            (word.chars().enumerate().map(with).collect(), word)
        }
    };
    (Scalar::Text(pattern), Bait::Text(sample, slot))
}

fn plain(random: &mut Random, world: &World) -> Item {
    let field = world.field(random);
    if random.percent(8) {
        let value = (Scalar::Text(String::new()), Bait::Text(String::new(), Slot::Whole));
        return build(field, &[], [value], &["empty text"]);
    }
    let values: Vec<_> = (0..count(random)).map(|_| text(random, world, Slot::Whole)).collect();
    build(field, &[], values, &["text"])
}

const SHAPES: [(&str, Slot); 3] =
    [("contains", Slot::Inside), ("startswith", Slot::Start), ("endswith", Slot::End)];

fn shaped(random: &mut Random, world: &World) -> Item {
    let (shape, slot) = *random.pick(&SHAPES);
    if random.percent(25) {
        let values: Vec<_> = (0..2).map(|_| text(random, world, slot)).collect();
        return build(world.field(random), &[shape, "all"], values, &[]);
    }
    let values: Vec<_> = (0..count(random)).map(|_| text(random, world, slot)).collect();
    build(world.field(random), &[shape], values, &[])
}

fn cased(random: &mut Random, world: &World) -> Item {
    if random.percent(30) {
        let value = text(random, world, Slot::Whole);
        return build(world.field(random), &["cased"], [value], &[]);
    }
    let (shape, slot) = *random.pick(&SHAPES);
    let modifiers = if random.percent(50) { ["cased", shape] } else { [shape, "cased"] };
    let value = text(random, world, slot);
    build(world.field(random), &modifiers, [value], &[])
}

fn dashes(random: &mut Random, world: &World) -> Item {
    let value = *random.pick(&[" -enc", "/c", "-a /b", "foo-bar", " -x*y"]);
    let dash = random.pick(&["-", "/", "–", "—", "―"]);
    let sample = value.replace('*', "..").replace(['-', '/'], dash);
    let value = (Scalar::Text(value.to_owned()), Bait::Text(sample, Slot::Inside));
    let modifiers: &[&'static str] = match random.below(3) {
        0 => &["windash"],
        1 => &["contains", "windash"],
        _ => &["windash", "contains"],
    };
    build(world.field(random), modifiers, [value], &[])
}

/// A regular expression about a word, and text that it matches.
fn expression(word: &str, random: &mut Random, flags: &str) -> (Scalar, String) {
    let quoted = regex::escape(word);
    let (pattern, sample) = match random.below(8) {
        0 => (format!("^{quoted}"), word.to_owned()),
        1 => (format!("{quoted}$"), word.to_owned()),
        2 => (format!("^{quoted}$"), format!("one\n{word}\nthree")),
        3 => (format!("{quoted}.+x"), format!("{word}\n.x")),
        4 => (format!("(?i){quoted}"), word.to_lowercase()),
        5 => (format!("(?:{quoted}|zzz)\\d*"), word.to_owned()),
        6 => (format!("[{}-]?{quoted}", 'a'), format!("a{word}")),
        _ => (quoted, word.to_owned()),
    };
    let sample = if flags.contains('i') { sample.to_uppercase() } else { sample };
    (Scalar::Text(pattern), sample)
}

fn regex(random: &mut Random, world: &World) -> Item {
    let flags = random.percent(60).then(|| *random.pick(&["i", "m", "s"]));
    let modifiers: Vec<&str> = std::iter::once("re").chain(flags).collect();
    let values: Vec<_> = (0..count(random))
        .map(|_| {
            let (pattern, sample) =
                expression(world.word(random), random, flags.unwrap_or_default());
            (pattern, Bait::Text(sample, Slot::Whole))
        })
        .collect();
    build(world.field(random), &modifiers, values, &[])
}

fn network(random: &mut Random, world: &World) -> Item {
    let values = (0..count(random)).map(|_| {
        let (network, address) = *random.pick(NETWORKS);
        (Scalar::Text(network.to_owned()), Bait::Text(address.to_owned(), Slot::Whole))
    });
    let values: Vec<_> = values.collect();
    build(world.field(random), &["cidr"], values, &[])
}

/// A number as a rule writes it, and as JSON does.
fn digits(random: &mut Random) -> (Scalar, String) {
    let digits = *random.pick(NUMBERS);
    let json = if digits == "0x2A" { "42" } else { digits };
    (Scalar::Plain(digits.to_owned()), json.to_owned())
}

fn number(random: &mut Random, world: &World) -> Item {
    let values: Vec<_> = (0..count(random))
        .map(|_| {
            let (digits, json) = digits(random);
            (digits, Bait::Raw(json))
        })
        .collect();
    build(world.field(random), &[], values, &["number"])
}

fn boolean(random: &mut Random, world: &World) -> Item {
    let value = *random.pick(&["true", "false"]);
    let bait = match random.below(3) {
        0 => Bait::Text(value.to_uppercase(), Slot::Whole),
        _ => Bait::Raw(value.to_owned()),
    };
    build(world.field(random), &[], [(Scalar::Plain(value.to_owned()), bait)], &["boolean"])
}

fn null(random: &mut Random, world: &World) -> Item {
    let bait = if random.percent(50) { Bait::Absent } else { Bait::Raw("null".to_owned()) };
    build(world.field(random), &[], [(Scalar::Plain("null".to_owned()), bait)], &["null"])
}

fn exists(random: &mut Random, world: &World) -> Item {
    let wanted = random.percent(60);
    let bait = match random.below(3) {
        _ if !wanted => Bait::Absent,
        0 => Bait::Raw("null".to_owned()),
        1 => Bait::Raw("[]".to_owned()),
        _ => Bait::Text(world.word(random).to_owned(), Slot::Whole),
    };
    build(world.field(random), &["exists"], [(Scalar::Plain(wanted.to_string()), bait)], &[])
}

fn comparison(random: &mut Random, world: &World) -> Item {
    let modifier = *random.pick(&["lt", "lte", "gt", "gte"]);
    let (value, json) = digits(random);
    let neighbours: &[&str] = &["42", "41.5", "43", "9007199254740993", "18446744073709551615"];
    let near = if random.percent(50) { json } else { (*random.pick(neighbours)).to_owned() };
    build(world.field(random), &[modifier], [(value, Bait::Raw(near))], &[])
}

fn date(random: &mut Random, world: &World) -> Item {
    let (time, parts) = random.pick(TIMES);
    let part = random.below(6);
    let modifier = ["minute", "hour", "day", "week", "month", "year"][part];
    let bait = match time.parse::<i64>() {
        Ok(_) if random.percent(50) => Bait::Raw((*time).to_owned()),
        _ => Bait::Text((*time).to_owned(), Slot::Whole),
    };
    let value = Scalar::Plain(parts[part].to_string());
    build(world.field(random), &[modifier], [(value, bait)], &[])
}

fn reference(random: &mut Random, world: &World) -> Item {
    let other = world.field(random);
    let word = world.word(random).to_owned();
    let mut modifiers = vec!["fieldref"];
    let left = match random.below(4) {
        0 => word.clone(),
        shape => {
            modifiers.push(SHAPES[shape - 1].0);
            ["..{}..", "{}..", "..{}"][shape - 1].replace("{}", &word)
        }
    };
    match random.below(6) {
        0 => modifiers.push("cased"),
        1 => modifiers.push("neq"),
        _ => {}
    }
    let bait = Bait::Pair(left, other.clone(), word);
    build(world.field(random), &modifiers, [(Scalar::Text(other), bait)], &[])
}

/// Bytes of the text in the encoding of that modifier.
fn bytes(text: &str, modifier: Option<&str>) -> Vec<u8> {
    let units = text.encode_utf16();
    match modifier {
        None => text.as_bytes().to_vec(),
        Some("utf16be") => units.flat_map(u16::to_be_bytes).collect(),
        Some("utf16") => [0xFF, 0xFE].into_iter().chain(units.flat_map(u16::to_le_bytes)).collect(),
        Some(_) => units.flat_map(u16::to_le_bytes).collect(),
    }
}

fn encoded(random: &mut Random, world: &World) -> Item {
    let wide = ["wide", "utf16le", "utf16be", "utf16"];
    let wide = random.percent(60).then(|| *random.pick(&wide));
    let word = *random.pick(&["whoami", "http://", "Straße", "secret", "ab"]);
    let bytes = bytes(word, wide);
    let mut modifiers: Vec<&'static str> = wide.into_iter().collect();
    let bait = if random.percent(40) {
        modifiers.push("base64");
        Bait::Text(STANDARD.encode(&bytes), Slot::Whole)
    } else {
        modifiers.extend(["base64offset", "contains"]);
        let before = vec![b'x'; random.below(3)];
        let all = [&before[..], &bytes, b"yz"].concat();
        Bait::Text(STANDARD.encode(all), Slot::Whole)
    };
    let value = (Scalar::Text(word.to_owned()), bait);
    build(world.field(random), &modifiers, [value], &[])
}

/// Another item turned around.
fn differs(random: &mut Random, world: &World) -> Item {
    let kinds: [Make; 4] = [plain, shaped, number, regex];
    let mut item = random.pick(&kinds)(random, world);
    item.modifiers.push("neq");
    item.labels = vec!["neq"];
    item
}

/// Text, a number and null in one list.
fn mixed(random: &mut Random, world: &World) -> Item {
    let (digits, json) = digits(random);
    let values = [
        text(random, world, Slot::Whole),
        (digits, Bait::Raw(json)),
        (Scalar::Plain("null".to_owned()), Bait::Absent),
    ];
    build(world.field(random), &[], values, &["mixed list"])
}
