//! Anomaly rules: conditions about what a group did before. They are ours, not Sigma's.

use super::read::Reader;
use super::{Correlation, CorrelationKind, Spike, Windowing};
use crate::rule::diagnostic::{Code, Diagnostic};
use crate::rule::yaml::Node;

/// Compiles the mapping under `anomaly:`. Everything that is missing, unknown or out of range is
/// added to `found`, with its place.
pub fn compile(node: &Node, document: &Node, found: &mut Vec<Diagnostic>) -> Option<Correlation> {
    let known = [
        "type",
        "rules",
        "group-by",
        "bucket",
        "history",
        "min_history",
        "ratio",
        "min_count",
        "generate",
    ];
    let mut reader = Reader::new("anomaly", node, document, &known, found)?;
    let kind = reader.text("type", "this version has `type: spike`");
    if let Some(kind) = kind.as_ref().filter(|k| *k != "spike") {
        let what = format!("unknown anomaly type `{kind}`");
        reader.wrong(Code::Unsupported, "type", what, "this version has `spike`");
        return None;
    }
    let bucket_micros = reader.duration("bucket");
    let history = reader.number("history", 60.0, 2.0, 10_080.0);
    let history_min = reader.number("min_history", 10.0, 1.0, 10_080.0);
    let ratio = reader.number("ratio", 3.0, 1.0, 1e9);
    let count_min = reader.number("min_count", 10.0, 1.0, 1e15);
    if let (Some(history), Some(least)) = (history, history_min)
        && least > history
    {
        let what = format!("`min_history` {least} is more than `history` {history}");
        let help = "a group never has more buckets than `history`: ask for fewer";
        let name = if node.get("min_history").is_some() { "min_history" } else { "history" };
        reader.wrong(Code::Correlation, name, what, help);
        return None;
    }
    let rules = reader.rules(false);
    let group_by = reader.fields(node, "group-by");
    let generate = reader.generate();
    let ours = reader.ours()?;
    if ours.windowing != Windowing::Sliding {
        let what = "an anomaly rule has buckets in place of windows";
        reader.wrong_at(ours.place, what, "take the attribute out; `bucket` says how long one is");
        return None;
    }
    if reader.unknown || kind.is_none() {
        return None;
    }
    let spike = Spike {
        bucket_micros: bucket_micros?,
        history: history? as usize,
        history_min: history_min? as usize,
        ratio: ratio?,
        count_min: count_min? as u64,
    };
    Some(Correlation {
        kind: CorrelationKind::Spike(spike),
        rules: rules?,
        group_by: group_by?,
        timespan_micros: spike.bucket_micros,
        generate: generate?,
        aliases: Vec::new(),
        windowing: Windowing::Sliding,
        null_group: ours.null_group,
        update_micros: ours.update_micros,
    })
}
