//! A small writer of plots: lines, heat maps, and intervals. Coordinates have one decimal at most
//! and cells of one colour share one path, which keeps long traces small. Colours are classes of
//! the page's style, which has them for light and for dark.

mod dots;
mod heat;
mod lines;

pub(super) use dots::{Dot, dots};
pub(super) use heat::{BOUNDS, Column, HeatMap};
pub(super) use lines::{Guide, LinePlot, Mark, Series};

use super::markup::{escape, percent};

/// Opens a picture of `width` by `height`, told to those who cannot see it by `description`
/// (not yet escaped). `class` says how it meets a narrow page.
fn open(width: f64, height: f64, class: &str, description: &str) -> String {
    format!(
        "<svg class=\"{class}\" role=\"img\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
         aria-label=\"{}\">",
        escape(description),
        w = short(width),
        h = short(height),
    )
}

/// A coordinate: one decimal, and none that says nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A text at a place; `anchor` is `start`, `middle` or `end`. The text is not yet escaped.
fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let anchor = if anchor == "start" { "" } else { &format!(" class=\"{anchor}\"") };
    format!("<text x=\"{}\" y=\"{}\"{anchor}>{}</text>", short(x), short(y), escape(text))
}

/// About `count` round numbers from `low` to `high`.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return vec![low];
    }
    let rough = span / count.max(1) as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * magnitude);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

/// A share with its interval as dot and whiskers, on a scale from 0 to `most`; `reference` is
/// marked by a line.
pub(super) fn whiskers(
    share: f64,
    [low, high]: [f64; 2],
    most: f64,
    reference: Option<f64>,
) -> String {
    const WIDTH: f64 = 150.0;
    const HEIGHT: f64 = 18.0;
    let x = |share: f64| 5.0 + (WIDTH - 10.0) * (share / most).clamp(0.0, 1.0);
    let [low, high] = if low <= high { [low, high] } else { [high, low] };
    let says = format!("{}, interval {} to {}", percent(share), percent(low), percent(high));
    let mut svg = open(WIDTH, HEIGHT, "whiskers", &says);
    svg.push_str(&format!("<path class=\"axis\" d=\"M5 9h{}\"/>", short(WIDTH - 10.0)));
    if let Some(reference) = reference {
        svg.push_str(&format!("<path class=\"reference\" d=\"M{} 0v18\"/>", short(x(reference))));
    }
    svg.push_str(&format!(
        "<path class=\"whisker\" d=\"M{a} 5v8M{a} 9H{b}M{b} 5v8\"/><circle cx=\"{c}\" cy=\"9\" r=\"3.5\"/></svg>",
        a = short(x(low)),
        b = short(x(high)),
        c = short(x(share)),
    ));
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0, 0.7, 4).len(), 4);
        assert_eq!(ticks(3.0, 3.0, 4), [3.0]);
        assert_eq!(ticks(0.0, f64::INFINITY, 4), [0.0]);
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([12.0, 12.34, -0.04].map(short), ["12", "12.3", "-0"]);
    }

    #[test]
    fn whiskers_say_their_numbers_and_stay_inside() {
        let svg = whiskers(0.5, [0.4, 1.7], 1.0, Some(0.2));
        assert!(svg.contains("aria-label=\"50.0 %, interval 40.0 % to 170.0 %\""), "{svg}");
        assert!(svg.contains("H145"), "{svg}");
    }
}
