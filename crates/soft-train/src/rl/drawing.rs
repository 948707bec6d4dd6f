//! Thoughts and answers drawn from a model, and what they are worth.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use soft_core::{Policy, float_tensor, host_values};
use soft_model::{Drawn, GenerateOptions, Transformer, draw};

use super::advantage::{advantages, batch_scale, gae, has_signal, whitened};
use super::pathwise::Pathwise;
use super::reward::Weighted;
use super::source::{Completion, Source, Texts};
use super::value::ValueHead;
use crate::config::{Rl, RlAlgorithm, RlDiscretize, RlPolicy, RlScale};
use crate::error::Error;

/// How problems are answered at random, and rewarded.
#[derive(Debug)]
pub struct Drawing {
    /// Where the prompts come from.
    pub source: Arc<dyn Source>,
    /// What is rewarded.
    pub rewards: Mutex<Vec<Weighted>>,
    /// A reward that is differentiated, where one has a weight.
    pub pathwise: Option<Pathwise>,
    /// Policy, algorithm and group.
    pub rl: Rl,
    /// Seed of the run.
    pub seed: u64,
}

/// Rows that were drawn together, and what is known of them.
#[derive(Debug, Clone)]
pub struct Experience {
    /// What they drew.
    pub drawn: Drawn,
    /// Log-probabilities under the model that drew it, less a constant of each draw: `[step][row]`.
    pub log_probs: Vec<Vec<f64>>,
    /// Whether there is something to learn of each draw: `[step][row]`.
    pub counts: Vec<Vec<bool>>,
    /// What each row wrote.
    pub completions: Vec<Completion>,
    /// Names of the rewards, and those of each row.
    pub parts: Vec<(String, Vec<f64>)>,
    /// Their weighted sum, of each row.
    pub rewards: Vec<f64>,
    /// Advantage of each draw: `[step][row]`.
    pub advantages: Vec<Vec<f64>>,
    /// What the value head said of each draw, and should have said: `[step][row]`; of PPO alone.
    pub values: Option<[Vec<Vec<f64>>; 2]>,
    /// Rows of a group.
    pub group: usize,
}

impl Experience {
    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.completions.len()
    }

    /// Draws that are learned from.
    #[must_use]
    pub fn draws(&self) -> usize {
        self.counts.iter().flatten().filter(|&&counted| counted).count()
    }

    /// Groups, and those of them whose rewards do not differ.
    #[must_use]
    pub fn groups(&self) -> [usize; 2] {
        let groups = self.rewards.chunks(self.group.max(1));
        let silent = groups.clone().filter(|rewards| !has_signal(rewards)).count();
        [groups.count(), silent]
    }
}

impl Drawing {
    /// What draws the soft thoughts of this model.
    fn policy(&self, model: &Transformer) -> Policy {
        match self.rl.policy {
            RlPolicy::Token => Policy::Token,
            RlPolicy::Samples => Policy::Samples { count: self.rl.samples },
            RlPolicy::Gumbel => Policy::Gumbel { temperature: self.rl.gumbel_temperature },
            RlPolicy::Gaussian => {
                let square = host_values(model.embedding().square().mean().reshape([1]))[0];
                Policy::Gaussian { sigma: self.rl.sigma * square.sqrt() }
            }
            RlPolicy::Hybrid => Policy::Hybrid,
            RlPolicy::Dirichlet => Policy::Dirichlet { concentration: self.rl.concentration },
        }
    }

    /// Draws a group for each of some problems from a model as it is in training: what is drawn is
    /// scored by the very pass that scores it at an update, so that the first ratios are 1 to the bit
    /// where the model is on an autodiff device. `step` is that of the training, `first_row` the number
    /// of rows that were drawn before in it: every row of a run has noise of its own, and the same
    /// after a restart. The value head, where there is one, says what it expects.
    ///
    /// # Errors
    /// A model that cannot run a problem.
    pub fn draw(
        &self,
        model: &Transformer,
        value: Option<&ValueHead>,
        problems: &[usize],
        step: usize,
        first_row: usize,
    ) -> Result<Vec<Experience>, Error> {
        let inner = match model.device().is_autodiff() {
            true => model.valid(),
            false => model.clone(),
        };
        // On the same device as in training, for the same pass; without a graph, which would be kept
        // until the next backward pass.
        let scorer = model.clone().freeze();
        let (size, policy) = (self.rl.group, self.policy(&inner));
        let numbers =
            |place: usize| (0..size).map(move |own| (first_row + place * size + own) as u32);
        let sampled = self.rl.discretize == RlDiscretize::Samples;
        let mut found = Vec::new();
        for lot in self.source.lots(problems)? {
            let options = GenerateOptions {
                seed: seed_of(self.seed, step),
                // Whatever is drawn together with it: a row is known by its place in the step.
                rows: lot.places.iter().flat_map(|place| numbers(*place)).collect(),
                ..lot.options.clone()
            };
            let of_group = |prompt: &Vec<u32>| vec![prompt.clone(); size];
            let prompts: Vec<Vec<u32>> = lot.prompts.iter().flat_map(of_group).collect();
            let (made, drawn) = draw(&inner, &prompts, lot.mode, policy, &options)?;
            let problem = |row: usize| lot.problems[row / size];
            let completion = |(row, made)| {
                let wrote = (made, &drawn, row);
                Completion::new(&*self.source, &lot, problem(row), wrote, sampled)
            };
            let completions: Vec<Completion> = made.iter().enumerate().map(completion).collect();
            let mut counts = drawn.counts();
            if self.rl.mask_truncated {
                let ended = |row: usize| completions[row].ended;
                let masked = |step: &mut Vec<bool>| {
                    step.iter_mut().enumerate().for_each(|(row, counted)| *counted &= ended(row));
                };
                counts.iter_mut().for_each(masked);
            }
            let scores = drawn.score(&scorer);
            let rows = drawn.batch();
            let by_step = |values: Vec<f64>| -> Vec<Vec<f64>> {
                values.chunks(rows).map(<[f64]>::to_vec).collect()
            };
            let log_probs = by_step(host_values(scores.log_probs.detach()));
            let values = value.map(|head| {
                let values = by_step(host_values(head.clone().freeze().forward(scores.hidden)));
                [values.clone(), values]
            });
            found.push(Experience {
                log_probs,
                counts,
                completions,
                parts: Vec::new(),
                rewards: vec![0.0; rows],
                advantages: vec![vec![0.0; rows]; drawn.steps.len()],
                values,
                group: size,
                drawn,
            });
        }
        Ok(found)
    }

