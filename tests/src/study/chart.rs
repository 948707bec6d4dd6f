//! Lines over steps as a picture of its own, readable on light and on dark.

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Number of its group, which has a colour and a name.
    pub group: usize,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// One plot of the picture.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// The lines.
    pub lines: Vec<Line>,
}

const COLORS: [&str; 6] = ["#7a7a7a", "#b58900", "#2f6fbb", "#8a5fb0", "#2e8b57", "#c4542d"];
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
const MARGIN: [f64; 4] = [26.0, 10.0, 24.0, 44.0];
/// Points of a line that are kept.
const POINTS: usize = 120;

/// Panels side by side, with a legend of the groups below that have lines.
pub fn svg(description: &str, panels: &[Panel], groups: &[&str]) -> String {
    let width = WIDTH * panels.len() as f64;
    let is_drawn =
        |group: usize| panels.iter().flat_map(|panel| &panel.lines).any(|line| line.group == group);
    let drawn: Vec<(usize, &&str)> =
        groups.iter().enumerate().filter(|(group, _)| is_drawn(*group)).collect();
    let legend = 18.0 * drawn.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#777\" aria-label=\"{description}\">\n",
        height = HEIGHT + legend,
    );
    for (place, panel) in panels.iter().enumerate() {
        svg += &plot(panel, WIDTH * place as f64);
    }
    for (number, (group, name)) in drawn.into_iter().enumerate() {
        let y = HEIGHT + 14.0 + 18.0 * number as f64;
        svg += &format!(
            "<path d=\"M{x} {y}h24\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{text}\" y=\"{base}\">{name}</text>\n",
            x = MARGIN[3],
            color = COLORS[group % COLORS.len()],
            text = MARGIN[3] + 32.0,
            base = y + 4.0,
        );
    }
    svg + "</svg>\n"
}

fn plot(panel: &Panel, left: f64) -> String {
    let all = || panel.lines.iter().flat_map(|line| &line.points);
    let range = |values: Vec<f64>| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (low, if high > low { high } else { low + 1.0 })
    };
    let (x0, x1) = range(all().map(|point| point.0).collect());
    let (low, y1) = range(all().map(|point| point.1).collect());
    let y0 = if low > 0.0 { 0.0 } else { low };
    let [top, right, bottom, side] = MARGIN;
    let (inner_width, inner_height) = (WIDTH - side - right, HEIGHT - top - bottom);
    let x = |value: f64| left + side + inner_width * (value - x0) / (x1 - x0);
    let y = |value: f64| top + inner_height * (1.0 - (value - y0) / (y1 - y0));
    let mut svg = format!(
        "<text x=\"{}\" y=\"16\" font-weight=\"bold\">{}</text>\n\
         <path d=\"M{a} {b}V{c}H{d}\" fill=\"none\" stroke=\"#999\"/>\n",
        left + side,
        panel.title,
        a = left + side,
        b = top,
        c = top + inner_height,
        d = left + side + inner_width,
    );
    for (value, place) in [(y0, y(y0)), ((y0 + y1) / 2.0, y((y0 + y1) / 2.0)), (y1, y(y1))] {
        svg += &format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            left + side - 4.0,
            place + 4.0,
            short(value)
        );
    }
    for (value, anchor) in [(x0, "start"), (x1, "end")] {
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n",
            x(value),
            HEIGHT - 8.0,
            short(value)
        );
    }
    for line in &panel.lines {
        let every = line.points.len().div_ceil(POINTS).max(1);
        let last = line.points.len().saturating_sub(1);
        let kept = line.points.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last);
        let path: Vec<String> =
            kept.map(|(_, point)| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
        svg += &format!(
            "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\"/>\n",
            path.join("L"),
            COLORS[line.group % COLORS.len()]
        );
    }
    svg
}

/// Three figures, and none that says nothing.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_inside_and_long_ones_are_thinned() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        let panel = Panel { title: "T".to_owned(), lines: vec![Line { group: 1, points }] };
        let found = svg("a test", &[panel], &["none", "one"]);
        assert_eq!(found.matches("stroke-width=\"1.4\"").count(), 1);
        assert!(found.matches('L').count() <= POINTS + 1, "{}", found.matches('L').count());
        assert!(found.contains(COLORS[1]) && !found.contains("NaN"), "{found}");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([0.0, 600.0, 2.5, 0.05, 1.0].map(short), ["0", "600", "2.5", "0.05", "1"]);
    }
}
