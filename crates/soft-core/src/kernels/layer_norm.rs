//! Layer norm of rows and its gradients in one pass each.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::node::{Kernel, in_parts, sizes, tensor, values};

#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

/// `sum a_i` and `sum a_i b_i`.
struct Sums<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl WithSimd for Sums<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(self.a), S::as_simd_f32s(self.b));
        let mut sums = [simd.splat_f32s(0.0); 2];
        for (a, b) in a.iter().zip(b) {
            sums[0] = simd.add_f32s(sums[0], *a);
            sums[1] = simd.mul_add_e_f32s(*a, *b, sums[1]);
        }
        let products: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
        let alone: f32 = a_rest.iter().sum();
        [simd.reduce_sum_f32s(sums[0]) + alone, simd.reduce_sum_f32s(sums[1]) + products]
    }
}

impl LayerNorm {
    /// Writes `(x - mean) / sqrt(var + eps)` into `out`, and gives the factor of it.
    fn standardize(self, x: &[f32], out: &mut [f32]) -> f32 {
        let arch = pulp::Arch::new();
        let d = x.len() as f32;
        let mean = arch.dispatch(Sums { a: x, b: x })[0] / d;
        arch.dispatch(|| {
            for (y, x) in out.iter_mut().zip(x) {
                *y = x - mean;
            }
        });
        // Of the differences, so that a mean far from 0 costs no precision.
        let squares = arch.dispatch(Sums { a: out, b: out })[1];
        let scale = 1.0 / (squares / d + self.eps).sqrt();
        arch.dispatch(|| out.iter_mut().for_each(|y| *y *= scale));
        scale
    }
}

impl Kernel<3> for LayerNorm {
    /// The input and the weight.
    type Kept = [FlexTensor; 2];

    fn forward(self, inputs: [&FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Self::Kept) {
        let [x, weight, bias] = inputs.map(FlexTensor::to_contiguous);
        let (shape, width) = sizes(&x);
        let [from, weights, biases] = [&x, &weight, &bias].map(values);
        let mut out = vec![0.0; from.len()];
        in_parts(&mut out, width, |first, out| {
            let rows = from[first * width..].chunks_exact(width);
            for (x, y) in rows.zip(out.chunks_exact_mut(width)) {
                self.standardize(x, y);
                pulp::Arch::new().dispatch(|| {
                    for ((y, w), b) in y.iter_mut().zip(weights).zip(biases) {
                        *y = *y * w + b;
                    }
                });
            }
        });
        (tensor(out, &shape), [x, weight])
    }

    /// With z the standardised row, r its factor and h = g w:
    /// `dx = r (h - mean(h) - z mean(h z))`, `dw = sum over rows g z`, `db = sum over rows g`.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let [x, weight] = kept.each_ref().map(values);
        let gradient = gradient.to_contiguous();
        let gradient = values(&gradient);
        let (shape, width) = sizes(&kept[0]);
        let mut to_x = vec![0.0; x.len()];
        let parts = in_parts(&mut to_x, width, |first, to_x| {
            let [x, gradient] = [x, gradient].map(|x| x[first * width..].chunks_exact(width));
            let (mut to_weight, mut to_bias) = (vec![0.0; width], vec![0.0; width]);
            let mut z = vec![0.0; width];
            let arch = pulp::Arch::new();
            for ((x, g), to_x) in x.zip(gradient).zip(to_x.chunks_exact_mut(width)) {
                let scale = self.standardize(x, &mut z);
                arch.dispatch(|| {
                    for ((h, g), w) in to_x.iter_mut().zip(g).zip(weight) {
                        *h = g * w;
                    }
                });
                let means = arch.dispatch(Sums { a: to_x, b: &z }).map(|sum| sum / width as f32);
                arch.dispatch(|| {
                    for (h, z) in to_x.iter_mut().zip(&z) {
                        *h = scale * (*h - means[0] - z * means[1]);
                    }
                    let sums = to_weight.iter_mut().zip(&mut to_bias);
                    for (((to_weight, to_bias), g), z) in sums.zip(g).zip(&z) {
                        *to_weight += g * z;
                        *to_bias += g;
                    }
                });
            }
            [to_weight, to_bias]
        });
        let total = |of: usize| {
            let mut sum = vec![0.0; width];
            for part in &parts {
                sum.iter_mut().zip(&part[of]).for_each(|(sum, part)| *sum += part);
            }
            tensor(sum, &[1, width])
        };
        [
            wanted[0].then(|| tensor(to_x, &shape)),
            wanted[1].then(|| total(0)),
            wanted[2].then(|| total(1)),
        ]
    }
}
