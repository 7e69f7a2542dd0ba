//! Text as it is compared when case does not count.

use std::borrow::Cow;

/// Text as it is compared when case does not count, borrowed when it already is so.
///
/// One character stays one character (Unicode's simple lower case), and the final sigma is a sigma:
/// with the full mapping, which looks at what stands around a letter, `contains` could miss text that
/// is there, and `?` would be one letter but two characters of `İ`.
pub fn fold(text: &str) -> Cow<'_, str> {
    let is_ready = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
    let Some(first) = text.bytes().position(|b| !is_ready(b)) else { return Cow::Borrowed(text) };
    let mut folded = String::with_capacity(text.len() + 8);
    folded.push_str(&text[..first]);
    folded.extend(text[first..].chars().map(fold_char));
    Cow::Owned(folded)
}

fn fold_char(c: char) -> char {
    match c {
        c if c.is_ascii() => c.to_ascii_lowercase(),
        'ς' => 'σ',
        c => c.to_lowercase().next().unwrap_or(c),
    }
}

/// Whether folding leaves every character as it is that is not ASCII.
pub fn is_folded_beyond_ascii(text: &str) -> bool {
    // Below U+00C0 there is no letter with case but the ASCII ones and the micro sign, a lower-case letter.
    text.is_ascii() || text.chars().all(|c| c < '\u{c0}' || fold_char(c) == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_taken_for_folded_are_so() {
        for c in '\u{80}'..'\u{c0}' {
            assert_eq!(fold_char(c), c);
        }
        for (text, expect) in
            [("Microsoft® Windows™", true), ("Äa", false), ("äA", true), ("\u{212a}", false)]
        {
            assert_eq!(is_folded_beyond_ascii(text), expect, "{text}");
        }
    }
}
