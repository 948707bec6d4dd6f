//! Normalisation of rows: RMS norm and layer norm.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use soft_core::at_least_f32;

/// With a bias: `(x - mean) / sqrt(var + eps) * w + b` (layer norm);
/// without: `x / sqrt(mean(x^2) + eps) * w` (RMS norm). Computed in at least f32.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    /// `[1, d]`, so that no reshape of a parameter stands inside a recurrence.
    pub(crate) weight: Param<Tensor<2>>,
    /// `[1, d]`.
    pub(crate) bias: Option<Param<Tensor<2>>>,
    #[module(skip)]
    pub(crate) eps: f64,
}

impl Norm {
    pub(crate) fn new(weight: Tensor<2>, bias: Option<Tensor<2>>, eps: f64) -> Self {
        Self { weight: Param::from_tensor(weight), bias: bias.map(Param::from_tensor), eps }
    }

    /// # Shapes
    /// - x: `[rows, d]`
    /// - output: `[rows, d]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let x = at_least_f32(x);
        let weight = at_least_f32(self.weight.val());
        let normed = match &self.bias {
            Some(bias) => soft_core::layer_norm(x, weight, at_least_f32(bias.val()), self.eps),
            None => soft_core::rms_norm(x, weight, self.eps),
        };
        normed.cast(dtype)
    }
}
