//! Events as data, made from the values of rules: as they are, changed a little, and put where a
//! field may be.

use watchfire::event::{Event, Object};

use super::items::World;
use super::random::Random;
use super::rule::{Bait, Body, Item, Part, Rule, Slot};

/// A JSON value that is written as it stands: members may repeat, numbers keep their form.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Raw(String),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

/// An event before it is read.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub body: Vec<(String, Json)>,
    pub derived: Vec<(String, Json)>,
    /// Products, categories, services.
    pub source: [Vec<&'static str>; 3],
    pub settled: bool,
    /// For each rule it was made for, by index: in which way.
    pub aims: Vec<(usize, &'static str)>,
}

impl Json {
    /// The text of this value.
    pub fn text(&self) -> String {
        match self {
            Self::Raw(raw) => raw.clone(),
            Self::Text(text) => serde_json::to_string(text).expect("a string"),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::text).collect::<Vec<_>>().join(","))
            }
            Self::Map(members) => members_text(members),
        }
    }
}

/// The text of an object with these members.
pub fn members_text(members: &[(String, Json)]) -> String {
    let name = |name: &str| serde_json::to_string(name).expect("a string");
    let members: Vec<String> =
        members.iter().map(|(k, v)| format!("{}:{}", name(k), v.text())).collect();
    format!("{{{}}}", members.join(","))
}

/// The two texts that an event borrows from.
pub struct Texts {
    body: String,
    derived: String,
}

impl Draft {
    /// Writes it down.
    pub fn texts(&self) -> Texts {
        Texts { body: members_text(&self.body), derived: members_text(&self.derived) }
    }

    /// Reads what was written down.
    pub fn event<'t>(&self, texts: &'t Texts) -> Event<'t> {
        let object = |text: &'t str| -> Object<'t> { serde_json::from_str(text).expect("JSON") };
        let mut event = Event {
            body: object(&texts.body),
            derived: object(&texts.derived),
            ..Event::default()
        };
        let [products, categories, services] = &self.source;
        products.iter().for_each(|n| event.source.add_product(n));
        categories.iter().for_each(|n| event.source.add_category(n));
        services.iter().for_each(|n| event.source.add_service(n));
        if self.settled {
            event.source.settle();
        }
        event
    }
}

/// An event for some of the rules, with some noise.
pub fn draft(random: &mut Random, world: &World, rules: &[Rule]) -> Draft {
    let mut draft = Draft::default();
    for _ in 0..random.from(1, 4) {
        let aim = random.below(rules.len());
        if draft.aims.is_empty() {
            source(random, &mut draft, &rules[aim]);
        }
        let how = aim_at(random, world, &mut draft, &rules[aim]);
        draft.aims.extend(how.map(|how| (aim, how)));
    }
    for _ in 0..random.below(3) {
        let word = world.word(random).to_owned();
        draft.body.push((format!("noise{}", random.below(4)), Json::Text(word)));
    }
    draft
}

const PRODUCTS: [&str; 3] = ["windows", "linux", "aws"];

/// Mostly what the rule is for, sometimes nothing, sometimes more, sometimes something else.
fn source(random: &mut Random, draft: &mut Draft, rule: &Rule) {
    draft.settled = random.percent(50);
    if random.percent(15) {
        return;
    }
    for (names, wanted) in draft.source.iter_mut().zip(rule.source) {
        names.extend(wanted.filter(|_| random.percent(90)));
    }
    if random.percent(10) {
        draft.source[0] = vec![*random.pick(&PRODUCTS)];
    }
    if random.percent(20) {
        draft.source[2].push(*random.pick(&["sshd", "auth", "security"]));
    }
}

