//! Each kernel is the composed expression, in value and in gradient.

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{DType, Device};

use super::*;
use crate::{float_tensor, host_values};

/// Numbers without a pattern, from -2 to 2.
fn numbers(seed: u32, count: usize) -> Vec<f64> {
    (0..count).map(|i| 2.0 * (f64::from(seed) * 7919.0 + i as f64 * 1.7).sin()).collect()
}

fn leaf<const D: usize>(seed: u32, shape: [usize; D]) -> Tensor<D> {
    let values = numbers(seed, shape.iter().product());
    float_tensor(values, shape, &Device::flex().autodiff(), DType::F32).require_grad()
}

fn assert_close(found: Vec<f64>, expected: Vec<f64>, what: &str) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.1_f64, |most, x| most.max(x.abs()));
    assert!(expected.iter().any(|x| *x != 0.0), "{what}: something is computed");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5 * scale, "{what}: {found}, expected {expected}");
    }
}

/// Compares values and the gradients of a weighted sum in all inputs.
fn assert_same<const N: usize, const D: usize>(
    inputs: [Tensor<D>; N],
    kernel: impl Fn([Tensor<D>; N]) -> Tensor<D>,
    composed: impl Fn([Tensor<D>; N]) -> Tensor<D>,
) {
    let run = |f: &dyn Fn([Tensor<D>; N]) -> Tensor<D>| {
        let y = f(inputs.clone());
        let weights = numbers(17, y.dims().iter().product());
        let weights = float_tensor(weights, y.dims(), &y.device(), DType::F32);
        let mut grads = (y.clone() * weights).sum().backward();
        let found = inputs
            .each_ref()
            .map(|x| host_values(x.grad_remove(&mut grads).expect("every input has a gradient")));
        (host_values(y.inner()), found)
    };
    let (values, gradients) = run(&kernel);
    let (expected, expected_gradients) = run(&composed);
    assert_close(values.clone(), expected, "value");
    for (found, expected) in gradients.into_iter().zip(expected_gradients) {
        assert_close(found, expected, "gradient");
    }
    let plain = kernel(inputs.clone().map(Tensor::inner));
    assert_eq!(host_values(plain), values, "the same without autodiff");
}

#[test]
fn a_product_of_few_rows_is_the_product() {
    for rows in 1..=MOST {
        for (depth, width) in [(1, 1), (37, 5), (64, 33), (48, 16), (700, 600)] {
            let x = leaf(1, [rows, depth]);
            let by_row = leaf(2, [depth, width]);
            let multiply = |[x, w]: [Tensor<2>; 2]| product(x, w);
            assert_same([x.clone(), by_row], multiply, |[x, w]| x.matmul(w));
            // The layout of checkpoints: a view of the transpose.
            let by_column = Tensor::<2>::from_inner(leaf(2, [width, depth]).inner().transpose());
            assert_same([x, by_column.require_grad()], multiply, |[x, w]| x.matmul(w));
        }
    }
}

/// One more than the kernel takes.
const MOST: usize = few_rows::MOST_ROWS + 1;

#[test]
fn a_matrix_that_lies_neither_way_is_multiplied_all_the_same() {
    let part = |x: Tensor<2>| x.narrow(1, 3, 4);
    let (x, wide) = (leaf(1, [2, 6]), leaf(2, [6, 9]));
    let composed = |[x, w]: [Tensor<2>; 2]| x.matmul(part(w));
    assert_same([x, wide], |[x, w]| product(x, part(w)), composed);
}

