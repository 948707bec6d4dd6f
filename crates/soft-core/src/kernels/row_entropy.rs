//! Entropy of rows of log-probabilities and its gradient in one pass each.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::node::{Kernel, exp, in_parts, sizes, tensor, values};

#[derive(Debug, Clone, Copy)]
pub(super) struct Entropy;

/// Lanes of a sum: more than one, so that it becomes vector code.
const LANES: usize = 16;

/// `p log p`, and 0 where p is 0.
#[inline(always)]
fn term(log: f32) -> f32 {
    let product = exp(log) * log;
    if log == f32::NEG_INFINITY { 0.0 } else { product }
}

/// An entropy for each row of logarithms.
struct Sums<'a> {
    width: usize,
    logs: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, logs) in self.out.iter_mut().zip(self.logs.chunks_exact(self.width)) {
            let (blocks, rest) = logs.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for block in blocks {
                for (sum, log) in sums.iter_mut().zip(block) {
                    *sum += term(*log);
                }
            }
            for (sum, log) in sums.iter_mut().zip(rest) {
                *sum += term(*log);
            }
            *out = -sums.into_iter().sum::<f32>();
        }
    }
}

/// `-g p (log p + 1)`, and 0 where p is 0.
struct Slopes<'a> {
    width: usize,
    logs: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.logs.chunks_exact(self.width).zip(self.gradient);
        for ((logs, g), out) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            for (out, log) in out.iter_mut().zip(logs) {
                *out = -g * (term(*log) + exp(*log));
            }
        }
    }
}

impl Kernel<1> for Entropy {
    /// The input.
    type Kept = FlexTensor;

    fn forward(self, [x]: [&FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, Self::Kept) {
        let kept = x.to_contiguous();
        let (mut shape, width) = sizes(&kept);
        let logs = values(&kept);
        let mut out = vec![0.0; logs.len() / width.max(1)];
        if width > 0 {
            pulp::Arch::new().dispatch(Sums { width, logs, out: &mut out });
        }
        if let Some(last) = shape.last_mut() {
            *last = 1;
        }
        (tensor(out, &shape), kept)
    }

    /// `d log p = -g p (log p + 1)`, and 0 where p is 0.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let gradient = gradient.to_contiguous();
        let (logs, gradient) = (values(&kept), values(&gradient));
        let (shape, width) = sizes(&kept);
        let mut out = vec![0.0; logs.len()];
        in_parts(&mut out, width, |first, out| {
            let (logs, gradient) = (&logs[first * width..][..out.len()], &gradient[first..]);
            pulp::Arch::new().dispatch(Slopes { width, logs, gradient, out });
        });
        [Some(tensor(out, &shape))]
    }
}
