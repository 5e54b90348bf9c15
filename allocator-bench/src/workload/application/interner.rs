//! `interner`: string interning, as in compilers and parsers of logs. Texts of 8 to 40 bytes are looked up; those not
//! seen before are kept in a box and numbered. Two thirds are new; after 100k texts everything is dropped and begins
//! again, with tables that grow from nothing. The work per thread is constant.

use std::fmt::Write;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const TEXTS: usize = 2_500_000;
const TEXTS_PER_INTERNER: usize = 100_000;
const NEW_PER_MILLE: usize = 667;
const STEMS: [&str; 8] =
    ["node", "request", "Connection", "is_empty", "std::vec::Vec", "<T as Iterator>", "x-forwarded-for", "i"];

/// Plays the workload; every thread has its own interners.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let texts = scaled(TEXTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x17E + thread);
        let counts = (0..texts).step_by(TEXTS_PER_INTERNER).map(|done| (texts - done).min(TEXTS_PER_INTERNER));
        counts.map(|count| intern_some(count, &mut rng)).sum()
    })
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

/// Interns texts, then looks at each symbol's text again; gives a checksum of the symbols and their lengths.
fn intern_some(count: usize, rng: &mut Rng) -> u64 {
    let mut interner = Interner::default();
    let mut numbers: Vec<usize> = Vec::new();
    let mut symbols = Vec::with_capacity(count);
    let mut text = String::new();
    for _ in 0..count {
        let number = if numbers.is_empty() || rng.below(1000) < NEW_PER_MILLE {
            numbers.push(rng.below(u32::MAX as usize));
            numbers[numbers.len() - 1]
        } else {
            numbers[rng.below(numbers.len())]
        };
        write_text(&mut text, number);
        symbols.push((interner.symbol(&text), number));
    }
    symbols
        .into_iter()
        .map(|(symbol, number)| {
            write_text(&mut text, number);
            assert_eq!(interner.text(symbol), text, "a text has changed");
            u64::from(symbol) + text.len() as u64
        })
        .sum()
}

pub(super) fn write_text(text: &mut String, number: usize) {
    text.clear();
    write!(text, "{}_{number:x}", STEMS[number % STEMS.len()]).expect("a string takes everything");
}
