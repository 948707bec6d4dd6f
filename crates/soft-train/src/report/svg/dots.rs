//! Shares over what they cost, a dot with its name for each.

use super::super::markup::{escape, percent, round_figure};
use super::{label, open, short, ticks};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Least distance of the lines of two names that overlap.
const LINE: f64 = 12.0;
/// Width of a letter, about.
const LETTER: f64 = 6.4;

/// One dot.
#[derive(Debug, Clone)]
pub(in crate::report) struct Dot {
    /// What it is.
    pub(in crate::report) name: String,
    /// What it costs, above 0.
    pub(in crate::report) cost: f64,
    /// The share, 0 to 1.
    pub(in crate::report) share: f64,
    /// Its interval.
    pub(in crate::report) interval: [f64; 2],
}

/// The picture: costs on a logarithmic axis, shares from 0 to the highest end of an interval.
/// `None` where there is nothing to compare: fewer than two dots with a cost.
pub(in crate::report) fn dots(description: &str, unit: &str, all: &[Dot]) -> Option<String> {
    let mut all: Vec<&Dot> =
        all.iter().filter(|dot| dot.cost > 0.0 && dot.cost.is_finite()).collect();
    if all.len() < 2 {
        return None;
    }
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.share.total_cmp(&a.share)));
    let (low, high) = (all[0].cost.log2(), all[all.len() - 1].cost.log2());
    // Room on both sides, and some extent where all cost the same.
    let spare = (0.08 * (high - low)).max(0.25);
    let (low, high) = (low - spare, high + spare);
    let most = all.iter().map(|dot| dot.interval[1]).fold(0.01, f64::max).min(1.0);
    let x = |cost: f64| LEFT + (WIDTH - LEFT - RIGHT) * (cost.log2() - low) / (high - low);
    let y = |share: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, most) / most;
    let mut svg = open(WIDTH, HEIGHT, "plot dotted", description);
    svg.push_str(&axes(&x, &y, [low, high], most, unit));
    let mut names = Names::default();
    for dot in all {
        let (at, [bottom, top]) = (x(dot.cost), dot.interval.map(&y));
        let says = format!(
            "{}: {} (interval {} to {}), {} {unit}",
            dot.name,
            percent(dot.share),
            percent(dot.interval[0]),
            percent(dot.interval[1]),
            round_figure(dot.cost)
        );
        svg.push_str(&format!(
            "<g><title>{}</title><path class=\"whisker\" d=\"M{at} {}V{}\"/><circle cx=\"{at}\" \
             cy=\"{}\" r=\"3.5\"/></g>",
            escape(&says),
            short(bottom),
            short(top),
            short(y(dot.share)),
            at = short(at),
        ));
        svg.push_str(&names.place(at, y(dot.share), &dot.name));
    }
    svg.push_str("</svg>");
    Some(svg)
}

fn axes(
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
    [low, high]: [f64; 2],
    most: f64,
    unit: &str,
) -> String {
    let (left, right, bottom) = (short(LEFT), short(WIDTH - RIGHT), short(HEIGHT - BOTTOM));
    let (mut grid, mut labels) = (String::new(), String::new());
    for share in ticks(0.0, most, 4) {
        grid.push_str(&format!("M{left} {}H{right}", short(y(share))));
        let text = format!("{} %", round_figure(100.0 * share));
        labels.push_str(&label(LEFT - 5.0, y(share) + 4.0, "end", &text));
    }
    // Powers of two, and what lies half-way between them where there are few.
    let step = if high - low < 2.0 { 0.5 } else { 1.0 };
    let mut power = (low / step).ceil() * step;
    while power <= high {
        let cost = power.exp2();
        labels.push_str(&label(x(cost), HEIGHT - 14.0, "middle", &format!("{cost:.0}")));
        power += step;
    }
    labels.push_str(&label(WIDTH - RIGHT, HEIGHT - 2.0, "end", unit));
    format!(
        "<path class=\"grid\" d=\"{grid}\"/><path class=\"axis\" d=\"M{left} {}V{bottom}H{right}\"/>\
         {labels}",
        short(TOP)
    )
}

/// Names that were written: left end, right end and height.
#[derive(Default)]
struct Names(Vec<[f64; 3]>);

impl Names {
    /// The name beside its dot, moved up or down to where nothing is written yet.
    fn place(&mut self, x: f64, y: f64, name: &str) -> String {
        let width = LETTER * name.chars().count() as f64;
        let is_left = x + 7.0 + width > WIDTH;
        let (anchor, at) = if is_left { ("end", x - 7.0) } else { ("start", x + 7.0) };
        let [from, to] = if is_left { [at - width, at] } else { [at, at + width] };
        let is_free = |height: f64| {
            (TOP..HEIGHT - BOTTOM).contains(&height)
                && !self.0.iter().any(|&[left, right, taken]| {
                    (taken - height).abs() < LINE && left < to && from < right
                })
        };
        let tries =
            (0..100).map(|n| if n % 2 == 0 { f64::from(n / 2) } else { -f64::from(n / 2 + 1) });
        let height = tries.map(|n| y + 4.0 + n * 6.0).find(|&height| is_free(height));
        let height = height.unwrap_or(y + 4.0);
        self.0.push([from, to, height]);
        label(at, height, anchor, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(name: &str, cost: f64, share: f64) -> Dot {
        Dot { name: name.into(), cost, share, interval: [share - 0.1, share + 0.1] }
    }

    #[test]
    fn one_way_alone_and_ways_without_a_cost_are_no_comparison() {
        assert_eq!(dots("", "tokens", &[dot("a", 8.0, 0.5)]), None);
        assert_eq!(dots("", "tokens", &[dot("a", 8.0, 0.5), dot("b", 0.0, 0.5)]), None);
    }

    #[test]
    fn twice_the_cost_is_the_same_distance_everywhere() {
        let all = [dot("a", 64.0, 0.2), dot("b", 128.0, 0.4), dot("c", 256.0, 0.3)];
        let svg = dots("", "tokens", &all).expect("a picture");
        let places: Vec<f64> = svg
            .split("cx=\"")
            .skip(1)
            .filter_map(|part| part.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(places.len(), 3);
        assert!((places[2] - 2.0 * places[1] + places[0]).abs() < 0.2, "{places:?}");
    }

    #[test]
    fn names_of_equal_dots_are_not_written_over_each_other() {
        let all: Vec<Dot> = (0..6).map(|n| dot(&format!("way {n}"), 100.0, 0.1)).collect();
        let mut names = Names::default();
        all.iter().for_each(|own| drop(names.place(300.0, 250.0, &own.name)));
        let mut heights: Vec<f64> = names.0.iter().map(|place| place[2]).collect();
        heights.sort_by(f64::total_cmp);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= LINE), "{heights:?}");
        assert!(dots("", "tokens", &all).is_some(), "all cost the same");
    }
}
