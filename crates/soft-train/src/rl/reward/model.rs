//! Rewards from a sequence classifier.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use soft_core::host_values;
use soft_model::{ClassifierFiles, SequenceClassifier, Tokenizer};

use super::Reward;
use crate::config::RewardKind;
use crate::error::Error;
use crate::rl::source::{Completion, Texts};

/// Positions that are classified at once, padding counted: few rows of a long text, many of a short one.
const POSITIONS: usize = 4096;

/// A classifier with one label, whose logit is a reward.
#[derive(Debug)]
pub struct RewardModel {
    classifier: Arc<SequenceClassifier>,
    /// Whether it reads the ids that the model wrote: those of a generated task are no text.
    by_ids: bool,
}

impl RewardModel {
    /// Opens the files in a folder; no weight is read yet.
    ///
    /// # Errors
    /// A folder without a classifier, or one of several labels.
    pub fn files(path: &Path) -> Result<ClassifierFiles, Error> {
        let files = ClassifierFiles::open(path)?;
        if files.num_labels != 1 {
            let (labels, path) = (files.num_labels, path.display());
            return Err(Error::Config {
                report: format!(
                    "`rl.reward_model` is {path}, which has {labels} labels; expected one, whose \
                     logit is the reward"
                ),
            });
        }
        Ok(files)
    }

    /// Reads the classifier in a folder, which is to read ids or text.
    ///
    /// # Errors
    /// Those of [`Self::files`].
    pub fn open(path: &Path, by_ids: bool, device: &Device) -> Result<Self, Error> {
        Self::files(path)?;
        let classifier = SequenceClassifier::open(path, device, DType::F32)?;
        Ok(Self { classifier: Arc::new(classifier), by_ids })
    }

    /// The classifier.
    #[must_use]
    pub fn classifier(&self) -> &Arc<SequenceClassifier> {
        &self.classifier
    }

    /// Ids of a text, the last ones where the model has no room for all.
    fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let tokenizer = self.classifier.require_tokenizer()?;
        Ok(self.fitted(tokenizer.encode(text, true)?))
    }

    fn fitted(&self, ids: Vec<u32>) -> Vec<u32> {
        let room = self.classifier.config().max_positions;
        let ids = ids[ids.len().saturating_sub(room)..].to_vec();
        // An empty text is a text too.
        if ids.is_empty() { vec![0] } else { ids }
    }

    /// A row for each reading of the thought; one without it where it is not read.
    fn rows(&self, own: &Completion, texts: &Texts) -> Result<Vec<Vec<u32>>, Error> {
        let count = texts.thoughts.len().max(1);
        (0..count)
            .map(|reading| match (self.by_ids, texts.thoughts.get(reading)) {
                (true, thought) => {
                    let thought = thought.map_or(&[][..], |_| &own.thoughts[reading]);
                    Ok(self.fitted([&texts.prompt_ids, thought, &own.answer].concat()))
                }
                (false, thought) => {
                    let thought = thought.map_or("", String::as_str);
                    self.ids(&format!("{}{thought}{}", texts.prompt, texts.answer))
                }
            })
            .collect()
    }
}

/// Checks that the ids of a model, with this tokenizer where it has one, mean the same to a classifier
/// that is to read them.
///
/// # Errors
/// What differs, or that it cannot be told.
pub fn require_vocabulary(
    classifier: &ClassifierFiles,
    tokenizer: Option<&Tokenizer>,
    vocab_size: usize,
) -> Result<(), Error> {
    let refuse = |what: String| {
        Err(Error::Config {
            report: format!(
                "`rl.reward_model` {what}; expected the vocabulary of the model in training, whose ids \
                 it is to read"
            ),
        })
    };
    let found = classifier.config.vocab_size;
    if found != vocab_size {
        return refuse(format!("has a vocabulary of {found} ids in place of {vocab_size}"));
    }
    let Some(own) = tokenizer else { return Ok(()) };
    match own.differs_from(classifier.require_tokenizer()?) {
        Some(token) => refuse(format!("has another id for the token {token:?}, or none")),
        None => Ok(()),
    }
}

/// The logit of the classifier over prompt, thought and answer: as text, so that its vocabulary may be
/// another one, or in the ids of a generated task.
#[derive(Debug)]
pub(super) struct ModelReward(pub(super) RewardModel);

impl Reward for ModelReward {
    fn name(&self) -> &str {
        RewardKind::Model.as_str()
    }

    fn reads(&self) -> bool {
        true
    }

    /// The mean over the readings of a thought.
    fn score(&mut self, completions: &[&Completion], texts: &[Texts]) -> Result<Vec<f64>, Error> {
        let of = |(own, texts): (&&Completion, &Texts)| self.0.rows(own, texts);
        let rows = completions.iter().zip(texts).map(of).collect::<Result<Vec<_>, _>>()?;
        let counts: Vec<usize> = rows.iter().map(Vec::len).collect();
        let mut scores = Vec::new();
        let rows = rows.concat();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(1);
        for rows in rows.chunks((POSITIONS / longest.max(1)).max(1)) {
            scores.extend(host_values(self.0.classifier.logits(rows).detach()));
        }
        let mut scores = scores.into_iter();
        let mean = |count: usize| scores.by_ref().take(count).sum::<f64>() / count.max(1) as f64;
        Ok(counts.into_iter().map(mean).collect())
    }
}
