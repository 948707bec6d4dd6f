//! What was drawn, and what is fed of it.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};

use crate::{Distribution, int_tensor, log_softmax_rows};

/// What a policy drew, all of it constants: enough to feed it again and to score it under other
/// logits.
#[derive(Debug, Clone)]
pub struct Draw {
    /// What was drawn.
    pub action: Action,
    /// The tokens it was drawn from; where there is none, the whole vocabulary.
    pub kept: Option<Kept>,
}

/// What was drawn, a row for each thought.
#[derive(Debug, Clone)]
pub enum Action {
    /// Tokens in the order drawn: `[batch, count]`. Fed is the mean of their embeddings.
    Tokens(Tensor<2, Int>),
    /// Perturbed log-probabilities `s = log p + g` of the tokens kept, as the two terms: a density
    /// relative to that of the draw needs both to more places than their sum has.
    Scores {
        /// `log p`: `[batch, k]`, minus infinity where dropped.
        log_probs: Tensor<2>,
        /// `g`: `[batch, k]`, 0 where dropped.
        noise: Tensor<2>,
        /// Temperature of what is fed.
        temperature: f64,
    },
    /// Embeddings `x = p @ E + sigma n`, as the two terms.
    Vectors {
        /// `p @ E`: `[batch, d_model]`.
        mean: Tensor<2>,
        /// `n`: `[batch, d_model]`.
        noise: Tensor<2>,
        /// Standard deviation of every coordinate.
        sigma: f64,
    },
    /// One token a row, of which not the embedding is fed but a mixture.
    Hybrid {
        /// The tokens: `[batch, 1]`.
        tokens: Tensor<2, Int>,
        /// Weights of the tokens kept: `[batch, k]`.
        weights: Tensor<2>,
    },
    /// Shares of the tokens kept, which are those that a Dirichlet draw has shares of.
    Shares {
        /// `log p` at the draw: `[batch, k]`, minus infinity for padding.
        log_probs: Tensor<2>,
        /// `log a`: `[batch, k]`, minus infinity for padding.
        log_shares: Tensor<2>,
        /// Sum of the parameters of the Dirichlet distribution.
        concentration: f64,
    },
}

/// The tokens that filters kept at the time of a draw; of those, under the Dirichlet policy, the
/// tokens that have shares.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Token ids: `[batch, k]`.
    pub ids: Tensor<2, Int>,
    /// 0 for a token, minus infinity for padding: `[batch, k]`.
    pub mask: Tensor<2>,
}

impl Kept {
    pub(super) fn of(probs: Distribution) -> Option<Self> {
        let Distribution::Sparse { ids, weights } = probs else { return None };
        let dropped = weights.clone().equal_elem(0.0);
        Some(Self { ids, mask: weights.zeros_like().mask_fill(dropped, f64::NEG_INFINITY) })
    }
}

impl Action {
    /// Thoughts drawn.
    fn batch(&self) -> usize {
        match self {
            Self::Tokens(tokens) | Self::Hybrid { tokens, .. } => tokens.dims()[0],
            Self::Scores { noise, .. } | Self::Vectors { noise, .. } => noise.dims()[0],
            Self::Shares { log_shares, .. } => log_shares.dims()[0],
        }
    }
}

impl Draw {
    /// Tokens that were drawn in another way, one a row, from these probabilities.
    ///
    /// # Panics
    /// If there is not one token a row.
    #[must_use]
    pub fn of_tokens(tokens: &[u32], probs: &Distribution) -> Self {
        assert_eq!(probs.batch(), tokens.len(), "one token a row");
        let probs = probs.clone().detach();
        let ids = int_tensor(tokens, [tokens.len(), 1], &probs.device());
        Self { action: Action::Tokens(ids), kept: Kept::of(probs) }
    }

    /// Some rows of it, in this order.
    ///
    /// # Panics
    /// If one of them is not there.
    #[must_use]
    pub fn rows(&self, rows: &[usize]) -> Self {
        let ids: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let of = |device: &burn::tensor::Device| int_tensor(&ids, [ids.len()], device);
        let floats = |x: &Tensor<2>| x.clone().select(0, of(&x.device()));
        let ints = |x: &Tensor<2, Int>| x.clone().select(0, of(&x.device()));
        let action = match &self.action {
            Action::Tokens(tokens) => Action::Tokens(ints(tokens)),
            Action::Scores { log_probs, noise, temperature } => Action::Scores {
                log_probs: floats(log_probs),
                noise: floats(noise),
                temperature: *temperature,
            },
            Action::Vectors { mean, noise, sigma } => {
                Action::Vectors { mean: floats(mean), noise: floats(noise), sigma: *sigma }
            }
            Action::Hybrid { tokens, weights } => {
                Action::Hybrid { tokens: ints(tokens), weights: floats(weights) }
            }
            Action::Shares { log_probs, log_shares, concentration } => Action::Shares {
                log_probs: floats(log_probs),
                log_shares: floats(log_shares),
                concentration: *concentration,
            },
        };
        let kept = |kept: &Kept| Kept { ids: ints(&kept.ids), mask: floats(&kept.mask) };
        Self { action, kept: self.kept.as_ref().map(kept) }
    }

