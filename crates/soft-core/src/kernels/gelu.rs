//! The tanh form of GELU and its gradient in one pass each.

use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};

use burn::backend::flex::FlexTensor;

use super::node::{Kernel, exp, in_parts, sizes, tensor, values};

/// `2 sqrt(2 / pi)`.
const SCALE: f32 = FRAC_2_SQRT_PI * SQRT_2;
const CUBE: f32 = 0.044_715;

#[derive(Debug, Clone, Copy)]
pub(super) struct GeluTanh;

/// `sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`, which is `(1 + tanh(..)) / 2`.
#[inline(always)]
fn gate(x: f32) -> f32 {
    let inner = SCALE * x * (1.0 + CUBE * x * x);
    let small = exp(-inner.abs());
    let least = small / (1.0 + small);
    if inner < 0.0 { least } else { 1.0 - least }
}

impl Kernel<1> for GeluTanh {
    /// The input.
    type Kept = FlexTensor;

    fn forward(self, [x]: [&FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, Self::Kept) {
        let kept = x.to_contiguous();
        let (shape, width) = sizes(&kept);
        let x = values(&kept);
        let mut out = vec![0.0; x.len()];
        in_parts(&mut out, width, |first, out| {
            let x = &x[first * width..];
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (y, x) in out.iter_mut().zip(x) {
                        *y = x * gate(*x);
                    }
                },
            );
        });
        (tensor(out, &shape), kept)
    }

    /// With s the gate: `dx = g (s + x s (1 - s) 2 sqrt(2 / pi) (1 + 3 * 0.044715 x^2))`.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let gradient = gradient.to_contiguous();
        let (x, gradient) = (values(&kept), values(&gradient));
        let (shape, width) = sizes(&kept);
        let mut out = vec![0.0; x.len()];
        in_parts(&mut out, width, |first, out| {
            let [x, gradient] = [x, gradient].map(|x| &x[first * width..]);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for ((to_x, x), g) in out.iter_mut().zip(x).zip(gradient) {
                        let s = gate(*x);
                        let slope = SCALE * (1.0 + 3.0 * CUBE * x * x);
                        *to_x = g * (s + x * s * (1.0 - s) * slope);
                    }
                },
            );
        });
        [Some(tensor(out, &shape))]
    }
}
