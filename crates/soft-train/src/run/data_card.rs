//! What a run learns from and is measured on, in numbers: `data.json` of its directory.

use serde::{Deserialize, Serialize};

use super::Problem;
use crate::config::{Arm, Config};
use crate::error::Error;
use crate::example::Example;

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataCard {
    pub(crate) train: Part,
    /// None where nothing is held out.
    pub(crate) valid: Option<Part>,
    /// What reading the files had to say: lines that were skipped, examples that were cut.
    pub(crate) notes: Vec<String>,
}

/// Examples in numbers. Of a curriculum these are the examples of its last stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) examples: usize,
    /// Positions of all of them.
    pub(crate) tokens: usize,
    /// Positions whose prediction counts in the loss.
    pub(crate) scored: usize,
    /// Positions whose input is a mixture.
    pub(crate) soft: usize,
    /// Length in the middle of all lengths, in positions.
    pub(crate) median_length: usize,
    pub(crate) longest: usize,
}

impl Part {
    /// None of no examples.
    fn of(examples: &[Example]) -> Option<Self> {
        let mut lengths: Vec<usize> = examples.iter().map(Example::len).collect();
        lengths.sort_unstable();
        let count = |counts: fn(&Example) -> usize| examples.iter().map(counts).sum();
        Some(Self {
            examples: examples.len(),
            tokens: lengths.iter().sum(),
            scored: count(|example| example.weight.iter().filter(|&&w| w > 0.0).count()),
            soft: count(|example| example.soft.iter().filter(|&&soft| soft).count()),
            median_length: *lengths.get(lengths.len() / 2)?,
            longest: *lengths.last()?,
        })
    }
}

impl DataCard {
    /// The data of the first arm; None where there are no examples.
    pub(crate) fn of(problem: &Problem, config: &Config, arm: Arm) -> Result<Option<Self>, Error> {
        let train = problem.stages(config, arm)?.pop().unwrap_or_default();
        let (valid, notes) = match problem {
            Problem::Task(task) => {
                let examples = task.validation.iter().map(|problem| task.example(arm, problem));
                (examples.collect::<Vec<_>>(), Vec::new())
            }
            Problem::Examples { valid, notes, .. } => (valid.clone(), notes.clone()),
        };
        let card = |train| Self { train, valid: Part::of(&valid), notes };
        Ok(Part::of(&train).map(card))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_counts_what_is_scored_and_soft() {
        let mut long = Example::from_tokens(&[1, 2, 3, 4, 5], 2);
        long.soft[2] = true;
        let problem = Problem::Examples {
            train: vec![
                Example::from_tokens(&[1, 2], 0),
                long,
                Example::from_tokens(&[1, 2, 3], 1),
            ],
            valid: Vec::new(),
            earlier: Vec::new(),
            notes: vec!["one line was skipped".into()],
        };
        let card = DataCard::of(&problem, &Config::default(), Arm::Soft).expect("countable");
        let card = card.expect("there are examples");
        let train = Part {
            examples: 3,
            tokens: 10,
            // All but the first position of each, and but the second of the long one.
            scored: 1 + 3 + 2,
            soft: 1,
            median_length: 3,
            longest: 5,
        };
        assert_eq!(
            card,
            DataCard { train, valid: None, notes: vec!["one line was skipped".into()] }
        );
        let nothing = Problem::Examples {
            train: Vec::new(),
            valid: Vec::new(),
            earlier: Vec::new(),
            notes: Vec::new(),
        };
        let card = DataCard::of(&nothing, &Config::default(), Arm::Soft).expect("countable");
        assert_eq!(card, None);
    }
}
