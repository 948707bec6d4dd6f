//! Learnable filters: their limits, their bounds, and their gradients.

use proptest::prelude::*;

use super::*;
use crate::finite_difference::{assert_gradient, leaf, loss_of};
use crate::{LearnableConfig, LearnableFilters, LearnedValues};

const TOKENS: usize = 12;
const D_MODEL: usize = 3;
const ALL: LearnableConfig = LearnableConfig {
    temperature: true,
    top_k: true,
    min_p: true,
    least_temperature: 0.2,
    least_top_k: 1.0,
    most_min_p: 0.9,
    top_k_softness: 0.7,
    min_p_softness: 0.6,
};

fn sharp(config: LearnableConfig) -> LearnableConfig {
    LearnableConfig { top_k_softness: 1e-12, min_p_softness: 1e-12, ..config }
}

/// Every setting in use, in its usual order or with the filters first.
fn settings(filters_first: bool) -> PipelineConfig {
    let usual = vec![Temperature, TopK, TopP, MinP, NoiseStage];
    let first = vec![MinP, TopK, Temperature, NoiseStage];
    PipelineConfig {
        temperature: 0.7,
        top_k: 5,
        min_p: 0.05,
        order: if filters_first { first } else { usual },
        ..Default::default()
    }
}

fn with(learnable: LearnableConfig, config: PipelineConfig) -> SoftPipeline {
    let filters = learnable.init(&config, &Device::flex(), DType::F64).expect("valid settings");
    pipeline(config).with_learnable(filters)
}

fn with_thetas(config: &PipelineConfig, thetas: [f64; 3], autodiff: bool) -> SoftPipeline {
    let [temperature, top_k, min_p] = thetas.map(Some);
    let device = if autodiff { Device::flex().autodiff() } else { Device::flex() };
    let thetas = LearnedValues { temperature, top_k, min_p };
    pipeline(config.clone()).with_learnable(ALL.with_thetas(&thetas, &device, DType::F64))
}

/// Weights by token id.
fn by_token(fed: &Distribution, tokens: usize) -> Vec<Vec<f64>> {
    let of = |row: Vec<(u32, f64)>| {
        let mut weights = vec![0.0; tokens];
        row.into_iter().for_each(|(id, weight)| weights[id as usize] = weight);
        weights
    };
    fed.to_rows(tokens).into_iter().map(of).collect()
}

fn assert_close(a: &[Vec<f64>], b: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((a - b).abs() < tolerance, "{what}: {a} against {b}");
    }
}

