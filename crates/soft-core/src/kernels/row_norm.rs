//! RMS norm of rows and its gradients in one pass each.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::node::{Kernel, in_parts, sizes, tensor, values};

#[derive(Debug, Clone, Copy)]
pub(super) struct RowNorm {
    pub(super) eps: f32,
}

/// `sum a_i b_i c_i`, with c all ones where it is not given.
struct TripleSum<'a> {
    a: &'a [f32],
    b: &'a [f32],
    c: Option<&'a [f32]>,
}

impl WithSimd for TripleSum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(self.a), S::as_simd_f32s(self.b));
        let mut sums = [simd.splat_f32s(0.0); 2];
        match self.c {
            None => {
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    sums[i % 2] = simd.mul_add_e_f32s(*a, *b, sums[i % 2]);
                }
                let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
                simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])) + rest
            }
            Some(c) => {
                let (c, c_rest) = S::as_simd_f32s(c);
                for (i, ((a, b), c)) in a.iter().zip(b).zip(c).enumerate() {
                    sums[i % 2] = simd.mul_add_e_f32s(simd.mul_f32s(*a, *b), *c, sums[i % 2]);
                }
                let rest = a_rest.iter().zip(b_rest).zip(c_rest);
                let rest: f32 = rest.map(|((a, b), c)| a * b * c).sum();
                simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])) + rest
            }
        }
    }
}

impl RowNorm {
    /// `1 / sqrt(mean(x^2) + eps)`.
    fn scale(self, x: &[f32]) -> f32 {
        let squares = pulp::Arch::new().dispatch(TripleSum { a: x, b: x, c: None });
        1.0 / (squares / x.len() as f32 + self.eps).sqrt()
    }
}

impl Kernel<2> for RowNorm {
    type Kept = [FlexTensor; 2];

    fn forward(self, inputs: [&FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, Self::Kept) {
        let kept = inputs.map(FlexTensor::to_contiguous);
        let [x, weight] = kept.each_ref().map(values);
        let (shape, width) = sizes(&kept[0]);
        let mut out = vec![0.0; x.len()];
        in_parts(&mut out, width, |first, out| {
            let rows = x[first * width..].chunks_exact(width);
            for (x, y) in rows.zip(out.chunks_exact_mut(width)) {
                let scale = self.scale(x);
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                            *y = x * scale * w;
                        }
                    },
                );
            }
        });
        (tensor(out, &shape), kept)
    }

    /// With r the scale of a row: `dx = r g w - r^3 x sum(g w x) / d` and `dw = sum over rows g x r`.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [x, weight] = kept.each_ref().map(values);
        let gradient = gradient.to_contiguous();
        let gradient = values(&gradient);
        let (shape, width) = sizes(&kept[0]);
        let mut to_x = vec![0.0; x.len()];
        let parts = in_parts(&mut to_x, width, |first, to_x| {
            let [x, gradient] = [x, gradient].map(|x| x[first * width..].chunks_exact(width));
            let mut to_weight = vec![0.0; if wanted[1] { width } else { 0 }];
            for ((x, g), to_x) in x.zip(gradient).zip(to_x.chunks_exact_mut(width)) {
                let scale = self.scale(x);
                let arch = pulp::Arch::new();
                let inner = arch.dispatch(TripleSum { a: x, b: g, c: Some(weight) });
                let along = scale * scale * scale * inner / width as f32;
                arch.dispatch(
                    #[inline(always)]
                    || {
                        for (((to_x, x), g), w) in to_x.iter_mut().zip(x).zip(g).zip(weight) {
                            *to_x = scale * g * w - along * x;
                        }
                        for ((to_weight, x), g) in to_weight.iter_mut().zip(x).zip(g) {
                            *to_weight += g * x * scale;
                        }
                    },
                );
            }
            to_weight
        });
        let to_weight = wanted[1].then(|| {
            let mut sum = vec![0.0; width];
            for part in parts {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            tensor(sum, &[1, width])
        });
        [wanted[0].then(|| tensor(to_x, &shape)), to_weight]
    }
}
