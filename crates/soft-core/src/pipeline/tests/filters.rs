//! What the filters keep, by hand and against a slow reference written from the definitions.

use proptest::prelude::*;

use super::*;

const VOCAB: usize = 600;

/// Probabilities 0.4, 0.3, 0.2 and 0.1 of tokens 2, 0, 3 and 1.
fn small() -> Tensor<2> {
    rows(&[[0.3, 0.1, 0.4, 0.2].map(f64::ln).to_vec()], DType::F64)
}

fn assert_kept(config: PipelineConfig, expected: &[(u32, f64)]) {
    let found = pipeline(config.clone()).apply(small(), &[]).fed.to_rows(9).swap_remove(0);
    let ids = |row: &[(u32, f64)]| row.iter().map(|entry| entry.0).collect::<Vec<_>>();
    assert_eq!(ids(&found), ids(expected), "{config:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found.1 - expected.1).abs() < 1e-14, "{config:?}: {found:?}, {expected:?}");
    }
}

#[test]
fn each_filter_alone_gives_the_numbers_worked_out_by_hand() {
    let plain = PipelineConfig::default;
    let two = [(2, 4.0 / 7.0), (0, 3.0 / 7.0)];
    let three = [(2, 4.0 / 9.0), (0, 3.0 / 9.0), (3, 2.0 / 9.0)];
    assert_kept(PipelineConfig { top_k: 2, ..plain() }, &two);
    assert_kept(PipelineConfig { max_top_k: 2, ..plain() }, &two);
    assert_kept(PipelineConfig { top_p: 0.6, ..plain() }, &two);
    assert_kept(PipelineConfig { top_p: 0.75, ..plain() }, &three);
    assert_kept(PipelineConfig { min_p: 0.6, ..plain() }, &two);
    assert_kept(PipelineConfig { min_p: 0.3, ..plain() }, &three);
    for alone in [
        PipelineConfig { top_k: 1, ..plain() },
        PipelineConfig { top_p: 0.0, ..plain() },
        PipelineConfig { min_p: 1.0, ..plain() },
    ] {
        assert_kept(alone, &[(2, 1.0)]);
    }
}

#[test]
fn the_order_of_filters_is_the_configured_one() {
    let two = [(2, 4.0 / 7.0), (0, 3.0 / 7.0)];
    let three = [(2, 4.0 / 9.0), (0, 3.0 / 9.0), (3, 2.0 / 9.0)];
    let config = |top_k, top_p, min_p, order: &[Transform]| PipelineConfig {
        top_k,
        top_p,
        min_p,
        order: order.to_vec(),
        ..Default::default()
    };
    // 0.4 + 0.3 is under 0.72, 4/9 + 3/9 is over it.
    assert_kept(config(3, 0.72, 0.0, &[TopK, TopP]), &two);
    assert_kept(config(3, 0.72, 0.0, &[TopP, TopK]), &three);
    // 0.4 is under 0.5, 4/7 is over it.
    assert_kept(config(0, 0.5, 0.6, &[MinP, TopP]), &[(2, 1.0)]);
    assert_kept(config(0, 0.5, 0.6, &[TopP, MinP]), &two);
    // A cut that comes later does not renormalise what top_p sees.
    assert_kept(config(2, 0.5, 0.2, &[MinP, TopP, TopK]), &two);
    assert_kept(config(2, 0.5, 0.2, &[MinP, TopK, TopP]), &[(2, 1.0)]);
    let capped = PipelineConfig { max_top_k: 2, ..config(4, 0.5, 0.2, &[TopK, MinP, TopP]) };
    assert_kept(capped, &two);
}

#[test]
fn a_filter_before_the_temperature_sees_the_probabilities_without_it() {
    let config = |top_p, min_p, order: &[Transform]| PipelineConfig {
        temperature: 0.5,
        top_p,
        min_p,
        order: order.to_vec(),
        ..Default::default()
    };
    // At temperature 0.5 the probabilities are 16, 9, 4 and 1 thirtieths.
    let after = [(2, 16.0 / 25.0), (0, 9.0 / 25.0)];
    let before = [(2, 16.0 / 29.0), (0, 9.0 / 29.0), (3, 4.0 / 29.0)];
    assert_kept(config(0.72, 0.0, &[Temperature, TopP]), &after);
    assert_kept(config(0.72, 0.0, &[TopP, Temperature]), &before);
    assert_kept(config(1.0, 0.3, &[Temperature, MinP]), &after);
    assert_kept(config(1.0, 0.3, &[MinP, Temperature]), &before);
    assert_kept(config(0.72, 0.3, &[MinP, Temperature, TopP]), &after);
    // 16/29 + 9/29 is under 0.88; without the third token it is all there is.
    assert_kept(config(0.88, 0.3, &[MinP, Temperature, TopP]), &before);
    assert_kept(config(0.88, 0.3, &[Temperature, MinP, TopP]), &after);
}

