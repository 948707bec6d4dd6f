//! Lines over steps, with thresholds, a band and marks.

use super::super::markup::{escape, round_figure};
use super::{label, open, short, ticks};

const WIDTH: f64 = 500.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 24.0;
/// Most points of a line; more are replaced by the least and the greatest of each bin.
const POINTS: usize = 500;

/// A plot of lines.
#[derive(Debug, Default)]
pub(in crate::report) struct LinePlot {
    /// What is shown, for those who cannot see it.
    pub(in crate::report) description: String,
    /// The lines.
    pub(in crate::report) series: Vec<Series>,
    /// Horizontal lines.
    pub(in crate::report) guides: Vec<Guide>,
    /// A range of y that is usual.
    pub(in crate::report) band: Option<[f64; 2]>,
    /// Vertical lines.
    pub(in crate::report) marks: Vec<Mark>,
}

/// One line; a missing y is a gap.
#[derive(Debug)]
pub(in crate::report) struct Series {
    /// Number of its colour.
    pub(in crate::report) color: usize,
    /// x and y.
    pub(in crate::report) points: Vec<(f64, Option<f64>)>,
}

/// A threshold.
#[derive(Debug)]
pub(in crate::report) struct Guide {
    /// Its height.
    pub(in crate::report) value: f64,
    /// What it is, for the pointer.
    pub(in crate::report) text: String,
}

/// Something that happened at a step.
#[derive(Debug)]
pub(in crate::report) struct Mark {
    /// Where.
    pub(in crate::report) x: f64,
    /// What, for the pointer.
    pub(in crate::report) text: String,
}

struct Frame {
    x: [f64; 2],
    y: [f64; 2],
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x[0]) / (self.x[1] - self.x[0])
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y[0]) / (self.y[1] - self.y[0])
    }
}

impl LinePlot {
    /// The picture; `None` where no line has a point.
    pub(in crate::report) fn svg(&self) -> Option<String> {
        let frame = self.frame()?;
        let mut svg = open(WIDTH, HEIGHT, "plot", &self.description);
        if let Some([low, high]) = self.band {
            svg.push_str(&format!(
                "<path class=\"band\" d=\"M{} {}H{}V{}H{}z\"/>",
                short(LEFT),
                short(frame.y(low)),
                short(WIDTH - RIGHT),
                short(frame.y(high)),
                short(LEFT),
            ));
        }
        svg.push_str(&axes(&frame));
        for mark in &self.marks {
            svg.push_str(&format!(
                "<path class=\"mark\" d=\"M{} {}V{}\"><title>{}</title></path>",
                short(frame.x(mark.x)),
                short(TOP),
                short(HEIGHT - BOTTOM),
                escape(&mark.text)
            ));
        }
        for series in &self.series {
            svg.push_str(&line(series, &frame));
        }
        for guide in &self.guides {
            svg.push_str(&format!(
                "<path class=\"guide\" d=\"M{} {}H{}\"><title>{}</title></path>",
                short(LEFT),
                short(frame.y(guide.value)),
                short(WIDTH - RIGHT),
                escape(&guide.text)
            ));
        }
        svg.push_str("</svg>");
        Some(svg)
    }

    /// The range of everything shown; from 0, unless all of it lies far above.
    fn frame(&self) -> Option<Frame> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        // Gaps count for x, so that plots of one row lie under each other step by step.
        let x = range(points().map(|&(x, _)| x))?;
        let lines = points().filter_map(|&(_, y)| y);
        let guides = self.guides.iter().map(|guide| guide.value);
        let [mut low, mut high] =
            range(lines.chain(guides).chain(self.band.into_iter().flatten()))?;
        if low > 0.0 && (low < 0.7 * high || low == high) {
            low = 0.0;
        }
        let spare = 0.04 * (high - low);
        high += spare;
        if low != 0.0 {
            low -= spare;
        }
        Some(Frame { x: widened(x), y: widened([low, high]) })
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some([value, value]),
        Some([low, high]) => Some([low.min(value), high.max(value)]),
    })
}

