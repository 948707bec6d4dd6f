//! Entropy of the distribution that a row of logits stands for.

use burn::tensor::{DType, Tensor};

use crate::{entropy_rows, log_softmax_rows};

/// Logits in at least f32, divided by the temperature; at temperature 0 they stay as they are,
/// since the entropy reported there is that of temperature 1.
pub fn tempered(logits: Tensor<2>, temperature: f64) -> Tensor<2> {
    let logits = match logits.dtype() {
        DType::F64 | DType::F32 => logits,
        _ => logits.cast(DType::F32),
    };
    if temperature == 0.0 || temperature == 1.0 {
        return logits;
    }
    // Not a division: Burn 0.22.1 rounds the divisor to f32 in its gradient, even for f64.
    logits * (1.0 / temperature)
}

/// `log sum_i exp(z_i)` of each row.
///
/// # Shapes
/// - scores: `[batch, vocab]`
/// - output: `[batch, 1]`
pub fn log_normalizer(scores: Tensor<2>) -> Tensor<2> {
    let max = scores.clone().detach().max_dim(1);
    (scores - max.clone()).exp().sum_dim(1).log() + max
}

/// `H = -sum_i p_i log p_i` with `p = softmax(z / temperature)`, over the whole vocabulary, in nats.
///
/// # Shapes
/// - logits: `[batch, vocab]`; an entry may be `-inf`
/// - output: `[batch]`
///
/// # Gradient
/// `dH/dz_i = -p_i (log p_i + H) / temperature`, and 0 where `p_i` is 0: a probability of 0 times
/// its logarithm is taken as 0, in value and in gradient.
pub fn entropy_nats(logits: Tensor<2>, temperature: f64) -> Tensor<1> {
    entropy_rows(log_softmax_rows(tempered(logits, temperature))).squeeze_dim(1)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{float_tensor, host_values};
    use burn::tensor::Device;

    fn logits(values: &[f64]) -> Tensor<2> {
        let device = Device::flex().autodiff();
        float_tensor(values.to_vec(), [1, values.len()], &device, DType::F64).require_grad()
    }

    #[test]
    fn entropy_is_log_n_when_uniform_and_zero_when_certain() {
        let uniform = host_values(entropy_nats(logits(&[3.0; 8]), 0.7))[0];
        assert!((uniform - 8f64.ln()).abs() < 1e-12);
        let certain = host_values(entropy_nats(logits(&[900.0, 0.0, -900.0]), 1.0))[0];
        assert_eq!(certain, 0.0);
    }

    #[test]
    fn the_gradient_is_exact_and_finite_where_a_probability_is_zero() {
        let z = logits(&[1.0, -0.5, f64::NEG_INFINITY, -2000.0, 0.3]);
        let temperature = 1.7;
        let entropy = entropy_nats(z.clone(), temperature);
        let grads = entropy.clone().sum().backward();
        let grad = host_values(z.grad(&grads).expect("logits are tracked"));
        let h = host_values(entropy)[0];
        let scaled: Vec<f64> = [1.0, -0.5, f64::NEG_INFINITY, -2000.0, 0.3]
            .iter()
            .map(|z| f64::exp(z / temperature))
            .collect();
        let sum: f64 = scaled.iter().sum();
        for (p, g) in scaled.iter().map(|s| s / sum).zip(&grad) {
            let expected = if p == 0.0 { 0.0 } else { -p * (p.ln() + h) / temperature };
            assert!((g - expected).abs() < 1e-12, "gradient {g}, expected {expected}");
        }
    }
}
