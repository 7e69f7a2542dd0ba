//! `--cost`: tables of what rules cost, by the estimate of `rule/cost.rs`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Report;
use crate::event::Logsource;
use crate::rule::{Cost, Document, RuleSet, read_file};

/// How many rules the table shows.
const ROWS: usize = 20;

struct Row {
    cost: Cost,
    title: String,
    file: String,
    logsource: String,
}

/// Writes the tables.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = rows(report);
    rows.sort_by(|a, b| b.cost.units.cmp(&a.cost.units).then_with(|| a.title.cmp(&b.title)));
    writeln!(out, "\nestimated cost per event (units, see --help), the {ROWS} highest of rules")?;
    writeln!(out, "{:>8} {:>7} {:>7} {:>8}  rule", "units", "values", "regexes", "keywords")?;
    for Row { cost, title, file, .. } in rows.iter().take(ROWS) {
        let Cost { units, values, regexes, keywords, .. } = cost;
        writeln!(out, "{units:>8} {values:>7} {regexes:>7} {keywords:>8}  {title} ({file})")?;
    }
    let mut sums: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for row in &rows {
        let sum = sums.entry(&row.logsource).or_default();
        *sum = (sum.0 + row.cost.units, sum.1 + 1);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(name, (units, _))| (std::cmp::Reverse(*units), *name));
    writeln!(out, "\nper logsource, for an event that all of its rules look at")?;
    writeln!(out, "{:>8} {:>7}  logsource", "units", "rules")?;
    for (name, (units, rules)) in sums {
        writeln!(out, "{units:>8} {rules:>7}  {name}")?;
    }
    let every: Vec<&Row> = rows.iter().filter(|r| r.cost.regex_on_every_event).collect();
    if !every.is_empty() {
        writeln!(out, "\nrules that run a regular expression on every event of their logsource")?;
        for row in every {
            writeln!(out, "{:>8}  {} ({})", row.cost.units, row.title, row.file)?;
        }
    }
    correlations(report, out)
}

/// How many records the first stage sends to the second for each correlation.
fn correlations(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (rules, _) =
        RuleSet::compile(report.files.iter().map(|(file, text)| (file, text.as_str())));
    if rules.correlations.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\ncorrelations: a record for each match, or for each group in a commit interval"
    )?;
    for rule in &rules.correlations {
        let family = &rules.families[rule.family];
        let looks = |i: &usize| rules.correlations[*i].kind.fields().first();
        let how = if family.is_alike { "group" } else { "match" };
        write!(out, "{how:>8}  {} ({})", rule.header.title, rule.header.file)?;
        match family.members.iter().find_map(looks) {
            Some(field) => writeln!(out, ": the value of {} counts", field.as_str())?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// Read again as written: filters and placeholders do not count.
fn rows(report: &Report) -> Vec<Row> {
    let documents = report.files.iter().flat_map(|(file, text)| read_file(file, text).0);
    let detections = documents.filter_map(|document| match document {
        Document::Detection { header, logsource, tree } => Some((header, logsource, tree)),
        _ => None,
    });
    detections
        .map(|(header, logsource, tree)| Row {
            cost: Cost::of(&tree),
            title: header.title,
            file: header.file.to_string(),
            logsource: named(&logsource),
        })
        .collect()
}

fn named(logsource: &Logsource) -> String {
    let parts = [&logsource.product, &logsource.category, &logsource.service];
    parts.map(|p| p.as_deref().unwrap_or("*").to_owned()).join("/")
}
