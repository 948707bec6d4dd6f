//! What a soft thought believes against what a thinker with no foresight should: on tasks whose
//! every step has a known distribution.

use serde::{Deserialize, Serialize};
use soft_model::{Generation, SoftInput, Transformer};

use crate::config::Arm;
use crate::error::Error;
use crate::evaluate::{Asking, generate_all};
use crate::task::{Problem, Task};

/// Weights below this count as this in a divergence, so that one filtered token is no infinity.
pub const FLOOR: f64 = 1e-6;
/// Bins of the calibration, of equal width from 0 to 1.
const BINS: usize = 10;
/// Entries that are neither believed this much nor true say nothing about calibration.
const BELIEVED: f64 = 0.01;

/// The figures of one step of a thought, means over problems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StepBelief {
    /// KL(truth || belief) in nats, weights of the belief not below [`FLOOR`].
    pub kl: f64,
    /// Weight of the belief on tokens whose true probability is above 0.
    pub mass: f64,
    /// Entropy of the truth, in nats: the KL of a belief that is sure of one true token is more.
    pub truth_entropy: f64,
    /// Entropy of the belief, in nats.
    pub entropy: f64,
    /// Problems with such a step.
    pub problems: u64,
}

/// Entries of beliefs whose weight lies in one bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Number of entries.
    pub entries: u64,
    /// Their mean weight.
    pub belief: f64,
    /// The mean true probability.
    pub truth: f64,
}

/// Beliefs against truth over a set of problems.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Beliefs {
    /// By step of the thought.
    pub steps: Vec<StepBelief>,
    /// Weights against true probabilities, of entries that are believed at least 0.01 or true.
    pub bins: Vec<Bin>,
}

impl Beliefs {
    /// Mean KL over the steps of all problems.
    #[must_use]
    pub fn kl(&self) -> f64 {
        self.mean(|step| step.kl)
    }

    /// Mean weight on true tokens over the steps of all problems.
    #[must_use]
    pub fn mass(&self) -> f64 {
        self.mean(|step| step.mass)
    }

    /// Expected calibration error: the mean distance of a bin's weight from its truth, bins
    /// weighted by their entries (Guo et al. 2017, eq. 3, with probabilities for outcomes).
    #[must_use]
    pub fn calibration_error(&self) -> f64 {
        let entries: u64 = self.bins.iter().map(|bin| bin.entries).sum();
        let part = |bin: &Bin| bin.entries as f64 * (bin.belief - bin.truth).abs();
        self.bins.iter().map(part).sum::<f64>() / entries.max(1) as f64
    }

    fn mean(&self, of: impl Fn(&StepBelief) -> f64) -> f64 {
        let count: u64 = self.steps.iter().map(|step| step.problems).sum();
        let sum: f64 = self.steps.iter().map(|step| of(step) * step.problems as f64).sum();
        sum / count.max(1) as f64
    }
}

/// Sums on the way to [`Beliefs`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    steps: Vec<StepBelief>,
    bins: [Bin; BINS],
}

impl Tally {
    /// Adds what was fed at the steps of one problem.
    pub(crate) fn add(&mut self, problem: &Problem, fed: &[SoftInput], vocab_size: usize) {
        for (place, (step, input)) in problem.steps.iter().zip(fed).enumerate() {
            let Some(belief) = weights(input, vocab_size) else { continue };
            let mut truth = vec![0.0; vocab_size];
            step.belief.iter().for_each(|&(id, p)| truth[id as usize] += f64::from(p));
            if self.steps.len() <= place {
                self.steps.resize(place + 1, StepBelief::default());
            }
            self.steps[place].add(&truth, &belief);
            for (&p, &t) in belief.iter().zip(&truth).filter(|(p, t)| **p >= BELIEVED || **t > 0.0)
            {
                let bin = &mut self.bins[((p * BINS as f64) as usize).min(BINS - 1)];
                bin.entries += 1;
                bin.belief += p;
                bin.truth += t;
            }
        }
    }

    /// The means.
    pub(crate) fn finish(self) -> Beliefs {
        let bins = self.bins.map(|bin| {
            let n = bin.entries.max(1) as f64;
            Bin { belief: bin.belief / n, truth: bin.truth / n, ..bin }
        });
        let steps = self.steps.into_iter().map(|step| {
            let n = step.problems.max(1) as f64;
            StepBelief {
                kl: step.kl / n,
                mass: step.mass / n,
                truth_entropy: step.truth_entropy / n,
                entropy: step.entropy / n,
                problems: step.problems,
            }
        });
        Beliefs { steps: steps.collect(), bins: bins.to_vec() }
    }
}

