//! Drop-out whose masks are a function of (seed, step, row, position, site).

use burn::tensor::{Tensor, TensorData};
use soft_core::{Place, dropout_scales};

use crate::kv_cache::Columns;

/// Drop-out of one optimizer step; a pass without one is not perturbed. Low-rank branches have a
/// rate of their own, and the rest of this in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Probability that an activation is set to zero.
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer step.
    pub step: u64,
    /// Index of each sequence of the batch within the optimizer step; a sequence is a row where
    /// rows are not packed.
    pub rows: Vec<u32>,
}

/// The drop-out of one pass: masks keyed by the sequence that each column belongs to, so that
/// packed sequences see the numbers that they would see in rows of their own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PassDropout {
    /// As [`Dropout::rate`].
    pub(crate) rate: f64,
    seed: u64,
    step: u64,
    /// `[row][column]`: index within the optimizer step of the sequence of each new column.
    rows: Vec<Vec<u32>>,
}

/// Where in the model a mask applies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Site {
    Embedding,
    AttentionWeights {
        layer: usize,
    },
    AttentionOutput {
        layer: usize,
    },
    FeedForward {
        layer: usize,
    },
    /// Input of a low-rank branch; `projection` is its index in the block.
    LowRank {
        layer: usize,
        projection: u32,
    },
}

/// First number of the sites of low-rank branches: past those of any number of layers.
const FIRST_BRANCH: u32 = 1 << 24;

impl Site {
    fn place(self) -> Place {
        Place::Dropout(match self {
            Site::Embedding => 0,
            Site::AttentionWeights { layer } => 3 * layer as u32 + 1,
            Site::AttentionOutput { layer } => 3 * layer as u32 + 2,
            Site::FeedForward { layer } => 3 * layer as u32 + 3,
            Site::LowRank { layer, projection } => FIRST_BRANCH + 16 * layer as u32 + projection,
        })
    }
}

impl Dropout {
    /// This drop-out for the new columns of a pass.
    pub(crate) fn over(&self, columns: &Columns) -> PassDropout {
        let of_row = |(row, positions): (usize, &Vec<u32>)| {
            let index = |column| self.rows[columns.sequence(row, column)];
            (0..positions.len()).map(index).collect()
        };
        let rows = columns.positions.iter().enumerate().map(of_row).collect();
        PassDropout { rate: self.rate, seed: self.seed, step: self.step, rows }
    }
}

impl PassDropout {
    /// Drops features of `x [batch * seq, d]`, whose rows stand at `positions[batch][seq]`.
    pub(crate) fn features(&self, x: Tensor<2>, positions: &[Vec<u32>], site: Site) -> Tensor<2> {
        self.features_at_rate(self.rate, x, positions, site)
    }

    /// [`Self::features`] with another rate than that of the model's own sites.
    pub(crate) fn features_at_rate(
        &self,
        rate: f64,
        x: Tensor<2>,
        positions: &[Vec<u32>],
        site: Site,
    ) -> Tensor<2> {
        let scales = self.feature_scales(rate, &x, positions, site);
        x * scales
    }

    /// `x + drop(y)`.
    pub(crate) fn residual(
        &self,
        x: Tensor<2>,
        y: Tensor<2>,
        positions: &[Vec<u32>],
        site: Site,
    ) -> Tensor<2> {
        let scales = self.feature_scales(self.rate, &y, positions, site);
        soft_core::scaled_sum(x, y, scales)
    }

    fn feature_scales(
        &self,
        rate: f64,
        like: &Tensor<2>,
        positions: &[Vec<u32>],
        site: Site,
    ) -> Tensor<2> {
        let [rows, d] = like.dims();
        let mut mask = vec![0.0; rows * d];
        let mut at = Vec::with_capacity(rows);
        for (row, positions) in positions.iter().enumerate() {
            let all = positions.iter().enumerate();
            at.extend(all.map(|(column, &position)| [self.rows[row][column], position]));
        }
        dropout_scales([self.seed, self.step], &at, site.place(), rate, &mut mask);
        let mask = TensorData::new(mask, [rows, d]);
        Tensor::from_data(mask, (&like.device(), like.dtype()))
    }

    /// What attention weights `[batch, n_kv_heads, group * seq, slots]` are multiplied by.
    ///
    /// The number for (query position, key position, head) does not depend on where the key lies
    /// in the cache: `key_positions[batch][slots]` names the place of each slot, if it has one.
    /// Slots of other sequences may get any number: their weights are 0.
    pub(crate) fn attention(
        &self,
        [batch, n_kv_heads, queries, slots]: [usize; 4],
        columns: &Columns,
        layer: usize,
        like: &Tensor<4>,
    ) -> Tensor<4> {
        let (positions, key_positions) = (&columns.positions, &columns.key_positions);
        let seq = positions[0].len();
        let group = queries / seq;
        let n_heads = n_kv_heads * group;
        let mut mask = vec![0.0_f32; batch * n_heads * seq * slots];
        let mut draws = Vec::new();
        let place = Site::AttentionWeights { layer }.place();
        for (row, positions) in positions.iter().enumerate() {
            for (column, &position) in positions.iter().enumerate() {
                draws.resize(n_heads * (position as usize + 1), 0.0);
                let at = [[self.rows[row][column], position]];
                dropout_scales([self.seed, self.step], &at, place, self.rate, &mut draws);
                for (slot, key) in key_positions[row].iter().enumerate() {
                    let Some(key) = key.filter(|&key| key <= position) else { continue };
                    for head in 0..n_heads {
                        let query = (row * n_heads + head) * seq + column;
                        mask[query * slots + slot] = draws[key as usize * n_heads + head];
                    }
                }
            }
        }
        let mask = TensorData::new(mask, [batch, n_kv_heads, queries, slots]);
        Tensor::from_data(mask, (&like.device(), like.dtype()))
    }
}
