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

mod problem;
mod published;
mod split;
mod vocabulary;

pub use problem::Problem;
pub use vocabulary::Vocabulary;

use super::{Step, Task, kin_of};
use crate::config;
use crate::error::Error;

/// More problems than this are refused: every problem is enumerated and kept.
pub const MAX_PROBLEMS: usize = 600_000;

/// Every sequence of `task.digits` digits from 1 to `task.digit_max`, in lexicographic order,
/// split so that sequences with the same digits in another order stay on the same side.
///
/// With 4 digits up to 9 the split is the published one (5,253 training problems, 1,308 for
/// validation); for other sizes a fifth of the multisets, drawn with a fixed seed, validates. The
/// split never depends on the seed of the run. A soft thought holds the sums of all signs, or
/// those of the `task.budget` sign choices whose sum is nearest to 0.
///
/// # Errors
/// [`Error::Config`] if there are fewer than 2 digits, more than [`MAX_PROBLEMS`] problems, or too
/// few problems to hold some out.
pub fn task(settings: &config::Task) -> Result<Task, Error> {
    let (digits, digit_max, budget) = (settings.digits, settings.digit_max, settings.budget);
    check_size(digits, digit_max)?;
    let vocabulary = Vocabulary::new(digits, digit_max);
    let held_out = split::validation_multisets(digits, digit_max)?;
    let (validation, train): (Vec<_>, Vec<_>) = problem::enumerate(digits, digit_max)
        .into_iter()
        .partition(|problem| held_out.contains(&problem.multiset()));
    let lines = |problems: &[Problem]| {
        problems.iter().map(|problem| line(&vocabulary, problem, budget)).collect()
    };
    Ok(Task {
        name: settings.name,
        tokens: vocabulary.tokens(),
        open: vec![Vocabulary::ARROW],
        pause: vec![Vocabulary::ARROW; digits],
        close: Vec::new(),
        train: lines(&train),
        validation: lines(&validation),
        baseline: Some(("always 1".to_owned(), always_one_share(&validation))),
        published: ((digits, digit_max) == (4, 9)).then(|| published::published(budget)),
    })
}

/// A problem in tokens. The last sum of its path is the answer, those before it are the steps.
fn line(vocabulary: &Vocabulary, problem: &Problem, budget: usize) -> super::Problem {
    // Every digit and every sum that signed digits reach has a token.
    let sum = |sum: i64| vocabulary.sum_id(sum).unwrap_or_default();
    let digit = |&digit: &u32| vocabulary.digit_id(digit).unwrap_or_default();
    let (answer, path) = problem.path.split_last().expect("at least two digits");
    let step = |(t, &on_path): (usize, &i64)| {
        let belief = problem.reachable(t + 1, budget).into_iter();
        Step { tokens: vec![sum(on_path)], belief: belief.map(|(s, p)| (sum(s), p)).collect() }
    };
    super::Problem {
        prompt: std::iter::once(Vocabulary::BOS).chain(problem.digits.iter().map(digit)).collect(),
        steps: path.iter().enumerate().map(step).collect(),
        answer: vec![sum(*answer)],
        kin: kin_of(&problem.multiset()),
        rival: None,
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