#[test]
fn an_affine_map_is_its_formula_wherever_its_matrices_lie() {
    for (rows, depth, width) in [(1, 3, 2), (8, 5, 7), (9, 1, 1), (37, 19, 33), (400, 200, 150)] {
        let (x, b) = (leaf(1, [rows, depth]), leaf(3, [1, width]));
        let formula = |[x, w, b]: [Tensor<2>; 3]| x.matmul(w) + b;
        let kernel = |[x, w, b]: [Tensor<2>; 3]| affine(x, w, b);
        assert_same([x.clone(), leaf(2, [depth, width]), b.clone()], kernel, formula);
        // The layout of checkpoints, and a part of a wider matrix.
        let view = Tensor::<2>::from_inner(leaf(2, [width, depth]).inner().transpose());
        assert_same([x.clone(), view.require_grad(), b.clone()], kernel, formula);
        let part = |w: Tensor<2>| w.narrow(1, 2, width);
        let inputs = [x.clone(), leaf(2, [depth, width + 3]), b];
        let kernel = |[x, w, b]: [Tensor<2>; 3]| affine(x, part(w), b);
        assert_same(inputs, kernel, |[x, w, b]| x.matmul(part(w)) + b);
        // From both sides, and with rows that lie backwards.
        let turned = |x: Tensor<2>| x.flip([0]);
        let inputs = [x, leaf(2, [depth, width])];
        assert_same(inputs, |[x, w]| product(turned(x), w), |[x, w]| turned(x).matmul(w));
    }
    let nothing = Tensor::<2>::zeros([9, 0], &Device::flex());
    let bias = float_tensor(vec![1.5, -2.0], [1, 2], &Device::flex(), DType::F32);
    let found = affine(nothing, Tensor::zeros([0, 2], &Device::flex()), bias);
    assert_eq!(host_values(found), [1.5, -2.0].repeat(9), "a sum over nothing is the bias");
}

#[test]
fn entropy_of_rows_is_its_formula() {
    for (rows, width) in [(1, 2), (3, 37), (90, 512)] {
        let formula = |[x]: [Tensor<2>; 1]| -(x.clone().exp() * x).sum_dim(1);
        let logs = log_softmax(leaf(5, [rows, width]) * 3.0, 1).inner();
        let logs = Tensor::<2>::from_inner(logs).require_grad();
        assert_same([logs], |[x]| entropy_rows(x), formula);
    }
    for dtype in [DType::F32, DType::F64] {
        let logs = vec![0.5_f64.ln(), f64::NEG_INFINITY, 0.5_f64.ln()];
        let device = Device::flex().autodiff();
        let logs = float_tensor(logs, [1, 3], &device, dtype).require_grad();
        let entropy = entropy_rows(logs.clone());
        let grads = entropy.clone().backward();
        let slopes = host_values(logs.grad(&grads).expect("a gradient"));
        assert!((host_values(entropy)[0] - 2.0_f64.ln()).abs() < 1e-6);
        let expected = -0.5 * (0.5_f64.ln() + 1.0);
        assert!((slopes[0] - expected).abs() < 1e-6 && slopes[1] == 0.0, "{slopes:?}");
    }
}

#[test]
fn a_scaled_sum_is_its_formula() {
    for (rows, width) in [(1, 8), (3, 37), (90, 512)] {
        let scales = leaf(4, [rows, width]).inner();
        let formula = |[x, y]: [Tensor<2>; 2]| match x.device().is_autodiff() {
            true => x + y * Tensor::from_inner(scales.clone()),
            false => x + y * scales.clone(),
        };
        let kernel = |[x, y]: [Tensor<2>; 2]| match x.device().is_autodiff() {
            true => scaled_sum(x, y, Tensor::from_inner(scales.clone())),
            false => scaled_sum(x, y, scales.clone()),
        };
        assert_same([leaf(1, [rows, width]), leaf(2, [rows, width])], kernel, formula);
    }
}

#[test]
fn rms_norm_is_its_formula() {
    for (rows, width) in [(1, 8), (3, 37), (90, 512)] {
        let composed = |[x, w]: [Tensor<2>; 2]| {
            let rms = (x.clone().square().mean_dim(1) + 1e-5).sqrt();
            x / rms * w
        };
        let inputs = [leaf(3, [rows, width]), leaf(4, [1, width])];
        assert_same(inputs, |[x, w]| rms_norm(x, w, 1e-5), composed);
    }
}

#[test]
fn layer_norm_is_its_formula() {
    for (rows, width) in [(1, 8), (3, 37), (90, 512)] {
        let composed = |[x, w, b]: [Tensor<2>; 3]| {
            let x = x.clone() - x.mean_dim(1);
            let deviation = (x.clone().square().mean_dim(1) + 1e-5).sqrt();
            x / deviation * w + b
        };
        // Far from 0, where squares less the square of the mean would have no digit left.
        let far = Tensor::from_inner((leaf(3, [rows, width]) + 40.0).inner()).require_grad();
        for x in [leaf(3, [rows, width]), far] {
            let inputs = [x, leaf(4, [1, width]), leaf(5, [1, width])];
            assert_same(inputs, |[x, w, b]| layer_norm(x, w, b, 1e-5), composed);
        }
    }
}

