//! Bias against variance on logarithmic axes, one named dot an estimator.

/// One estimator.
#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub(super) name: String,
    /// Place in [`COLORS`].
    pub(super) group: usize,
    /// Relative bias; none where the interval has 0.
    pub(super) bias: Option<f64>,
    /// Relative variance; none where nothing is drawn.
    pub(super) variance: Option<f64>,
}

const COLORS: [&str; 4] = ["#7a7a7a", "#2f6fbb", "#b58900", "#c4542d"];
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 520.0;
/// Left, right, top, bottom of the square of the axes.
const FRAME: [f64; 4] = [200.0, 700.0, 24.0, 430.0];
/// Least distance of two names.
const LINE: f64 = 12.0;
/// Between a dot and its name.
const BESIDE: f64 = 14.0;

/// The picture; `groups` are the names of the colours.
pub(super) fn svg(description: &str, dots: &[Dot], groups: &[&str]) -> String {
    let [left, right, top, bottom] = FRAME;
    let x = Axis::over(dots.iter().filter_map(|dot| dot.bias), left, right);
    let y = Axis::over(dots.iter().filter_map(|dot| dot.variance), bottom, top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#777\" aria-label=\"{description}\">\n\
         <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#999\"/>\n"
    );
    svg += &frame(&x, &y);
    let mut placed: Vec<(f64, f64, &Dot)> = dots
        .iter()
        .map(|dot| {
            // What has no place on an axis stands before its beginning.
            let across = dot.bias.map_or(20.0, |bias| x.at(bias));
            let up = dot.variance.map_or(bottom + 24.0, |variance| y.at(variance));
            (across, up, dot)
        })
        .collect();
    placed.sort_by(|a, b| a.1.total_cmp(&b.1));
    let names = names_apart(&placed);
    for ((across, up, dot), name) in placed.into_iter().zip(names) {
        let (anchor, side) = if name.is_left { ("end", -1.0) } else { ("start", 1.0) };
        let color = COLORS[dot.group % COLORS.len()];
        svg += &format!(
            "<circle cx=\"{across:.1}\" cy=\"{up:.1}\" r=\"4\" fill=\"{color}\"/>\
             <path d=\"M{across:.1} {up:.1}L{near:.1} {height:.1}\" stroke=\"{color}\" \
             stroke-width=\"0.6\"/>\
             <text x=\"{text:.1}\" y=\"{base:.1}\" fill=\"{color}\" text-anchor=\"{anchor}\">{}</text>\n",
            dot.name,
            near = across + side * 12.0,
            height = name.height,
            text = across + side * BESIDE,
            base = name.height + 4.0,
        );
    }
    for (group, name) in groups.iter().enumerate() {
        let place = 20.0 + 185.0 * group as f64;
        svg += &format!(
            "<circle cx=\"{place}\" cy=\"{cy}\" r=\"4\" fill=\"{color}\"/>\
             <text x=\"{text}\" y=\"{base}\">{name}</text>\n",
            cy = HEIGHT - 14.0,
            color = COLORS[group % COLORS.len()],
            text = place + 9.0,
            base = HEIGHT - 10.0,
        );
    }
    svg + "</svg>\n"
}

/// A logarithmic axis a little longer than its values.
struct Axis {
    /// Logarithms at the ends.
    logs: [f64; 2],
    ends: [f64; 2],
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.map(f64::log10).collect();
        let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if least <= most { (least, most) } else { (0.0, 1.0) };
        Self { logs: [low - 0.15, high + 0.15], ends: [from, to] }
    }

    fn at(&self, value: f64) -> f64 {
        let ([low, high], [from, to]) = (self.logs, self.ends);
        from + (to - from) * (value.log10() - low) / (high - low)
    }

    /// Values to write, with their places: 1, 2 and 5 of each power of ten.
    fn marks(&self) -> Vec<(f64, f64)> {
        let [low, high] = self.logs;
        let of = |power: i32| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power));
        let values = (low.floor() as i32..=high.ceil() as i32).flat_map(of);
        let inside = values.filter(|value| (low..=high).contains(&value.log10()));
        inside.map(|value| (value, self.at(value))).collect()
    }
}