/// The definitions, one stage after another, on a sorted list.
fn reference(logits: &[f64], config: &PipelineConfig) -> Vec<(u32, f64)> {
    let mut kept: Vec<(u32, f64)> = (0..).zip(logits.iter().copied()).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let probs = |kept: &[(u32, f64)]| -> Vec<f64> {
        let total: f64 = kept.iter().map(|entry| (entry.1 - kept[0].1).exp()).sum();
        kept.iter().map(|entry| (entry.1 - kept[0].1).exp() / total).collect()
    };
    for transform in &config.order {
        match transform {
            Temperature => kept.iter_mut().for_each(|entry| entry.1 /= config.temperature),
            TopK if config.top_k > 0 => kept.truncate(config.top_k),
            TopP if config.top_p < 1.0 => {
                let mut mass = 0.0;
                let enough = probs(&kept).iter().position(|p| {
                    mass += p;
                    mass >= config.top_p
                });
                kept.truncate(enough.map_or(kept.len(), |last| last + 1));
            }
            MinP => {
                let probs = probs(&kept);
                kept.truncate(probs.iter().filter(|&&p| p >= config.min_p * probs[0]).count());
            }
            _ => {}
        }
    }
    if config.max_top_k > 0 {
        kept.truncate(config.max_top_k);
    }
    let probs = probs(&kept);
    kept.into_iter().zip(probs).map(|(entry, p)| (entry.0, p)).collect()
}

fn any_config() -> impl Strategy<Value = PipelineConfig> {
    let count = || prop_oneof![Just(0usize), 1usize..10, 200usize..700];
    let share = |off: f64| prop_oneof![Just(off), 0.0..1.0f64];
    let top_p = prop_oneof![share(1.0), 0.9..1.0f64];
    let min_p = prop_oneof![share(0.0), 0.0001..0.05f64];
    let order = Just(vec![Temperature, TopK, TopP, MinP]).prop_shuffle();
    (0.2..3.0f64, count(), top_p, min_p, count(), order).prop_map(
        |(temperature, top_k, top_p, min_p, max_top_k, order)| PipelineConfig {
            temperature,
            top_k,
            top_p,
            min_p,
            max_top_k,
            noise: Noise::None,
            order,
            ..PipelineConfig::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn filters_keep_what_the_definitions_keep(config in any_config(), seed in 0u64..1 << 40) {
        // Peaked, ordinary and nearly flat rows share a batch.
        let widths = [40.0, 8.0, 0.5];
        let batch: Vec<Vec<f64>> = (seed..).zip(widths).map(|(s, w)| spread(s, VOCAB, w)).collect();
        let fed = pipeline(config.clone()).apply(rows(&batch, DType::F64), &[]).fed;
        for (found, logits) in fed.to_rows(VOCAB).iter().zip(&batch) {
            let expected: Vec<_> =
                reference(logits, &config).into_iter().filter(|entry| entry.1 > 0.0).collect();
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert_eq!(found.0, expected.0);
                prop_assert!((found.1 - expected.1).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn filters_keep_the_mode_and_the_weights_add_up_to_one(
        config in any_config(),
        seed in 0u64..1 << 40,
        width in 0.0..80.0f64,
    ) {
        // In f32, with equal scores and impossible tokens.
        let mut logits: Vec<f64> = spread(seed, VOCAB, width).iter().map(|z| z.round()).collect();
        logits[(seed % 600) as usize] = f64::NEG_INFINITY;
        let fed = pipeline(config).apply(rows(&[logits.clone()], DType::F32), &[]).fed;
        let row = fed.to_rows(VOCAB).swap_remove(0);
        let best = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert_eq!(logits[row[0].0 as usize], best);
        // An f32 sum of n terms is exact to n roundings.
        let rounding = row.len() as f64 * f64::from(f32::EPSILON);
        let sum: f64 = row.iter().map(|entry| entry.1).sum();
        prop_assert!((sum - 1.0).abs() < rounding.max(1e-5), "sum {}", sum);
        let least = row[row.len() - 1];
        prop_assert!(logits[least.0 as usize].is_finite());
    }
}
