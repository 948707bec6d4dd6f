//! The oracle of gradients in tests: central finite differences in f64.

use burn::tensor::{DType, Device, Tensor};

use crate::{float_tensor, host_values};

/// A tracked f64 leaf.
pub(crate) fn leaf(values: &[f64], shape: [usize; 2]) -> Tensor<2> {
    let device = Device::flex().autodiff();
    float_tensor(values.to_vec(), shape, &device, DType::F64).require_grad()
}

/// The gradient of `loss` at `values`, row-major.
pub(crate) fn gradient(
    values: &[f64],
    shape: [usize; 2],
    loss: impl Fn(Tensor<2>) -> Tensor<1>,
) -> Vec<f64> {
    let input = leaf(values, shape);
    let mut grads = loss(input.clone()).backward();
    host_values(input.grad_remove(&mut grads).expect("the loss depends on its input"))
}

/// Panics unless the gradient of `loss` at `values` is that of central finite differences, and
/// some of it is not 0.
pub(crate) fn assert_gradient(
    values: &[f64],
    shape: [usize; 2],
    loss: impl Fn(Tensor<2>) -> Tensor<1>,
) {
    let found = gradient(values, shape, &loss);
    let at = |i: usize, step: f64| {
        let mut moved = values.to_vec();
        moved[i] += step;
        host_values(loss(leaf(&moved, shape)))[0]
    };
    let step = 1e-5;
    for (i, &found) in found.iter().enumerate() {
        let expected = (at(i, step) - at(i, -step)) / (2.0 * step);
        let error = (found - expected).abs();
        assert!(error < 1e-8 * (1.0 + expected.abs()), "entry {i}: {found}, expected {expected}");
    }
    assert!(found.iter().any(|g| g.abs() > 1e-3), "nothing to test: {found:?}");
}

/// A loss that depends on every entry of a mixture, and not linearly.
pub(crate) fn loss_of(mixture: Tensor<2>) -> Tensor<1> {
    let count = mixture.shape().num_elements();
    let weights = (0..count).map(|i| (1.0 + i as f64).sin()).collect();
    let weights = float_tensor(weights, mixture.dims(), &mixture.device(), mixture.dtype());
    (mixture.clone() * mixture * weights).sum()
}