fn any_learnable() -> impl Strategy<Value = (LearnableConfig, PipelineConfig)> {
    let order = Just(vec![Temperature, TopK, MinP]).prop_shuffle();
    let learned = (any::<bool>(), any::<bool>(), any::<bool>());
    (learned, 0.3..3.0f64, 2usize..30, 0.001..0.8f64, order).prop_map(
        |((t, k, m), temperature, top_k, min_p, mut order)| {
            order.push(TopP);
            let config = PipelineConfig { temperature, top_k, min_p, order, ..Default::default() };
            (LearnableConfig { temperature: t, top_k: k, min_p: m, ..ALL }, config)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn without_softness_they_are_the_hard_filters_of_the_same_numbers(
        (learnable, config) in any_learnable(),
        seed in 0u64..1 << 40,
    ) {
        let logits = [spread(seed, 200, 30.0), spread(seed + 1, 200, 4.0)];
        let logits = rows(&logits, DType::F64);
        let hard = by_token(&pipeline(config.clone()).probs(logits.clone()), 200);
        let found = with(sharp(learnable), config).probs(logits);
        for (found, hard) in by_token(&found, 200).iter().flatten().zip(hard.iter().flatten()) {
            prop_assert!((found - hard).abs() < 1e-9, "{} against {}", found, hard);
        }
    }

    #[test]
    fn weights_sum_to_one_and_keep_the_order_of_the_scores(
        (learnable, config) in any_learnable(),
        seed in 0u64..1 << 40,
        width in 0.1..40.0f64,
    ) {
        let z = spread(seed, 200, width);
        let fed = with(learnable, config).probs(rows(std::slice::from_ref(&z), DType::F64));
        let row = fed.to_rows(200).swap_remove(0);
        let sum: f64 = row.iter().map(|entry| entry.1).sum();
        prop_assert!((sum - 1.0).abs() < 1e-12, "{}", sum);
        let scores: Vec<f64> = row.iter().map(|entry| z[entry.0 as usize]).collect();
        prop_assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{:?}", scores);
    }

    #[test]
    fn bounds_hold_wherever_the_parameters_go(
        thetas in prop::array::uniform3(prop_oneof![-1e4..1e4f64, -3.0..3.0f64]),
    ) {
        let moved = with_thetas(&settings(false), thetas, false);
        let values = moved.learnable().expect("learnable").values();
        prop_assert!(values.temperature.is_some_and(|t| t >= 0.2));
        prop_assert!(values.top_k.is_some_and(|k| k >= 1.0));
        prop_assert!(values.min_p.is_some_and(|m| (0.0..=0.9).contains(&m)));
        prop_assert!(moved.config().top_k >= 1);
        let fed = moved.probs(rows(&[spread(9, TOKENS, 6.0)], DType::F64));
        let sum: f64 = fed.to_rows(TOKENS)[0].iter().map(|entry| entry.1).sum();
        prop_assert!((sum - 1.0).abs() < 1e-12, "{}", sum);
    }

    /// The order of temperature and min-p is a change of the threshold: p_i / p_max after the
    /// temperature is that before it to the power of 1 / T.
    #[test]
    fn min_p_before_the_temperature_is_its_power_after_it(
        temperature in 0.3..3.0f64,
        min_p in 0.001..0.8f64,
        softness in 0.1..2.0f64,
        seed in 0u64..1 << 40,
    ) {
        let config = |min_p, order: &[Transform]| PipelineConfig {
            temperature,
            min_p,
            order: order.to_vec(),
            ..Default::default()
        };
        let before = config(min_p, &[MinP, Temperature]);
        let after = config(min_p.powf(1.0 / temperature), &[Temperature, MinP]);
        let logits = rows(&[spread(seed, 200, 12.0)], DType::F64);
        let [a, b] = [&before, &after].map(|config| pipeline(config.clone()).probs(logits.clone()));
        prop_assert_eq!(a.to_rows(200)[0].len(), b.to_rows(200)[0].len());
        // The soft edge is T times as wide before the temperature.
        let learned = LearnableConfig { min_p: true, most_min_p: 1.0, ..Default::default() };
        let soft = LearnableConfig { min_p_softness: softness, ..learned };
        let wide = LearnableConfig { min_p_softness: softness * temperature, ..learned };
        let a = by_token(&with(wide, before).probs(logits.clone()), 200);
        let b = by_token(&with(soft, after).probs(logits), 200);
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            prop_assert!((a - b).abs() < 1e-9, "{} against {}", a, b);
        }
    }
}

#[test]
fn they_start_at_the_values_of_the_pipeline() {
    let found = with(ALL, settings(false));
    let values = found.learnable().expect("learnable").values();
    let expected = [(values.temperature, 0.7), (values.top_k, 5.0), (values.min_p, 0.05)];
    for (found, expected) in expected {
        assert!(found.is_some_and(|x| (x - expected).abs() < 1e-12), "{found:?} {expected}");
    }
    assert_eq!(found.config().top_k, 5);
    let some = LearnableConfig { top_k: false, ..ALL };
    let values = with(some, settings(false)).learnable().expect("learnable").values();
    assert_eq!(values.top_k, None, "it is not learned");
}

#[test]
fn weights_are_those_of_the_formula() {
    let z = spread(31, TOKENS, 6.0);
    for filters_first in [false, true] {
        let found =
            with(ALL, settings(filters_first)).probs(rows(std::slice::from_ref(&z), DType::F64));
        let best = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let weight = |z_i: f64| {
            let rank = 1.0 + z.iter().filter(|&&other| other > z_i).count() as f64;
            let ratio = if filters_first { z_i - best } else { (z_i - best) / 0.7 };
            ((z_i - best) / 0.7).exp()
                * logistic((5.5 - rank) / 0.7)
                * logistic((ratio - 0.05f64.ln()) / 0.6)
        };
        let weights: Vec<f64> = z.iter().map(|&z_i| weight(z_i)).collect();
        let sum: f64 = weights.iter().sum();
        let expected = weights.iter().map(|w| w / sum).collect();
        assert_close(&by_token(&found, TOKENS), &[expected], 1e-12, "the formula");
    }
}

#[test]
fn gradients_of_scores_and_embeddings_are_those_of_finite_differences() {
    let logits = spread(32, 2 * TOKENS, 6.0);
    let embedding = spread(33, TOKENS * D_MODEL, 3.0);
    let plain = settings(false);
    let noise = Noise::Gumbel { temperature: 0.6 };
    for config in [
        plain.clone(),
        settings(true),
        PipelineConfig { noise, ..plain.clone() },
        PipelineConfig { feed: Feed::Inputs { beta: 0.8 }, max_top_k: 6, ..plain.clone() },
        PipelineConfig { feed: Feed::Contrast, norm_match: NormMatch::L2, ..plain },
    ] {
        let pipeline = with_thetas(&config, [0.3, 1.1, -2.0], true);
        let loss = |z, e| loss_of(pipeline.mix(pipeline.apply(z, &keys(2)).fed, &e).0);
        assert_gradient(&logits, [2, TOKENS], |z| loss(z, leaf(&embedding, [TOKENS, D_MODEL])));
        assert_gradient(&embedding, [TOKENS, D_MODEL], |e| loss(leaf(&logits, [2, TOKENS]), e));
    }
}

/// The gradient of each parameter, and that of finite differences.
fn parameter_gradients(config: &PipelineConfig, logits: &[f64]) -> [(f64, f64); 3] {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    struct Read<'a>(&'a GradientsParams, Vec<f64>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("every parameter has a gradient");
            self.1.extend(host_values(gradient));
        }
    }
    let embedding = leaf(&spread(35, TOKENS * D_MODEL, 3.0), [TOKENS, D_MODEL]);
    let loss = |thetas, autodiff| {
        let pipeline = with_thetas(config, thetas, autodiff);
        let fed = pipeline.apply(leaf(logits, [2, TOKENS]), &keys(2)).fed;
        (loss_of(pipeline.mix(fed, &embedding).0), pipeline)
    };
    let thetas = [0.3, 1.1, -2.0];
    let (value, pipeline) = loss(thetas, true);
    let filters: &LearnableFilters = pipeline.learnable().expect("learnable");
    let gradients = GradientsParams::from_grads(value.backward(), filters);
    let mut read = Read(&gradients, Vec::new());
    filters.visit(&mut read);
    let at = |i: usize, by: f64| {
        let mut moved = thetas;
        moved[i] += by;
        host_values(loss(moved, true).0)[0]
    };
    [0, 1, 2].map(|i| (read.1[i], (at(i, 1e-5) - at(i, -1e-5)) / 2e-5))
}

