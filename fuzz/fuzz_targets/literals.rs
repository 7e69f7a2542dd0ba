//! Any literals, a line each, in any text, the last line: on every path of this machine those are found that
//! are there, where they are, and no others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfire::detect::{GRAM_PAD, Grams, Spots, VectorPath};

fuzz_target!(|bytes: &[u8]| {
    let mut literals: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let Some(text) = literals.pop() else { return };
    literals.retain(|literal| !literal.is_empty());
    let is_in = |literal: &[u8]| text.windows(literal.len()).any(|window| window == literal);
    let expect: Vec<u32> =
        (0..).zip(&literals).filter(|(_, literal)| is_in(literal)).map(|(n, _)| n).collect();
    // What stands around the text is no part of it, even where it goes on like it.
    let buffer = [text, text, text, &[0; GRAM_PAD]].concat();
    let (start, end) = (text.len(), 2 * text.len());
    for path in VectorPath::available().into_iter().map(Some).chain([None]) {
        let spots = |number: u32| Spots { window: 0, gram: number as usize % 9 };
        let numbered = literals.iter().zip(0..);
        let numbered = numbered.map(|(literal, number)| (*literal, spots(number), number));
        let grams = Grams::with_path(numbered, path);
        let mut found = Vec::new();
        grams.search(&buffer, start, end, &mut |number, at| {
            let literal = literals[number as usize];
            let there =
                at >= start && at + literal.len() <= end && buffer[at..].starts_with(literal);
            assert!(there, "{path:?}: {literal:?} at {at}");
            found.push(number);
            false
        });
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, expect, "{path:?}");
    }
});
