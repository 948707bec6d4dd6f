use burn::tensor::{DType, Device};

use super::Transform::{MinP, Noise as NoiseStage, Temperature, TopK, TopP};
use super::*;
use crate::{host_values, uniform_stream};

mod draws;
mod filters;
mod gradients;
mod learnable;
mod noise;

fn pipeline(config: PipelineConfig) -> SoftPipeline {
    SoftPipeline::new(config).expect("valid settings")
}

fn rows(values: &[Vec<f64>], dtype: DType) -> Tensor<2> {
    let shape = [values.len(), values[0].len()];
    float_tensor(values.concat(), shape, &Device::flex(), dtype)
}

fn keys(count: u32) -> Vec<NoiseKey> {
    (0..count).map(|row| NoiseKey { seed: 11, step: 0, row, position: 4 }).collect()
}

/// Logits in f32 precision, spread evenly over `width`.
fn spread(seed: u64, count: usize, width: f64) -> Vec<f64> {
    let key = NoiseKey { seed, step: 0, row: 0, position: 0 };
    uniform_stream(key, Place::Feed)
        .take(count)
        .map(|u| f64::from((width * (u - 0.5)) as f32))
        .collect()
}

fn message(config: PipelineConfig) -> String {
    SoftPipeline::new(config).expect_err("the settings are wrong").to_string()
}

#[test]
fn the_default_feeds_the_softmax() {
    let z = spread(1, 50, 8.0);
    let token =
        pipeline(PipelineConfig::default()).apply(rows(std::slice::from_ref(&z), DType::F64), &[]);
    let total: f64 = z.iter().map(|z| z.exp()).sum();
    let Distribution::Dense(fed) = token.fed else { panic!("nothing is filtered") };
    for (found, z) in host_values(fed).iter().zip(z) {
        assert!((found - z.exp() / total).abs() < 1e-15);
    }
}

#[test]
fn temperature_zero_feeds_the_argmax_alone_and_ties_go_to_the_lowest_id() {
    let cold = pipeline(PipelineConfig {
        temperature: 0.0,
        top_k: 3,
        noise: Noise::Gumbel { temperature: 1.0 },
        ..Default::default()
    });
    let logits =
        rows(&[vec![0.5, 3.0, 3.0, -1.0], vec![-0.0, 0.0, -9.0, f64::NEG_INFINITY]], DType::F32);
    let token = cold.apply(logits.clone(), &[]);
    assert_eq!(token.fed.to_rows(9), [[(1, 1.0)], [(0, 1.0)]]);
    assert_eq!(token.probs.to_rows(9), token.fed.to_rows(9));
    assert_eq!(cold.draw(&token.probs, &keys(2)), [1, 0]);
    let entropy = host_values(cold.entropy_nats(logits.clone()));
    let plain = pipeline(PipelineConfig::default());
    assert_eq!(entropy, host_values(plain.entropy_nats(logits)));
}

#[test]
fn the_limit_of_low_temperature_is_the_argmax() {
    let logits = rows(&[spread(2, 300, 30.0), spread(3, 300, 30.0)], DType::F32);
    let at = |temperature, min_p| {
        let config = PipelineConfig { temperature, min_p, ..Default::default() };
        pipeline(config).apply(logits.clone(), &[]).fed.to_rows(2)
    };
    let coldest = at(0.0, 0.0);
    for temperature in [1e-4, 1e-12, 1e-30] {
        assert_eq!(at(temperature, 0.0), coldest);
        assert_eq!(at(temperature, 0.1), coldest);
    }
}

#[test]
fn kept_mass_is_the_unfiltered_probability_of_the_kept_tokens() {
    let z = spread(4, 600, 9.0);
    let total: f64 = z.iter().map(|z| (z / 0.8).exp()).sum();
    let logits = rows(std::slice::from_ref(&z), DType::F64);
    for (top_k, top_p) in [(7, 1.0), (0, 0.9), (40, 0.5)] {
        let config = PipelineConfig { temperature: 0.8, top_k, top_p, ..Default::default() };
        let filtered = pipeline(config);
        let probs = filtered.apply(logits.clone(), &[]).probs;
        let found = host_values(filtered.kept_mass(logits.clone(), &probs))[0];
        let kept = probs.to_rows(600);
        let expected: f64 =
            kept[0].iter().map(|entry| (z[entry.0 as usize] / 0.8).exp() / total).sum();
        assert!((found - expected).abs() < 1e-14, "{found}, expected {expected}");
        assert!(found < 1.0);
    }
    let plain = pipeline(PipelineConfig::default());
    let probs = plain.apply(logits.clone(), &[]).probs;
    assert_eq!(host_values(plain.kept_mass(logits, &probs)), [1.0]);
}

