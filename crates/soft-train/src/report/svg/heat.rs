//! A heat map: steps from left to right, a token a row, a weight a colour.

use super::super::markup::{escape, shortened};
use super::{label, open, short};

/// The least weight of each colour, the faintest first.
pub(in crate::report) const BOUNDS: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95];
const ROW: f64 = 16.0;
const LEFT: f64 = 126.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 20.0;
/// Longest text over a column, in characters.
const HEAD: usize = 10;

/// A step.
#[derive(Debug, Default)]
pub(in crate::report) struct Column {
    /// What stands over it where columns are wide enough.
    pub(in crate::report) head: String,
    /// Row and weight of each cell.
    pub(in crate::report) cells: Vec<(usize, f64)>,
    /// The row of the token that was put out.
    pub(in crate::report) chosen: Option<usize>,
    /// What the pointer is told; empty for nothing.
    pub(in crate::report) hint: String,
    /// Whether something happened here.
    pub(in crate::report) marked: bool,
}

/// A heat map.
#[derive(Debug, Default)]
pub(in crate::report) struct HeatMap {
    /// What is shown, for those who cannot see it.
    pub(in crate::report) description: String,
    /// Labels of the rows.
    pub(in crate::report) rows: Vec<String>,
    /// The steps.
    pub(in crate::report) columns: Vec<Column>,
    /// Number of the first step.
    pub(in crate::report) first: usize,
    /// Steps for which there is room, so that several maps have the same scale.
    pub(in crate::report) room: usize,
}

impl HeatMap {
    pub(in crate::report) fn svg(&self) -> String {
        let cell = (880.0 / self.room.max(1) as f64).clamp(4.0, 26.0);
        let with_heads = cell >= 13.0;
        let top = if with_heads { 64.0 } else { 10.0 };
        let wide = cell * self.columns.len() as f64;
        let high = ROW * self.rows.len() as f64;
        // The last head leans out to the right.
        let lean = if with_heads { 40.0 } else { 0.0 };
        let (width, height) = (LEFT + wide + RIGHT + lean, top + high + BOTTOM);
        let mut svg = open(width, height, "heat", &self.description);
        svg.push_str(&self.rows_svg(top, wide));
        svg.push_str(&format!(
            "<g transform=\"translate({} {}) scale({} {})\">{}</g>",
            short(LEFT),
            short(top),
            // More decimals than a place needs: it is multiplied by the number of columns.
            (cell * 1000.0).round() / 1000.0,
            short(ROW),
            self.cells_svg(cell)
        ));
        let x = |column: usize| LEFT + cell * (column as f64 + 0.5);
        for (number, column) in self.columns.iter().enumerate() {
            if with_heads {
                svg.push_str(&format!(
                    "<text transform=\"translate({} {}) rotate(-50)\">{}</text>",
                    short(x(number) + 2.0),
                    short(top - 5.0),
                    escape(&shortened(&column.head, HEAD))
                ));
            }
            if column.marked {
                let y = top + high;
                svg.push_str(&format!(
                    "<path class=\"flag\" d=\"M{} {}l3 5h-6z\"/>",
                    short(x(number)),
                    short(y + 1.0)
                ));
            }
        }
        svg.push_str(&self.axis(top + high, cell));
        svg.push_str("</svg>");
        svg
    }

    /// Names and lines of the rows.
    fn rows_svg(&self, top: f64, wide: f64) -> String {
        let (mut labels, mut grid) = (String::new(), String::new());
        for (number, row) in self.rows.iter().enumerate() {
            let y = top + ROW * number as f64;
            labels.push_str(&label(LEFT - 6.0, y + 12.0, "end", row));
            grid.push_str(&format!("M{} {}h{}", short(LEFT), short(y), short(wide)));
        }
        let below = top + ROW * self.rows.len() as f64;
        grid.push_str(&format!("M{} {}h{}", short(LEFT), short(below), short(wide)));
        format!("<path class=\"grid\" d=\"{grid}\"/>{labels}")
    }

