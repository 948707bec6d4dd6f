//! Everything that a step drew, and what there is to tell of it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::Rl;
use crate::learner::{StepItem, metric_name};
use crate::rl::{Clip, Completion, Drawing, Experience, PolicyLoss, deviation, has_signal};

/// What a step drew.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    pub(super) experiences: Vec<Arc<Experience>>,
    /// Seconds of drawing, of rewarding and of the updates.
    pub(super) seconds: [f64; 3],
}

impl Drawn {
    pub(super) fn new(experiences: Vec<Experience>, drawing: f64, rewarding: f64) -> Self {
        let experiences = experiences.into_iter().map(Arc::new).collect();
        Self { experiences, seconds: [drawing, rewarding, 0.0] }
    }

    fn rows(&self) -> usize {
        self.experiences.iter().map(|experience| experience.rows()).sum()
    }

    fn draws(&self) -> usize {
        self.experiences.iter().map(|experience| experience.draws()).sum()
    }

    fn completions(&self) -> impl Iterator<Item = &Completion> {
        self.experiences.iter().flat_map(|experience| &experience.completions)
    }

    /// Positions that went through the model, and those that were drawn.
    pub(super) fn counts(&self) -> [u64; 2] {
        let prompts = self.experiences.iter().flat_map(|experience| &experience.drawn.prompts);
        let written: u64 = self.completions().map(|own| own.tokens as u64).sum();
        [prompts.map(|prompt| prompt.len() as u64).sum::<u64>() + written, self.draws() as u64]
    }

    pub(super) fn loss(&self, rl: &Rl) -> PolicyLoss {
        PolicyLoss {
            clip: Clip { low: rl.clip_low, high: rl.clip_high },
            normalize: rl.loss,
            entropy: rl.entropy,
            beta: rl.beta,
            kl: rl.kl,
            value: [rl.value_weight, rl.value_clip],
            draws: self.draws() as f64,
            rows: self.rows() as f64,
        }
    }

    /// What the rewards show.
    pub(super) fn figures(&self) -> Vec<(&'static str, f64)> {
        if self.experiences.is_empty() {
            return Vec::new();
        }
        let rewards = || self.experiences.iter().flat_map(|own| own.rewards.chunks(own.group));
        let groups = (rewards().count() as f64).max(1.0);
        // A row alone is compared with a value, not with others.
        let alone = self.experiences.iter().all(|own| own.group == 1);
        let silent = rewards().filter(|rewards| !alone && !has_signal(rewards)).count() as f64;
        let all: Vec<f64> = rewards().flatten().copied().collect();
        let spread: f64 = match alone {
            true => deviation(&all) * groups,
            false => rewards().map(deviation).sum(),
        };
        let rows = (self.rows() as f64).max(1.0);
        let mean = |of: &dyn Fn(&Completion) -> f64| self.completions().map(of).sum::<f64>() / rows;
        let lengths = || self.completions().map(|own| own.tokens as f64);
        let bytes: usize = self.experiences.iter().map(|own| own.drawn.bytes()).sum();
        vec![
            (metric_name::REWARD, rewards().flatten().sum::<f64>() / rows),
            (metric_name::REWARD_STD, spread / groups),
            (metric_name::SILENT, silent / groups),
            (metric_name::MEAN_LENGTH, lengths().sum::<f64>() / rows),
            (metric_name::MIN_LENGTH, lengths().fold(f64::INFINITY, f64::min)),
            (metric_name::MAX_LENGTH, lengths().fold(0.0, f64::max)),
            (metric_name::THOUGHT_LENGTH, mean(&|own| own.thoughts[0].len() as f64)),
            (metric_name::TRUNCATED, mean(&|own| f64::from(u8::from(!own.ended)))),
            (metric_name::BUFFER, bytes as f64),
        ]
    }

    /// Mean and standard deviation of every reward apart, as `rewards/NAME/mean` and `/std`.
    pub(super) fn parts(&self) -> Vec<(String, f64)> {
        let Some(first) = self.experiences.first() else { return Vec::new() };
        let mut found = Vec::new();
        for (place, (name, _)) in first.parts.iter().enumerate() {
            let scores: Vec<f64> =
                self.experiences.iter().flat_map(|own| own.parts[place].1.clone()).collect();
            let mean = scores.iter().sum::<f64>() / (scores.len() as f64).max(1.0);
            found.push((format!("rewards/{name}/mean"), mean));
            found.push((format!("rewards/{name}/std"), deviation(&scores)));
        }
        found
    }

    /// The rows of the first group, as `completions.jsonl` has them.
    pub(super) fn lines(&self, step: usize, drawing: &Drawing) -> Vec<Value> {
        let Some(first) = self.experiences.first() else { return Vec::new() };
        let line = |row: usize| {
            let completion = &first.completions[row];
            let texts = drawing.texts(completion);
            let part = |(name, scores): &(String, Vec<f64>)| (name.clone(), json!(scores[row]));
            let advantages: Vec<f64> = (0..first.counts.len())
                .filter(|&step| first.counts[step][row])
                .map(|step| first.advantages[step][row])
                .collect();
            json!({
                "step": step,
                "row": row,
                "prompt": texts.prompt,
                "thoughts": texts.thoughts,
                "answer": texts.answer,
                "expected": texts.expected,
                "correct": completion.right,
                "reward": first.rewards[row],
                "rewards": first.parts.iter().map(part).collect::<Map<String, Value>>(),
                "advantage": advantages.iter().sum::<f64>() / (advantages.len() as f64).max(1.0),
                "tokens": completion.tokens,
                "ended": completion.ended,
            })
        };
        (0..first.group.min(first.rows())).map(line).collect()
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