#[test]
fn gradients_of_every_parameter_are_those_of_finite_differences() {
    let mut logits = spread(34, 2 * TOKENS, 6.0);
    for filters_first in [false, true] {
        let found = parameter_gradients(&settings(filters_first), &logits);
        for (i, (found, expected)) in found.into_iter().enumerate() {
            let error = (found - expected).abs();
            assert!(error < 1e-8 * (1.0 + expected.abs()), "{i}: {found}, expected {expected}");
            assert!(found.abs() > 1e-4, "nothing to test: {i}");
        }
    }
    // Tokens that cannot be: the gradients stay numbers.
    logits[3] = f64::NEG_INFINITY;
    logits[TOKENS + 1] = f64::NEG_INFINITY;
    let found = parameter_gradients(&settings(true), &logits);
    assert!(found.iter().all(|(found, _)| found.is_finite()), "{found:?}");
}

#[test]
fn another_order_of_the_tokens_and_a_shift_of_the_scores_change_nothing() {
    let z = spread(36, TOKENS, 6.0);
    let learned = with(ALL, settings(false));
    let of = |z: Vec<f64>| by_token(&learned.probs(rows(&[z], DType::F64)), TOKENS).swap_remove(0);
    let plain = of(z.clone());
    let shifted = of(z.iter().map(|z| z + 8.0).collect());
    assert_close(std::slice::from_ref(&plain), &[shifted], 1e-12, "a shift");
    let mut turned = of(z.iter().copied().rev().collect());
    turned.reverse();
    assert_close(&[plain], &[turned], 1e-12, "another order");
}

#[test]
fn without_autodiff_they_are_the_same_and_begin_no_graph() {
    let z = rows(&[spread(37, TOKENS, 6.0)], DType::F64);
    let learned = with_thetas(&settings(false), [0.3, 1.1, -2.0], true);
    let tracked = learned.probs(z.clone().autodiff());
    let plain = learned.probs(z);
    assert!(!plain.device().is_autodiff(), "a pass without gradients stays one");
    let [a, b] = [tracked, plain].map(|fed| by_token(&fed, TOKENS));
    assert_eq!(a, b);
}