impl StepBelief {
    fn add(&mut self, truth: &[f64], belief: &[f64]) {
        for (&t, &p) in truth.iter().zip(belief) {
            if t > 0.0 {
                self.kl += t * (t / p.max(FLOOR)).ln();
                self.mass += p;
                self.truth_entropy -= t * t.ln();
            }
            if p > 0.0 {
                self.entropy -= p * p.ln();
            }
        }
        self.problems += 1;
    }
}

/// The weight of every token in an input; none in a vector that is no mixture.
pub(crate) fn weights(input: &SoftInput, vocab_size: usize) -> Option<Vec<f64>> {
    let mut weights = vec![0.0; vocab_size];
    match input {
        SoftInput::Token(id) => weights[*id as usize] = 1.0,
        SoftInput::Tokens(entries) => entries.iter().for_each(|&(id, p)| weights[id as usize] += p),
        SoftInput::Dense(all) => weights[..all.len()].copy_from_slice(all),
        SoftInput::Vector(_) => return None,
    }
    Some(weights)
}

/// Generates for every problem and gives which are answered right, beside the beliefs of the soft
/// arm's thoughts; these are empty where thoughts are no mixtures, or a curriculum made them stand
/// for other steps.
///
/// # Errors
/// A model that cannot run a problem.
pub fn answers_and_beliefs(
    model: &Transformer,
    task: &Task,
    problems: &[Problem],
    asking: &Asking,
) -> Result<(Vec<bool>, Beliefs), Error> {
    let believes = asking.arm == Arm::Soft && asking.cut.is_none();
    let vocab_size = model.config().vocab_size;
    let (mut right, mut tally) = (vec![false; problems.len()], Tally::default());
    let see = &mut |place: usize, generation: &Generation| {
        let (problem, ids) = (&problems[place], &generation.token_ids);
        right[place] = task.is_right(asking.arm, problem, asking.cut, ids);
        if believes {
            tally.add(problem, &generation.inputs, vocab_size);
        }
    };
    let set = |options: &mut soft_model::GenerateOptions| options.keep_inputs = believes;
    generate_all(model, task, problems, asking, &set, see)?;
    Ok((right, tally.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Step;

    fn problem(beliefs: &[&[(u32, f32)]]) -> Problem {
        let step = |belief: &&[(u32, f32)]| Step { tokens: vec![0], belief: belief.to_vec() };
        let steps = beliefs.iter().map(step).collect();
        Problem { prompt: vec![0], steps, answer: vec![0], kin: 0, rival: None }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn the_true_belief_has_no_divergence_and_is_calibrated() {
        let mut tally = Tally::default();
        let problem = problem(&[&[(1, 0.5), (2, 0.5)], &[(0, 1.0)]]);
        let fed =
            [SoftInput::Tokens(vec![(1, 0.5), (2, 0.5)]), SoftInput::Dense(vec![1.0, 0.0, 0.0])];
        tally.add(&problem, &fed, 3);
        let beliefs = tally.finish();
        close(beliefs.kl(), 0.0);
        close(beliefs.mass(), 1.0);
        close(beliefs.calibration_error(), 0.0);
        close(beliefs.steps[0].entropy, 2f64.ln());
        close(beliefs.steps[0].truth_entropy, 2f64.ln());
        close(beliefs.steps[1].entropy, 0.0);
    }

    #[test]
    fn a_belief_in_one_of_two_true_tokens_is_on_the_frontier_and_not_calibrated() {
        let mut tally = Tally::default();
        let problem = problem(&[&[(1, 0.5), (2, 0.5)]]);
        tally.add(&problem, &[SoftInput::token(1)], 3);
        let beliefs = tally.finish();
        close(beliefs.mass(), 1.0);
        close(beliefs.kl(), 0.5 * 0.5f64.ln() + 0.5 * (0.5 / FLOOR).ln());
        // One entry is 0.5 too high, the other 0.5 too low.
        close(beliefs.calibration_error(), 0.5);
    }

    #[test]
    fn weight_elsewhere_is_off_the_frontier_and_means_are_over_problems() {
        let mut tally = Tally::default();
        let sure = problem(&[&[(1, 1.0)]]);
        tally.add(&sure, &[SoftInput::Tokens(vec![(1, 0.25), (0, 0.75)])], 3);
        tally.add(&sure, &[SoftInput::token(1)], 3);
        tally.add(&sure, &[SoftInput::Vector(vec![0.3])], 3);
        let beliefs = tally.finish();
        assert_eq!(beliefs.steps[0].problems, 2);
        close(beliefs.mass(), 0.625);
        close(beliefs.kl(), -(0.25f64.ln()) / 2.0);
    }
}
