//! Resident memory over time, of all allocators in one plot.

use maud::{Markup, html};

use super::outline::Columns;
use super::selection::{Lane, Selection};
use super::timeline::class;
use report_page::scale::{Px, Scale};

/// The drawing's size and its plot; the names stand to the right of it.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 716.0;
const TOP: f64 = 14.0;
const FLOOR: f64 = 256.0;
/// The room of a name.
const NAME_HEIGHT: f64 = 15.0;
const KIB_PER_GIB: f64 = 1_048_576.0;
const KIB_PER_MIB: f64 = 1_024.0;

/// One allocator's line.
struct Line<'a> {
    lane: &'a Lane<'a>,
    columns: Columns,
    /// Where the line ends.
    end_y: f64,
}

/// The figure; nothing if no memory was sampled.
pub fn figure(selection: &Selection<'_>) -> Markup {
    let samples = || selection.lanes.iter().flat_map(|lane| &lane.run.rss);
    let Some(most_kib) = samples().map(|sample| sample.rss_kib).max() else { return html! {} };
    let (unit, kib_per_unit) = if most_kib as f64 >= KIB_PER_GIB { ("GiB", KIB_PER_GIB) } else { ("MiB", KIB_PER_MIB) };
    let (begin, end) = selection.seconds();
    let seconds = Scale::linear(begin, end, LEFT, RIGHT);
    let memory = Scale::linear(0.0, most_kib as f64 / kib_per_unit * 1.04, FLOOR, TOP);
    let lines: Vec<_> = selection.lanes.iter().filter_map(|lane| line(lane, &seconds, &memory, kib_per_unit)).collect();
    html! {
        figure {
            div.scroll tabindex="0" role="group" aria-label="Plot of resident memory, can be scrolled sideways" {
                div.wide {
                    svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(HEIGHT)) } role="img"
                        aria-label="Resident memory over time, one line for each allocator" {
                        (axes(&seconds, &memory, unit, &selection.time_axis()))
                        @for line in &lines {
                            path.curve.(class(line.lane)) d=(line.columns.line(&memory)) { title { (line.lane.name) } }
                        }
                        (names(&lines))
                    }
                }
            }
        }
    }
}

fn line<'a>(lane: &'a Lane<'a>, seconds: &Scale, memory: &Scale, kib_per_unit: f64) -> Option<Line<'a>> {
    let mut columns = Columns::new(LEFT, RIGHT);
    for sample in &lane.run.rss {
        let x = seconds.at(lane.seconds(sample.at_ns));
        columns.raise(x, x, sample.rss_kib as f64 / kib_per_unit);
    }
    let end_y = memory.at(columns.last()?);
    Some(Line { lane, columns, end_y })
}

fn axes(seconds: &Scale, memory: &Scale, unit: &str, time_axis: &str) -> Markup {
    html! {
        @for tick in memory.ticks(6) {
            @let y = Px(memory.at(tick));
            line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(y) y2=(y) {}
            text.tick.end x=(Px(LEFT - 6.0)) y=(Px(y.0 + 4.0)) { (tick) " " (unit) }
        }
        line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(FLOOR)) y2=(Px(FLOOR)) {}
        @for tick in seconds.ticks(10) {
            @let x = Px(seconds.at(tick));
            line.floor x1=(x) x2=(x) y1=(Px(FLOOR)) y2=(Px(FLOOR + 4.0)) {}
            text.tick.middle x=(x) y=(Px(FLOOR + 17.0)) { (tick) }
        }
        text.note.middle x=(Px(LEFT.midpoint(RIGHT))) y=(Px(HEIGHT - 8.0)) { (time_axis) }
    }
}

/// The names beside the ends of the lines, moved apart where lines end at one height.
fn names(lines: &[Line<'_>]) -> Markup {
    let mut by_height: Vec<&Line<'_>> = lines.iter().collect();
    by_height.sort_by(|one, other| one.end_y.total_cmp(&other.end_y));
    let heights = apart(&by_height.iter().map(|line| line.end_y).collect::<Vec<_>>());
    html! {
        @for (line, y) in by_height.iter().zip(heights) {
            g.(class(line.lane)) {
                path.leader d={ "M" (Px(RIGHT + 2.0)) " " (Px(line.end_y)) "L" (Px(RIGHT + 14.0)) " " (Px(y)) } {}
                text.label x=(Px(RIGHT + 18.0)) y=(Px(y + 4.0)) { (line.lane.name) }
            }
        }
    }
}

/// The same heights in the same order, but no two nearer than a name's height, and none below the plot.
fn apart(heights: &[f64]) -> Vec<f64> {
    let mut placed: Vec<f64> = Vec::new();
    for height in heights {
        let free = placed.last().map_or(f64::MIN, |last| last + NAME_HEIGHT);
        placed.push(height.max(free));
    }
    let mut ceiling = FLOOR;
    for place in placed.iter_mut().rev() {
        *place = place.min(ceiling);
        ceiling = *place - NAME_HEIGHT;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_overlap() {
        let placed = apart(&[20.0, 21.0, 250.0, 255.0, 256.0]);
        assert!(placed.windows(2).all(|pair| pair[1] - pair[0] >= NAME_HEIGHT), "{placed:?}");
        assert_eq!((placed[0], placed[4]), (20.0, FLOOR));
        assert_eq!(apart(&[]), [0.0; 0]);
    }
}
