//! Feeding what was drawn: one token beside the weights, several tokens, a whole distribution.

use super::*;

const TOKENS: usize = 8;
const ROWS: u32 = 20_000;

fn logits(count: u32) -> Tensor<2> {
    let row = vec![0.3, 1.0, -0.5, 1.4, -3.0, 0.1, -2.0, 0.8];
    rows(&[row], DType::F64).expand([count as usize, TOKENS])
}

fn fed(config: PipelineConfig, count: u32) -> SoftToken {
    pipeline(config).apply(logits(count), &keys(count))
}

/// Weights of every token, row by row.
fn weights(distribution: &Distribution) -> Vec<Vec<f64>> {
    let ids: Vec<u32> = (0..distribution.batch()).flat_map(|_| 0..TOKENS as u32).collect();
    let ids = crate::int_tensor(&ids, [distribution.batch(), TOKENS], &distribution.device());
    host_values(distribution.weights_at(ids)).chunks_exact(TOKENS).map(<[f64]>::to_vec).collect()
}

/// With and without filters.
fn both(feed: Feed, noise: Noise) -> [PipelineConfig; 2] {
    [0, 5].map(|top_k| PipelineConfig { top_k, feed, noise, ..Default::default() })
}

/// Panics unless the mean of each weight over the rows is p, within five standard errors.
fn assert_mean_is_p(token: &SoftToken) {
    let (fed, p) = (weights(&token.fed), &weights(&token.probs)[0]);
    for (id, &p) in p.iter().enumerate() {
        let values = || fed.iter().map(|row| row[id]);
        let mean = values().sum::<f64>() / f64::from(ROWS);
        let variance = values().map(|w| (w - mean).powi(2)).sum::<f64>() / f64::from(ROWS);
        let error = 5.0 * (variance / f64::from(ROWS)).sqrt() + 1e-12;
        assert!((mean - p).abs() < error, "token {id}: mean {mean}, expected {p}");
    }
}