#[test]
fn the_gap_is_the_total_variation_and_goes_with_the_softness() {
    let logits = rows(&[spread(38, TOKENS, 6.0), spread(39, TOKENS, 2.0)], DType::F64);
    for filters_first in [false, true] {
        let learned = with(ALL, settings(filters_first));
        let soft = by_token(&learned.probs(logits.clone()), TOKENS);
        let hard = by_token(&learned.hardened().probs(logits.clone()), TOKENS);
        let found = host_values(learned.gap(logits.clone()));
        for ((soft, hard), found) in soft.iter().zip(&hard).zip(found) {
            let half: f64 = soft.iter().zip(hard).map(|(w, v)| (w - v).abs() / 2.0).sum();
            assert!((found - half).abs() < 1e-12, "{found} {half}");
            assert!(found > 0.01, "soft edges move weight");
        }
        let gap = host_values(with(sharp(ALL), settings(filters_first)).gap(logits.clone()));
        assert!(gap.iter().all(|&gap| gap < 1e-9), "{gap:?}");
    }
    let temperature = LearnableConfig { top_k: false, min_p: false, ..ALL };
    let gap = host_values(with(temperature, settings(false)).gap(logits.clone()));
    assert!(gap.iter().all(|&gap| gap < 1e-12), "a temperature has no edge: {gap:?}");
    let open = PipelineConfig { temperature: 0.7, ..Default::default() };
    assert_eq!(host_values(with(temperature, open).gap(logits)), [0.0, 0.0]);
}

#[test]
fn what_cannot_be_learned_is_refused_with_the_reason() {
    let refused = |learnable: LearnableConfig, config: PipelineConfig| {
        let made = learnable.init(&config, &Device::flex(), DType::F64);
        made.expect_err("it is refused").to_string()
    };
    let plain = || settings(false);
    let floor = LearnableConfig { least_temperature: 0.7, ..ALL };
    let cases = [
        (
            floor,
            plain(),
            "temperature = 0.7: it is learned from there, so expected a number over 0.7",
        ),
        (
            ALL,
            PipelineConfig { top_k: 0, ..plain() },
            "top_k = 0: it is learned from there, so expected a number over 1",
        ),
        (
            ALL,
            PipelineConfig { min_p: 0.0, ..plain() },
            "min_p = 0: it is learned from there, so expected a number over 0 and under 0.9",
        ),
        (
            ALL,
            PipelineConfig { order: vec![Temperature, MinP], ..plain() },
            "top_k is set but missing from order; add it there, or switch it off",
        ),
        (
            ALL,
            PipelineConfig { temperature: 0.0, ..plain() },
            "nothing can be learned of the filters: the temperature is 0, which feeds one token whatever the filters are",
        ),
        (
            ALL,
            PipelineConfig { feed: Feed::Samples { count: 2 }, ..plain() },
            "nothing can be learned of the filters: what is fed are drawn tokens, which no gradient passes",
        ),
        (
            ALL,
            PipelineConfig { noise: Noise::Dirichlet { concentration: 1.0 }, ..plain() },
            "nothing can be learned of the filters: what is fed is a Dirichlet draw, which no gradient passes",
        ),
        (
            ALL,
            PipelineConfig { top_p: 0.9, ..plain() },
            "nothing can be learned of the filters: top_p is on, which counts probabilities that a learned filter is still changing",
        ),
        (
            LearnableConfig { least_top_k: 0.5, ..ALL },
            plain(),
            "least_top_k = 0.5: expected a finite number of 1 or more",
        ),
        (
            LearnableConfig { most_min_p: 1.5, ..ALL },
            plain(),
            "most_min_p = 1.5: expected a number over 0 and at most 1",
        ),
        (
            LearnableConfig { top_k_softness: 0.0, ..ALL },
            plain(),
            "top_k_softness = 0: expected a finite number of 1e-12 or more",
        ),
    ];
    for (learnable, config, expected) in cases {
        assert_eq!(refused(learnable, config), expected);
    }
    let temperature = LearnableConfig { top_k: false, min_p: false, ..ALL };
    let beside = PipelineConfig { top_p: 0.9, ..plain() };
    assert!(temperature.check(&beside).is_ok(), "top_p counts what the temperature made");
}
