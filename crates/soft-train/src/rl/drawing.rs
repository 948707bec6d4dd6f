//! Thoughts and answers drawn from a model, and what they are worth.

use std::sync::Arc;

use soft_core::{PipelineConfig, Policy, SoftPipeline, host_values};
use soft_model::{Drawn, Gate, GenerateOptions, Manner, Mode, Span, Thinking, Transformer, draw};

use super::advantage::{advantages, has_signal};
use crate::config::{Arm, Rl, RlPolicy};
use crate::error::Error;
use crate::evaluate::{Asking, groups};
use crate::task::{Problem, Task};

/// How problems of a task are answered at random, and rewarded: 1 for a right answer, else 0.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// The task.
    pub task: Arc<Task>,
    /// Who answers.
    pub arm: Arm,
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
    /// Log-probabilities under the model that drew it: `[step][row]`.
    pub log_probs: Vec<Vec<f64>>,
    /// Advantage of each row.
    pub advantages: Vec<f64>,
    /// Reward of each row.
    pub rewards: Vec<f64>,
    /// Groups of them, and those whose rewards do not differ.
    pub groups: [usize; 2],
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
        }
    }

    /// Draws a group for each of some problems, rewards it and compares it. `step` is that of the
    /// training, `first_row` the number of rows that were drawn before in it: every row of a run has
    /// noise of its own, and the same after a restart.
    ///
    /// # Errors
    /// A model that cannot run a problem.
    pub fn draw(
        &self,
        model: &Transformer,
        problems: &[usize],
        step: usize,
        first_row: usize,
    ) -> Result<Vec<Experience>, Error> {
        let (size, policy) = (self.rl.group, self.policy(model));
        let own: Vec<Problem> =
            problems.iter().map(|&problem| self.task.train[problem].clone()).collect();
        let greedy = crate::evaluate::greedy()?;
        let asking = Asking { arm: self.arm, thoughts: greedy, cut: None, seed: self.seed };
        let mut row = first_row;
        let mut found = Vec::new();
        for group in groups(&self.task, &own, &asking) {
            let mode = if self.arm == Arm::Soft { Mode::Soft } else { Mode::Hard };
            let plain = |mode| -> Result<Manner, Error> {
                Ok(Manner::new(SoftPipeline::new(PipelineConfig::default())?, mode))
            };
            let options = GenerateOptions {
                thoughts: plain(mode)?,
                thinking: Some(Thinking {
                    span: Span::First(group.thoughts),
                    gate: Gate::Open,
                    answer: plain(Mode::Hard)?,
                }),
                max_new: group.max_new,
                eos_ids: model.config().eos_ids.clone(),
                seed: seed_of(self.seed, step),
                first_row: row as u32,
                ..GenerateOptions::default()
            };
            let of_rows: Vec<&Problem> =
                group.places.iter().flat_map(|&place| vec![&own[place]; size]).collect();
            row += of_rows.len();
            let prompts: Vec<Vec<u32>> =
                of_rows.iter().map(|problem| problem.prompt.clone()).collect();
            let (made, drawn) = draw(model, &prompts, mode, policy, &options)?;
            let reward = |(problem, made): (&&Problem, &soft_model::Generation)| {
                let right = self.task.is_right(self.arm, problem, None, &made.token_ids);
                f64::from(u8::from(right))
            };
            let rewards: Vec<f64> = of_rows.iter().zip(&made).map(reward).collect();
            let silent = rewards.chunks(size).filter(|rewards| !has_signal(rewards)).count();
            let advantage = |rewards: &[f64]| advantages(self.rl.algorithm, rewards);
            found.push(Experience {
                log_probs: drawn.log_probs(model),
                advantages: rewards.chunks(size).flat_map(advantage).collect(),
                groups: [rewards.len() / size, silent],
                drawn,
                rewards,
            });
        }
        Ok(found)
    }
}

/// A seed for the draws of a step that no other step has.
fn seed_of(seed: u64, step: usize) -> u64 {
    seed.wrapping_add((step as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