    /// Rewards rows that were drawn.
    ///
    /// # Errors
    /// A reward that cannot say, or says what is no finite number.
    pub fn reward(&self, experiences: &mut [Experience]) -> Result<(), Error> {
        let mut rewards = self.rewards.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = rewards.iter().any(|own| own.reward.reads());
        for experience in experiences {
            let completions: Vec<&Completion> = experience.completions.iter().collect();
            let texts: Vec<Texts> = match reads {
                true => completions.iter().map(|own| self.reading(own)).collect(),
                false => Vec::new(),
            };
            let mut sum = vec![0.0; completions.len()];
            let mut parts = Vec::new();
            for Weighted { reward, weight } in rewards.iter_mut() {
                let scores = reward.score(&completions, &texts)?;
                check(reward.name(), &scores, completions.len())?;
                sum.iter_mut().zip(&scores).for_each(|(sum, score)| *sum += *weight * score);
                parts.push((reward.name().to_owned(), scores));
            }
            (experience.rewards, experience.parts) = (sum, parts);
        }
        Ok(())
    }

    /// Makes advantages of the rewards of all rows of a step.
    pub fn weigh(&self, experiences: &mut [Experience]) {
        weigh(&self.rl, experiences);
    }

    /// What a row wrote, in words.
    #[must_use]
    pub fn texts(&self, completion: &Completion) -> Texts {
        self.source.texts(completion)
    }

    /// What a reward reads of a row.
    fn reading(&self, completion: &Completion) -> Texts {
        let mut texts = self.source.texts(completion);
        if self.rl.discretize == RlDiscretize::Drop {
            texts.thoughts.clear();
        }
        texts
    }
}

/// A reward is a finite number for every row.
fn check(name: &str, scores: &[f64], rows: usize) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::Reward { what });
    if scores.len() != rows {
        let found = scores.len();
        return refuse(format!("the reward \"{name}\" gave {found} numbers; expected {rows}"));
    }
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(row) => refuse(format!(
            "the reward \"{name}\" is {} for row {row}; expected a finite number",
            scores[row]
        )),
    }
}

/// Makes advantages of the rewards of all rows of a step.
fn weigh(rl: &Rl, experiences: &mut [Experience]) {
    if rl.algorithm == RlAlgorithm::Ppo {
        return estimate(rl, experiences);
    }
    let all: Vec<f64> = experiences.iter().flat_map(|own| own.rewards.clone()).collect();
    let batch = (rl.algorithm, rl.scale) == (RlAlgorithm::Grpo, RlScale::Batch);
    let scale = if batch { batch_scale(&all) } else { 1.0 };
    for experience in experiences {
        let of = |rewards: &[f64]| advantages(rl.algorithm, rl.scale, rewards);
        let groups = experience.rewards.chunks(rl.group);
        let own: Vec<f64> = groups.flat_map(of).map(|advantage| advantage / scale).collect();
        experience.advantages = vec![own; experience.drawn.steps.len()];
    }
}

/// Advantages of PPO: a row's reward comes with its last draw.
fn estimate(rl: &Rl, experiences: &mut [Experience]) {
    let mut all = Vec::new();
    for experience in experiences.iter_mut() {
        let Some([values, returns]) = &mut experience.values else { continue };
        for row in 0..experience.rewards.len() {
            let steps: Vec<usize> =
                (0..values.len()).filter(|&step| experience.counts[step][row]).collect();
            let mut rewards = vec![0.0; steps.len()];
            if let Some(last) = rewards.last_mut() {
                *last = experience.rewards[row];
            }
            let own: Vec<f64> = steps.iter().map(|&step| values[step][row]).collect();
            let (advantages, sums) = gae(&rewards, &own, rl.gamma, rl.lambda);
            for (at, &step) in steps.iter().enumerate() {
                experience.advantages[step][row] = advantages[at];
                returns[step][row] = sums[at];
            }
            all.extend(advantages);
        }
    }
    let mut all = whitened(&all).into_iter();
    for experience in experiences {
        for row in 0..experience.rewards.len() {
            for step in 0..experience.advantages.len() {
                if experience.counts[step][row] {
                    experience.advantages[step][row] = all.next().unwrap_or(0.0);
                }
            }
        }
    }
}

/// A seed for the draws of a step that no other step has.
fn seed_of(seed: u64, step: usize) -> u64 {
    seed.wrapping_add((step as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Experience {
    /// A constant for every draw, beside what is computed: `[steps, batch]`.
    pub(super) fn constant(
        values: &[Vec<f64>],
        like: &burn::tensor::Tensor<2>,
    ) -> burn::tensor::Tensor<2> {
        float_tensor(values.concat(), like.dims(), &like.device(), like.dtype())
    }
}
