//! All units of a table together: means over seeds, and intervals.

use serde::{Deserialize, Serialize};

use super::table::{Budget, Cell, Table};
use super::unit::{UnitResult, share};
use crate::config::Control;

/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const T_95: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
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
    /// Problems that are asked.
    pub problems: usize,
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
/// over problems: a problem's difference is its mean over the seeds.
///
/// # Panics
/// If there is no pair, or lists differ in length.
#[must_use]
pub fn paired(pairs: &[(&str, &str)]) -> (f64, [f64; 2]) {
    let count = pairs[0].0.len();
    let mut differences = vec![0.0; count];
    for (with, without) in pairs {
        assert!(with.len() == count && without.len() == count, "the same problems");
        for ((difference, a), b) in differences.iter_mut().zip(with.bytes()).zip(without.bytes()) {
            *difference += (f64::from(a) - f64::from(b)) / pairs.len() as f64;
        }
    }
    let n = count.max(2) as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let square = differences.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let spread = Z_95 * (square / n).sqrt();
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
    fn new(cell: &Cell, units: Vec<UnitResult>) -> Option<Self> {
        let first = units.first()?;
        let accuracies: Vec<f64> = units.iter().map(UnitResult::accuracy).collect();
        let controls = first.measured.controls.iter().map(|own| own.control);
        let controls = controls.map(|control| {
            let of = |unit: &'_ UnitResult| {
                let all = unit.measured.controls.iter();
                all.clone().find(|own| own.control == control).map(|own| own.right.clone())
            };
            let rights: Vec<String> = units.iter().filter_map(of).collect();
            let wholes = units.iter().map(|unit| unit.measured.right.as_str());
            let pairs: Vec<(&str, &str)> = rights.iter().map(String::as_str).zip(wholes).collect();
            let (difference, interval) = paired(&pairs);
            let mean = rights.iter().map(|right| share(right)).sum::<f64>() / rights.len() as f64;
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
        let of_cell = |cell: &Cell| {
            let own = units.iter().filter(|unit| unit.cell == cell.name).cloned().collect();
            CellResults::new(cell, own)
        };
        Self {
            table: table.name.to_owned(),
            budget,
            command,
            revision: revisions.join(", "),
            machine,
            seconds: units.iter().map(|unit| unit.seconds[0]).sum(),
            problems: units.first().map_or(0, |unit| unit.measured.right.len()),
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
    fn pairs_are_problem_by_problem_and_seeds_of_one_do_not_narrow_the_interval() {
        let without = "1".repeat(50) + &"0".repeat(50);
        let with = "0".repeat(5) + &without[5..];
        let (difference, [low, high]) = paired(&[(&with, &without)]);
        assert!((difference + 0.05).abs() < 1e-12);
        assert!(low < difference && high < 0.0, "{low} {high}");
        let twice = paired(&[(&with, &without), (&with, &without)]);
        assert_eq!(twice, (difference, [low, high]));
        assert_eq!(paired(&[(&with, &with)]), (0.0, [0.0, 0.0]));
    }
}
