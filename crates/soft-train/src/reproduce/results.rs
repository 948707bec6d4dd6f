//! All units of a table together: means over seeds, and intervals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{Budget, Cell, Table};
use super::unit::{UnitResult, share};
use crate::config::Control;

/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const T_95: [f64; 19] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
];
/// The normal one, for more.
const Z_95: f64 = 1.96;

/// `results/TABLE.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The table.
    pub table: String,
    /// Its budget.
    pub budget: Budget,
    /// The command that made it.
    pub command: String,
    /// The revisions of the source that the units were trained with.
    pub revision: String,
    /// Processor, and threads at once.
    pub machine: String,
    /// Seconds of all trainings together, by the clock of each.
    pub seconds: f64,
    /// Trainings that are there, and those of the whole table.
    #[serde(default)]
    pub units: [usize; 2],
    /// Problems that are asked.
    pub problems: usize,
    /// Those of them that are no permutations of one another.
    #[serde(default)]
    pub kins: usize,
    /// By cell.
    pub cells: Vec<CellResults>,
}

/// All seeds of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResults {
    /// Its name.
    pub name: String,
    /// What it is.
    pub label: String,
    /// Mean accuracy over the seeds, 0 to 1.
    pub mean: f64,
    /// Its 95 % interval over seeds; none of one seed.
    pub interval: Option<[f64; 2]>,
    /// The published accuracy.
    pub published: Option<f64>,
    /// The accuracy under each control, against that without, problem by problem.
    pub controls: Vec<ControlResult>,
    /// The units.
    pub units: Vec<UnitResult>,
}

/// A control beside the thoughts as they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ControlResult {
    /// What was done to the thoughts.
    pub control: Control,
    /// Mean accuracy over the seeds, 0 to 1.
    pub mean: f64,
    /// Accuracy under the control less that without.
    pub difference: f64,
    /// Its 95 % interval over problems, of which each is paired with itself.
    pub interval: [f64; 2],
}

/// The 95 % interval of the mean of independent values (Student): of the trainings with further
/// seeds. `None` of fewer than two.
#[must_use]
pub fn interval_of_mean(values: &[f64]) -> Option<[f64; 2]> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let t = T_95.get(n - 2).copied().unwrap_or(Z_95);
    let spread = t * (square / n as f64).sqrt();
    Some([mean - spread, mean + spread])
}

/// The mean difference of paired lists of `0` and `1`, each pair one seed, and its 95 % interval
/// over problems. A problem's difference is its mean over the seeds. Problems of one kin are as good
/// as one problem asked several times, so the variance is that of the sums of kin about the mean
/// (Liang and Zeger 1986, the clustered variance of a mean).
///
/// # Panics
/// If there is no pair, or lists differ in length.
#[must_use]
pub fn paired(pairs: &[(&str, &str)], kin: &[u32]) -> (f64, [f64; 2]) {
    let count = pairs[0].0.len();
    let mut differences = vec![0.0; count];
    for (with, without) in pairs {
        assert!(with.len() == count && without.len() == count, "the same problems");
        for ((difference, a), b) in differences.iter_mut().zip(with.bytes()).zip(without.bytes()) {
            *difference += (f64::from(a) - f64::from(b)) / pairs.len() as f64;
        }
    }
    assert_eq!(kin.len(), count, "a kin for each problem");
    let n = count.max(1) as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for (difference, kin) in differences.iter().zip(kin) {
        *sums.entry(*kin).or_default() += difference - mean;
    }
    let kins = sums.len() as f64;
    let squares: f64 = sums.values().map(|sum| sum * sum).sum();
    let variance = squares / (n * n) * kins / (kins - 1.0).max(1.0);
    let spread = Z_95 * variance.sqrt();
    (mean, [mean - spread, mean + spread])
}

impl ControlResult {
    /// What was done, in words.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self.control {
            Control::Delete => "thoughts deleted",
            Control::Top => "only their heaviest token",
            Control::Second => "only their second token",
            Control::Pause => "a pause in their place",
            Control::Shuffle => "the thoughts of another problem",
            Control::Noise => "noise of the same norm",
        }
    }
}

