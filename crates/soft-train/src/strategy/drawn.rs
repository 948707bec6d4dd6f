//! Everything that a step drew, and what there is to tell of it.

use std::sync::Arc;

use crate::config::Rl;
use crate::learner::{StepItem, metric_name};
use crate::rl::{Clip, Experience, PolicyLoss};

/// What a step drew.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    pub(super) experiences: Vec<Arc<Experience>>,
}

impl Drawn {
    pub(super) fn extend(&mut self, more: Vec<Experience>) {
        self.experiences.extend(more.into_iter().map(Arc::new));
    }

    pub(super) fn rows(&self) -> usize {
        self.experiences.iter().map(|experience| experience.rewards.len()).sum()
    }

    fn draws(&self) -> usize {
        let counts = self.experiences.iter().flat_map(|experience| experience.drawn.counts());
        counts.flatten().filter(|&counted| counted).count()
    }

    /// Positions that went through the model, and those that were drawn.
    pub(super) fn counts(&self) -> [u64; 2] {
        let prompts = self.experiences.iter().flat_map(|experience| &experience.drawn.prompts);
        let draws = self.draws() as u64;
        [prompts.map(|prompt| prompt.len() as u64).sum::<u64>() + draws, draws]
    }

    pub(super) fn loss(&self, rl: &Rl) -> PolicyLoss {
        PolicyLoss {
            clip: Clip { low: rl.clip_low, high: rl.clip_high },
            normalize: rl.loss,
            entropy: rl.entropy,
            draws: self.draws() as f64,
            rows: self.rows() as f64,
        }
    }

    /// What the rewards show.
    pub(super) fn figures(&self) -> [(&'static str, f64); 3] {
        let mut spread = 0.0;
        let (mut sum, mut groups, mut silent) = (0.0, 0, 0);
        for experience in &self.experiences {
            let size = experience.rewards.len() / experience.groups[0].max(1);
            for rewards in experience.rewards.chunks(size.max(1)) {
                let n = rewards.len() as f64;
                let mean = rewards.iter().sum::<f64>() / n;
                let squares: f64 = rewards.iter().map(|r| (r - mean) * (r - mean)).sum();
                spread += (squares / (n - 1.0).max(1.0)).sqrt();
                sum += rewards.iter().sum::<f64>();
            }
            groups += experience.groups[0];
            silent += experience.groups[1];
        }
        let groups = (groups as f64).max(1.0);
        [
            (metric_name::REWARD, sum / (self.rows() as f64).max(1.0)),
            (metric_name::REWARD_STD, spread / groups),
            (metric_name::SILENT, silent as f64 / groups),
        ]
    }
}

/// Adds the figures of a micro-batch: shares are summed, of the ratios the furthest stay.
pub(super) fn add(sums: &mut StepItem, item: StepItem) {
    if sums.values.is_empty() {
        *sums = item;
        return;
    }
    for (sum, (name, value)) in sums.values.iter_mut().zip(item.values) {
        sum.1 = match name {
            metric_name::RATIO_MIN => sum.1.min(value),
            metric_name::RATIO_MAX => sum.1.max(value),
            _ => sum.1 + value,
        };
    }
}
