//! What the plots have in common: colours, text, legend. Each has a ground of its own, so that it can be read on a dark
//! page as well.

use allocator_bench::contender::Contender;
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A plot, or a part of it.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const GROUND: RGBColor = RGBColor(255, 255, 255);
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const PALE_INK: RGBColor = RGBColor(95, 95, 95);
pub(super) const GRID: RGBColor = RGBColor(222, 222, 222);

/// Colours that people who do not see all colours can tell apart, after Okabe and Ito.
pub(super) fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Antifreeze => RGBColor(0, 114, 178),
        Contender::System => RGBColor(120, 120, 120),
        Contender::Jemalloc => RGBColor(230, 159, 0),
        Contender::Mimalloc => RGBColor(0, 158, 115),
        Contender::Rpmalloc => RGBColor(204, 121, 167),
        Contender::Snmalloc => RGBColor(213, 94, 0),
        Contender::Tcmalloc => RGBColor(86, 180, 233),
    }
}

pub(super) const TITLE_PX: u32 = 18;
pub(super) const LABEL_PX: u32 = 12;

/// Where a text stands relative to its place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Left,
    Middle,
    Right,
}

/// Writes `text` at half height of `place`, in pixels.
pub(super) fn write(
    area: &Area<'_>,
    text: &str,
    place: (i32, i32),
    (size_px, ink, anchor): (u32, RGBColor, Anchor),
) -> Result<()> {
    let horizontal = match anchor {
        Anchor::Left => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::Right => HPos::Right,
    };
    let style = ("sans-serif", size_px).into_font().color(&ink).pos(Pos::new(horizontal, VPos::Center));
    area.draw_text(text, &style, place)?;
    Ok(())
}

/// Title, what was measured on what, and the colours, in the uppermost [`HEAD_PX`] pixels.
pub(super) fn head(area: &Area<'_>, title: &str, caption: &str, contenders: &[Contender]) -> Result<()> {
    write(area, title, (16, 20), (TITLE_PX, INK, Anchor::Left))?;
    write(area, caption, (16, 42), (LABEL_PX, PALE_INK, Anchor::Left))?;
    let mut left_px = 16;
    for &contender in contenders {
        area.draw(&Rectangle::new([(left_px, 58), (left_px + 12, 70)], colour(contender).filled()))?;
        write(area, contender.name(), (left_px + 17, 64), (LABEL_PX, INK, Anchor::Left))?;
        left_px += 40 + 8 * contender.name().len() as i32;
    }
    Ok(())
}

pub(super) const HEAD_PX: i32 = 84;