impl CellResults {
    /// The results of a cell; `None` where none of its units is there.
    fn new(cell: &Cell, units: Vec<UnitResult>, kin: &[u32]) -> Option<Self> {
        units.first()?;
        let accuracies: Vec<f64> = units.iter().map(UnitResult::accuracy).collect();
        let mut controls: Vec<Control> = Vec::new();
        for own in units.iter().flat_map(|unit| &unit.measured.controls) {
            if !controls.contains(&own.control) {
                controls.push(own.control);
            }
        }
        let controls = controls.into_iter().map(|control| {
            let pair = |unit: &'_ UnitResult| {
                let mut all = unit.measured.controls.iter();
                let own = all.find(|own| own.control == control)?;
                Some((own.right.clone(), unit.measured.right.clone()))
            };
            let pairs: Vec<(String, String)> = units.iter().filter_map(pair).collect();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
            let (difference, interval) = paired(&pairs, kin);
            let mean = pairs.iter().map(|own| share(own.0)).sum::<f64>() / pairs.len() as f64;
            ControlResult { control, mean, difference, interval }
        });
        Some(Self {
            name: cell.name.to_owned(),
            label: cell.label.to_owned(),
            mean: accuracies.iter().sum::<f64>() / accuracies.len() as f64,
            // Student's interval knows nothing of the ends of a share.
            interval: interval_of_mean(&accuracies).map(|own| own.map(|x| x.clamp(0.0, 1.0))),
            published: cell.published,
            controls: controls.collect(),
            units,
        })
    }
}

impl Results {
    /// What the units of a table found.
    #[must_use]
    pub fn new(
        table: &Table,
        budget: Budget,
        units: &[UnitResult],
        [command, machine]: [String; 2],
    ) -> Self {
        let mut revisions: Vec<&str> = units.iter().map(|unit| &*unit.revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        let kin = table.kin(units.first().map_or(0, |unit| unit.measured.right.len()));
        let of_cell = |cell: &Cell| {
            let own = units.iter().filter(|unit| unit.cell == cell.name).cloned().collect();
            CellResults::new(cell, own, &kin)
        };
        Self {
            table: table.name.to_owned(),
            budget,
            command,
            revision: revisions.join(", "),
            machine,
            seconds: units.iter().map(|unit| unit.seconds[0]).sum(),
            units: [units.len(), table.seeds(budget).len() * table.cells.len()],
            problems: kin.len(),
            kins: kin.iter().collect::<std::collections::BTreeSet<_>>().len(),
            cells: table.cells.iter().filter_map(of_cell).collect(),
        }
    }

    /// The results of a cell.
    #[must_use]
    pub fn cell(&self, name: &str) -> Option<&CellResults> {
        self.cells.iter().find(|cell| cell.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_students() {
        assert_eq!(interval_of_mean(&[0.5]), None);
        let [low, high] = interval_of_mean(&[1.0, 2.0, 3.0]).expect("three values");
        // t(0.975, 2) = 4.303, s = 1.
        assert!((low - (2.0 - 4.303 / 3f64.sqrt())).abs() < 1e-9);
        assert!((high - (2.0 + 4.303 / 3f64.sqrt())).abs() < 1e-9);
        let [low, high] = interval_of_mean(&[0.7; 5]).expect("five values");
        assert!((low - 0.7).abs() < 1e-9 && (high - 0.7).abs() < 1e-9);
    }

    /// Pairing sees a small difference in the same problems that two shares alone would not.
    #[test]
    fn pairs_are_problem_by_problem_and_neither_seeds_nor_kin_narrow_the_interval() {
        let without = "1".repeat(50) + &"0".repeat(50);
        let with = "0".repeat(5) + &without[5..];
        let alone: Vec<u32> = (0..100).collect();
        let (difference, [low, high]) = paired(&[(&with, &without)], &alone);
        assert!((difference + 0.05).abs() < 1e-12);
        assert!(low < difference && high < 0.0, "{low} {high}");
        let twice = paired(&[(&with, &without), (&with, &without)], &alone);
        assert!((twice.1[0] - low).abs() < 1e-12 && (twice.1[1] - high).abs() < 1e-12);
        // Every problem asked four times over.
        let four = |bits: &str| bits.repeat(4);
        let kin: Vec<u32> = (0..400).map(|problem| problem % 100).collect();
        let (same, own) = paired(&[(&four(&with), &four(&without))], &kin);
        assert!((same - difference).abs() < 1e-12 && (own[0] - low).abs() < 1e-3, "{own:?}");
        assert_eq!(paired(&[(&with, &with)], &alone), (0.0, [0.0, 0.0]));
        assert_eq!(paired(&[("0", "1")], &[0]).0, -1.0, "one problem is one problem");
    }
}
