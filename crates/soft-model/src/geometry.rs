//! Where what was fed lies among the embeddings of real tokens.

use burn::tensor::{Int, Tensor};
use serde::Serialize;
use soft_core::{distance_to_hull, host_values, int_tensor};

use crate::Transformer;

/// Tokens whose hull is measured, the heaviest, where more than these are recorded.
const HULL: usize = 32;

/// Where one input lies: a model was trained on token embeddings alone, and what it makes of a
/// vector far from all of them is anyone's guess.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Geometry {
    /// The token whose embedding is nearest.
    pub nearest_id: u32,
    /// Euclidean distance to it.
    pub distance: f64,
    /// Cosine of the angle to it; 0 where one of them has no length.
    pub cosine: f64,
    /// Distance to the convex hull of the tokens that were mixed (of the heaviest, where the whole
    /// vocabulary was): 0 for a plain mixture, more for one that was scaled, or for no mixture.
    pub hull_distance: f64,
    /// Norm of what was fed.
    pub norm: f64,
    /// Mean of the norms of the tokens mixed, by the absolute value of their weights.
    pub token_norm: f64,
}

/// The norms of all embeddings, taken once for a generation.
#[derive(Debug)]
pub(crate) struct Norms {
    /// `||E_i||^2 [vocab]`.
    squares: Tensor<1>,
    /// The same on the host.
    values: Vec<f64>,
}

impl Norms {
    pub(crate) fn new(embedding: &Tensor<2>) -> Self {
        let squares: Tensor<1> = embedding.clone().powi_scalar(2).sum_dim(1).squeeze_dim(1);
        let values = host_values(squares.clone());
        Self { squares, values }
    }

    fn norm(&self, id: u32) -> f64 {
        self.values[id as usize].sqrt()
    }

    /// Where each row of `fed` lies; `mixed` are the tokens of each and their weights, and whether
    /// the weights, all of them, are a distribution.
    ///
    /// # Shapes
    /// - fed: `[batch, d_model]`; embedding: `[vocab, d_model]`
    pub(crate) fn locate(
        &self,
        fed: &Tensor<2>,
        embedding: &Tensor<2>,
        mixed: &[(Vec<(u32, f64)>, bool)],
    ) -> Vec<Geometry> {
        let [batch, d_model] = fed.dims();
        let vocab = self.values.len();
        let products = fed.clone().matmul(embedding.clone().transpose());
        let squares = self.squares.clone().reshape([1, vocab]);
        let nearest: Tensor<2, Int> = (squares - products * 2.0).argmin(1);
        let near = embedding.clone().select(0, nearest.clone().reshape([batch]));
        let nearest: Vec<u32> = nearest.into_data().iter::<i64>().map(|id| id as u32).collect();
        let (fed_values, near) = (host_values(fed.clone()), host_values(near));
        let rows = fed_values.chunks_exact(d_model).zip(near.chunks_exact(d_model));
        rows.zip(nearest)
            .zip(mixed)
            .map(|(((fed, near), nearest_id), (mixed, is_convex))| {
                let norm = dot(fed, fed).sqrt();
                let lengths = norm * self.norm(nearest_id);
                let distance = fed.iter().zip(near).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
                let weight: f64 = mixed.iter().map(|entry| entry.1.abs()).sum();
                let norms = mixed.iter().map(|entry| entry.1.abs() * self.norm(entry.0));
                Geometry {
                    nearest_id,
                    distance: distance.sqrt(),
                    cosine: if lengths > 0.0 { dot(fed, near) / lengths } else { 0.0 },
                    hull_distance: match is_convex {
                        true => 0.0,
                        false => hull_distance(fed, embedding, mixed),
                    },
                    norm,
                    token_norm: norms.sum::<f64>() / weight.max(f64::MIN_POSITIVE),
                }
            })
            .collect()
    }
}

/// The 5th, 50th and 95th percentile of the norms of a model's embeddings: what an input's norm is
/// to be compared with.
pub fn embedding_norms(model: &Transformer) -> [f64; 3] {
    let mut norms: Vec<f64> =
        Norms::new(&model.embedding()).values.iter().map(|square| square.sqrt()).collect();
    norms.sort_unstable_by(f64::total_cmp);
    [0.05, 0.5, 0.95].map(|at| norms[((norms.len() - 1) as f64 * at).round() as usize])
}

/// Norm of each row, and where the nearest token's embedding lies.
///
/// # Shapes
/// - fed: `[rows, d_model]`; embedding: `[vocab, d_model]`
pub fn nearest_tokens(fed: &Tensor<2>, embedding: &Tensor<2>) -> Vec<Geometry> {
    let convex = vec![(Vec::new(), true); fed.dims()[0]];
    Norms::new(embedding).locate(fed, embedding, &convex)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn hull_distance(fed: &[f64], embedding: &Tensor<2>, mixed: &[(u32, f64)]) -> f64 {
    let ids: Vec<u32> = mixed.iter().take(HULL).map(|entry| entry.0).collect();
    if ids.is_empty() {
        return 0.0;
    }
    let k = ids.len();
    let ids = int_tensor(&ids, [k], &embedding.device());
    let points = host_values(embedding.clone().select(0, ids));
    let points: Vec<&[f64]> = points.chunks_exact(fed.len()).collect();
    let products: Vec<f64> =
        points.iter().flat_map(|a| points.iter().map(move |b| dot(a, b))).collect();
    let with_fed: Vec<f64> = points.iter().map(|a| dot(a, fed)).collect();
    distance_to_hull(&products, &with_fed, dot(fed, fed))
}
