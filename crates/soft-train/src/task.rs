//! Tasks that make their own problems and check their own answers.
//!
//! A task is a function from the settings of `task` to a [`Task`]: its tokens, and problems that
//! each hold a prompt, the steps of a thought and an answer. Everything else follows from these:
//! the training lines of every arm, how answers are read, what is measured. A new task is one file
//! with that function, and one line in the table of [`TaskName`].
//!
//! ```text
//! soft        prompt ~ ~ ~ close answer          ~: a mixture is fed
//! hard        prompt open step step step close answer <EOS>
//! no_thought  prompt pause pause pause close answer <EOS>
//! ```

mod chains;
mod draws;
pub(crate) use draws::Draws;
mod facts;
mod line;
pub mod mnns;
mod multiplication;
mod prosqa;
mod tokens;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::Error;

pub use tokens::{SpecialTokens, Tokens};

/// Makes the problems of a task from its settings.
type Make = fn(&config::Task) -> Result<Task, Error>;

macro_rules! tasks {
    ($($(#[cfg($cfg:meta)])? $(#[doc = $doc:literal])+
        $variant:ident = $word:literal => $make:path;)+) => {
        /// What is learned.
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema,
        )]
        pub enum TaskName {
            $($(#[cfg($cfg)])? $(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
            /// Token ids from `data.train`.
            #[serde(rename = "ids")]
            Ids,
            /// Text from `data.train`, through the tokenizer and chat template of `model.path`.
            #[serde(rename = "text")]
            Text,
            /// Nothing: for configurations that only generate.
            #[default]
            #[serde(rename = "none")]
            None,
        }

        impl TaskName {
            /// The word that stands for this value in a configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Self::$variant => $word,)+
                    Self::Ids => "ids",
                    Self::Text => "text",
                    Self::None => "none",
                }
            }

            fn make(self) -> Option<Make> {
                match self {
                    $($(#[cfg($cfg)])? Self::$variant => Some($make),)+
                    Self::Ids | Self::Text | Self::None => None,
                }
            }
        }
    };
}

tasks! {
    /// Minimum non-negative signed sum of a few digits, generated.
    Mnns = "mnns" => mnns::task;
    /// Which of two nodes of a directed graph is reached from a root, generated.
    Prosqa = "prosqa" => prosqa::task;
    /// Product of two numbers, digit by digit, generated.
    Multiplication = "multiplication" => multiplication::task;
    /// Which of two concepts is reached up a chain of facts, generated.
    Chains = "chains" => chains::task;
    #[cfg(test)]
    /// The last of two letters, for tests.
    Last = "last" => tests::last_letter;
}

impl TaskName {
    /// Whether the problems are made, not read from files.
    #[must_use]
    pub fn is_generated(self) -> bool {
        self.make().is_some()
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Everything about a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name in a configuration.
    pub name: TaskName,
    /// Names of its tokens, and those with a part of their own.
    pub tokens: Tokens,
    /// What stands between the prompt and a chain of thought in tokens.
    pub open: Vec<u32>,
    /// What stands in the place of a thought where there is none.
    pub pause: Vec<u32>,
    /// What stands between a thought and the answer.
    pub close: Vec<u32>,
    /// The problems to train on.
    pub train: Vec<Problem>,
    /// The problems held out.
    pub validation: Vec<Problem>,
    /// The accuracy, 0 to 1, of something that needs no model, and what it is.
    pub baseline: Option<(String, f64)>,
    /// What is published of it.
    pub published: Option<Published>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// What every arm is given.
    pub prompt: Vec<u32>,
    /// The steps of its thought.
    pub steps: Vec<Step>,
    /// The right answer.
    pub answer: Vec<u32>,
    /// Problems of one kin are the same but for an order that does not matter to the answer, and
    /// stay on the same side of the split: they are no independent evidence.
    pub kin: u32,
    /// A wrong answer of one token that competes with the right one, where there is such.
    pub rival: Option<u32>,
}

/// One step of a thought.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The step in tokens, on the chosen path.
    pub tokens: Vec<u32>,
    /// Where a thinker with no foresight may be after the step, as (token id, probability) pairs:
    /// the exact distribution that a soft thought should hold. Sums to 1.
    pub belief: Vec<(u32, f32)>,
}

/// Published accuracies of a task, with the settings they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Where they come from.
    pub source: &'static str,
    /// Optimizer steps of the published trainings, and examples in each.
    pub budget: (u64, u64),
    /// The accuracies.
    pub figures: Vec<Figure>,
}

/// A published accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The arm.
    pub arm: config::Arm,
    /// Whether soft thoughts feed hidden states after a curriculum.
    pub hidden: bool,
    /// Layers, heads and width of the model.
    pub shape: (usize, usize, usize),
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
}

/// A kin from what all problems of it have in common.
fn kin_of(common: &[u32]) -> u32 {
    let bytes: Vec<u8> = common.iter().flat_map(|id| id.to_le_bytes()).collect();
    crc32fast::hash(&bytes)
}

impl Task {
    /// The task of a configuration; `None` where examples are read from files, or there are none.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that the task cannot have.
    pub fn new(settings: &config::Task) -> Result<Option<Self>, Error> {
        settings.name.make().map(|make| make(settings)).transpose()
    }

    /// The published accuracy (0 to 1) of `arm` for a model of this shape, where there is one.
    #[must_use]
    pub fn published(
        &self,
        arm: config::Arm,
        hidden: bool,
        shape: (usize, usize, usize),
    ) -> Option<f64> {
        let figures = &self.published.as_ref()?.figures;
        let is = |row: &&Figure| (row.arm, row.hidden, row.shape) == (arm, hidden, shape);
        figures.iter().find(is).map(|row| row.accuracy)
    }

    /// The edges of the graph that a prompt describes, in its order, as (source, target) tokens:
    /// edge i stands at the places 1 + 3 i and 2 + 3 i. None where the task has no graph.
    #[must_use]
    pub fn edges(&self, problem: &Problem) -> Vec<(u32, u32)> {
        match self.name {
            TaskName::Prosqa | TaskName::Chains => facts::facts(&problem.prompt),
            _ => Vec::new(),
        }
    }

    /// Steps of its longest thought.
    #[must_use]
    pub fn max_steps(&self) -> usize {
        self.problems().map(|problem| problem.steps.len()).max().unwrap_or(0)
    }

    /// All problems.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.train.iter().chain(&self.validation)
    }
}

#[cfg(test)]
mod tests;
