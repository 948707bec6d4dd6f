//! Folding low-rank branches into the matrices they correct, and what that changes.

use burn::module::Param;
use soft_core::{NoiseKey, Place, host_values, uniform_stream};

use super::Projection;
use crate::{Active, Error, ModelConfig, Transformer};

/// How far the logits of two models lie apart on some sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Difference {
    /// Greatest absolute difference of a logit; not a number where one of them is not.
    pub greatest: f64,
    /// Positions whose most likely next token is the same.
    pub same_greedy: usize,
    /// Positions compared.
    pub positions: usize,
}

/// Sequences of token ids from all over a vocabulary, to compare models on: four of at most 24.
pub fn probe_ids(config: &ModelConfig) -> Vec<Vec<u32>> {
    let (rows, length) = (4, config.max_positions.min(24));
    let key = NoiseKey { seed: 0, step: 0, row: 0, position: 0 };
    let uniform = uniform_stream(key, Place::Init(0)).take(rows * length);
    let last = config.vocab_size - 1;
    let ids: Vec<u32> =
        uniform.map(|u| ((u * config.vocab_size as f64) as usize).min(last) as u32).collect();
    ids.chunks(length).map(<[u32]>::to_vec).collect()
}

impl Transformer {
    /// The model with every low-rank branch in its matrix: `W + scale A B`, its columns scaled to
    /// the learned norms with DoRA. The sum is made in the precision of the weights.
    ///
    /// # Errors
    /// A model without branches, with a prefix or prompt (those are positions, not weights), or
    /// whose branches act where the input is soft alone.
    pub fn merged(mut self) -> Result<Self, Error> {
        let learned = match (self.kv_prefix_len(), self.prompt_len()) {
            (0, 0) => None,
            (0, _) => Some("prompt"),
            _ => Some("prefix"),
        };
        if let Some(learned) = learned {
            return Err(Error::Adapter(format!(
                "a learned {learned} takes positions of its own and cannot be merged into weights; \
                 keep it as an adapter"
            )));
        }
        if self.num_low_rank() == 0 {
            let problem = "there is no low-rank branch to merge; expected an adapter with some";
            return Err(Error::Adapter(problem.to_owned()));
        }
        if self.active == Active::Soft {
            let problem = "the low-rank branches act where the input is soft alone, and a merged \
                           matrix would act everywhere; keep the adapter as it is";
            return Err(Error::Adapter(problem.to_owned()));
        }
        for block in &mut self.blocks {
            for projection in Projection::ALL {
                let Some(linear) = block.projection_mut(projection) else { continue };
                if linear.low_rank.is_some() {
                    linear.weight = Param::from_tensor(linear.merged_weight());
                    linear.low_rank = None;
                }
            }
        }
        Ok(self)
    }

    /// Compares the logits of two models on each of some sequences.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn difference(&self, other: &Self, sequences: &[Vec<u32>]) -> Result<Difference, Error> {
        let mut difference = Difference::default();
        for ids in sequences.iter().filter(|ids| !ids.is_empty()) {
            self.check_ids(ids)?;
            let logits = |model: &Self| host_values(model.logits(model.embed(ids, 1)).detach());
            let (ours, theirs) = (logits(self), logits(other));
            for (a, b) in ours.iter().zip(&theirs) {
                let apart = (a - b).abs();
                // Once it is not a number it stays so: no comparison holds any more.
                if apart.is_nan() || apart > difference.greatest {
                    difference.greatest = apart;
                }
            }
            let width = self.config.vocab_size;
            let same = ours.chunks(width).zip(theirs.chunks(width));
            difference.same_greedy += same.filter(|(a, b)| best(a) == best(b)).count();
            difference.positions += ids.len();
        }
        Ok(difference)
    }
}

fn best(row: &[f64]) -> Option<usize> {
    let by_value = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1);
    row.iter().enumerate().max_by(by_value).map(|(index, _)| index)
}