#[test]
fn one_sample_is_the_draw_and_many_are_equal_shares_of_draws() {
    for count in [1, 3] {
        for config in both(Feed::Samples { count }, Noise::None) {
            let token = fed(config.clone(), 200);
            let drawn = pipeline(config).draw(&token.probs, &keys(200));
            let several = token.fed.to_rows(TOKENS).iter().filter(|row| row.len() > 1).count();
            assert!(count == 1 || several > 100, "{several} of 200 rows have different draws");
            for (row, drawn) in token.fed.to_rows(TOKENS).iter().zip(drawn) {
                let of_draw = row.iter().find(|entry| entry.0 == drawn).expect("the draw is fed").1;
                assert!(count > 1 || (row.len() == 1 && of_draw == 1.0), "{row:?}");
                let shares = row.iter().map(|entry| entry.1 * count as f64);
                assert!(shares.clone().all(|s| (s - s.round()).abs() < 1e-12), "{row:?}");
                assert!((shares.sum::<f64>() - count as f64).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn the_mean_of_samples_inputs_and_dirichlet_draws_is_p() {
    for (feed, noise) in [
        (Feed::Samples { count: 3 }, Noise::None),
        (Feed::Inputs { beta: 0.7 }, Noise::None),
        (Feed::Mixture, Noise::Dirichlet { concentration: 2.0 }),
        (Feed::Mixture, Noise::Dirichlet { concentration: 0.1 }),
    ] {
        for config in both(feed, noise) {
            assert_mean_is_p(&fed(config, ROWS));
        }
    }
}

#[test]
fn inputs_have_the_weights_of_their_formula() {
    let beta = 1.3;
    for config in both(Feed::Inputs { beta }, Noise::None) {
        let token = fed(config.clone(), 50);
        let drawn = pipeline(config).draw(&token.probs, &keys(50));
        for ((w, p), y) in weights(&token.fed).iter().zip(weights(&token.probs)).zip(drawn) {
            let kept = p.iter().filter(|&&p| p > 0.0);
            let entropy: f64 = kept.clone().map(|p| -p * p.ln()).sum();
            let h = entropy / (kept.count() as f64).ln();
            for (id, (w, p)) in (0..).zip(w.iter().zip(p)) {
                let observed = if id == y { beta + 1.0 - h } else { 0.0 };
                assert!((w - (h * p + observed) / (beta + 1.0)).abs() < 1e-14);
            }
            assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-14);
        }
    }
}

#[test]
fn inputs_are_the_draw_for_a_large_beta_and_the_mixture_at_zero_where_it_is_even() {
    let of = |beta, top_k, logits: Tensor<2>| {
        let feed = Feed::Inputs { beta };
        let config = PipelineConfig { feed, top_k, ..Default::default() };
        let pipeline = pipeline(config);
        let token = pipeline.apply(logits, &keys(50));
        let drawn = pipeline.draw(&token.probs, &keys(50));
        (weights(&token.fed), weights(&token.probs), drawn)
    };
    let (fed, _, drawn) = of(1e13, 0, logits(50));
    assert!(fed.iter().zip(drawn).all(|(w, y)| w[y as usize] > 1.0 - 1e-12));
    let even = rows(&[vec![0.7; TOKENS]], DType::F64).expand([50, TOKENS]);
    let (fed, p, _) = of(0.0, 0, even);
    assert!(fed.concat().iter().zip(p.concat()).all(|(w, p)| (w - p).abs() < 1e-14));
    let (fed, _, drawn) = of(0.0, 1, logits(50));
    assert!(fed.iter().zip(drawn).all(|(w, y)| w[y as usize] == 1.0), "one token alone is fed");
}

#[test]
fn dirichlet_draws_go_from_one_token_to_p() {
    let at = |concentration| {
        let noise = Noise::Dirichlet { concentration };
        let token = fed(PipelineConfig { noise, top_k: 5, ..Default::default() }, 100);
        (weights(&token.fed), weights(&token.probs))
    };
    let (cold, _) = at(1e-5);
    for row in cold {
        assert!(row.iter().any(|&w| w > 0.999), "{row:?}");
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    let (hot, p) = at(1e9);
    assert!(hot.concat().iter().zip(p.concat()).all(|(w, p)| (w - p).abs() < 1e-3));
    assert_eq!(at(1.0), at(1.0), "the same keys give the same draws");
}

#[test]
fn a_matched_mixture_has_the_norm_it_was_asked_for() {
    let embedding = rows(
        &spread(31, TOKENS * 3, 4.0).chunks_exact(3).map(<[f64]>::to_vec).collect::<Vec<_>>(),
        DType::F64,
    );
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let token_rows = host_values(embedding.clone());
    for feed in [Feed::Mixture, Feed::Samples { count: 4 }] {
        for config in both(feed, Noise::None) {
            let plain = pipeline(config.clone());
            let unscaled = plain.apply(logits(40), &keys(40)).fed;
            let (plain_mixture, same) = plain.mix(unscaled.clone(), &embedding);
            assert_eq!(weights(&same), weights(&unscaled));
            let matched = |norm_match| {
                let pipeline = pipeline(PipelineConfig { norm_match, ..config.clone() });
                let (mixture, scaled) = pipeline.mix(unscaled.clone(), &embedding);
                assert_eq!(
                    host_values(scaled.mix(embedding.clone())),
                    host_values(mixture.clone())
                );
                host_values(mixture)
            };
            let plain_mixture = host_values(plain_mixture);
            let both = matched(NormMatch::L2).into_iter().zip(matched(NormMatch::Rms));
            let both: Vec<(f64, f64)> = both.collect();
            for (row, (mixture, w)) in
                plain_mixture.chunks_exact(3).zip(weights(&unscaled)).enumerate()
            {
                let found = &both[3 * row..3 * row + 3];
                let heaviest = (0..TOKENS).max_by(|&a, &b| w[a].total_cmp(&w[b])).unwrap();
                let rms: Vec<f64> = found.iter().map(|x| x.1).collect();
                let tied = w.iter().filter(|&&x| x == w[heaviest]).count() > 1;
                let wanted = length(&token_rows[3 * heaviest..3 * heaviest + 3]);
                assert!(tied || (length(&rms) - wanted).abs() < 1e-12, "row {row}");
                for (found, plain) in found.iter().zip(mixture) {
                    assert!((found.0 - plain / length(&w)).abs() < 1e-12, "row {row}");
                }
            }
        }
    }
}

#[test]
fn one_token_alone_is_never_scaled() {
    let embedding = rows(&[vec![0.3, -1.7], vec![2.5, 0.1]], DType::F32);
    let lookup = host_values(embedding.clone());
    for norm_match in [NormMatch::None, NormMatch::L2, NormMatch::Rms] {
        let hard = Distribution::one_hot(&[0, 1], &embedding);
        let mixture = hard.matched(norm_match, &embedding).mix(embedding.clone());
        assert_eq!(host_values(mixture), lookup);
    }
}

#[test]
fn a_row_of_zeros_stays_zero_in_value_and_finite_in_gradient() {
    let device = Device::flex().autodiff();
    let embedding = float_tensor(vec![0.0, 0.0, 1.0, 2.0], [2, 2], &device, DType::F32);
    let embedding = embedding.require_grad();
    for norm_match in [NormMatch::L2, NormMatch::Rms] {
        let hard = Distribution::one_hot(&[0, 1], &embedding);
        let mixture = hard.matched(norm_match, &embedding).mix(embedding.clone());
        assert_eq!(host_values(mixture.clone()), [0.0, 0.0, 1.0, 2.0]);
        let grads = mixture.sum().backward();
        let grad = host_values(embedding.grad(&grads).expect("tracked"));
        assert!(grad.iter().all(|g| g.is_finite()), "{grad:?}");
    }
}

#[test]
fn one_kept_token_has_weight_one_whatever_is_fed() {
    for beta in [0.0, 0.7, 1.1, 2.4, 1e30, 1e300] {
        let feed = Feed::Inputs { beta };
        let config = PipelineConfig { top_k: 1, feed, ..Default::default() };
        let row = rows(&[spread(33, TOKENS, 5.0)], DType::F32);
        let fed = pipeline(config).apply(row, &keys(1)).fed;
        assert_eq!(fed.to_rows(9)[0][0].1, 1.0, "beta {beta}");
    }
}

#[test]
fn settings_of_draws_out_of_range_are_refused() {
    let of = |feed, noise| message(PipelineConfig { feed, noise, ..Default::default() });
    assert_eq!(
        of(Feed::Inputs { beta: -1.0 }, Noise::None),
        "beta = -1: expected a finite number of 0 or more"
    );
    assert_eq!(
        of(Feed::Samples { count: 0 }, Noise::None),
        "samples = 0: expected a whole number of 1 or more"
    );
    assert_eq!(
        of(Feed::Mixture, Noise::Dirichlet { concentration: 0.0 }),
        "noise_concentration = 0: expected a finite number of 1e-6 or more"
    );
    assert_eq!(
        of(Feed::Samples { count: 2 }, Noise::Gumbel { temperature: 1.0 }),
        "feed draws tokens and noise is on; switch one of them off"
    );
}