    /// The cells, in units of columns and rows: a path a colour.
    fn cells_svg(&self, cell: f64) -> String {
        let mut paths: [String; BOUNDS.len()] = Default::default();
        let (mut negative, mut chosen, mut hints) = (String::new(), String::new(), String::new());
        for (x, column) in self.columns.iter().enumerate() {
            for &(y, weight) in &column.cells {
                let square = format!("M{x} {y}h1v1h-1z");
                match level(weight) {
                    Some(level) => paths[level].push_str(&square),
                    None if weight <= -BOUNDS[0] => negative.push_str(&square),
                    None => {}
                }
            }
            // In narrow columns a frame would hide the colour.
            if let Some(y) = column.chosen.filter(|_| cell >= 8.0) {
                chosen.push_str(&format!("M{x} {y}h1v1h-1z"));
            }
            if !column.hint.is_empty() {
                hints.push_str(&format!(
                    "<path class=\"hint\" d=\"M{x} 0h1v{}h-1z\"><title>{}</title></path>",
                    self.rows.len(),
                    escape(&column.hint)
                ));
            }
        }
        let mut svg = String::new();
        for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            svg.push_str(&format!("<path class=\"s{level}\" d=\"{path}\"/>"));
        }
        for (class, path) in [("negative", negative), ("chosen", chosen)] {
            if !path.is_empty() {
                svg.push_str(&format!("<path class=\"{class}\" d=\"{path}\"/>"));
            }
        }
        svg + &hints
    }

    fn axis(&self, y: f64, cell: f64) -> String {
        let every =
            [1, 2, 5, 10, 20, 50].into_iter().find(|every| cell * f64::from(*every) >= 26.0);
        let every = every.map_or(100, |every| every as usize);
        let labelled = (0..self.columns.len()).filter(|at| (self.first + at).is_multiple_of(every));
        labelled
            .map(|at| {
                let x = LEFT + cell * (at as f64 + 0.5);
                label(x, y + 16.0, "middle", &(self.first + at).to_string())
            })
            .collect()
    }
}

/// The number of the colour of a weight; `None` for one too small to be drawn, or negative.
/// A weight over 1 has the strongest colour.
fn level(weight: f64) -> Option<usize> {
    BOUNDS.iter().rposition(|bound| weight >= *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_has_a_color_or_none() {
        let levels = [-3.0, 0.0, 0.004, 0.005, 0.5, 1.0, 7.5, f64::NAN].map(level);
        assert_eq!(levels, [None, None, None, Some(0), Some(5), Some(8), Some(8), None]);
    }

    #[test]
    fn cells_of_one_color_share_a_path_and_negative_ones_have_their_own() {
        let column = |weight| Column { cells: vec![(0, weight)], ..Column::default() };
        let map = HeatMap {
            rows: vec!["a".into()],
            columns: [1.0, -0.5, 1.5].map(column).into(),
            room: 3,
            ..HeatMap::default()
        };
        let svg = map.svg();
        assert!(svg.contains("<path class=\"s8\" d=\"M0 0h1v1h-1zM2 0h1v1h-1z\"/>"), "{svg}");
        assert!(svg.contains("<path class=\"negative\" d=\"M1 0h1v1h-1z\"/>"), "{svg}");
    }

    #[test]
    fn labels_and_hints_are_escaped() {
        let map = HeatMap {
            rows: vec!["</script>".into()],
            columns: vec![Column { head: "<img>".into(), hint: "\"<".into(), ..Column::default() }],
            room: 1,
            ..HeatMap::default()
        };
        let svg = map.svg();
        assert!(svg.contains("&lt;/script&gt;") && svg.contains("&lt;img&gt;"), "{svg}");
        assert!(svg.contains("<title>&quot;&lt;</title>"), "{svg}");
    }
}