/// Puts what the rule asks for into the event. Tells how, when it was for one value.
fn aim_at(
    random: &mut Random,
    world: &World,
    draft: &mut Draft,
    rule: &Rule,
) -> Option<&'static str> {
    let mut how = None;
    for selection in &rule.selections {
        // Filters would undo what the other selections do.
        if random.percent(if selection.name.starts_with("filter") { 25 } else { 90 }) {
            match &selection.body {
                Body::Map(items) => {
                    items.iter().for_each(|item| how = lure(random, world, draft, item));
                }
                Body::List(parts) => match random.pick(parts) {
                    Part::Map(items) => {
                        items.iter().for_each(|item| how = lure(random, world, draft, item));
                    }
                    Part::Word(_, bait) => how = hang(random, world, draft, "", bait),
                },
            }
        }
    }
    how.filter(|_| rule.probe().is_some())
}

/// Hangs out the bait of one value, or of each when all must match.
fn lure(
    random: &mut Random,
    world: &World,
    draft: &mut Draft,
    item: &Item,
) -> Option<&'static str> {
    if item.modifiers.contains(&"all") {
        // All in one text, so that it is one value that holds them; or each in one of its own.
        let texts = item.baits.iter().map(|b| if let Bait::Text(t, _) = b { t } else { "" });
        if random.percent(60) {
            let text = texts.collect::<Vec<_>>().join(" ");
            return hang(random, world, draft, &item.field, &Bait::Text(text, Slot::Inside));
        }
        let list = texts.map(|t| Json::Text(t.to_owned())).collect();
        let name = name_of(world, random, &item.field);
        place(random, draft, &name, Json::List(list));
        return Some("spread over a list");
    }
    let bait = random.pick(&item.baits).clone();
    hang(random, world, draft, &item.field, &bait)
}

/// Keywords are looked for in every field.
fn name_of(world: &World, random: &mut Random, field: &str) -> String {
    let field = if field.is_empty() { random.pick(&world.fields) } else { field };
    field.replace(' ', "")
}

fn hang(
    random: &mut Random,
    world: &World,
    draft: &mut Draft,
    field: &str,
    bait: &Bait,
) -> Option<&'static str> {
    let field = name_of(world, random, field);
    let (how, value) = match bait {
        Bait::Absent => return Some("absent"),
        Bait::Text(text, slot) => changed(random, text, *slot),
        Bait::Raw(raw) => twin(random, raw),
        Bait::Pair(left, other, right) => {
            let (_, right) = changed(random, right, Slot::Whole);
            place(random, draft, &other.replace(' ', ""), right);
            changed(random, left, Slot::Whole)
        }
    };
    let placed = place(random, draft, &field, value);
    Some(if how == "exact" || random.percent(50) { placed } else { how })
}

/// The text as it is, or changed a little.
fn changed(random: &mut Random, text: &str, slot: Slot) -> (&'static str, Json) {
    let around = ["x", " ", "😀", "ß/", "\n"];
    let (before, after) = (*random.pick(&around), *random.pick(&around));
    if text.parse::<i64>().is_ok_and(|n| n.to_string() == text) && random.percent(30) {
        return ("text as number", Json::Raw(text.to_owned()));
    }
    let (how, text) = match random.below(19) {
        0 | 1 => ("upper case", text.to_uppercase()),
        2 => ("lower case", text.to_lowercase()),
        3 => ("one character changed", one_changed(random, text)),
        4 => ("folded alike", text.replace(['k', 'K'], "\u{212A}").replace('ß', "ẞ")),
        5 => ("embedded", format!("{before}{text}{after}")),
        6 => ("prefixed", format!("{before}{text}")),
        7 => ("suffixed", format!("{text}{after}")),
        8 => return ("null instead", Json::Raw("null".to_owned())),
        9 => ("empty instead", String::new()),
        10..=12 if slot == Slot::Inside => ("exact", format!("{before}{text}{after}")),
        10..=12 if slot == Slot::Start => ("exact", format!("{text}{after}")),
        10..=12 if slot == Slot::End => ("exact", format!("{before}{text}")),
        _ => ("exact", text.to_owned()),
    };
    (how, Json::Text(text))
}

fn one_changed(random: &mut Random, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    match chars.len() {
        0 => return "x".to_owned(),
        length => {
            let at = random.below(length);
            chars[at] = if chars[at] == 'x' { 'y' } else { 'x' };
        }
    }
    chars.into_iter().collect()
}

