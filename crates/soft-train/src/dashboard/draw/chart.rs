//! A chart with labelled axes, made to be read at a glance.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Paragraph};

use super::palette::Palette;
use super::words::thousands;

/// Points that belong together.
#[derive(Debug, Clone)]
pub(super) struct Curve<'a> {
    pub(super) points: &'a [(f64, f64)],
    pub(super) style: Style,
    pub(super) shape: Shape,
    /// Its name in the legend; none where there is nothing to tell apart.
    pub(super) name: Option<&'static str>,
}

/// How points are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A line; all of it is in sight.
    Line,
    /// A line through marked points.
    Marked,
    /// Dots; a few far out may be out of sight.
    Dots,
}

/// A chart under a title.
#[derive(Debug, Clone)]
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    /// The last value, in words.
    pub(super) value: String,
    /// What the horizontal axis counts.
    pub(super) along: &'static str,
    pub(super) curves: Vec<Curve<'a>>,
    /// A limit: a line across.
    pub(super) level: Option<f64>,
    pub(super) level_name: &'static str,
    /// Factor of the vertical labels, for another unit.
    pub(super) scale: f64,
}

impl<'a> Plot<'a> {
    pub(super) fn new(title: &'a str, value: String) -> Self {
        let curves = Vec::new();
        Self { title, value, along: "step", curves, level: None, level_name: "", scale: 1.0 }
    }

    pub(super) fn curve(mut self, points: &'a [(f64, f64)], style: Style, shape: Shape) -> Self {
        self.curves.push(Curve { points, style, shape, name: None });
        self
    }

    pub(super) fn named(
        mut self,
        name: &'static str,
        points: &'a [(f64, f64)],
        style: Style,
        shape: Shape,
    ) -> Self {
        if !points.is_empty() {
            self.curves.push(Curve { points, style, shape, name: Some(name) });
        }
        self
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>, area: Rect, palette: Palette) {
        let [title, chart] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        frame.render_widget(self.title_line(title.width, palette), title);
        if chart.height < 2 || chart.width < 8 {
            return;
        }
        let Some((x, y)) = self.bounds(usize::from(chart.height)) else {
            let nothing = Line::styled("no value yet", palette.quiet());
            return frame.render_widget(nothing, chart);
        };
        let level = self.level.map(|level| level * self.scale);
        let across: Vec<_> = level.iter().flat_map(|&at| [(x[0], at), (x[1], at)]).collect();
        let mut data = Vec::new();
        if level.is_some_and(|at| (y.low..=y.high).contains(&at)) {
            let line = Dataset::default().graph_type(GraphType::Line).marker(Marker::Braille);
            data.push(line.style(palette.warning()).data(&across));
        }
        let scaled = |curve| scaled(curve, self.scale, &y);
        let curves: Vec<Vec<_>> = self.curves.iter().map(scaled).collect();
        for (curve, points) in self.curves.iter().zip(&curves) {
            let kind =
                if curve.shape == Shape::Dots { GraphType::Scatter } else { GraphType::Line };
            let set = Dataset::default().graph_type(kind).marker(Marker::Braille);
            data.push(set.style(curve.style).data(points));
            // Marks that touch each other hide the line.
            if curve.shape == Shape::Marked && 3 * points.len() <= usize::from(chart.width) {
                let set = Dataset::default().graph_type(GraphType::Scatter).marker(Marker::Dot);
                data.push(set.style(curve.style).data(points));
            }
        }
        let axis = |bounds, labels: Vec<String>| {
            Axis::default().bounds(bounds).labels(labels).style(palette.quiet())
        };
        let labels = y.labels();
        let chart_widget = Chart::new(data)
            .x_axis(axis(x, self.x_labels(x, chart.width)))
            .y_axis(axis([y.low, y.high], labels))
            .legend_position(None);
        frame.render_widget(chart_widget, chart);
    }

    fn title_line(&self, width: u16, palette: Palette) -> Paragraph<'_> {
        let mut spans = vec![
            Span::styled(self.title, palette.strong()),
            Span::raw("  "),
            Span::raw(self.value.clone()),
        ];
        let sign = |shape| match shape {
            Shape::Line => "  ━ ",
            Shape::Marked => "  • ",
            Shape::Dots => "  ⠪ ",
        };
        let named = self.curves.iter().filter_map(|curve| {
            curve.name.map(|name| (sign(curve.shape), curve.style, name.to_owned()))
        });
        let level = self.level.map(|level| {
            (sign(Shape::Line), palette.warning(), format!("{} {level}", self.level_name))
        });
        for (sign, style, name) in named.chain(level) {
            let used: usize = spans.iter().map(Span::width).sum();
            if used + sign.chars().count() + name.len() <= usize::from(width) {
                spans.push(Span::styled(sign, style));
                spans.push(Span::styled(name, palette.quiet()));
            }
        }
        Paragraph::new(Line::from(spans))
    }

    /// First and last, what is counted between them.
    fn x_labels(&self, [from, to]: [f64; 2], width: u16) -> Vec<String> {
        let [from, to] = [from, to].map(|at| thousands(at.round() as i64));
        let along = self.along.to_owned();
        if width < 24 { vec![from, to] } else { vec![from, along, to] }
    }

    /// What is in sight: every line, and dots but for a fiftieth at either end.
    fn bounds(&self, rows: usize) -> Option<([f64; 2], Ticks)> {
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        for curve in &self.curves {
            xs.extend(curve.points.iter().map(|point| point.0));
            let mut values: Vec<f64> = curve.points.iter().map(|point| point.1).collect();
            values.sort_by(f64::total_cmp);
            let beyond = if curve.shape == Shape::Dots { values.len() / 50 } else { 0 };
            ys.extend(values.get(beyond).copied());
            ys.extend(values.get(values.len().wrapping_sub(1 + beyond)).copied());
        }
        let ends = |values: &[f64]| {
            let low = values.iter().copied().reduce(f64::min)?;
            Some((low, values.iter().copied().reduce(f64::max)?))
        };
        let ((first, last), (low, high)) = (ends(&xs)?, ends(&ys)?);
        // A limit that is far from being reached would press everything else to the floor.
        let limit = self.level.filter(|&level| level <= 3.0 * high && level >= low / 3.0);
        let (low, high) = limit.map_or((low, high), |at| (low.min(at), high.max(at)));
        let last = if last > first { last } else { first + 1.0 };
        Some(([first, last], Ticks::over(low * self.scale, high * self.scale, rows)))
    }
}

