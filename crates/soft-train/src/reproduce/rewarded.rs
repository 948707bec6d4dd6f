//! What training on rewards did to the draws of a policy.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use soft_core::SoftPipeline;
use soft_model::Transformer;

use crate::config::{Arm, Config, Rl};
use crate::error::Error;
use crate::evaluate::{Asking, count_correct};
use crate::rl::{Drawing, TaskSource};
use crate::task::Task;

/// Draws of each problem.
const DRAWS: usize = 16;
/// The most draws of a curve.
pub(super) const MOST: usize = 8;
/// Problems that are drawn for at once.
const BATCH: usize = 64;
/// Of the draws, so that they are none of the training's.
const SEED: u64 = 1_000_003;

/// A model before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rewarded {
    /// Entry k - 1: the share of problems of which one of k draws of the policy is right, before.
    pub before: Vec<f64>,
    /// After.
    pub after: Vec<f64>,
    /// Right answers without noise: mixtures are fed, or the heaviest token of each step in the arm
    /// "hard"; before and after.
    pub greedy: [f64; 2],
    /// The same where the heaviest token of each step is fed; before and after.
    pub fed_hard: [f64; 2],
}

/// Draws of both models on the validation problems, by the policy of `config`.
///
/// # Errors
/// A model that cannot run a problem.
pub(super) fn rewarded(
    config: &Config,
    task: &Task,
    asking: &Asking,
    [before, after]: [&Transformer; 2],
) -> Result<Rewarded, Error> {
    let problems = &task.validation[..];
    let share = |model: &Transformer, arm| -> Result<f64, Error> {
        let asking = Asking { arm, ..asking.clone() };
        Ok(count_correct(model, task, problems, &asking)? as f64 / problems.len() as f64)
    };
    let hard = if asking.arm == Arm::Soft { Arm::SoftFedHard } else { asking.arm };
    Ok(Rewarded {
        before: passes(config, task, asking.arm, before)?,
        after: passes(config, task, asking.arm, after)?,
        greedy: [share(before, asking.arm)?, share(after, asking.arm)?],
        fed_hard: [share(before, hard)?, share(after, hard)?],
    })
}

/// pass@1 to pass@8 of draws.
fn passes(config: &Config, task: &Task, arm: Arm, model: &Transformer) -> Result<Vec<f64>, Error> {
    let held_out = Task { train: task.validation.clone(), ..task.clone() };
    let source = TaskSource {
        task: Arc::new(held_out),
        arm,
        thoughts: SoftPipeline::new(config.soft.pipeline())?,
        eos_ids: model.config().eos_ids.clone(),
    };
    let drawing = Drawing {
        source: Arc::new(source),
        rewards: Mutex::default(),
        pathwise: None,
        rl: Rl { group: DRAWS, ..config.rl.clone() },
        seed: SEED,
    };
    let problems: Vec<usize> = (0..task.validation.len()).collect();
    let mut sums = vec![0.0; MOST];
    for (batch, problems) in problems.chunks(BATCH).enumerate() {
        for drawn in drawing.draw(model, None, problems, batch, 0)? {
            for rows in drawn.completions.chunks(DRAWS) {
                let right = rows.iter().filter(|row| row.right).count();
                let passes = (1..=MOST).map(|k| pass_at(k, rows.len(), right));
                sums.iter_mut().zip(passes).for_each(|(sum, pass)| *sum += pass);
            }
        }
    }
    Ok(sums.into_iter().map(|sum| sum / problems.len() as f64).collect())
}

/// `1 - C(n - c, k) / C(n, k)`: the chance that one of k of n draws is right, c being right (Chen et
/// al. 2021, arXiv:2107.03374, eq. 1).
pub(super) fn pass_at(k: usize, n: usize, c: usize) -> f64 {
    let none = (0..k).map(|i| (n - c).saturating_sub(i) as f64 / (n - i) as f64);
    1.0 - none.product::<f64>()
}
