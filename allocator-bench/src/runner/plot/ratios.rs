//! Bars: a figure of each allocator over that of antifreeze, by workload, with a panel for each number of threads. The
//! axis is logarithmic, so that twice and half are equally far from one.

use anyhow::Result;
use plotters::prelude::*;

use super::style::{Anchor, Area, GRID, GROUND, HEAD_PX, INK, LABEL_PX, PALE_INK, colour, head, write};
use allocator_bench::contender::Contender;

use crate::runner::results::{Results, threads_text};

const NAMES_PX: i32 = 150;
const PANEL_PX: i32 = 380;
const PANEL_GAP_PX: i32 = 44;
const PANEL_TITLE_PX: i32 = 44;
const BAR_PX: i32 = 6;
const GROUP_GAP_PX: i32 = 9;
const FOOT_PX: i32 = 26;

/// Bars beyond these are cut off, and their ratio is written on them.
const LIMITS: (f64, f64) = (1.0 / 16.0, 16.0);

/// Where the axis has marks, if they lie on it.
const MARKS: [f64; 9] = [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];

/// One such plot.
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// What a bar to the left means.
    pub(super) better: &'static str,
    /// What a bar to the right means.
    pub(super) worse: &'static str,
    /// The ratio of a contender to antifreeze, in one row.
    pub(super) ratio: fn(&Results, usize, usize) -> Option<f64>,
}

/// The ratios of one row, by contender.
struct Group {
    workload: String,
    threads: usize,
    ratios: Vec<(Contender, f64)>,
}

impl Plot {
    /// The text of the SVG file; none without antifreeze or without any other.
    pub(super) fn draw(&self, results: &Results, caption: &str) -> Result<Option<String>> {
        let groups = self.groups(results);
        let peers: Vec<Contender> =
            results.contenders.iter().copied().filter(|&contender| contender != Contender::Antifreeze).collect();
        if groups.is_empty() {
            return Ok(None);
        }
        let (mut workloads, mut panels) = (Vec::new(), Vec::new());
        for group in &groups {
            if !workloads.contains(&group.workload) {
                workloads.push(group.workload.clone());
            }
            if !panels.contains(&group.threads) {
                panels.push(group.threads);
            }
        }
        panels.sort_unstable();
        let group_px = BAR_PX * peers.len() as i32 + GROUP_GAP_PX;
        let body_px = group_px * workloads.len() as i32;
        let width_px = NAMES_PX + (PANEL_PX + PANEL_GAP_PX) * panels.len() as i32;
        let height_px = HEAD_PX + PANEL_TITLE_PX + body_px + FOOT_PX;
        let scale = Scale::of(groups.iter().flat_map(|group| &group.ratios).map(|&(_, ratio)| ratio));
        let mut text = String::new();
        {
            let size = (width_px.max(640).cast_unsigned(), height_px.cast_unsigned());
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            area.fill(&GROUND)?;
            head(&area, self.title, caption, &peers)?;
            let top_px = HEAD_PX + PANEL_TITLE_PX;
            for (place, workload) in workloads.iter().enumerate() {
                let middle_px = top_px + group_px * place as i32 + group_px / 2;
                write(&area, workload, (NAMES_PX - 10, middle_px), (LABEL_PX, INK, Anchor::Right))?;
            }
            for (place, &count) in panels.iter().enumerate() {
                let left_px = NAMES_PX + (PANEL_PX + PANEL_GAP_PX) * place as i32;
                let panel = Panel { area: &area, left_px, top_px, body_px, scale: &scale };
                self.draw_axis(&panel, count)?;
                for group in groups.iter().filter(|group| group.threads == count) {
                    let above = workloads.iter().take_while(|&workload| *workload != group.workload).count();
                    panel.draw_group(group, &peers, top_px + group_px * above as i32 + GROUP_GAP_PX / 2)?;
                }
            }
            area.present()?;
        }
        Ok(Some(text))
    }