/// In the unit of the axis, and not beyond it by a rounding.
fn scaled(curve: &Curve<'_>, scale: f64, y: &Ticks) -> Vec<(f64, f64)> {
    let point = |&(at, value): &(f64, f64)| match curve.shape {
        Shape::Dots => (at, value * scale),
        Shape::Line | Shape::Marked => (at, (value * scale).clamp(y.low, y.high)),
    };
    curve.points.iter().map(point).collect()
}

/// Round numbers from under the lowest value to over the highest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    low: f64,
    high: f64,
    step: f64,
}

impl Ticks {
    fn over(low: f64, high: f64, rows: usize) -> Self {
        // A figure that does not change lies in the middle.
        let size = high.abs().max(low.abs());
        let (low, high) = match size {
            0.0 => (0.0, 1.0),
            _ if high - low < 1e-3 * size => (low - 0.2 * size, high + 0.2 * size),
            _ => (low, high),
        };
        let count = if rows < 8 { 2.0 } else { 4.0 };
        let rough = (high - low) / count;
        let power = 10_f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 5.0].into_iter().find(|round| round * power >= rough * 0.999);
        let step = round.unwrap_or(10.0) * power;
        // A hair above a tick is on it.
        let low = (low / step + 1e-6).floor() * step;
        let high = (high / step - 1e-6).ceil() * step;
        Self { low, high, step }
    }

    fn labels(self) -> Vec<String> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        let largest = self.high.abs().max(self.low.abs());
        let label = |i: usize| {
            let value = self.low + i as f64 * self.step;
            // No minus before a zero.
            let value = if value.abs() < self.step / 2.0 { 0.0 } else { value };
            if value != 0.0 && (digits > 4 || largest >= 1e7) {
                format!("{value:.1e}")
            } else if digits == 0 && largest >= 1e4 {
                thousands(value.round() as i64)
            } else {
                format!("{value:.digits$}", digits = digits.min(4))
            }
        };
        (0..=count).map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_every_value() {
        for (low, high) in [(0.031, 4.42), (1e-5, 4e-3), (-3.0, 17.0), (812.0, 1240.0), (0.0, 1.0)]
        {
            for rows in [4, 12] {
                let ticks = Ticks::over(low, high, rows);
                assert!(ticks.low <= low && ticks.high >= high, "{ticks:?}");
                assert!((2..=7).contains(&ticks.labels().len()), "{ticks:?}");
                let digits = ticks.step / 10_f64.powf(ticks.step.log10().floor());
                assert!(
                    [1.0, 2.0, 5.0, 10.0].iter().any(|d| (d - digits).abs() < 1e-6),
                    "{ticks:?}"
                );
            }
        }
        assert_eq!(Ticks::over(0.0, 1.0, 12).labels(), ["0.0", "0.5", "1.0"]);
        let large = Ticks::over(0.0, 40_000.0, 12).labels();
        assert_eq!(large, ["0", "10,000", "20,000", "30,000", "40,000"]);
    }

    #[test]
    fn a_figure_that_does_not_change_has_room_around_it() {
        assert_eq!(Ticks::over(0.0, 0.0, 12).labels(), ["0.0", "0.5", "1.0"]);
        for value in [1.0, 5e-3, -2.0] {
            let ticks = Ticks::over(value, value, 12);
            assert!(ticks.low < value && value < ticks.high, "{ticks:?}");
        }
    }

    #[test]
    fn dots_far_out_leave_the_rest_readable_and_a_far_limit_too() {
        let mut points: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), 1.0)).collect();
        points[3].1 = 1e6;
        let style = Style::new();
        let high = |plot: Plot<'_>| plot.bounds(12).expect("values").1.high;
        let plot = |shape| Plot::new("x", String::new()).curve(&points, style, shape);
        assert!(high(plot(Shape::Dots)) < 2.0);
        assert!(high(plot(Shape::Line)) >= 1e6, "a line is whole");
        let limited = |level| Plot { level: Some(level), ..plot(Shape::Dots) };
        assert!(high(limited(2.0)) >= 2.0 && high(limited(50.0)) < 2.0);
        let milliseconds = Plot { scale: 1e3, ..plot(Shape::Dots) };
        assert!((1e3..2e3).contains(&high(milliseconds)), "the axis has the unit of its labels");
    }
}
