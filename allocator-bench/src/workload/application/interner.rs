//! `interner`: string interning, as in compilers and parsers of logs. Texts of 3 to 24 bytes are looked up; those not
//! seen before are kept and numbered. After 100k texts, of which two thirds are new, everything is dropped and begins
//! again, with tables that grow from nothing. Most of the time goes to hashing and to cache misses of the table. The
//! work per thread is constant.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const TEXTS: usize = 4_000_000;
const TEXTS_PER_INTERNER: usize = 100_000;
const STEMS: [&str; 8] =
    ["node", "request", "Connection", "is_empty", "std::vec::Vec", "<T as Iterator>", "x-forwarded-for", "i"];

/// Plays the workload; every thread has its own interners.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let texts = scaled(TEXTS, scale);
    let words = words(TEXTS_PER_INTERNER.min(texts));
    let checksum = on_threads(threads, |thread| {
        let mut rng = Rng::new(0x17E + thread);
        let counts = (0..texts).step_by(TEXTS_PER_INTERNER).map(|done| (texts - done).min(TEXTS_PER_INTERNER));
        counts.map(|count| intern_some(count, &words, &mut rng)).sum()
    });
    check_words(&words);
    checksum
}

#[derive(Default)]
pub(super) struct Interner {
    symbols: FxHashMap<Rc<str>, u32>,
    texts: Vec<Rc<str>>,
}

impl Interner {
    pub(super) fn symbol(&mut self, text: &str) -> u32 {
        if let Some(&symbol) = self.symbols.get(text) {
            return symbol;
        }
        let (kept, symbol) = (Rc::<str>::from(text), self.texts.len() as u32);
        self.texts.push(Rc::clone(&kept));
        self.symbols.insert(kept, symbol);
        symbol
    }

    pub(super) fn text(&self, symbol: u32) -> &str {
        &self.texts[symbol as usize]
    }
}

/// So many different texts.
pub(super) fn words(count: usize) -> Vec<String> {
    (0..count).map(word).collect()
}

fn word(number: usize) -> String {
    format!("{}_{number:x}", STEMS[number % STEMS.len()])
}

/// Checks that the [`words`] are what they were.
pub(super) fn check_words(words: &[String]) {
    assert!(words.iter().enumerate().all(|(number, text)| *text == word(number)), "a word has changed");
}

/// Interns random words, then looks at each symbol's text again; gives a checksum of the symbols and their lengths.
fn intern_some(count: usize, words: &[String], rng: &mut Rng) -> u64 {
    let mut interner = Interner::default();
    let drawn: Vec<&String> = (0..count).map(|_| &words[rng.below(words.len())]).collect();
    let symbols: Vec<u32> = drawn.iter().map(|word| interner.symbol(word)).collect();
    let check = |(word, symbol): (&String, u32)| {
        assert_eq!(interner.text(symbol), word, "a text has changed");
        u64::from(symbol) + word.len() as u64
    };
    drawn.into_iter().zip(symbols).map(check).sum()
}
