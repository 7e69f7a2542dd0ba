//! `--explain`: the long text of a code, or the list of all.

use std::io::Write;

use anyhow::bail;

use crate::rule::{Code, nearest};

/// Writes the text of a code; without one the list.
pub fn run(code: &str, out: &mut dyn Write) -> anyhow::Result<u8> {
    if code.is_empty() {
        for code in Code::ALL {
            writeln!(out, "{}  {}", code.as_str(), code.explanation().title)?;
        }
        return Ok(super::super::FINE);
    }
    let Some(known) = Code::parse(code) else {
        let upper = code.to_uppercase();
        match nearest(&upper, Code::ALL.iter().map(|c| c.as_str())) {
            Some(near) => bail!("no code is `{code}`: did you mean `{near}`?"),
            None => bail!("no code is `{code}`: `watchfire check --explain` lists them"),
        }
    };
    write!(out, "{}", known.explanation().text)?;
    Ok(super::super::FINE)
}