fn frame(x: &Axis, y: &Axis) -> String {
    let [left, right, top, bottom] = FRAME;
    let mut svg = format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">bias / true gradient</text>\n\
         <text x=\"{left}\" y=\"14\">variance of one trajectory / true gradient squared</text>\n\
         <text x=\"16\" y=\"{}\">unbiased within error</text>\n\
         <text x=\"{}\" y=\"{}\">no variance</text>\n\
         <path d=\"M{left} {}V{}M{left} {}H{right}\" stroke=\"#999\" stroke-dasharray=\"2 3\"/>\n",
        right,
        bottom + 62.0,
        top + 6.0,
        left + 4.0,
        bottom + 28.0,
        bottom,
        bottom + 32.0,
        bottom + 36.0,
    );
    for (value, place) in x.marks() {
        svg += &format!(
            "<text x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>\n",
            bottom + 48.0
        );
    }
    for (value, place) in y.marks() {
        svg += &format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            left - 4.0,
            place + 4.0
        );
    }
    svg
}

/// Where a name stands beside its dot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Name {
    is_left: bool,
    height: f64,
}

/// A rectangle: left, right, middle height.
type Area = [f64; 3];

fn overlap(a: &Area, b: &Area) -> bool {
    a[0] < b[1] && b[0] < a[1] && (a[2] - b[2]).abs() < LINE
}

/// Names on free places: at the height of the dot, right or left, else a little lower or higher.
fn names_apart(dots: &[(f64, f64, &Dot)]) -> Vec<Name> {
    let mut taken: Vec<Area> =
        dots.iter().map(|(across, up, _)| [across - 5.0, across + 5.0, *up]).collect();
    let mut names = Vec::new();
    for (across, up, dot) in dots {
        let width = 6.0 * dot.name.len() as f64;
        let area = |name: Name| match name.is_left {
            true => [across - BESIDE - width, across - BESIDE, name.height],
            false => [across + BESIDE, across + BESIDE + width, name.height],
        };
        let is_free = |name: &Name| {
            let area = area(*name);
            let crosses = area[0] < FRAME[0] && area[1] > FRAME[0];
            area[0] > 0.0
                && area[1] < WIDTH
                && !crosses
                && !taken.iter().any(|other| overlap(&area, other))
        };
        let around = (0..60).map(|step| {
            let (away, below) = (f64::from(step / 4) * LINE, step % 4 < 2);
            Name { is_left: step % 2 == 1, height: if below { up + away } else { up - away } }
        });
        let found = around.clone().find(is_free);
        let name = found.unwrap_or(Name { is_left: false, height: *up });
        taken.push(area(name));
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(bias: Option<f64>, variance: Option<f64>) -> Dot {
        Dot { name: "a name".to_owned(), group: 1, bias, variance }
    }

    #[test]
    fn dots_stand_inside_and_those_without_a_place_before_the_axes() {
        let dots = [dot(Some(0.02), Some(30.0)), dot(None, Some(4.0)), dot(Some(0.5), None)];
        let found = svg("a test", &dots, &["one", "two"]);
        assert_eq!(found.matches("a name").count(), 3);
        assert!(!found.contains("NaN") && !found.contains("inf"), "{found}");
        let axis = Axis::over([0.02, 0.5].into_iter(), 150.0, 700.0);
        assert!((axis.at(0.1) - 425.0).abs() < 1e-9);
        let marks: Vec<f64> = axis.marks().iter().map(|mark| mark.0).collect();
        assert!(marks.len() == 5 && (marks[0] - 0.02).abs() < 1e-12, "{marks:?}");
    }

    #[test]
    fn names_of_dots_on_one_place_stand_apart_and_on_no_dot() {
        let dot = dot(None, None);
        let placed: Vec<(f64, f64, &Dot)> =
            [300.0, 300.0, 300.0, 320.0].map(|across| (across, 100.0, &dot)).to_vec();
        let names = names_apart(&placed);
        let at = |is_left, height| Name { is_left, height };
        assert_eq!(names, [at(true, 100.0), at(false, 112.0), at(true, 112.0), at(false, 100.0)]);
    }
}
