//! `soft eval`: ways of thinking compared on one model, at equal forward tokens.

mod arms;
mod controls;
mod extract;
mod outcome;
mod questions;
mod runner;
mod statistics;

pub(crate) use controls::{Source, Thought, changed, thoughts};

pub use arms::{Arm, arms};
pub use extract::Extractor;
pub use outcome::{ArmOutcome, Outcome};
pub use questions::{Question, read_questions};
pub use runner::{Comparison, Progress, check, compare};
pub use statistics::{Difference, accuracy, difference, significant};
