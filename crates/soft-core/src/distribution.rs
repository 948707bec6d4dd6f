//! A distribution over the vocabulary, and the mixture of embeddings it stands for.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::{float_tensor, host_values, int_tensor};

/// One distribution a row: over the whole vocabulary, or over a few named tokens.
///
/// Feeding one hard token is the sparse case with k = 1 and weight 1; there is no other path.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle; boxing one would only add a step"
)]
pub enum Distribution {
    /// Weights of every token: `[batch, vocab]`.
    Dense(Tensor<2>),
    /// Weights of named tokens; a token may be named twice, its weights then add up.
    Sparse {
        /// Token ids: `[batch, k]`.
        ids: Tensor<2, Int>,
        /// Their weights: `[batch, k]`; a weight of 0 is padding.
        weights: Tensor<2>,
    },
}

/// How the norm of a mixture is brought back to that of a token's embedding.
///
/// A mean of vectors is shorter than they are: `||q @ E|| <= sum_i q_i ||E_i||`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormMatch {
    /// The mixture as it is.
    #[default]
    None,
    /// Divided by `||q||_2`, as HRPO has it (arXiv:2505.18454): independent rows of E would then
    /// mix to the norm of one.
    L2,
    /// As long as the embedding of the heaviest token, so that the root mean square of its entries
    /// is that token's.
    Rms,
}

impl Distribution {
    /// The weights scaled so that the mixture has the norm that `by` asks for: they are what is
    /// really fed, and no longer sum to 1. All weight on one token stays as it is.
    ///
    /// # Shapes
    /// - embedding: `[vocab, d_model]`
    ///
    /// # Gradient
    /// Flows through the scale, not through the choice of the heaviest token.
    pub fn matched(self, by: NormMatch, embedding: &Tensor<2>) -> Self {
        let scale = match by {
            NormMatch::None => return self,
            NormMatch::L2 => self.norm().recip(),
            NormMatch::Rms => {
                let square = |x: Tensor<2>| x.powi_scalar(2).sum_dim(1);
                let token = square(embedding.clone().select(0, self.heaviest()));
                let mixture = square(self.mix(embedding.clone()));
                // What has no length keeps it: some models have a row of zeros for padding.
                let zero = token.clone().detach().equal_elem(0.0);
                let zero = zero.bool_or(mixture.clone().detach().equal_elem(0.0));
                let one = |x: Tensor<2>| x.mask_fill(zero.clone(), 1.0);
                (one(token) / one(mixture)).sqrt()
            }
        };
        match self {
            Self::Dense(probs) => Self::Dense(probs * scale),
            Self::Sparse { ids, weights } => Self::Sparse { ids, weights: weights * scale },
        }
    }

    /// `||q||_2` of each row, a token that is named twice counted once: `[batch, 1]`.
    fn norm(&self) -> Tensor<2> {
        let squares = match self {
            Self::Dense(probs) => probs.clone().powi_scalar(2),
            Self::Sparse { ids, weights } => weights.clone() * self.weights_at(ids.clone()),
        };
        squares.sum_dim(1).sqrt()
    }

    /// The heaviest token of each row: `[batch]`.
    fn heaviest(&self) -> Tensor<1, Int> {
        let place = |weights: Tensor<2>| weights.detach().argmax(1);
        let ids = match self {
            Self::Dense(probs) => place(probs.clone()),
            Self::Sparse { ids, .. } => ids.clone().gather(1, place(self.weights_at(ids.clone()))),
        };
        ids.squeeze_dim(1)
    }

    /// Some rows blended with other tokens: `share q + (1 - share) u`, u being even weights on the
    /// named tokens; the other rows stay as they are.
    ///
    /// # Panics
    /// If there is not one entry a row, or one names no token.
    pub fn blended(self, with: &[Option<(f64, Vec<u32>)>]) -> Self {
        let batch = self.batch();
        assert_eq!(with.len(), batch, "one entry a row");
        let (device, dtype) = (self.device(), self.dtype());
        let widest = with.iter().flatten().map(|entry| entry.1.len()).max().unwrap_or(0);
        if widest == 0 {
            return self;
        }
        let own = with.iter().map(|entry| entry.as_ref().map_or(1.0, |entry| entry.0)).collect();
        let own = float_tensor(own, [batch, 1], &device, dtype);
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for entry in with {
            let (share, tokens) = entry.as_ref().map_or((1.0, &[][..]), |(s, t)| (*s, &t[..]));
            let each = (1.0 - share) / tokens.len().max(1) as f64;
            for place in 0..widest {
                ids.push(tokens.get(place).copied().unwrap_or(0));
                weights.push(if place < tokens.len() { each } else { 0.0 });
            }
        }
        let ids = int_tensor(&ids, [batch, widest], &device);
        let weights = float_tensor(weights, [batch, widest], &device, dtype);
        match self {
            Self::Dense(probs) => {
                Self::Dense((probs * own).scatter(1, ids, weights, IndexingUpdateOp::Add))
            }
            Self::Sparse { ids: old_ids, weights: old } => Self::Sparse {
                ids: Tensor::cat(vec![old_ids, ids], 1),
                weights: Tensor::cat(vec![old * own, weights], 1),
            },
        }
    }

