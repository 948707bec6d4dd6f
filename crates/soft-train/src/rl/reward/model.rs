//! Rewards from a sequence classifier.

use std::path::Path;

use burn::tensor::{DType, Device};
use soft_core::host_values;
use soft_model::SequenceClassifier;

use super::Reward;
use crate::config::RewardKind;
use crate::error::Error;
use crate::rl::source::{Completion, Texts};

/// Rows that are classified at once.
const BATCH: usize = 16;

/// The logit of a classifier with one label, over prompt, thought and answer as text: it may have
/// another vocabulary than the policy.
#[derive(Debug)]
pub(super) struct ModelReward {
    classifier: SequenceClassifier,
}

impl ModelReward {
    /// Opens the classifier in a folder.
    ///
    /// # Errors
    /// A folder without one, one without a tokenizer, or one of several labels.
    pub(super) fn open(path: &Path, device: &Device) -> Result<Self, Error> {
        let classifier = SequenceClassifier::open(path, device, DType::F32)?;
        if classifier.num_labels() != 1 {
            let (labels, path) = (classifier.num_labels(), path.display());
            return Err(Error::Config {
                report: format!(
                    "`rl.reward_model` is {path}, which has {labels} labels; expected one, whose \
                     logit is the reward"
                ),
            });
        }
        classifier.require_tokenizer()?;
        Ok(Self { classifier })
    }

    /// Ids of a text, the last ones where the model has no room for all.
    fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let tokenizer = self.classifier.require_tokenizer()?;
        let ids = tokenizer.encode(text, true)?;
        let room = self.classifier.config().max_positions;
        let ids = ids[ids.len().saturating_sub(room)..].to_vec();
        // An empty text is a text too.
        Ok(if ids.is_empty() { vec![0] } else { ids })
    }
}

impl Reward for ModelReward {
    fn name(&self) -> &str {
        RewardKind::Model.as_str()
    }

    fn reads(&self) -> bool {
        true
    }

    /// The mean over the readings of a thought.
    fn score(&mut self, _: &[&Completion], texts: &[Texts]) -> Result<Vec<f64>, Error> {
        let mut rows = Vec::new();
        for text in texts {
            for thought in &text.thoughts {
                rows.push(self.ids(&format!("{}{thought}{}", text.prompt, text.answer))?);
            }
        }
        let mut scores = Vec::with_capacity(rows.len());
        for rows in rows.chunks(BATCH) {
            scores.extend(host_values(self.classifier.logits(rows)));
        }
        let mut scores = scores.into_iter();
        let mean = |text: &Texts| {
            let count = text.thoughts.len();
            scores.by_ref().take(count).sum::<f64>() / count.max(1) as f64
        };
        Ok(texts.iter().map(mean).collect())
    }
}