#[test]
fn a_rows_bits_do_not_depend_on_its_neighbours() {
    let vocab = 5000;
    let peaked: Vec<f64> = spread(5, vocab, 60.0);
    let flat = vec![0.25; vocab];
    let row = spread(6, vocab, 14.0);
    let embedding = rows(&[spread(7, vocab * 16, 2.0)], DType::F32).reshape([vocab, 16]);
    let noise = Noise::Gumbel { temperature: 0.7 };
    let plain = PipelineConfig { noise, ..Default::default() };
    let configs = [
        plain.clone(),
        PipelineConfig { top_k: 30, ..plain.clone() },
        PipelineConfig { top_p: 0.95, ..plain.clone() },
        PipelineConfig { min_p: 0.01, max_top_k: 1000, ..plain },
    ];
    for config in configs {
        let beside = |other: &Vec<f64>| {
            let logits = rows(&[other.clone(), row.clone()], DType::F32);
            let fed = pipeline(config.clone()).apply(logits, &keys(2)).fed;
            let mixture = host_values(fed.mix(embedding.clone()));
            (fed.to_rows(vocab).swap_remove(1), mixture[16..].to_vec())
        };
        assert_eq!(beside(&peaked), beside(&flat), "{config:?}");
    }
}

#[test]
fn settings_outside_their_range_are_named_with_what_was_found_and_expected() {
    let plain = PipelineConfig::default;
    let cases = [
        (
            PipelineConfig { temperature: -1.0, ..plain() },
            "temperature = -1: expected 0, or a finite number of 1e-30 or more",
        ),
        (
            PipelineConfig { temperature: f64::NAN, ..plain() },
            "temperature = NaN: expected 0, or a finite number of 1e-30 or more",
        ),
        (
            PipelineConfig { temperature: f64::INFINITY, ..plain() },
            "temperature = inf: expected 0, or a finite number of 1e-30 or more",
        ),
        (PipelineConfig { top_p: 1.5, ..plain() }, "top_p = 1.5: expected a number from 0 to 1"),
        (
            PipelineConfig { top_p: f64::NAN, ..plain() },
            "top_p = NaN: expected a number from 0 to 1",
        ),
        (PipelineConfig { min_p: -0.1, ..plain() }, "min_p = -0.1: expected a number from 0 to 1"),
        (
            PipelineConfig { noise: Noise::Gumbel { temperature: 0.0 }, ..plain() },
            "noise_temperature = 0: expected a finite number of 1e-30 or more",
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(message(config), expected);
    }
}

#[test]
fn an_order_that_repeats_leaves_out_or_misplaces_a_transform_is_refused() {
    let noisy = Noise::Gumbel { temperature: 1.0 };
    let ordered =
        |order: &[Transform]| PipelineConfig { order: order.to_vec(), ..Default::default() };
    let cases = [
        (
            ordered(&[TopK, Temperature, TopK]),
            "order names \"top_k\" twice; each transform is applied once",
        ),
        (
            PipelineConfig { temperature: 0.5, ..ordered(&[]) },
            "temperature is set but missing from order; add it there, or switch it off",
        ),
        (
            PipelineConfig { top_k: 1, ..ordered(&[Temperature]) },
            "top_k is set but missing from order; add it there, or switch it off",
        ),
        (
            PipelineConfig { top_p: 0.5, ..ordered(&[Temperature]) },
            "top_p is set but missing from order; add it there, or switch it off",
        ),
        (
            PipelineConfig { min_p: 0.5, ..ordered(&[Temperature]) },
            "min_p is set but missing from order; add it there, or switch it off",
        ),
        (
            PipelineConfig { noise: noisy, ..ordered(&[Temperature]) },
            "noise is set but missing from order; add it there, or switch it off",
        ),
        (
            PipelineConfig { noise: noisy, ..ordered(&[NoiseStage, Temperature, MinP]) },
            "order has min_p after noise; noise comes after every filter, so name it last",
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(message(config), expected);
    }
    assert!(SoftPipeline::new(ordered(&[NoiseStage, TopP])).is_ok(), "nothing there is in use");
}