    fn groups(&self, results: &Results) -> Vec<Group> {
        let ratios_of = |row: usize| {
            let ratio = |(index, &contender): (usize, &Contender)| {
                let ratio = (self.ratio)(results, row, index)?;
                (contender != Contender::Antifreeze).then_some((contender, ratio))
            };
            results.contenders.iter().enumerate().filter_map(ratio).collect::<Vec<_>>()
        };
        let rows = results.rows.iter().enumerate();
        rows.map(|(index, row)| Group {
            workload: row.workload.clone(),
            threads: row.threads,
            ratios: ratios_of(index),
        })
        .filter(|group| !group.ratios.is_empty())
        .collect()
    }

    fn draw_axis(&self, panel: &Panel<'_, '_>, count: usize) -> Result<()> {
        let &Panel { area, left_px, top_px, body_px, scale } = panel;
        write(area, &threads_text(count), (left_px, top_px - 34), (LABEL_PX + 1, INK, Anchor::Left))?;
        let one_px = panel.x_px(1.0);
        write(area, &format!("◂ {}", self.better), (one_px - 6, top_px - 16), (10, PALE_INK, Anchor::Right))?;
        write(area, &format!("{} ▸", self.worse), (one_px + 6, top_px - 16), (10, PALE_INK, Anchor::Left))?;
        for mark in MARKS.into_iter().filter(|mark| (scale.least..=scale.most).contains(&mark.log2())) {
            let x_px = panel.x_px(mark);
            let line = [(x_px, top_px - 6), (x_px, top_px + body_px)];
            let ink = if mark == 1.0 { INK } else { GRID };
            area.draw(&PathElement::new(line, ink.stroke_width(1)))?;
            let label = if mark < 1.0 { format!("1/{:.0}", 1.0 / mark) } else { format!("{mark:.0}") };
            write(area, &label, (x_px, top_px + body_px + 12), (LABEL_PX, PALE_INK, Anchor::Middle))?;
        }
        Ok(())
    }
}

/// The range of the axis, in doublings.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// One that shows all ratios within the limits, in whole doublings, and one to each side at least.
    fn of(ratios: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (-1.0_f64, 1.0_f64);
        for ratio in ratios {
            let doublings = ratio.clamp(LIMITS.0, LIMITS.1).log2();
            least = least.min(doublings.floor());
            most = most.max(doublings.ceil());
        }
        Self { least, most }
    }
}

/// One number of threads.
struct Panel<'a, 'b> {
    area: &'a Area<'b>,
    left_px: i32,
    top_px: i32,
    body_px: i32,
    scale: &'a Scale,
}

impl Panel<'_, '_> {
    fn x_px(&self, ratio: f64) -> i32 {
        let Scale { least, most } = *self.scale;
        self.left_px + ((ratio.log2() - least) / (most - least) * f64::from(PANEL_PX)).round() as i32
    }

    fn draw_group(&self, group: &Group, peers: &[Contender], top_px: i32) -> Result<()> {
        for &(contender, ratio) in &group.ratios {
            let place = peers.iter().take_while(|&&peer| peer != contender).count() as i32;
            let (y_px, shown) = (top_px + BAR_PX * place, ratio.clamp(LIMITS.0, LIMITS.1));
            let (from_px, to_px) = (self.x_px(1.0), self.x_px(shown));
            // A bar of no length still shows that there is one.
            let (left_px, right_px) = (from_px.min(to_px) - 1, from_px.max(to_px) + 1);
            let bar = Rectangle::new([(left_px, y_px), (right_px, y_px + BAR_PX - 1)], colour(contender).filled());
            self.area.draw(&bar)?;
            if shown != ratio {
                let (label_px, anchor) =
                    if ratio > 1.0 { (to_px - 4, Anchor::Right) } else { (to_px + 4, Anchor::Left) };
                let style = (BAR_PX.cast_unsigned() + 2, GROUND, anchor);
                write(self.area, &format!("{ratio:.2}"), (label_px, y_px + BAR_PX / 2), style)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Scale;

    #[test]
    fn the_axis_is_as_long_as_needed() {
        let scale = Scale::of([0.9, 5.0].into_iter());
        assert_eq!((scale.least, scale.most), (-1.0, 3.0));
        let scale = Scale::of([0.001, 1000.0].into_iter());
        assert_eq!((scale.least, scale.most), (-4.0, 4.0));
    }
}
