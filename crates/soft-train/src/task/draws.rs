//! Random numbers that problems are made of, and how problems are held out.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Problem;
use crate::data::below;
use crate::error::Error;

/// Problems that are held out of a task that draws its problems.
pub(super) const VALIDATION: usize = 500;
/// Problems in a row that were drawn before: then there are no others worth waiting for.
const MAX_REPEATS: usize = 1_000;

/// A sequence of random numbers, as a function of a seed and the task it is for.
#[derive(Debug)]
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64, task: &str) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].iter_mut().zip(task.bytes()).for_each(|(place, byte)| *place = byte);
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A uniform number in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        below(&mut self.0, bound as u64) as usize
    }

    /// A uniform number in [0, 1), a multiple of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `items`.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// A place in `weights`, with the probability that its weight has in their sum.
    ///
    /// # Panics
    /// If no weight is above 0.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        let hit = weights.iter().position(|&weight| {
            left -= weight;
            left < 0.0
        });
        // Where rounding leaves a rest, the draw was of the last place that can be drawn.
        hit.or(weights.iter().rposition(|&weight| weight > 0.0)).expect("a weight above 0")
    }

    /// Shuffles in place (Fisher-Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Problems to train on, and problems held out.
#[derive(Debug)]
pub(super) struct Parted {
    pub(super) train: Vec<Problem>,
    pub(super) validation: Vec<Problem>,
}

/// Draws [`VALIDATION`] problems and then `count` to train on. No prompt comes twice, and of a
/// side that validates (what `draw` gives beside a problem) none trains. What validates does not
/// depend on `count`.
///
/// # Errors
/// [`Error::Config`] if there are too few different problems; those of `draw`.
pub(super) fn part<Side: Hash + Eq>(
    count: usize,
    mut draw: impl FnMut() -> Result<(Side, Problem), Error>,
) -> Result<Parted, Error> {
    let mut prompts = HashSet::new();
    let mut held_out = HashSet::new();
    let mut validation = Vec::with_capacity(VALIDATION);
    let mut train = Vec::with_capacity(count);
    let mut repeats = 0;
    while train.len() < count {
        let (side, problem) = draw()?;
        let validates = validation.len() < VALIDATION;
        let fits = validates || !held_out.contains(&side);
        if !fits || !prompts.insert(fingerprint(&problem.prompt)) {
            repeats += 1;
            if repeats > MAX_REPEATS {
                return Err(too_few(validation.len() + train.len(), VALIDATION + count));
            }
            continue;
        }
        repeats = 0;
        if validates {
            held_out.insert(side);
            validation.push(problem);
        } else {
            train.push(problem);
        }
    }
    Ok(Parted { train, validation })
}

fn too_few(found: usize, expected: usize) -> Error {
    let report = format!(
        "the settings of `task` leave about {found} different problems, expected {expected}, of \
         which {VALIDATION} validate: lower `task.problems`, or make the problems larger"
    );
    Error::Config { report }
}

/// Stands for a prompt: should two have the same, one of them is drawn again.
fn fingerprint(prompt: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    prompt.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_a_function_of_seed_and_task() {
        let first = |seed, task| Draws::new(seed, task).below(1 << 30);
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }

    #[test]
    fn weights_are_the_shares_of_what_is_drawn() {
        let mut draws = Draws::new(7, "weights");
        let mut counts = [0.0_f64; 4];
        (0..40_000).for_each(|_| counts[draws.weighted(&[1.0, 0.0, 2.5, 0.5])] += 1.0 / 40_000.0);
        // Four standard errors of a share of one half are 0.01.
        for (share, expected) in counts.iter().zip([0.25, 0.0, 0.625, 0.125]) {
            assert!((share - expected).abs() < 0.01, "{counts:?}");
        }
        assert_eq!(counts[1], 0.0);
    }

    #[test]
    fn a_shuffle_puts_everything_everywhere() {
        let mut draws = Draws::new(7, "shuffle");
        let mut counts = [[0_u32; 3]; 3];
        for _ in 0..9_000 {
            let mut items = [0, 1, 2];
            draws.shuffle(&mut items);
            items.iter().enumerate().for_each(|(place, &item)| counts[place][item] += 1);
        }
        assert!(counts.iter().flatten().all(|count| count.abs_diff(3_000) < 180), "{counts:?}");
    }

    /// Problems numbered at random below `kinds`; those with the same number but its last bit are
    /// of one side.
    fn numbered(count: usize, kinds: usize) -> Result<Parted, Error> {
        let mut draws = Draws::new(3, "numbered");
        part(count, || {
            let number = draws.below(kinds);
            let prompt = vec![number as u32];
            let problem =
                Problem { prompt, steps: Vec::new(), answer: vec![0], kin: 0, rival: None };
            Ok((number / 2, problem))
        })
    }

    #[test]
    fn no_side_is_on_both_sides_and_no_prompt_comes_twice() {
        let number = |problem: &Problem| problem.prompt[0];
        let parted = numbered(1_000, 3_000).expect("enough");
        assert_eq!((parted.train.len(), parted.validation.len()), (1_000, VALIDATION));
        let all = parted.train.iter().chain(&parted.validation).map(number);
        assert_eq!(all.collect::<HashSet<_>>().len(), 1_500);
        let sides = |problems: &[Problem]| -> HashSet<u32> {
            problems.iter().map(|problem| number(problem) / 2).collect()
        };
        assert!(sides(&parted.train).is_disjoint(&sides(&parted.validation)));
        let fewer = numbered(10, 3_000).expect("enough");
        assert_eq!(fewer.validation, parted.validation, "whatever the number to train on");
        assert_eq!(fewer.train[..], parted.train[..10]);
    }

    #[test]
    fn too_few_kinds_of_problems_end_in_an_error_that_says_what_to_change() {
        for kinds in [300, 1_000] {
            let error = numbered(600, kinds).expect_err("refused");
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains("expected 1100") && text.contains("task.problems"), "{text}");
        }
    }
}
