//! The loss: cross-entropy with hard and soft truth, and an entropy term on soft positions.
//!
//! `sum_t w_t CE(z_t, y_t) / sum_t w_t + beta sum_t m_t H_t / sum_t m_t`, where the sums and both
//! divisors run over the whole optimizer step: every row, micro-batch and segment.

use burn::tensor::{DType, Tensor};
use soft_core::{Distribution, entropy_nats, entropy_rows, log_softmax_rows};

use crate::batch::{Batch, Place};
pub use crate::config::Normalize;

/// Settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Objective {
    /// `beta`: over 0 sharpens the soft positions, under 0 spreads them.
    pub entropy_beta: f64,
    /// Divisor.
    pub normalize: Normalize,
}

/// Sums over a whole optimizer step, known before its first pass.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepTotals {
    /// Rows.
    pub rows: f64,
    /// Sum of the loss weights.
    pub weight: f64,
    /// The same of the answers alone.
    pub answer: f64,
    /// Number of soft positions.
    pub soft: f64,
}

impl StepTotals {
    /// Totals of the micro-batches of one step.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Self {
        let mut totals = Self::default();
        for example in batches.into_iter().flat_map(|batch| &batch.examples) {
            totals.rows += 1.0;
            totals.weight += example.weight.iter().map(|&w| f64::from(w)).sum::<f64>();
            totals.answer +=
                example.answer_positions().map(|t| f64::from(example.weight[t])).sum::<f64>();
            totals.soft += example.soft.iter().filter(|&&soft| soft).count() as f64;
        }
        totals
    }
}

/// The loss of one micro-batch as its share of the step's.
#[derive(Debug, Clone)]
pub struct BatchLoss<'a> {
    /// The micro-batch.
    pub batch: &'a Batch,
    /// Settings.
    pub objective: Objective,
    /// Sums over the step.
    pub totals: StepTotals,
    /// Temperature of the entropy term, held constant in it.
    pub temperature: f64,
    /// What stands in the place of all this, where something does: then of the batch only its places
    /// are used.
    pub other: Option<&'a dyn PlaceLoss>,
}

/// A loss that is a sum over places.
pub trait PlaceLoss: std::fmt::Debug {
    /// Its terms for some places, each of which is asked for once.
    ///
    /// # Shapes
    /// - logits: `[places, vocab]`, the scores for those places
    fn parts(&self, logits: Tensor<2>, places: &[Place]) -> LossParts;
}

/// Loss and the sums that metrics are made of; scalars that stay on the device until read.
#[derive(Debug, Clone)]
pub struct LossParts {
    /// The share of the step's loss, to be differentiated.
    pub loss: Tensor<1>,
    /// `sum w CE`.
    pub cross_entropy: Tensor<1>,
    /// The same of the answers alone.
    pub answer: Tensor<1>,
    /// `sum m H`.
    pub entropy: Tensor<1>,
}

impl LossParts {
    /// The sum of two disjoint parts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            cross_entropy: self.cross_entropy + other.cross_entropy,
            answer: self.answer + other.answer,
            entropy: self.entropy + other.entropy,
        }
    }
}

