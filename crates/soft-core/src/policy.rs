//! Policies whose draws are thoughts: what is drawn, what is fed of it, and its log-probability.
//!
//! A draw is stored as a constant. Given the draw, what is fed depends on the model only through
//! the rows of E, and everything else that the model had a say in is in the log-probability. So
//! `E[L grad log pi + grad L]` is the gradient of `E[L]`, one parallel pass over stored draws gives
//! both terms, and the ratio of two policies is that of their densities.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::noise::normal;
use crate::{
    Distribution, Error, NoiseKey, Place, SoftPipeline, float_tensor, gumbel_at, host_values,
    int_tensor, log_softmax_rows,
};

/// How a thought is drawn from filtered probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// One token y, whose embedding is fed: `log pi = log p(y)`.
    Token,
    /// `count` independent tokens, the mean of whose embeddings is fed (CoT2's MTS,
    /// arXiv:2505.23648; Multiplex Thinking, arXiv:2601.08808): `log pi = sum_k log p(y_k)`.
    Samples {
        /// Tokens drawn, at least 1.
        count: usize,
    },
    /// Perturbed log-probabilities `s = log p + g`, g standard Gumbel noise, of which
    /// `softmax(s / temperature) @ E` is fed (SofT-GRPO, arXiv:2511.06411):
    /// `log pi = sum_i [-(s_i - log p_i) - exp(-(s_i - log p_i))]` over the tokens kept.
    ///
    /// This is the density of s. The published code clamps the noise and takes a mean over some of
    /// the tokens, which is none; here nothing is clamped and the sum is over all tokens kept.
    Gumbel {
        /// Temperature of what is fed, over 0.
        temperature: f64,
    },
    /// The vector `x = p @ E + sigma n`, n standard normal (Soft Tokens, arXiv:2509.19170):
    /// `log pi = -||x - p @ E||^2 / (2 sigma^2) - d log(sigma sqrt(2 pi))`.
    Gaussian {
        /// Standard deviation of every coordinate, over 0.
        sigma: f64,
    },
}

impl Policy {
    /// Checks the setting.
    ///
    /// # Errors
    /// A count of 0, or a temperature or sigma that is not a finite number over 0.
    pub fn check(self) -> Result<(), Error> {
        let over_zero = "a finite number of 1e-30 or more";
        let (name, found, ok, expected) = match self {
            Self::Token => return Ok(()),
            Self::Samples { count } => {
                ("count", count.to_string(), count > 0, "a whole number of 1 or more")
            }
            Self::Gumbel { temperature: x } => {
                ("temperature", x.to_string(), x >= 1e-30 && x.is_finite(), over_zero)
            }
            Self::Gaussian { sigma: x } => {
                ("sigma", x.to_string(), x >= 1e-30 && x.is_finite(), over_zero)
            }
        };
        if ok { Ok(()) } else { Err(Error::OutOfRange { name, found, expected }) }
    }

    /// Draws a thought a row. Tokens are those of [`Feed::Samples`](crate::Feed::Samples), and the
    /// noise of a Gumbel draw is that of [`Noise::Gumbel`](crate::Noise::Gumbel), so that a
    /// pipeline with these settings feeds the same under the same keys.
    ///
    /// # Shapes
    /// - probs: one distribution a row, in which no token is named twice; a weight of 0 is dropped
    /// - embedding: `[vocab, d_model]`, read by the Gaussian policy alone
    ///
    /// # Gradient
    /// None: a draw is a constant.
    ///
    /// # Panics
    /// If there is not one key a row.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use soft_core::{NoiseKey, Policy, SoftPipeline, host_values};
    ///
    /// let device = Device::default();
    /// let embedding = Tensor::<2>::from_data([[1f32, 0.0], [0.0, 1.0]], &device);
    /// let logits = Tensor::<2>::from_data([[0.0, 3f32.ln()]], &device);
    /// let key = NoiseKey { seed: 1, step: 0, row: 0, position: 0 };
    /// let probs = SoftPipeline::default().probs(logits.clone());
    /// let draw = Policy::Token.sample(&probs, &embedding, &[key]);
    /// let p = host_values(draw.log_prob(logits, &embedding))[0].exp();
    /// assert!((p - 0.25).abs() < 1e-6 || (p - 0.75).abs() < 1e-6);
    /// ```
    pub fn sample(self, probs: &Distribution, embedding: &Tensor<2>, keys: &[NoiseKey]) -> Draw {
        assert_eq!(probs.batch(), keys.len(), "one noise key a row");
        let probs = probs.clone().detach();
        let action = match self {
            Self::Token => Action::Tokens(tokens(&probs, keys, 1)),
            Self::Samples { count } => Action::Tokens(tokens(&probs, keys, count)),
            Self::Gumbel { temperature } => {
                Action::Scores { scores: perturbed(&probs, keys), temperature }
            }
            Self::Gaussian { sigma } => {
                let mean = probs.mix(embedding.clone().detach());
                let [rows, width] = mean.dims();
                let noise = keys.iter().flat_map(|&key| normal(key, Place::Feed, width)).collect();
                let noise = float_tensor(noise, [rows, width], &mean.device(), mean.dtype());
                Action::Vectors { vectors: mean + noise * sigma, sigma }
            }
        };
        Draw { action, kept: Kept::of(probs) }
    }
}

