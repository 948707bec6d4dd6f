//! Softmax of rows, its logarithm, and their gradients in a few passes over each row.

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::node::{Kernel, exp, in_parts, sizes, tensor, values};

/// Lanes of a sum: more than one, so that it becomes vector code.
const LANES: usize = 16;

#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax;

#[derive(Debug, Clone, Copy)]
pub(super) struct LogSoftmax;

/// The largest value. A NaN may be passed over: it comes back with the sum of the exponentials.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let more = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, more);
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (most, x) in most.iter_mut().zip(chunk) {
            *most = if *x > *most { *x } else { *most };
        }
    }
    most.into_iter().fold(rest, more)
}

/// The sum of `f` over pairs, in lanes.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| f(*a, *b)).sum();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(*a, *b);
        }
    }
    sums.into_iter().sum::<f32>() + rest
}

/// Rows of x to their softmax.
struct Probabilities<'a> {
    width: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Probabilities<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.x.chunks_exact(self.width);
        for (x, y) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            let most = largest(x);
            for (y, x) in y.iter_mut().zip(x) {
                *y = exp(x - most);
            }
            let scale = 1.0 / sum(y, y, |y, _| y);
            y.iter_mut().for_each(|y| *y *= scale);
        }
    }
}

/// `dx = p (g - sum(p g))`.
struct ProbabilitiesBack<'a> {
    width: usize,
    probs: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for ProbabilitiesBack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.probs.chunks_exact(self.width).zip(self.gradient.chunks_exact(self.width));
        for ((p, g), dx) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            let inner = sum(p, g, |p, g| p * g);
            for ((dx, p), g) in dx.iter_mut().zip(p).zip(g) {
                *dx = p * (g - inner);
            }
        }
    }
}

/// Rows of x to the logarithm of their softmax.
struct Logs<'a> {
    width: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Logs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.x.chunks_exact(self.width);
        for (x, y) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            let most = largest(x);
            let normalizer = sum(x, x, |x, _| exp(x - most)).ln() + most;
            for (y, x) in y.iter_mut().zip(x) {
                *y = x - normalizer;
            }
        }
    }
}

/// `dx = g - p sum(g)`.
struct LogsBack<'a> {
    width: usize,
    logs: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for LogsBack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.logs.chunks_exact(self.width).zip(self.gradient.chunks_exact(self.width));
        for ((log, g), dx) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            let total = sum(g, g, |g, _| g);
            for ((dx, log), g) in dx.iter_mut().zip(log).zip(g) {
                *dx = g - exp(*log) * total;
            }
        }
    }
}

impl Kernel<1> for Softmax {
    /// The output.
    type Kept = FlexTensor;

    fn forward(self, [x]: [&FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, Self::Kept) {
        let x = x.to_contiguous();
        let (shape, width) = sizes(&x);
        let x = values(&x);
        let mut out = vec![0.0; x.len()];
        in_parts(&mut out, width, |first, out| {
            let x = &x[first * width..][..out.len()];
            pulp::Arch::new().dispatch(Probabilities { width, x, out });
        });
        let out = tensor(out, &shape);
        (out.clone(), out)
    }

    /// `dx = p (g - sum(p g))`.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let gradient = gradient.to_contiguous();
        let (probs, gradient) = (values(&kept), values(&gradient));
        let (shape, width) = sizes(&kept);
        let mut out = vec![0.0; probs.len()];
        in_parts(&mut out, width, |first, out| {
            let [probs, gradient] = [probs, gradient].map(|x| &x[first * width..][..out.len()]);
            pulp::Arch::new().dispatch(ProbabilitiesBack { width, probs, gradient, out });
        });
        [Some(tensor(out, &shape))]
    }
}

impl Kernel<1> for LogSoftmax {
    /// The output.
    type Kept = FlexTensor;

    fn forward(self, [x]: [&FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, Self::Kept) {
        let x = x.to_contiguous();
        let (shape, width) = sizes(&x);
        let x = values(&x);
        let mut out = vec![0.0; x.len()];
        in_parts(&mut out, width, |first, out| {
            let x = &x[first * width..][..out.len()];
            pulp::Arch::new().dispatch(Logs { width, x, out });
        });
        let out = tensor(out, &shape);
        (out.clone(), out)
    }

    /// `dx = g - p sum(g)`.
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
            let [logs, gradient] = [logs, gradient].map(|x| &x[first * width..][..out.len()]);
            pulp::Arch::new().dispatch(LogsBack { width, logs, gradient, out });
        });
        [Some(tensor(out, &shape))]
    }
}
