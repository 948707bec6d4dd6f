//! Log-probability of a given sequence under a model.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use serde::Serialize;
use soft_core::{host_values, top_k_ids};

use crate::{Error, Transformer};

/// How likely a sequence is, token by token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The sequence.
    pub token_ids: Vec<u32>,
    /// Log-probability of each token given those before it; none for the first.
    pub logprobs: Vec<Option<f64>>,
    /// Mean negative log-probability of all tokens but the first, in nats; none for one token.
    pub nll_mean: Option<f64>,
    /// The five most likely tokens after each position, as (id, log-probability).
    pub top: Vec<Vec<(u32, f64)>>,
}

/// Positions whose logits are held at once: the vocabulary may be large.
const LOGITS: usize = 64;
const TOP: usize = 5;

/// Scores token ids, all of them hard inputs: what is added to a base for soft inputs alone does
/// not act.
///
/// # Errors
/// No ids, an id outside the vocabulary, or more ids than positions.
pub fn score(model: &Transformer, token_ids: &[u32]) -> Result<Score, Error> {
    let len = token_ids.len();
    let (prefix_len, max_positions) = (model.taken_positions(), model.config().max_positions);
    if len == 0 {
        return Err(Error::Settings("there are no tokens to score".to_owned()));
    }
    if len + prefix_len > max_positions {
        return Err(Error::PromptTooLong { len, prefix_len, max_positions });
    }
    model.check_ids(token_ids)?;
    let mut score = Score {
        token_ids: token_ids.to_vec(),
        logprobs: vec![None],
        nll_mean: None,
        top: Vec::with_capacity(len),
    };
    let (ids, real) = ([token_ids.to_vec()], [vec![true; len]]);
    let mut cache = model.new_cache(1);
    let head = model.output_head();
    for hidden in model.forward_ids(&ids, &real, &mut cache) {
        let columns = hidden.dims()[0];
        for first in (0..columns).step_by(LOGITS) {
            let rows = LOGITS.min(columns - first);
            score.add(head.logits(hidden.clone().narrow(0, first, rows)));
        }
    }
    score.logprobs.truncate(len);
    let known: Vec<f64> = score.logprobs.iter().copied().flatten().collect();
    score.nll_mean = (!known.is_empty()).then(|| -known.iter().sum::<f64>() / known.len() as f64);
    Ok(score)
}

impl Score {
    /// Reads the next positions' beliefs off their logits.
    ///
    /// # Shapes
    /// - logits: `[rows, vocab]`
    fn add(&mut self, logits: Tensor<2>) {
        let [rows, vocab] = logits.dims();
        let first = self.top.len();
        let log_probs = log_softmax(logits, 1);
        let k = TOP.min(vocab);
        let ids = top_k_ids(log_probs.clone(), k);
        let values = host_values(log_probs.clone().gather(1, ids.clone()));
        let ids: Vec<u32> = ids.into_data().iter::<i64>().map(|id| id as u32).collect();
        for (ids, values) in ids.chunks_exact(k).zip(values.chunks_exact(k)) {
            self.top.push(ids.iter().copied().zip(values.iter().copied()).collect());
        }
        // The last position has no next token: its log-probability of token 0 is cut off again.
        let next = |at| self.token_ids.get(at + 1).copied().unwrap_or(0);
        let next: Vec<u32> = (first..first + rows).map(next).collect();
        let next = soft_core::int_tensor(&next, [rows, 1], &log_probs.device());
        self.logprobs.extend(host_values(log_probs.gather(1, next)).into_iter().map(Some));
    }
}