/// Grouped heads, a mask for all rows or one each, with and without drop-out; enough rows for
/// several threads in one of them. Query, keys and values are views, as a model's are.
#[test]
fn attention_over_few_slots_is_its_formula() {
    for (batch, kv, group, seq, slots, depth, drops) in [
        (1, 1, 1, 1, 2, 3, false),
        (2, 2, 2, 3, 5, 8, true),
        (3, 1, 2, 4, 4, 19, false),
        // One, two, three and four vectors of slots or features, whole and not.
        (2, 2, 1, 16, 16, 16, true),
        (2, 1, 1, 5, 31, 40, true),
        (1, 1, 3, 33, 48, 33, true),
        (1, 2, 1, 50, 64, 32, true),
        (1, 1, 1, 30, 30, 65, true),
        (1, 1, 1, 2, 128, 16, false),
        (400, 2, 1, 9, 9, 16, true),
    ] {
        let heads = kv * group;
        let scale = (depth as f64).powf(-0.5);
        let shape = [if drops { batch } else { 1 }, 1, seq, slots];
        let sees = |at: usize| (at % slots) <= (at / slots % seq) + slots - seq;
        let mask =
            (0..shape.iter().product()).map(|at| if sees(at) { 0.0 } else { f64::NEG_INFINITY });
        let mask = float_tensor(mask.collect(), shape, &Device::flex().autodiff(), DType::F32);
        let mask = mask.repeat_dim(2, group);
        let shape = [batch, kv, group * seq, slots];
        let scales = numbers(5, shape.iter().product());
        let scales: Vec<f64> =
            scales.into_iter().map(|x| if x > 0.0 { 1.25 } else { 0.0 }).collect();
        let scales = float_tensor(scales, shape, &Device::flex().autodiff(), DType::F32);
        let view = |x: Tensor<4>| x.swap_dims(1, 2);
        let plain = |like: &Tensor<4>, x: &Tensor<4>| {
            if like.device().is_autodiff() { x.clone() } else { x.clone().inner() }
        };
        let kernel = |[q, k, v]: [Tensor<4>; 3]| {
            let scales = plain(&q, &scales);
            let scales = drops.then_some(&scales);
            let (q, k, v) = (view(q), view(k), view(v));
            let mask = plain(&q, &mask);
            let mask = (slots != 2).then_some(&mask);
            attention_over_few(&q, [&k, &v], mask, scales, scale).expect("there is a kernel")
        };
        let composed = |[q, k, v]: [Tensor<4>; 3]| {
            let (q, k, v) = (view(q), view(k), view(v));
            let q = (q * scale).reshape([batch, kv, group * seq, depth]);
            let mut weights = softmax(q.matmul(k.swap_dims(2, 3)) + mask.clone(), 3);
            if drops {
                weights = weights * scales.clone();
            }
            weights.matmul(v).reshape([batch, heads, seq, depth]).swap_dims(1, 2)
        };
        let keys = |seed| leaf(seed, [batch, slots, kv, depth]);
        let inputs = [leaf(3, [batch, seq, heads, depth]), keys(4), keys(6)];
        assert_same(inputs, kernel, composed);
    }
}