    /// The distribution in two parts by the direction of the embeddings: the first part is led by the
    /// heaviest token a, the second by the token of the largest `q_i (1 - cos(E_i, E_a))`, and every
    /// token goes with the leader that it has the smaller angle to. The weights are not rescaled:
    /// those of the two parts sum to the whole, and the second part may be empty.
    ///
    /// # Shapes
    /// - embedding: `[vocab, d_model]`
    pub fn split(&self, embedding: &Tensor<2>) -> [Self; 2] {
        let [_, d_model] = embedding.dims();
        let squares = embedding.clone().powi_scalar(2).sum_dim(1);
        let directions = embedding.clone() / squares.sqrt().clamp_min(1e-20);
        let (weights, rows) = match self {
            Self::Dense(weights) => (weights.clone(), None),
            Self::Sparse { ids, weights } => {
                let [batch, k] = ids.dims();
                let rows = directions.clone().select(0, ids.clone().reshape([batch * k]));
                (weights.clone(), Some(rows.reshape([batch, k, d_model])))
            }
        };
        let [batch, k] = weights.dims();
        // Cosine of every token of a row to the one at `place` of it.
        let cosines = |place: Tensor<2, Int>| match &rows {
            None => {
                let leader = directions.clone().select(0, place.reshape([batch]));
                leader.matmul(directions.clone().transpose())
            }
            Some(rows) => {
                let place = place.reshape([batch, 1, 1]).expand([batch, 1, d_model]);
                let leader = rows.clone().gather(1, place).swap_dims(1, 2);
                rows.clone().matmul(leader).reshape([batch, k])
            }
        };
        let to_first = cosines(weights.clone().argmax(1));
        let apart = weights.clone() * (-to_first.clone() + 1.0);
        let to_second = cosines(apart.argmax(1));
        let second = to_second.greater(to_first);
        let part = |weights: Tensor<2>| match self {
            Self::Dense(_) => Self::Dense(weights),
            Self::Sparse { ids, .. } => Self::Sparse { ids: ids.clone(), weights },
        };
        let first = weights.clone().mask_fill(second.clone(), 0.0);
        [part(first), part(weights.mask_fill(second.bool_not(), 0.0))]
    }

    /// Weights divided by their sum; a row without weight stays as it is.
    pub fn normalized(self) -> Self {
        let mass = self.mass();
        let mass = mass.clone().mask_fill(mass.equal_elem(0.0), 1.0);
        match self {
            Self::Dense(weights) => Self::Dense(weights / mass),
            Self::Sparse { ids, weights } => Self::Sparse { ids, weights: weights / mass },
        }
    }

    /// The sum of each row's weights: `[batch, 1]`.
    pub fn mass(&self) -> Tensor<2> {
        match self {
            Self::Dense(weights) | Self::Sparse { weights, .. } => weights.clone().sum_dim(1),
        }
    }

    /// All weight on one token a row. `like` gives the device and precision.
    pub fn one_hot(ids: &[u32], like: &Tensor<2>) -> Self {
        let batch = ids.len();
        let device = like.device();
        Self::Sparse {
            ids: int_tensor(ids, [batch, 1], &device),
            weights: Tensor::ones([batch, 1], (&device, like.dtype())),
        }
    }

