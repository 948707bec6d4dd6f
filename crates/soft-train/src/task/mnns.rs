//! MNNS, the minimum non-negative sum: given digits d1..dn, choose a sign for each so that the
//! signed sum is the smallest number that is not negative. The answer is that sum.
//!
//! Thinking is a walk: after t signs there are 2^t possible partial sums, and the right one is
//! only known at the end. A hard chain of thought must name one sum a step; a soft thought can
//! hold them all. Task, vocabulary and published split are those of CoT2 (Gozeten et al., 2025,
//! "Continuous Chain of Thought Enables Parallel Exploration and Reasoning").
//!
//! ```text
//! soft        <BOS> D3 D1 D2 D5 ~ ~ ~ S1        ~: a mixture of sums is fed; S1 is the answer
//! hard        <BOS> D3 D1 D2 D5 -> S3 S4 S6 S1 <EOS>
//! no_thought  <BOS> D3 D1 D2 D5 -> -> -> -> S1 <EOS>
//! ```

mod arm;
mod problem;
mod published;
mod split;
mod vocabulary;

pub use problem::Problem;
pub use published::{PUBLISHED, PUBLISHED_BATCH, PUBLISHED_SOURCE, PUBLISHED_STEPS, Published};
pub use vocabulary::Vocabulary;

use crate::config::Cut;
use crate::error::Error;

/// More problems than this are refused: every problem is enumerated and kept.
pub const MAX_PROBLEMS: usize = 600_000;

/// All problems of one size, split into training and validation, and their token ids.
#[derive(Debug, Clone)]
pub struct Mnns {
    digits: usize,
    digit_max: usize,
    vocabulary: Vocabulary,
    train: Vec<Problem>,
    validation: Vec<Problem>,
}

impl Mnns {
    /// Every sequence of `digits` digits from 1 to `digit_max`, in lexicographic order, split so
    /// that sequences with the same digits in another order stay on the same side.
    ///
    /// With 4 digits up to 9 the split is the published one (5,253 training problems, 1,308 for
    /// validation); for other sizes a fifth of the multisets, drawn with a fixed seed, validates.
    /// The split never depends on the seed of the run.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if there are fewer than 2 digits, more than [`MAX_PROBLEMS`] problems, or
    /// too few problems to hold some out.
    pub fn new(digits: usize, digit_max: usize) -> Result<Self, Error> {
        check_size(digits, digit_max)?;
        let problems = problem::enumerate(digits, digit_max);
        let held_out = split::validation_multisets(digits, digit_max)?;
        let (validation, train) =
            problems.into_iter().partition(|problem| held_out.contains(&problem.multiset()));
        let vocabulary = Vocabulary::new(digits, digit_max);
        Ok(Self { digits, digit_max, vocabulary, train, validation })
    }

    /// Digits in one problem.
    pub fn digits(&self) -> usize {
        self.digits
    }

    /// The largest digit.
    pub fn digit_max(&self) -> usize {
        self.digit_max
    }

    /// Names and ids of the tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The problems to train on.
    pub fn train(&self) -> &[Problem] {
        &self.train
    }

    /// The problems held out; no permutation of one of them is among [`Mnns::train`].
    pub fn validation(&self) -> &[Problem] {
        &self.validation
    }

    /// Positions a model needs in a stage of a curriculum.
    pub fn cut_positions(&self, cut: Cut) -> usize {
        1 + self.digits + self.cut_len(cut)
    }

    /// Positions a model needs for the longest arm: `<BOS>`, digits, arrow, sums, `<EOS>`.
    pub fn max_positions(&self) -> usize {
        2 * self.digits + 3
    }
}

/// The share of `problems` whose answer is 1: what always answering 1 would score.
///
/// With 4 digits up to 9 that is 34.25 % of the validation split and 37.25 % of all 6,561
/// problems; the latter is the figure usually quoted.
pub fn always_one_share(problems: &[Problem]) -> f64 {
    let ones = problems.iter().filter(|problem| problem.answer == 1).count();
    ones as f64 / problems.len().max(1) as f64
}

fn check_size(digits: usize, digit_max: usize) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::Config { report: what });
    if digits < 2 {
        return refuse(format!("`task.digits` is {digits}, expected at least 2"));
    }
    if digit_max < 1 {
        return refuse(format!("`task.digit_max` is {digit_max}, expected at least 1"));
    }
    let count = u32::try_from(digits).ok().and_then(|digits| digit_max.checked_pow(digits));
    match count {
        Some(count) if count <= MAX_PROBLEMS => Ok(()),
        _ => refuse(format!(
            "`task.digits` = {digits} with `task.digit_max` = {digit_max} makes {digit_max}^{digits} \
             problems, expected at most {MAX_PROBLEMS}: lower one of them"
        )),
    }
}

#[cfg(test)]
mod tests;
