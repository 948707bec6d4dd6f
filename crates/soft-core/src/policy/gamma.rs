//! The logarithm of the Gamma function and its derivative, on tensors.
//!
//! Both are shifted to arguments of 8 or more by `Gamma(x + 1) = x Gamma(x)`, where five terms of
//! Stirling's series leave less than 3e-13 (Abramowitz and Stegun, 6.1.40 and 6.3.18).

use std::f64::consts::PI;

use burn::tensor::Tensor;

/// Steps of the shift.
const SHIFT: usize = 8;

/// `log Gamma(x)` for x over 0, elementwise.
///
/// Both terms are near 10 where x is small, so of that are the roundings: where the logarithm is
/// near 0, which it is about x = 1 and x = 2, it is exact to their absolute size alone.
///
/// # Gradient
/// Flows to x.
pub(super) fn ln_gamma(x: Tensor<2>) -> Tensor<2> {
    let below = shifts(|j| (x.clone() + j).log());
    let y = x + SHIFT as f64;
    let half_log = 0.5 * (2.0 * PI).ln();
    (y.clone() - 0.5) * y.clone().log() - y.clone() + half_log + tail(y) - below
}

/// `log Gamma(x + h) - log Gamma(x)` for x and x + h over 0, elementwise, with an error in
/// proportion to itself however small h is.
///
/// # Gradient
/// Flows to both.
pub(super) fn ln_gamma_rise(x: Tensor<2>, h: Tensor<2>) -> Tensor<2> {
    let below = shifts(|j| (h.clone() / (x.clone() + j)).log1p());
    let y = x + SHIFT as f64;
    let z = y.clone() + h.clone();
    let logs = (y.clone() - 0.5) * (h.clone() / y.clone()).log1p() + h.clone() * z.clone().log();
    logs - h.clone() + tail_rise(y, z, h) - below
}

/// `d/dx log Gamma(x)` for x over 0, elementwise.
///
/// # Gradient
/// Flows to x.
pub(super) fn digamma(x: Tensor<2>) -> Tensor<2> {
    let below = shifts(|j| (x.clone() + j).recip());
    let y = x + SHIFT as f64;
    let r = y.clone().recip();
    let series = series(r.clone().square(), &[12.0, 120.0, 252.0, 240.0, 132.0]);
    y.log() - r.clone() * 0.5 - r.square() * series - below
}

/// The sum of a term for each step of the shift.
fn shifts(term: impl Fn(f64) -> Tensor<2>) -> Tensor<2> {
    (1..SHIFT).fold(term(0.0), |sum, j| sum + term(j as f64))
}

/// What Stirling's formula leaves of `log Gamma(y)`.
fn tail(y: Tensor<2>) -> Tensor<2> {
    let r = y.recip();
    r.clone() * series(r.square(), &[12.0, 360.0, 1260.0, 1680.0, 1188.0])
}

/// `tail(z) - tail(y)` with `z = y + h`; of its terms those after the second are too small for
/// their roundings to matter.
fn tail_rise(y: Tensor<2>, z: Tensor<2>, h: Tensor<2>) -> Tensor<2> {
    let (r, s) = (y.recip(), z.recip());
    let product = r.clone() * s.clone();
    let squares = r.clone().square() + product.clone() + s.clone().square();
    let rest = |r: Tensor<2>| {
        let square = r.clone().square();
        square.clone().square() * r * series(square, &[1260.0, 1680.0, 1188.0])
    };
    h * product * (squares * (1.0 / 360.0) - 1.0 / 12.0) + (rest(s) - rest(r))
}

/// `1 / a - x (1 / b - x (1 / c - ..))`.
fn series(x: Tensor<2>, denominators: &[f64]) -> Tensor<2> {
    let zero = x.zeros_like();
    denominators.iter().rev().fold(zero, |sum, a| -(x.clone() * sum) + 1.0 / a)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