/// A number, boolean or null as it is, or as something that may or may not be the same.
fn twin(random: &mut Random, raw: &str) -> (&'static str, Json) {
    if raw == "[]" {
        return ("empty list", Json::List(Vec::new()));
    }
    let whole = raw.parse::<i64>().ok();
    match (random.below(12), whole) {
        (0 | 1, _) => ("number as text", Json::Text(raw.to_owned())),
        (2, Some(n)) => ("number as float", Json::Raw(format!("{n}.0"))),
        (3, Some(n)) => ("next number", Json::Raw(n.saturating_sub(1).to_string())),
        (4, Some(n)) => ("padded text", Json::Text(format!("0{n}"))),
        (5, Some(0)) => ("exact", Json::Raw("-0.0".to_owned())),
        (5, Some(1000)) => ("exact", Json::Raw("1e3".to_owned())),
        (6, Some(_)) => ("above i64", Json::Raw(u64::MAX.to_string())),
        (7, _) => ("boolean instead", Json::Raw("true".to_owned())),
        _ => ("exact", Json::Raw(raw.to_owned())),
    }
}

/// Puts a value where the field is looked for, in one of the ways in which it can be written.
fn place(random: &mut Random, draft: &mut Draft, field: &str, value: Json) -> &'static str {
    let decoy = || Json::Text("decoy".to_owned());
    let dots = field.matches('.').count();
    match random.below(16) {
        0 => {
            draft.body.push((field.to_owned(), Json::List(vec![decoy(), value])));
            "in a list"
        }
        1 => {
            let list = Json::List(vec![Json::List(vec![value]), Json::Raw("7".to_owned())]);
            draft.body.push((field.to_owned(), list));
            "in a list of lists"
        }
        2 => {
            draft.derived.push((field.to_owned(), value));
            "derived"
        }
        3 => {
            draft.body.push((field.to_owned(), value));
            draft.derived.push((field.to_owned(), decoy()));
            "hidden by a derived field"
        }
        4 => {
            draft.body.push((field.to_owned(), decoy()));
            draft.body.push((field.to_owned(), value));
            "the last of two"
        }
        5 => {
            draft.body.push((field.to_owned(), value));
            draft.body.push((field.to_owned(), decoy()));
            "the first of two"
        }
        6..=10 if dots > 0 => {
            nest(&mut draft.body, field, value);
            "nested"
        }
        11 if dots > 0 => {
            let (first, rest) = field.split_once('.').unwrap_or((field, ""));
            let mut inner = Vec::new();
            nest(&mut inner, rest, value);
            let list = vec![Json::Map(inner), decoy(), Json::Map(vec![(rest.to_owned(), decoy())])];
            draft.body.push((first.to_owned(), Json::List(list)));
            "below a list"
        }
        12 if dots > 1 => {
            let (first, rest) = field.split_once('.').unwrap_or((field, ""));
            draft.body.push((first.to_owned(), Json::Map(vec![(rest.to_owned(), value)])));
            "nested and flat"
        }
        13 if dots > 0 => {
            nest(&mut draft.body, field, decoy());
            draft.body.push((field.to_owned(), value));
            "flat before nested"
        }
        _ => {
            draft.body.push((field.to_owned(), value));
            "exact"
        }
    }
}

/// Puts a value at the end of a path, into objects that are there already where it can.
fn nest(members: &mut Vec<(String, Json)>, path: &str, value: Json) {
    let Some((first, rest)) = path.split_once('.') else {
        members.push((path.to_owned(), value));
        return;
    };
    let there = members.iter_mut().rev().find_map(|(name, value)| match value {
        Json::Map(inner) if name == first => Some(inner),
        _ => None,
    });
    if let Some(inner) = there {
        return nest(inner, rest, value);
    }
    let mut inner = Vec::new();
    nest(&mut inner, rest, value);
    members.push((first.to_owned(), Json::Map(inner)));
}
