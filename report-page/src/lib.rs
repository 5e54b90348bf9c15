//! What the HTML reports of `stress` and `freeze-trap` have in common: the document around them and its style, scales
//! of plots, histograms of mmap_lock. For tests, a real browser looks at a page.
//!
//! A page needs nothing but itself: no network, no other file. Plots are written as SVG by hand: the crate plotters,
//! which was considered, gives every element a literal colour and knows neither `<title>` nor classes, identifiers or
//! `<use>`; but the colours have to follow the reader's theme, and a mark has to say on touch what it stands for.

#[cfg(feature = "browser")]
pub mod browser;
mod document;
pub mod histogram;
pub mod scale;

pub use document::{document, scroll, section};
