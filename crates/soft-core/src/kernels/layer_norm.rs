//! Layer norm of rows and its gradients in one pass each.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::node::{Kernel, in_parts, sizes, tensor, values};

#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

/// The mean of a row, and what its differences from it are multiplied by.
#[derive(Clone, Copy)]
struct Moments {
    mean: f32,
    factor: f32,
}

impl Moments {
    #[inline(always)]
    fn of<S: Simd>(simd: S, x: &[f32], eps: f32) -> Self {
        let (vectors, rest) = S::as_simd_f32s(x);
        let mut sum = simd.splat_f32s(0.0);
        for x in vectors {
            sum = simd.add_f32s(sum, *x);
        }
        let d = x.len() as f32;
        let mean = (simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>()) / d;
        // Of the differences, so that a mean far from 0 costs no precision.
        let (mut squares, wide_mean) = (simd.splat_f32s(0.0), simd.splat_f32s(mean));
        for x in vectors {
            let difference = simd.sub_f32s(*x, wide_mean);
            squares = simd.mul_add_e_f32s(difference, difference, squares);
        }
        let mut sum = simd.reduce_sum_f32s(squares);
        for x in rest {
            sum += (x - mean) * (x - mean);
        }
        Self { mean, factor: 1.0 / (sum / d + eps).sqrt() }
    }
}

struct Forward<'a> {
    eps: f32,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        for (x, y) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let Moments { mean, factor } = Moments::of(simd, x, self.eps);
            for (((y, x), w), b) in y.iter_mut().zip(x).zip(self.weight).zip(self.bias) {
                *y = (x - mean) * factor * w + b;
            }
        }
    }
}

struct Backward<'a> {
    eps: f32,
    x: &'a [f32],
    weight: &'a [f32],
    gradient: &'a [f32],
    to_x: &'a mut [f32],
    to_weight: &'a mut [f32],
    to_bias: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for ((x, g), to_x) in rows.zip(self.to_x.chunks_exact_mut(width)) {
            let Moments { mean, factor } = Moments::of(simd, x, self.eps);
            let all = to_x.iter_mut().zip(x).zip(g).zip(self.weight);
            let sums = all.zip(self.to_weight.iter_mut()).zip(self.to_bias.iter_mut());
            for (((((h, x), g), w), to_weight), to_bias) in sums {
                *h = g * w;
                *to_weight += g * ((x - mean) * factor);
                *to_bias += g;
            }
            let [sum, products] = sums_with(simd, to_x, x, mean);
            let (shift, slope) = (sum / width as f32, factor * factor * products / width as f32);
            for (h, x) in to_x.iter_mut().zip(x) {
                *h = factor * (*h - shift - (x - mean) * slope);
            }
        }
    }
}

/// `sum h_i` and `sum h_i (x_i - mean)`.
#[inline(always)]
fn sums_with<S: Simd>(simd: S, h: &[f32], x: &[f32], mean: f32) -> [f32; 2] {
    let ((h, h_rest), (x, x_rest)) = (S::as_simd_f32s(h), S::as_simd_f32s(x));
    let (mut sum, mut products) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    let wide_mean = simd.splat_f32s(mean);
    for (h, x) in h.iter().zip(x) {
        sum = simd.add_f32s(sum, *h);
        products = simd.mul_add_e_f32s(*h, simd.sub_f32s(*x, wide_mean), products);
    }
    let mut sums = [simd.reduce_sum_f32s(sum), simd.reduce_sum_f32s(products)];
    for (h, x) in h_rest.iter().zip(x_rest) {
        sums[0] += h;
        sums[1] += h * (x - mean);
    }
    sums
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
            let x = &from[first * width..][..out.len()];
            let pass = Forward { eps: self.eps, x, weight: weights, bias: biases, out };
            pulp::Arch::new().dispatch(pass);
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
            let [x, gradient] = [x, gradient].map(|x| &x[first * width..][..to_x.len()]);
            let (mut to_weight, mut to_bias) = (vec![0.0; width], vec![0.0; width]);
            pulp::Arch::new().dispatch(Backward {
                eps: self.eps,
                x,
                weight,
                gradient,
                to_x,
                to_weight: &mut to_weight,
                to_bias: &mut to_bias,
            });
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