/// Tokens drawn independently: `[batch, count]`.
fn tokens(probs: &Distribution, keys: &[NoiseKey], count: usize) -> Tensor<2, Int> {
    match SoftPipeline::default().sampled(probs, keys, count) {
        Distribution::Sparse { ids, .. } => ids,
        Distribution::Dense(_) => unreachable!("a draw names its tokens"),
    }
}

/// `log p + g` with the noise of [`Place::Feed`], minus infinity where p is 0: as wide as probs.
fn perturbed(probs: &Distribution, keys: &[NoiseKey]) -> Tensor<2> {
    let (weights, ids) = match probs {
        Distribution::Dense(weights) => (weights, None),
        Distribution::Sparse { ids, weights } => (weights, Some(ids)),
    };
    let [batch, k] = weights.dims();
    let ids: Vec<u32> = match ids {
        None => (0..batch).flat_map(|_| 0..k as u32).collect(),
        Some(ids) => ids.to_data().iter::<i64>().map(|id| id as u32).collect(),
    };
    let noise = ids.chunks_exact(k).zip(keys);
    let noise = noise.flat_map(|(ids, &key)| gumbel_at(key, Place::Feed, ids));
    let values = host_values(weights.clone()).into_iter().zip(noise).map(|(p, g)| p.ln() + g);
    float_tensor(values.collect(), [batch, k], &weights.device(), weights.dtype())
}

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
    /// Perturbed log-probabilities of the tokens kept: `[batch, k]`, minus infinity where dropped.
    Scores {
        /// `log p + g`.
        scores: Tensor<2>,
        /// Temperature of what is fed.
        temperature: f64,
    },
    /// Embeddings: `[batch, d_model]`.
    Vectors {
        /// `p @ E + sigma n`.
        vectors: Tensor<2>,
        /// Standard deviation of every coordinate.
        sigma: f64,
    },
}

/// The tokens that filters kept at the time of a draw.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Token ids: `[batch, k]`.
    pub ids: Tensor<2, Int>,
    /// 0 for a token, minus infinity for padding: `[batch, k]`.
    pub mask: Tensor<2>,
}