#[test]
fn rotation_is_its_formula_and_reads_heads_where_they_lie() {
    for (rows, columns, seq) in [(1, 1, 1), (2, 1, 1), (2, 5, 5), (1, 200, 200), (1, 1, 5)] {
        let [batch, heads, width] = [2, 3, 6];
        let angles = numbers(9, rows * columns * width / 2);
        let table = |of: fn(f64) -> f64| {
            let halves = angles.chunks_exact(width / 2).flat_map(|half| [half, half].concat());
            let values = halves.map(of).collect();
            let device = Device::flex().autodiff();
            float_tensor::<4>(values, [rows, 1, columns, width], &device, DType::F32)
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let composed = |[x]: [Tensor<4>; 1]| {
            let x = x.swap_dims(1, 2);
            let turned =
                Tensor::cat(vec![-x.clone().narrow(3, 3, 3), x.clone().narrow(3, 0, 3)], 3);
            x * cos.clone() + turned * sin.clone()
        };
        let kernel = |[x]: [Tensor<4>; 1]| match x.device().is_autodiff() {
            true => rotated(x.swap_dims(1, 2), &cos, &sin),
            false => rotated(x.swap_dims(1, 2), &cos.clone().inner(), &sin.clone().inner()),
        };
        assert_same([leaf(8, [batch, seq, heads, width])], kernel, composed);
    }
}

#[test]
fn gated_silu_is_its_formula() {
    for (rows, width) in [(1, 8), (3, 37), (90, 512)] {
        let inputs = [leaf(5, [rows, width]) * 9.0, leaf(6, [rows, width])];
        let inputs = inputs.map(|x| Tensor::from_inner(x.inner()).require_grad());
        assert_same(inputs, |[g, u]| gated_silu(g, u), |[g, u]| g.clone() * sigmoid(g) * u);
    }
}

#[test]
fn gelu_is_its_formula() {
    let formula = |[x]: [Tensor<2>; 1]| {
        let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044_715)
            * (2.0 / std::f64::consts::PI).sqrt();
        x * (burn::tensor::activation::tanh(inner) + 1.0) * 0.5
    };
    for (rows, width) in [(1, 8), (3, 37), (90, 512)] {
        let x = (leaf(5, [rows, width]) * 4.0).inner();
        let x = || [Tensor::<2>::from_inner(x.clone()).require_grad()];
        assert_same(x(), |[x]| gelu_tanh(x), formula);
    }
    let x = float_tensor(numbers(5, 40), [4, 10], &Device::flex(), DType::F64);
    let (found, expected) = (host_values(gelu_tanh(x.clone())), host_values(formula([x])));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "composed");
    let far = float_tensor(vec![-1e4, 0.0, 1e4, f64::NAN], [1, 4], &Device::flex(), DType::F32);
    let far = host_values(gelu_tanh(far));
    assert_eq!(far[..3], [0.0, 0.0, 1e4]);
    assert!(far[3].is_nan());
}

#[test]
fn softmax_and_its_logarithm_are_the_backends() {
    for (rows, width) in [(1, 1), (3, 37), (90, 512)] {
        let input = (leaf(7, [rows, width]) * 20.0).inner();
        let input = || [Tensor::<2>::from_inner(input.clone()).require_grad()];
        if width > 1 {
            assert_same(input(), |[x]| softmax_last(x), |[x]| softmax(x, 1));
            assert_same(input(), |[x]| log_softmax_rows(x), |[x]| log_softmax(x, 1));
        }
        let sums = host_values(softmax_last(input()[0].clone()).sum_dim(1));
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
}

#[test]
fn what_is_masked_has_no_weight_and_what_is_no_number_stays_none() {
    let row = |values: &[f64]| {
        float_tensor(values.to_vec(), [1, values.len()], &Device::flex(), DType::F32)
    };
    let masked = host_values(softmax_last(row(&[1.0, f64::NEG_INFINITY, 1.0, -200.0])));
    assert_eq!(masked, [0.5, 0.0, 0.5, 0.0]);
    let logs = host_values(log_softmax_rows(row(&[0.0, f64::NEG_INFINITY])));
    assert_eq!(logs, [0.0, f64::NEG_INFINITY]);
    let broken = host_values(softmax_last(row(&[1.0, f64::NAN])));
    assert!(broken.iter().all(|x| x.is_nan()));
    let broken = host_values(gated_silu(row(&[f64::NAN, 1.0]), row(&[1.0, 1.0])));
    assert!(broken[0].is_nan() && broken[1].is_finite());
    let device = Device::flex();
    let one = |x: f64| float_tensor(vec![x, 1.0], [1, 1, 2, 1], &device, DType::F32);
    let mask = float_tensor(vec![0.0, f64::NEG_INFINITY], [1, 1, 1, 2], &device, DType::F32);
    for (query, expected) in [(1.0, false), (f64::NAN, true)] {
        let query = one(query).narrow(2, 0, 1);
        let found = attention_over_few(&query, [&one(2.0), &one(3.0)], Some(&mask), None, 1.0);
        let found = host_values(found.expect("there is a kernel"))[0];
        assert!(found == 3.0 || (expected && found.is_nan()), "{found}");
    }
    let far = host_values(gated_silu(row(&[-1e4, 1e4]), row(&[1.0, 1.0])));
    assert_eq!(far, [0.0, 1e4]);
}

#[test]
fn other_precisions_are_composed() {
    let x = float_tensor(numbers(1, 6), [2, 3], &Device::flex(), DType::F64);
    let w = float_tensor(vec![1.0; 3], [1, 3], &Device::flex(), DType::F64);
    assert_eq!(rms_norm(x.clone(), w, 1e-5).dtype(), DType::F64);
    assert_eq!(host_values(softmax_last(x.clone())), host_values(softmax(x, 1)));
}