impl BatchLoss<'_> {
    /// Whether the output before this position is needed for the loss.
    pub fn counts(&self, place: Place) -> bool {
        self.weight(place) != 0.0 || self.is_soft(place)
    }

    fn weight(&self, place: Place) -> f64 {
        let weight = self.batch.examples[place.row].weight.get(place.position);
        weight.map_or(0.0, |&weight| f64::from(weight))
    }

    fn is_soft(&self, place: Place) -> bool {
        self.batch.examples[place.row].soft.get(place.position).copied().unwrap_or(false)
    }

    fn weight_divisor(&self, row: usize) -> f64 {
        match self.objective.normalize {
            Normalize::Token => self.totals.weight.max(f64::MIN_POSITIVE),
            Normalize::Sequence => self.totals.rows * self.batch.examples[row].len() as f64,
        }
    }

    fn soft_divisor(&self, row: usize) -> f64 {
        match self.objective.normalize {
            Normalize::Token => self.totals.soft.max(1.0),
            Normalize::Sequence => {
                let soft = self.batch.examples[row].soft.iter().filter(|&&soft| soft).count();
                self.totals.rows * soft.max(1) as f64
            }
        }
    }

    /// The loss of some places.
    ///
    /// # Shapes
    /// - logits: `[places, vocab]`, the scores for those places
    ///
    /// # Gradient
    /// Flows to the logits; the entropy term only where its weight is not 0.
    pub fn parts(&self, logits: Tensor<2>, places: &[Place]) -> LossParts {
        if let Some(other) = self.other {
            return other.parts(logits, places);
        }
        let (device, dtype) = (logits.device(), logits.dtype());
        let row_of =
            |values: Vec<f64>| soft_core::float_tensor(values, [places.len()], &device, dtype);
        let log_probs = log_softmax_rows(logits.clone());
        let cross_entropy =
            cross_entropy(log_probs.clone(), self.batch.truth(places, &device, dtype));
        let weights = row_of(places.iter().map(|&p| self.weight(p)).collect());
        let shares: Vec<f64> =
            places.iter().map(|&p| self.weight(p) / self.weight_divisor(p.row)).collect();
        let mut parts = LossParts {
            loss: (cross_entropy.clone() * row_of(shares)).sum(),
            cross_entropy: (cross_entropy.clone().detach() * weights).sum(),
            answer: match places.iter().any(|&place| self.batch.answers(place)) {
                true => {
                    let weight =
                        |&p: &Place| if self.batch.answers(p) { self.weight(p) } else { 0.0 };
                    let weights = row_of(places.iter().map(weight).collect());
                    (cross_entropy.detach() * weights).sum()
                }
                false => Tensor::zeros([1], (&device, dtype)),
            },
            entropy: Tensor::zeros([1], (&device, dtype)),
        };
        let soft: Vec<f64> = places.iter().map(|&p| f64::from(u8::from(self.is_soft(p)))).collect();
        if soft.contains(&1.0) {
            let beta = self.objective.entropy_beta;
            let constant = |x: Tensor<2>| if beta == 0.0 { x.detach() } else { x };
            // Most often it is of the distribution that the cross-entropy is of.
            let same = matches!(self.temperature, 0.0 | 1.0);
            let entropy: Tensor<1> = match same && matches!(dtype, DType::F32 | DType::F64) {
                true => entropy_rows(constant(log_probs)).squeeze_dim(1),
                false => entropy_nats(constant(logits), self.temperature),
            };
            if beta != 0.0 {
                let shares = places.iter().zip(&soft);
                let shares = shares.map(|(p, m)| beta * m / self.soft_divisor(p.row)).collect();
                parts.loss = parts.loss + (entropy.clone() * row_of(shares)).sum();
            }
            parts.entropy = (entropy.detach() * row_of(soft)).sum();
        }
        parts
    }

    /// No places at all, for a model of precision `dtype`.
    pub fn nothing(device: &burn::tensor::Device, dtype: DType) -> LossParts {
        let dtype = if dtype == DType::F64 { dtype } else { DType::F32 };
        let zero = || Tensor::zeros([1], (device, dtype));
        LossParts { loss: zero(), cross_entropy: zero(), answer: zero(), entropy: zero() }
    }
}

/// `CE(z, y) = -sum_i y_i log softmax(z)_i` at temperature 1, for a truth that names its tokens.
///
/// # Shapes
/// - logits: `[rows, vocab]`; truth: sparse `[rows, k]`; output: `[rows]`
///
/// # Panics
/// If the truth is dense.
pub fn soft_cross_entropy(logits: Tensor<2>, truth: Distribution) -> Tensor<1> {
    cross_entropy(log_softmax_rows(logits), truth)
}

/// [`soft_cross_entropy`] of log-probabilities.
fn cross_entropy(log_probs: Tensor<2>, truth: Distribution) -> Tensor<1> {
    let Distribution::Sparse { ids, weights } = truth else {
        panic!("truth names its tokens: a sparse distribution");
    };
    -(log_probs.gather(1, ids) * weights).sum_dim(1).squeeze_dim(1)
}
