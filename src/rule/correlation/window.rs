//! Our own attributes of correlations. Sigma leaves windows to the engine, and keeps its own keys to
//! itself; so these stand at the top of a document, under our name:
//!
//! ```yaml
//! watchfire.window: session
//! watchfire.gap: 5m
//! watchfire.null_group: true
//! watchfire.update_interval: 1m
//! ```
//!
//! or the same as a mapping under `watchfire:`.

use super::Windowing;
use super::read::Reader;
use crate::rule::diagnostic::{Place, nearest};
use crate::rule::yaml::{Key, Node, Yaml};
use crate::time::parse_duration;

const NAMES: [&str; 4] = ["window", "gap", "null_group", "update_interval"];

/// What they say.
pub struct Ours {
    pub windowing: Windowing,
    pub null_group: bool,
    pub update_micros: Option<i64>,
    /// Where the first of them stands.
    pub place: Place,
}

impl Reader<'_, '_> {
    /// Reads our attributes; unknown ones are refused.
    pub fn ours(&mut self) -> Option<Ours> {
        let mut given: Vec<(Key, &Node)> = Vec::new();
        for (key, value) in self.document.members() {
            if let Some(name) = key.text.strip_prefix("watchfire.") {
                given.push((Key { place: key.place, text: name.to_owned() }, value));
            } else if key.text == "watchfire" {
                given.extend(value.members().iter().map(|(k, v)| (k.clone(), v)));
            }
        }
        let mut right = true;
        for (key, _) in given.iter().filter(|(k, _)| !NAMES.contains(&k.text.as_str())) {
            let what = format!("correlations have no attribute `watchfire.{}`", key.text);
            let help = match nearest(&key.text, NAMES.into_iter()) {
                Some(near) => format!("did you mean `watchfire.{near}`?"),
                None => format!("the attributes are: watchfire.{}", NAMES.join(", watchfire.")),
            };
            self.wrong_at(key.place, what, help);
            right = false;
        }
        let get = |name: &str| given.iter().find(|(k, _)| k.text == name).map(|(_, v)| *v);
        let gap = self.interval("gap", get("gap"));
        let windowing = self.windowing(get("window"), get("gap"), gap.flatten());
        let null_group = self.flag("null_group", get("null_group"));
        let update_micros = self.interval("update_interval", get("update_interval"));
        let place = given.first().map_or(self.node.place, |(k, _)| k.place);
        let ours = Ours {
            windowing: windowing?,
            null_group: null_group?,
            update_micros: update_micros?,
            place,
        };
        (right && gap.is_some()).then_some(ours)
    }

    fn windowing(
        &mut self,
        node: Option<&Node>,
        gap: Option<&Node>,
        gap_micros: Option<i64>,
    ) -> Option<Windowing> {
        const HELP: &str = "write `sliding`, `tumbling` or `session`";
        let windowing = match node.map(|n| (n.place, n.as_str().unwrap_or_default())) {
            None | Some((_, "sliding")) => Windowing::Sliding,
            Some((_, "tumbling")) => Windowing::Tumbling,
            Some((place, "session")) => match (gap, gap_micros) {
                (None, _) => {
                    let help = "say how long no event ends a session: `watchfire.gap: 5m`";
                    self.wrong_at(place, "a session needs a `watchfire.gap`", help);
                    return None;
                }
                (_, gap_micros) => Windowing::Session { gap_micros: gap_micros? },
            },
            Some((place, other)) => {
                self.wrong_at(place, format!("unknown kind of window `{other}`"), HELP);
                return None;
            }
        };
        if let (Some(gap), false) = (gap, matches!(windowing, Windowing::Session { .. })) {
            let help = "write `watchfire.window: session`, or take the gap out";
            self.wrong_at(gap.place, "only sessions have a gap", help);
            return None;
        }
        Some(windowing)
    }

    /// A duration, `Some(None)` when it is not given.
    fn interval(&mut self, name: &str, node: Option<&Node>) -> Option<Option<i64>> {
        let Some(node) = node else { return Some(None) };
        let help = "write a number with a unit: s, m, h or d, such as `5m`";
        let read = parse_duration(node.as_str().unwrap_or_default());
        match read {
            Ok(micros) if micros > 0 => Some(Some(micros)),
            Ok(_) => {
                let what = format!("`watchfire.{name}` must be more than zero");
                self.wrong_at(node.place, what, help);
                None
            }
            Err(e) => {
                self.wrong_at(node.place, format!("`watchfire.{name}`: {e}"), help);
                None
            }
        }
    }

    fn flag(&mut self, name: &str, node: Option<&Node>) -> Option<bool> {
        match node.map(|n| (&n.value, n.place)) {
            None => Some(false),
            Some((Yaml::Bool(flag), _)) => Some(*flag),
            Some((_, place)) => {
                let what = format!("`watchfire.{name}` takes `true` or `false`");
                self.wrong_at(place, what, "leave it out for `false`");
                None
            }
        }
    }
}
