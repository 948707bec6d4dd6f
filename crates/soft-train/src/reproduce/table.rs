//! What a table is.

use serde::{Deserialize, Serialize};

use crate::config::{Arm, Loader};
use crate::task::Task;

/// How much a table may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// At most 15 minutes on 2 cores.
    Quick,
    /// At most 100 minutes on 2 cores.
    Full,
}

impl Budget {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// A table of a paper, or one of our own.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What is claimed, by whom.
    pub claim: &'static str,
    /// How the settings were chosen, and how ours differ from those published.
    pub method: &'static str,
    /// Where the published figures come from.
    pub source: &'static str,
    /// Settings of every cell, as a configuration file.
    pub base: &'static str,
    /// The cells.
    pub cells: Vec<Cell>,
    /// Seeds with the quick budget, and with the full one.
    pub seeds: [&'static [u64]; 2],
}

/// What is measured of the model of a cell beside its accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// Soft thoughts: the accuracy under each control, and beliefs against the truth.
    Thoughts,
    /// As `Thoughts`, with soft beams and what each costs.
    SoftBeams,
    /// Training on rewards: what draws of the policy reach before and after, and as `Thoughts`.
    Rewards,
    /// No language model but a classifier that tells right answers from wrong ones: how often it
    /// prefers the right one to all others.
    Judge,
    /// A chain of thought in tokens: pass@k and majority@k at several temperatures, and beams.
    Samples,
}

/// Where a cell stands on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A row of the main table.
    Row,
    /// A cell of the grid, by the names of its row and its column.
    Grid(&'static str, &'static str),
    /// Both.
    Both(&'static str, &'static str),
}

/// One kind of model.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its name in file names.
    pub name: &'static str,
    /// What it is.
    pub label: &'static str,
    /// The arm that is trained.
    pub arm: Arm,
    /// Settings over those of the table; `{quarter}` stands for a quarter of the steps.
    pub settings: Vec<String>,
    /// Optimizer steps with the quick budget, and with the full one.
    pub steps: [usize; 2],
    /// The published accuracy, 0 to 1.
    pub published: Option<f64>,
    /// What is measured.
    pub kind: Kind,
    /// Where it stands.
    pub place: Place,
    /// The cell whose model it begins with, of the same seed.
    pub start: Option<&'static str>,
    /// The cell whose classifier rewards it, of the same seed: its folder stands for `{judge}` in the
    /// settings.
    pub judge: Option<&'static str>,
}

impl Table {
    /// Seeds with a budget.
    #[must_use]
    pub fn seeds(&self, budget: Budget) -> &'static [u64] {
        self.seeds[budget as usize]
    }

    /// The kin of each validation problem; every problem is its own where the task is another's.
    pub(super) fn kin(&self, problems: usize) -> Vec<u32> {
        let config = Loader::new().text(self.name, self.base).load().ok();
        let task = config.and_then(|own| Task::new(&own.config.task).ok().flatten());
        let kin: Option<Vec<u32>> =
            task.map(|task| task.validation.iter().map(|problem| problem.kin).collect());
        kin.filter(|kin| kin.len() == problems).unwrap_or_else(|| (0..problems as u32).collect())
    }

    /// The cell of a name.
    #[must_use]
    pub fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.name == name)
    }
}

impl Cell {
    /// Optimizer steps with a budget.
    #[must_use]
    pub fn steps(&self, budget: Budget) -> usize {
        self.steps[budget as usize]
    }
}
