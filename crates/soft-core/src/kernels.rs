//! Operations that the CPU backend would do in many small ones, or on one thread.
//!
//! A step of a recurrence is hundreds of operations on a few rows, and each has a price of its own
//! in the graph, whatever its size. Each function here is one node of the graph on the CPU backend
//! in f32; for any other device or precision it is the expression that its documentation gives,
//! composed of the backend's own operations.

#[cfg(feature = "flex")]
mod affine;
#[cfg(feature = "flex")]
mod attention;
#[cfg(feature = "flex")]
mod few_rows;
#[cfg(feature = "flex")]
mod gated;
#[cfg(feature = "flex")]
mod gelu;
#[cfg(feature = "flex")]
mod layer_norm;
#[cfg(feature = "flex")]
mod node;
#[cfg(feature = "flex")]
mod rotated;
#[cfg(feature = "flex")]
mod row_entropy;
#[cfg(feature = "flex")]
mod row_norm;
#[cfg(feature = "flex")]
mod row_softmax;
#[cfg(feature = "flex")]
mod scaled_sum;

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, sigmoid, softmax};

/// `x W`, faster than the backend's where x has few rows.
///
/// # Shapes
/// - x: `[rows, d_in]`; weight: `[d_in, d_out]`; output: `[rows, d_out]`
pub fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    {
        let y = if x.dims()[0] <= few_rows::MOST_ROWS && few_rows::has_vectors() {
            node::apply(few_rows::FewRows, [&x, &weight])
        } else {
            node::apply(affine::Affine { biased: false }, [&x, &weight, &weight])
        };
        if let Some(y) = y {
            return y;
        }
    }
    x.matmul(weight)
}

/// `x W + b`.
///
/// # Shapes
/// - x: `[rows, d_in]`; weight: `[d_in, d_out]`; bias: `[1, d_out]`; output: `[rows, d_out]`
pub fn affine(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if x.dims()[0] > few_rows::MOST_ROWS
        && let Some(y) = node::apply(affine::Affine { biased: true }, [&x, &weight, &bias])
    {
        return y;
    }
    product(x, weight) + bias
}

/// `x / sqrt(mean(x^2) + eps) * weight`, row by row (RMS norm, Zhang and Sennrich 2019,
/// arXiv:1910.07467).
///
/// # Shapes
/// - x: `[rows, d]`; weight: `[1, d]`; output: `[rows, d]`
pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f64) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(row_norm::RowNorm { eps: eps as f32 }, [&x, &weight]) {
        return y;
    }
    let rms = (x.clone().square().mean_dim(1) + eps).sqrt();
    x / rms * weight
}

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, row by row (layer norm, Ba et al. 2016,
/// arXiv:1607.06450).
///
/// # Shapes
/// - x: `[rows, d]`; weight, bias: `[1, d]`; output: `[rows, d]`
pub fn layer_norm(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<2>, eps: f64) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(layer_norm::LayerNorm { eps: eps as f32 }, [&x, &weight, &bias]) {
        return y;
    }
    rms_norm(x.clone() - x.mean_dim(1), weight, eps) + bias
}

/// `x + y scales`, with constant scales: a residual sum after drop-out.
///
/// # Shapes
/// - all: `[rows, d]`
pub fn scaled_sum(x: Tensor<2>, y: Tensor<2>, scales: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(scaled_sum::ScaledSum, [&x, &y, &scales]) {
        return y;
    }
    x + y * scales
}

/// `gate sigmoid(gate) up` (SwiGLU without its matrices, Shazeer 2020, arXiv:2002.05202).
///
/// # Shapes
/// - gate, up: `[rows, d]`; output: the same
pub fn gated_silu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(gated::GatedSilu, [&gate, &up]) {
        return y;
    }
    gate.clone() * sigmoid(gate) * up
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, the tanh form of GELU (Hendrycks and Gimpel
/// 2016, arXiv:1606.08415), as `x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`.
///
/// # Shapes
/// - x: `[rows, d]`; output: the same
pub fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(gelu::GeluTanh, [&x]) {
        return y;
    }
    let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let inner = x.clone() * (x.clone().square() * 0.044_715 + 1.0) * scale;
    x * sigmoid(inner)
}

/// `x cos + rotate_half(x) sin`, where `rotate_half` puts minus the second half of a row before the
/// first (rotary positions, Su et al. 2021, arXiv:2104.09864).
///
/// # Shapes
/// - x: `[batch, heads, seq, head_dim]`; output: the same
/// - cos, sin: `[batch or 1, 1, seq or 1, head_dim]`, constants whose halves are the same
pub fn rotated(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(rotated::Rotated, [&x, cos, sin]) {
        return y;
    }
    let half = x.dims()[3] / 2;
    let first = x.clone().narrow(3, 0, half);
    let second = x.clone().narrow(3, half, half);
    let turned = Tensor::cat(vec![-second, first], 3);
    x * cos.clone() + turned * sin.clone()
}

/// `(softmax(scale Q K^T + mask) * scales) V`, head by head (Vaswani et al. 2017, arXiv:1706.03762,
/// eq. 1); each key/value head serves as many query heads in a row. `None` where the products of
/// matrices that this is composed of are as fast: on other devices, in other precisions, and over
/// many slots.
///
/// # Shapes
/// - query: `[batch, heads, seq, depth]`; keys, values: `[batch, kv_heads, slots, depth]`
/// - mask, added, the same for all heads: `[batch or 1, 1, heads / kv_heads * seq, slots]`
/// - scales, of drop-out: `[batch, kv_heads, heads / kv_heads * seq, slots]`
/// - output: `[batch, seq, heads, depth]`
pub fn attention_over_few(
    query: &Tensor<4>,
    [keys, values]: [&Tensor<4>; 2],
    mask: Option<&Tensor<4>>,
    scales: Option<&Tensor<4>>,
    scale: f64,
) -> Option<Tensor<4>> {
    #[cfg(feature = "flex")]
    if attention::is_fast(keys.dims()[2], keys.dims()[3]) {
        let (masked, drops) = (mask.is_some(), scales.is_some());
        let kernel = attention::FewSlots { scale: scale as f32, masked, drops };
        // In the place of what is not there stands anything.
        let (mask, scales) = (mask.unwrap_or(query), scales.unwrap_or(query));
        return node::apply(kernel, [query, keys, values, mask, scales]);
    }
    #[cfg(not(feature = "flex"))]
    let _ = (query, keys, values, mask, scales, scale);
    None
}

/// `softmax` over the last dimension.
///
/// # Shapes
/// - x: any; output: the same
pub fn softmax_last<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(row_softmax::Softmax, [&x]) {
        return y;
    }
    softmax(x, D - 1)
}

/// `log softmax` of each row.
///
/// # Shapes
/// - x: `[rows, d]`; output: the same
pub fn log_softmax_rows(x: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(row_softmax::LogSoftmax, [&x]) {
        return y;
    }
    log_softmax(x, 1)
}

/// `-sum_i p_i log p_i` of each row of log-probabilities, where a probability of 0 adds 0, in value
/// and in gradient.
///
/// # Shapes
/// - log_probs: `[rows, d]`; output: `[rows, 1]`
pub fn entropy_rows(log_probs: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = node::apply(row_entropy::Entropy, [&log_probs]) {
        return y;
    }
    let impossible = log_probs.clone().detach().equal_elem(f64::NEG_INFINITY);
    let finite = log_probs.clone().mask_fill(impossible, 0.0);
    -(log_probs.exp() * finite).sum_dim(1)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