    /// The mixture `q @ E`.
    ///
    /// # Shapes
    /// - embedding: `[vocab, d_model]`
    /// - output: `[batch, d_model]`
    ///
    /// # Gradient
    /// Flows to the weights and to the embedding. A sparse mixture gathers its k rows only.
    ///
    /// # Panics
    /// If a dense distribution is not as wide as the vocabulary.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use soft_core::{Distribution, host_values, int_tensor};
    ///
    /// let device = Device::default();
    /// let embedding = Tensor::<2>::from_data([[1f32, 0.0], [0.0, 8.0], [9.0, 9.0]], &device);
    /// let half_and_half = Distribution::Sparse {
    ///     ids: int_tensor(&[0, 1], [1, 2], &device),
    ///     weights: Tensor::from_data([[0.5f32, 0.5]], &device),
    /// };
    /// assert_eq!(host_values(half_and_half.mix(embedding)), [0.5, 4.0]);
    /// ```
    pub fn mix(&self, embedding: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(probs) => probs.clone().matmul(embedding),
            Self::Sparse { ids, weights } => {
                let [batch, k] = ids.dims();
                let [_, d_model] = embedding.dims();
                let rows = embedding.select(0, ids.clone().reshape([batch * k]));
                if k == 1 {
                    return rows * weights.clone();
                }
                let weights = weights.clone().reshape([batch, 1, k]);
                weights.matmul(rows.reshape([batch, k, d_model])).reshape([batch, d_model])
            }
        }
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        match self {
            Self::Dense(probs) => probs.dims()[0],
            Self::Sparse { weights, .. } => weights.dims()[0],
        }
    }

    /// The precision of the weights.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Dense(probs) => probs.dtype(),
            Self::Sparse { weights, .. } => weights.dtype(),
        }
    }

    /// The first `rows` rows.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn first_rows(&self, rows: usize) -> Self {
        let first = |weights: &Tensor<2>| weights.clone().narrow(0, 0, rows);
        match self {
            Self::Dense(probs) => Self::Dense(first(probs)),
            Self::Sparse { ids, weights } => {
                Self::Sparse { ids: ids.clone().narrow(0, 0, rows), weights: first(weights) }
            }
        }
    }

    /// The same weights in another precision.
    pub fn cast(self, dtype: DType) -> Self {
        match self {
            Self::Dense(probs) => Self::Dense(probs.cast(dtype)),
            Self::Sparse { ids, weights } => Self::Sparse { ids, weights: weights.cast(dtype) },
        }
    }

    /// The device that holds it.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(probs) => probs.device(),
            Self::Sparse { weights, .. } => weights.device(),
        }
    }

    /// Cuts the gradient through the weights; the lookup of embeddings keeps its own.
    pub fn detach(self) -> Self {
        match self {
            Self::Dense(probs) => Self::Dense(probs.detach()),
            Self::Sparse { ids, weights } => Self::Sparse { ids, weights: weights.detach() },
        }
    }

    /// Weight of the tokens `ids` of each row: `[batch, k]` to `[batch, k]`.
    pub fn weights_at(&self, wanted: Tensor<2, Int>) -> Tensor<2> {
        match self {
            Self::Dense(probs) => probs.clone().gather(1, wanted),
            Self::Sparse { ids, weights } => {
                let [batch, k] = ids.dims();
                let [_, wanted_k] = wanted.dims();
                let same = ids
                    .clone()
                    .reshape([batch, 1, k])
                    .expand([batch, wanted_k, k])
                    .equal(wanted.reshape([batch, wanted_k, 1]).expand([batch, wanted_k, k]));
                let weights = weights.clone().reshape([batch, 1, k]).expand([batch, wanted_k, k]);
                weights.mask_fill(same.bool_not(), 0.0).sum_dim(2).reshape([batch, wanted_k])
            }
        }
    }

    /// Each row on the host as (id, weight), heaviest first, weights of a repeated id added,
    /// zeros dropped, at most `limit` entries. Waits for the device.
    pub fn to_rows(&self, limit: usize) -> Vec<Vec<(u32, f64)>> {
        let (ids, weights, width) = match self {
            Self::Dense(probs) => {
                let [batch, vocab] = probs.dims();
                let probs = probs.clone().detach();
                let top = limit.clamp(1, vocab);
                let ids = crate::top_k_ids(probs.clone(), top);
                let values = host_values(probs.gather(1, ids.clone()));
                debug_assert_eq!(values.len(), batch * top);
                (host_ids(ids), values, top)
            }
            Self::Sparse { ids, weights } => {
                let width = weights.dims()[1];
                (host_ids(ids.clone()), host_values(weights.clone().detach()), width)
            }
        };
        ids.chunks_exact(width)
            .zip(weights.chunks_exact(width))
            .map(|(ids, weights)| merged_row(ids, weights, limit))
            .collect()
    }
}

fn host_ids(ids: Tensor<2, Int>) -> Vec<u32> {
    ids.into_data().iter::<i64>().map(|id| id as u32).collect()
}

fn merged_row(ids: &[u32], weights: &[f64], limit: usize) -> Vec<(u32, f64)> {
    let mut row: Vec<(u32, f64)> =
        ids.iter().copied().zip(weights.iter().copied()).filter(|entry| entry.1 != 0.0).collect();
    row.sort_by_key(|entry| entry.0);
    row.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 += later.1;
        }
        same
    });
    row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    row.truncate(limit);
    row
}

#[cfg(all(test, feature = "flex"))]
mod tests;