impl Kept {
    fn of(probs: Distribution) -> Option<Self> {
        let Distribution::Sparse { ids, weights } = probs else { return None };
        let dropped = weights.clone().equal_elem(0.0);
        Some(Self { ids, mask: weights.zeros_like().mask_fill(dropped, f64::NEG_INFINITY) })
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
            Action::Scores { scores, temperature } => {
                Action::Scores { scores: floats(scores), temperature: *temperature }
            }
            Action::Vectors { vectors, sigma } => {
                Action::Vectors { vectors: floats(vectors), sigma: *sigma }
            }
        };
        let kept = |kept: &Kept| Kept { ids: ints(&kept.ids), mask: floats(&kept.mask) };
        Self { action, kept: self.kept.as_ref().map(kept) }
    }

    /// Whether each row is one token.
    #[must_use]
    pub fn is_token(&self) -> bool {
        matches!(&self.action, Action::Tokens(tokens) if tokens.dims()[1] == 1)
    }

    /// The log-probability (tokens) or log-density of each row under `scores`. The tokens kept
    /// stay those of the draw, and p is the softmax over them alone, then as now: under the scores
    /// of the draw itself a ratio is exactly 1.
    ///
    /// Tokens count in their order; see [`Self::log_orders`].
    ///
    /// # Shapes
    /// - scores: `[batch, vocab]`, logits over the temperature ([`tempered`](crate::tempered))
    /// - embedding: `[vocab, d_model]`, read by the Gaussian policy alone
    /// - output: `[batch]`
    ///
    /// # Gradient
    /// Flows to the scores, and of a Gaussian draw also to the embedding; never to what was drawn.
    pub fn log_prob(&self, scores: Tensor<2>, embedding: &Tensor<2>) -> Tensor<1> {
        let log_probs = self.log_probs(scores);
        let log_prob = match &self.action {
            Action::Tokens(tokens) => self.log_probs_at(log_probs, tokens).sum_dim(1),
            Action::Scores { scores, .. } => {
                let drawn = beside(scores, &log_probs);
                let absent = drawn.clone().equal_elem(f64::NEG_INFINITY);
                let noise = (drawn - log_probs).mask_fill(absent.clone(), 0.0);
                (-noise.clone() - (-noise).exp()).mask_fill(absent, 0.0).sum_dim(1)
            }
            Action::Vectors { vectors, sigma } => {
                let [_, width] = vectors.dims();
                let mean = self.over_kept(log_probs.exp()).mix(embedding.clone());
                let steps = (mean.clone() - beside(vectors, &mean)) / *sigma;
                let squares = steps.square().sum_dim(1);
                let normalizer = width as f64 * (sigma * (2.0 * std::f64::consts::PI).sqrt()).ln();
                squares * -0.5 - normalizer
            }
        };
        log_prob.squeeze_dim(1)
    }

    /// `log(count! / prod_i n_i!)` of each row of tokens, n_i being how often token i was drawn:
    /// added to [`Self::log_prob`] it gives the log-probability of the tokens whatever their order
    /// (multinomial). What is fed does not depend on the order, and this not on the logits, so
    /// gradients and ratios are the same. 0 for other draws.
    pub fn log_orders(&self) -> Vec<f64> {
        let log_factorial = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
        let tokens = match &self.action {
            Action::Tokens(tokens) => tokens,
            Action::Scores { scores: x, .. } | Action::Vectors { vectors: x, .. } => {
                return vec![0.0; x.dims()[0]];
            }
        };
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
            Action::Scores { scores, temperature } => {
                let weights = softmax(beside(scores, like) * (1.0 / temperature), 1);
                Some(self.over_kept(weights))
            }
            Action::Vectors { .. } => None,
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
            (Action::Vectors { vectors, .. }, _) => beside(vectors, embedding),
            (_, Some(fed)) => fed.mix(embedding.clone()),
            (_, None) => unreachable!("only a vector is no mixture"),
        }
    }

    /// `log p` of the tokens kept: `[batch, k]`.
    fn log_probs(&self, scores: Tensor<2>) -> Tensor<2> {
        let scores = match &self.kept {
            None => scores,
            Some(kept) => {
                let ids = beside_ids(&kept.ids, &scores);
                let mask = beside(&kept.mask, &scores);
                scores.gather(1, ids) + mask
            }
        };
        log_softmax_rows(scores)
    }

    /// Those of some tokens, all of them kept: `[batch, count]`.
    fn log_probs_at(&self, log_probs: Tensor<2>, tokens: &Tensor<2, Int>) -> Tensor<2> {
        let tokens = beside_ids(tokens, &log_probs);
        self.over_kept(log_probs).weights_at(tokens)
    }

    /// Numbers for the tokens kept, by their ids.
    fn over_kept(&self, weights: Tensor<2>) -> Distribution {
        match &self.kept {
            None => Distribution::Dense(weights),
            Some(kept) => Distribution::Sparse { ids: beside_ids(&kept.ids, &weights), weights },
        }
    }
}

/// A constant where `like` is: draws are made without autodiff and scored with it.
fn beside<const D: usize>(x: &Tensor<D>, like: &Tensor<2>) -> Tensor<D> {
    match like.device().is_autodiff() && !x.device().is_autodiff() {
        true => Tensor::from_inner(x.clone()),
        false => x.clone(),
    }
}

fn beside_ids(ids: &Tensor<2, Int>, like: &Tensor<2>) -> Tensor<2, Int> {
    match like.device().is_autodiff() && !ids.device().is_autodiff() {
        true => Tensor::from_inner(ids.clone()),
        false => ids.clone(),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
