//! What a run tells the dashboard.

use std::time::Duration;

use super::sample::Sample;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum News {
    /// The training of an arm begins.
    Begun(Begun),
    /// The figures of a step, and those on held-out data after it.
    Figures {
        /// Steps finished.
        step: usize,
        /// Of the step, by name.
        train: Vec<(String, f64)>,
        /// On held-out data, by name.
        held_out: Vec<(String, f64)>,
    },
    /// How fast it goes, after a step.
    Speed(Speed),
    /// What the run does now.
    Doing(Activity),
    /// What the model wrote.
    Sample(Box<Sample>),
    /// Something for people.
    Message(String),
    /// The dashboard is to close.
    Close,
}

/// The training of an arm, as it begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Begun {
    /// The arm's name.
    pub(crate) arm: String,
    /// Its number among the arms of the run, from 1, and how many there are.
    pub(crate) arms: (usize, usize),
    /// Steps in all.
    pub(crate) steps: usize,
    /// Steps done before.
    pub(crate) done: usize,
    /// Largest global norm of the gradients; 0 is off.
    pub(crate) clip: f64,
}

/// How fast a training goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speed {
    /// Steps finished.
    pub(crate) step: usize,
    /// Positions a second over the steps of this session, evaluation and checkpoints left out.
    pub(crate) tokens_per_second: f64,
    /// Time of the step.
    pub(crate) seconds: f64,
    /// Positions of examples so far, over all sessions.
    pub(crate) tokens: u64,
    /// Share of the step's positions whose prediction is scored.
    pub(crate) scored: f64,
    /// Wall clock of this session.
    pub(crate) elapsed: Duration,
    /// What the steps to come will take.
    pub(crate) left: Duration,
    /// Most memory resident so far, in bytes.
    pub(crate) peak: Option<u64>,
}

/// What a run does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Reads data, makes or loads the model.
    #[default]
    Starting,
    /// Takes steps.
    Training,
    /// Writes a checkpoint.
    Saving,
    /// Continues prompts.
    Sampling,
    /// Measures on held-out data.
    Evaluating,
}

impl Activity {
    /// In a word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Training => "training",
            Self::Saving => "saving",
            Self::Sampling => "sampling",
            Self::Evaluating => "evaluating",
        }
    }
}
