//! What a model expects of a row: the values of PPO.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};
use soft_core::host_values;

/// `V(h) = h w + b` over the hidden state that a draw is made from, after the last norm.
///
/// It begins at 0 everywhere: then the first advantages are those of the rewards alone.
#[derive(Module, Debug)]
pub struct ValueHead {
    /// `[d_model, 1]`.
    weight: Param<Tensor<2>>,
    /// `[1]`.
    bias: Param<Tensor<1>>,
}

impl ValueHead {
    /// A head that says 0.
    pub fn new(d_model: usize, device: &Device, dtype: DType) -> Self {
        Self::from_values(&vec![0.0; d_model + 1], device, dtype)
    }

    /// A head from its weights and then its bias.
    ///
    /// # Panics
    /// Without any number.
    pub fn from_values(values: &[f64], device: &Device, dtype: DType) -> Self {
        let (bias, weight) = values.split_last().expect("a head has a bias");
        let weight = soft_core::float_tensor(weight.to_vec(), [weight.len(), 1], device, dtype);
        let bias = soft_core::float_tensor(vec![*bias], [1], device, dtype);
        Self {
            weight: Param::from_tensor(weight.require_grad()),
            bias: Param::from_tensor(bias.require_grad()),
        }
    }

    /// The weights and then the bias, exactly.
    pub fn to_values(&self) -> Vec<f64> {
        let mut values = host_values(self.weight.val().detach());
        values.extend(host_values(self.bias.val().detach()));
        values
    }

    /// # Shapes
    /// - hidden: `[rows, d_model]`; output: `[rows]`
    pub fn forward(&self, hidden: Tensor<2>) -> Tensor<1> {
        (hidden.matmul(self.weight.val()) + self.bias.val().unsqueeze()).squeeze_dim(1)
    }
}