/// A range of some extent, so that one value lies in its middle.
fn widened([low, high]: [f64; 2]) -> [f64; 2] {
    if high > low {
        return [low, high];
    }
    let half = if low == 0.0 { 0.5 } else { low.abs() * 0.1 };
    [low - half, high + half]
}

fn axes(frame: &Frame) -> String {
    let (left, bottom) = (short(LEFT), short(HEIGHT - BOTTOM));
    let mut grid = String::new();
    let mut labels = String::new();
    for value in ticks(frame.y[0], frame.y[1], 4) {
        let y = frame.y(value);
        grid.push_str(&format!("M{left} {}H{}", short(y), short(WIDTH - RIGHT)));
        labels.push_str(&label(LEFT - 5.0, y + 4.0, "end", &round_figure(value)));
    }
    for value in ticks(frame.x[0], frame.x[1], 6) {
        let x = frame.x(value);
        // The last one would be cut by the edge of the picture.
        let anchor = if x > WIDTH - 24.0 { "end" } else { "middle" };
        labels.push_str(&label(x, HEIGHT - 8.0, anchor, &figure_of_step(value)));
    }
    format!(
        "<path class=\"grid\" d=\"{grid}\"/><path class=\"axis\" d=\"M{left} {}V{bottom}H{}\"/>{labels}",
        short(TOP),
        short(WIDTH - RIGHT)
    )
}

fn figure_of_step(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 { format!("{value}") } else { round_figure(value) }
}

fn line(series: &Series, frame: &Frame) -> String {
    let (mut path, mut dots) = (String::new(), String::new());
    for part in series.points.split(|(_, y)| y.is_none_or(|y| !y.is_finite())) {
        let points = thinned(part);
        if let [(x, y)] = points[..] {
            dots.push_str(&format!("M{} {}h0", short(frame.x(x)), short(frame.y(y))));
        }
        for (number, (x, y)) in points.into_iter().enumerate() {
            let letter = if number == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{letter}{} {}", short(frame.x(x)), short(frame.y(y))));
        }
    }
    let color = series.color;
    let dots = match dots.is_empty() {
        true => String::new(),
        false => format!("<path class=\"dots c{color}\" d=\"{dots}\"/>"),
    };
    format!("<path class=\"line c{color}\" d=\"{path}\"/>{dots}")
}

/// At most [`POINTS`] points: of each bin the least and the greatest, in their order.
fn thinned(points: &[(f64, Option<f64>)]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().filter_map(|&(x, y)| Some((x, y?))).collect();
    if points.len() <= POINTS {
        return points;
    }
    let bin = points.len().div_ceil(POINTS / 2);
    let ends = |bin: &[(f64, f64)]| {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let least = bin.iter().min_by(by_height).copied();
        let greatest = bin.iter().max_by(by_height).copied();
        let mut ends: Vec<(f64, f64)> = least.into_iter().chain(greatest).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        ends
    };
    points.chunks(bin).flat_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, Option<f64>)>) -> LinePlot {
        LinePlot { series: vec![Series { color: 0, points }], ..LinePlot::default() }
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_peaks() {
        let mut points: Vec<(f64, Option<f64>)> =
            (0..5000).map(|x| (f64::from(x), Some(1.0))).collect();
        points[2345].1 = Some(99.0);
        points[3456].1 = Some(-99.0);
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS, "{}", thin.len());
        assert!(thin.contains(&(2345.0, 99.0)) && thin.contains(&(3456.0, -99.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn gaps_break_a_line_and_a_lone_point_is_a_dot() {
        let points = vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(1.0))];
        let svg = plot(points).svg().unwrap();
        assert!(svg.contains("class=\"dots c0\""), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_to_show_is_no_plot_and_one_value_is_one() {
        assert_eq!(plot(vec![(0.0, None), (1.0, Some(f64::NAN))]).svg(), None);
        for value in [0.0, 3.0, -2.0] {
            let svg = plot(vec![(0.0, Some(value))]).svg().unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