    /// Whether each row is one token, and its embedding what is fed.
    #[must_use]
    pub fn is_token(&self) -> bool {
        matches!(&self.action, Action::Tokens(tokens) if tokens.dims()[1] == 1)
    }

    /// `log(count! / prod_i n_i!)` of each row of tokens, n_i being how often token i was drawn:
    /// added to [`Self::log_prob`] it gives the log-probability of the tokens whatever their order
    /// (multinomial). What is fed does not depend on the order, and this not on the logits, so
    /// gradients and ratios are the same. 0 for other draws.
    pub fn log_orders(&self) -> Vec<f64> {
        let log_factorial = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
        let Action::Tokens(tokens) = &self.action else { return vec![0.0; self.batch()] };
        let [_, count] = tokens.dims();
        let ids: Vec<i64> = tokens.to_data().iter::<i64>().collect();
        let orders = |row: &[i64]| {
            let mut row = row.to_vec();
            row.sort_unstable();
            let same = row.chunk_by(|a, b| a == b).map(|same| log_factorial(same.len()));
            log_factorial(count) - same.sum::<f64>()
        };
        ids.chunks_exact(count).map(orders).collect()
    }

    /// The weights that are fed; none where a vector was drawn, which is no mixture.
    pub fn fed(&self, like: &Tensor<2>) -> Option<Distribution> {
        match &self.action {
            Action::Tokens(tokens) => {
                let [_, count] = tokens.dims();
                let ids = beside_ids(tokens, like);
                let ones = Tensor::ones(tokens.dims(), (&like.device(), like.dtype()));
                Some(Distribution::Sparse { ids, weights: ones * (1.0 / count as f64) })
            }
            Action::Scores { log_probs, noise, temperature } => {
                let scores = beside(&(log_probs.clone() + noise.clone()), like);
                Some(self.over_kept(softmax(scores * (1.0 / temperature), 1)))
            }
            Action::Vectors { .. } => None,
            Action::Hybrid { weights, .. } => Some(self.over_kept(beside(weights, like))),
            Action::Shares { log_shares, .. } => {
                Some(self.over_kept(beside(log_shares, like).exp()))
            }
        }
    }

    /// The thought that is fed: the mixture of embeddings, or the vector that was drawn.
    ///
    /// # Shapes
    /// - embedding: `[vocab, d_model]`; output: `[batch, d_model]`
    ///
    /// # Gradient
    /// Flows to the embedding through the rows that are mixed; of a vector nowhere.
    pub fn embed(&self, embedding: &Tensor<2>) -> Tensor<2> {
        match (&self.action, self.fed(embedding)) {
            (Action::Vectors { mean, noise, sigma }, _) => {
                beside(&(mean.clone() + noise.clone() * *sigma), embedding)
            }
            (_, Some(fed)) => fed.mix(embedding.clone()),
            (_, None) => unreachable!("only a vector is no mixture"),
        }
    }

    /// Thoughts drawn.
    pub(super) fn batch(&self) -> usize {
        self.action.batch()
    }

    /// The scores of the tokens kept: `[batch, k]`, minus infinity for padding.
    pub(super) fn kept_scores(&self, scores: Tensor<2>) -> Tensor<2> {
        match &self.kept {
            None => scores,
            Some(kept) => {
                let ids = beside_ids(&kept.ids, &scores);
                let mask = beside(&kept.mask, &scores);
                scores.gather(1, ids) + mask
            }
        }
    }

    /// `log p` of the tokens kept: `[batch, k]`.
    pub(super) fn log_probs(&self, scores: Tensor<2>) -> Tensor<2> {
        log_softmax_rows(self.kept_scores(scores))
    }

    /// Those of some tokens, all of them kept: `[batch, count]`.
    pub(super) fn log_probs_at(&self, log_probs: Tensor<2>, tokens: &Tensor<2, Int>) -> Tensor<2> {
        let tokens = beside_ids(tokens, &log_probs);
        self.over_kept(log_probs).weights_at(tokens)
    }

    /// Numbers for the tokens kept, by their ids.
    pub(super) fn over_kept(&self, weights: Tensor<2>) -> Distribution {
        match &self.kept {
            None => Distribution::Dense(weights),
            Some(kept) => Distribution::Sparse { ids: beside_ids(&kept.ids, &weights), weights },
        }
    }
}

/// A constant where `like` is and in its precision: draws are made without autodiff and scored
/// with it.
pub(super) fn beside<const D: usize>(x: &Tensor<D>, like: &Tensor<2>) -> Tensor<D> {
    let x = match x.dtype() == like.dtype() {
        true => x.clone(),
        false => x.clone().cast(like.dtype()),
    };
    match (like.device().is_autodiff(), x.device().is_autodiff()) {
        (true, false) => Tensor::from_inner(x),
        (false, true) => x.inner(),
        _ => x,
    }
}

fn beside_ids(ids: &Tensor<2, Int>, like: &Tensor<2>) -> Tensor<2, Int> {
    match like.device().is_autodiff() && !ids.device().is_autodiff() {
        true => Tensor::from_inner(ids.clone()),
        false => ids.clone(),
    }
}
