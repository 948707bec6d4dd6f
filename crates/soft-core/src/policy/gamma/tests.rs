use burn::tensor::{DType, Device};

use super::*;
use crate::finite_difference::{assert_gradient, gradient};
use crate::{float_tensor, host_values};

/// x, log Gamma(x) and its derivative, by mpmath 1.3 with 30 digits, rounded.
const KNOWN: [(f64, f64, f64); 12] = [
    (1e-9, 20.723265836369194, -1000000000.5772157),
    (1e-3, 6.907178885383853, -1000.5755719318103),
    (0.03, 3.489971043442412, -33.86225442061876),
    (0.5, 0.5723649429247001, -1.9635100260214235),
    (1.0, 0.0, -0.5772156649015329),
    (1.7, -0.09580769740706586, 0.20854787487349397),
    (2.0, 0.0, 0.42278433509846713),
    (3.25, 0.9358019311087253, 1.016990911068179),
    (8.0, 8.525161361065415, 2.01564147795561),
    (47.5, 134.87498931216194, 3.8501664624463934),
    (1e3, 5905.220423209181, 6.907255195648812),
    (1e6, 12815504.569147611, 13.815510057964191),
];

fn row(values: &[f64], dtype: DType) -> Tensor<2> {
    float_tensor(values.to_vec(), [1, values.len()], &Device::flex(), dtype)
}

#[test]
fn values_are_the_known_ones() {
    let x = KNOWN.map(|known| known.0);
    for (dtype, least) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
        let found = host_values(ln_gamma(row(&x, dtype)));
        let slopes = host_values(digamma(row(&x, dtype)));
        for ((x, value, slope), (found, found_slope)) in
            KNOWN.into_iter().zip(found.into_iter().zip(slopes))
        {
            let error = (found - value).abs();
            assert!(error < least * value.abs().max(1.0), "{dtype:?} {x}: {found}, not {value}");
            let error = (found_slope - slope).abs();
            assert!(error < least * slope.abs().max(1.0), "{dtype:?} {x}: {found_slope}");
        }
    }
}

#[test]
fn the_gradient_of_the_logarithm_is_the_digamma_function() {
    let x = KNOWN.map(|known| known.0);
    let found = gradient(&x, [1, x.len()], |x| ln_gamma(x).sum());
    for ((x, _, slope), found) in KNOWN.into_iter().zip(found) {
        assert!((found - slope).abs() < 1e-11 * slope.abs().max(1.0), "{x}: {found}, not {slope}");
    }
    let x = [0.3, 0.9, 2.4, 11.0, 30.0];
    assert_gradient(&x, [1, 5], |x| ln_gamma(x).sum());
    assert_gradient(&x, [1, 5], |x| digamma(x).sum());
}

#[test]
fn a_rise_by_one_is_the_logarithm_and_small_ones_keep_their_digits() {
    let x = [1e-6, 0.4, 1.0, 1.2, 5.0, 300.0];
    for (dtype, least) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
        let tensor = row(&x, dtype);
        let found = host_values(ln_gamma_rise(tensor.clone(), tensor.ones_like()));
        for (x, found) in x.iter().zip(found) {
            let expected = x.ln();
            assert!((found - expected).abs() < least * expected.abs().max(1.0), "{x}: {found}");
        }
    }
    let x = [0.4, 1.0, 1.2, 5.0, 300.0];
    let slopes = host_values(digamma(row(&x, DType::F64)));
    for (dtype, h, least) in [(DType::F64, 1e-9, 1e-8), (DType::F32, 1e-7, 2e-6)] {
        let found = host_values(ln_gamma_rise(row(&x, dtype), row(&[h; 5], dtype)));
        for ((x, slope), found) in x.iter().zip(&slopes).zip(found) {
            assert!((found / (h * slope) - 1.0).abs() < least, "{dtype:?} {x}: {found}");
        }
    }
}

#[test]
fn a_rise_has_the_gradient_of_finite_differences_in_both_numbers() {
    let (x, h) = ([0.4, 1.3, 6.0], [-0.2, 0.0, 4.0]);
    let of = |values: &[f64]| Tensor::from_inner(row(values, DType::F64));
    assert_gradient(&x, [1, 3], |x| ln_gamma_rise(x, of(&h)).sum());
    assert_gradient(&h, [1, 3], |h| ln_gamma_rise(of(&x), h).sum());
}
