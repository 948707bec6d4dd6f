use burn::tensor::{DType, Device};

use super::*;
use crate::finite_difference::{assert_gradient, gradient};
use crate::{Feed, Noise, PipelineConfig, int_tensor};

mod dirichlet;
mod divergence;
mod relative;

const LOGITS: [f64; 4] = [0.3, -0.9, 1.1, 0.2];
/// `E [4, 2]`.
const EMBEDDING: [f64; 8] = [1.0, -0.5, 0.2, 0.8, -1.3, 0.4, 0.6, 1.5];
const POLICIES: [Policy; 7] = [
    Policy::Token,
    Policy::Samples { count: 2 },
    Policy::Samples { count: 3 },
    Policy::Gumbel { temperature: 0.5 },
    Policy::Gaussian { sigma: 0.4 },
    Policy::Hybrid,
    Policy::Dirichlet { concentration: 5.0 },
];

fn tensor(values: &[f64], width: usize) -> Tensor<2> {
    let shape = [values.len() / width, width];
    float_tensor(values.to_vec(), shape, &Device::flex(), DType::F64)
}

fn embedding() -> Tensor<2> {
    tensor(&EMBEDDING, 2)
}

fn logits(rows: usize) -> Tensor<2> {
    tensor(&LOGITS.repeat(rows), 4)
}

fn keys(rows: usize) -> Vec<NoiseKey> {
    (0..rows as u32).map(|row| NoiseKey { seed: 21, step: 0, row, position: 2 }).collect()
}

/// Other logits than those of the draws.
fn moved_logits(rows: usize) -> Tensor<2> {
    tensor(&[0.5, 0.4, 0.9, -0.1].repeat(rows), 4)
}

/// Probabilities under which the token of the least logit is dropped.
fn filtered(rows: usize) -> Distribution {
    let config = PipelineConfig { min_p: 0.2, ..PipelineConfig::default() };
    SoftPipeline::new(config).expect("valid").probs(logits(rows))
}

fn draw(policy: Policy, probs: &Distribution) -> Draw {
    policy.sample(probs, &embedding(), &keys(probs.batch()))
}

/// A draw of these tokens, `count` a row, from the whole vocabulary.
fn of_tokens(tokens: &[u32], count: usize) -> Draw {
    let shape = [tokens.len() / count, count];
    let tokens = int_tensor(tokens, shape, &Device::flex());
    Draw { action: Action::Tokens(tokens), kept: None }
}

/// All sequences of `count` of 4 tokens, one a row.
fn sequences(count: u32) -> Vec<u32> {
    let digit = |row: u32, place| row / 4u32.pow(place) % 4;
    (0..4u32.pow(count)).flat_map(|row| (0..count).map(move |place| digit(row, place))).collect()
}

fn log_probs(draw: &Draw, logits: Tensor<2>) -> Vec<f64> {
    host_values(draw.log_prob(logits, &embedding()))
}

fn softmax_of(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().map(|z| z.exp() / total).collect()
}

#[test]
fn probabilities_of_all_sequences_and_of_all_sets_sum_to_one() {
    for count in 1..=3 {
        let all = sequences(count);
        let draw = of_tokens(&all, count as usize);
        let of_each = log_probs(&draw, logits(all.len() / count as usize));
        let total: f64 = of_each.iter().map(|p| p.exp()).sum();
        assert!((total - 1.0).abs() < 1e-12, "{count}: {total}");
        // Of each set the sequence in ascending order stands for all.
        let sets = all.chunks_exact(count as usize).zip(of_each).zip(draw.log_orders());
        let sets = sets.filter(|((row, _), _)| row.is_sorted());
        let total: f64 = sets.map(|((_, p), orders)| (p + orders).exp()).sum();
        assert!((total - 1.0).abs() < 1e-12, "{count}: sets {total}");
    }
}

/// Middles of the cells of a grid, all pairs of them.
fn grid(from: f64, to: f64, step: f64) -> Vec<f64> {
    let count = ((to - from) / step).round() as usize;
    let at = |i: usize| from + (i as f64 + 0.5) * step;
    (0..count).flat_map(|i| (0..count).flat_map(move |j| [at(i), at(j)])).collect()
}

/// Perturbed scores of two tokens.
fn scores_at(places: &[f64]) -> Action {
    let noise = tensor(places, 2);
    Action::Scores { log_probs: noise.zeros_like(), noise, temperature: 1.0 }
}

#[test]
fn densities_integrate_to_one() {
    let step = 0.08;
    let places = grid(-6.0, 26.0, step);
    let rows = places.len() / 2;
    let draw = Draw { action: scores_at(&places), kept: None };
    let of_each = log_probs(&draw, tensor(&[0.3, -0.9].repeat(rows), 2));
    let total: f64 = of_each.iter().map(|p| p.exp()).sum::<f64>() * step * step;
    assert!((total - 1.0).abs() < 1e-6, "Gumbel: {total}");

    let places = grid(-5.0, 5.0, step);
    let rows = places.len() / 2;
    let noise = tensor(&places, 2) * (1.0 / 0.4);
    let vectors = Action::Vectors { mean: noise.zeros_like(), noise, sigma: 0.4 };
    let of_each = log_probs(&Draw { action: vectors, kept: None }, logits(rows));
    let total: f64 = of_each.iter().map(|p| p.exp()).sum::<f64>() * step * step;
    assert!((total - 1.0).abs() < 1e-6, "Gaussian: {total}");
}

#[test]
fn log_probabilities_have_the_gradient_of_finite_differences_in_the_logits() {
    for policy in POLICIES {
        for probs in [SoftPipeline::default().probs(logits(3)), filtered(3)] {
            let draw = draw(policy, &probs);
            let weights = float_tensor(vec![1.0, -0.4, 2.0], [3], &Device::flex(), DType::F64);
            for of in [Draw::log_prob, Draw::relative_log_prob] {
                assert_gradient(&LOGITS.repeat(3), [3, 4], |z| {
                    let log_prob = of(&draw, z, &Tensor::from_inner(embedding()));
                    (log_prob * Tensor::from_inner(weights.clone())).sum()
                });
            }
        }
    }
}

#[test]
fn of_a_gaussian_draw_the_gradient_flows_to_the_embedding_too() {
    let draw = draw(Policy::Gaussian { sigma: 0.4 }, &SoftPipeline::default().probs(logits(2)));
    for of in [Draw::log_prob, Draw::relative_log_prob] {
        let scores = || Tensor::from_inner(logits(2));
        assert_gradient(&EMBEDDING, [4, 2], |e| of(&draw, scores(), &e).sum());
    }
}

#[test]
fn thoughts_have_the_gradient_of_finite_differences_in_the_embedding_and_vectors_none() {
    for policy in POLICIES {
        let draw = draw(policy, &filtered(2));
        let loss = |e: Tensor<2>| {
            let thought = draw.embed(&e);
            crate::finite_difference::loss_of(thought + e.clone().sum().reshape([1, 1]) * 0.1)
        };
        assert_gradient(&EMBEDDING, [4, 2], loss);
    }
    let draw = draw(Policy::Gaussian { sigma: 0.4 }, &filtered(2));
    let found = gradient(&EMBEDDING, [4, 2], |e| draw.embed(&e).sum() + e.sum() * 0.0);
    assert!(found.iter().all(|&g| g == 0.0), "{found:?}");
}

/// Share of the density of perturbed scores in each cell of two edges a coordinate.
fn cells_of_density(z: &[f64], edges: [f64; 2]) -> [f64; 9] {
    let step = 0.02;
    let places = grid(-5.0, 15.0, step);
    let draw = Draw { action: scores_at(&places), kept: None };
    let of_each = log_probs(&draw, tensor(&z.repeat(places.len() / 2), 2));
    let mut cells = [0.0; 9];
    for (place, p) in places.chunks_exact(2).zip(of_each) {
        cells[cell(place, edges)] += p.exp() * step * step;
    }
    cells
}

fn cell(place: &[f64], edges: [f64; 2]) -> usize {
    let of = |x: f64| edges.iter().filter(|&&edge| x > edge).count();
    3 * of(place[0]) + of(place[1])
}

#[test]
fn gumbel_draws_fill_the_cells_of_a_grid_as_their_density_says() {
    let (z, edges, rows) = ([0.3, -0.9], [-0.6, 0.4], 20_000);
    let probs = SoftPipeline::default().probs(tensor(&z.repeat(rows), 2));
    let draw = Policy::Gumbel { temperature: 1.0 }.sample(&probs, &embedding(), &keys(rows));
    let Action::Scores { log_probs, noise, .. } = draw.action else { panic!("scores were drawn") };
    let mut counts = [0.0; 9];
    host_values(log_probs + noise)
        .chunks_exact(2)
        .for_each(|place| counts[cell(place, edges)] += 1.0);
    let expected = cells_of_density(&z, edges).map(|share| share * rows as f64);
    // Chi-squared with 8 degrees of freedom: 26.1 is exceeded once in a thousand.
    let chi: f64 = counts.iter().zip(expected).map(|(n, e)| (n - e).powi(2) / e).sum();
    assert!(expected.iter().all(|&e| e > 50.0) && chi < 26.1, "{counts:?} {expected:?}: {chi}");
}

#[test]
fn one_sample_is_a_token_to_the_bit() {
    for probs in [SoftPipeline::default().probs(logits(50)), filtered(50)] {
        let (token, sample) =
            (draw(Policy::Token, &probs), draw(Policy::Samples { count: 1 }, &probs));
        assert_eq!(log_probs(&token, logits(50)), log_probs(&sample, logits(50)));
        let [a, b] = [&token, &sample].map(|draw| host_values(draw.embed(&embedding())));
        assert_eq!(a, b);
        let p = softmax_of(&LOGITS);
        let rows = a.chunks_exact(2).zip(log_probs(&token, logits(50)));
        let total: f64 = match &probs {
            Distribution::Dense(_) => 1.0,
            Distribution::Sparse { .. } => p[0] + p[2] + p[3],
        };
        for (thought, log_prob) in rows {
            let id = EMBEDDING.chunks_exact(2).position(|row| row == thought).expect("a token");
            assert!((log_prob - (p[id] / total).ln()).abs() < 1e-12, "token {id}: {log_prob}");
        }
    }
}

#[test]
fn the_expectation_of_the_mean_of_samples_is_the_mixture_and_of_the_score_zero() {
    let p = softmax_of(&LOGITS);
    let mixture = host_values(Distribution::Dense(tensor(&p, 4)).mix(embedding()));
    for count in 1..=3 {
        let all = sequences(count);
        let rows = all.len() / count as usize;
        let draw = of_tokens(&all, count as usize);
        let shares: Vec<f64> = log_probs(&draw, logits(rows)).iter().map(|p| p.exp()).collect();
        let thoughts = host_values(draw.embed(&embedding()));
        for place in 0..2 {
            let of = thoughts.chunks_exact(2).zip(&shares).map(|(row, share)| share * row[place]);
            assert!((of.sum::<f64>() - mixture[place]).abs() < 1e-12, "{count}");
        }
        let weights = float_tensor(shares, [rows], &Device::flex(), DType::F64);
        let score = gradient(&LOGITS, [1, 4], |z| {
            let log_prob = draw.log_prob(z.repeat_dim(0, rows), &Tensor::from_inner(embedding()));
            (log_prob * Tensor::from_inner(weights.clone())).sum()
        });
        assert!(score.iter().all(|g| g.abs() < 1e-12), "{count}: {score:?}");
    }
}

#[test]
fn the_score_of_every_policy_has_the_mean_zero_and_is_not_zero() {
    let rows = 20_000;
    for policy in POLICIES {
        let probs = filtered(rows);
        let draw = draw(policy, &probs);
        let all = gradient(&LOGITS.repeat(rows), [rows, 4], |z| {
            draw.log_prob(z, &Tensor::from_inner(embedding())).sum()
        });
        for token in [0, 2, 3] {
            let of: Vec<f64> = all.chunks_exact(4).map(|row| row[token]).collect();
            let mean = of.iter().sum::<f64>() / rows as f64;
            let error = (of.iter().map(|g| g * g).sum::<f64>()).sqrt() / rows as f64;
            // 21 such means: 4.5 standard errors are exceeded once in seven thousand tests.
            assert!(mean.abs() < 4.5 * error, "{policy:?}, token {token}: {mean} of {error}");
            assert!(error * (rows as f64).sqrt() > 0.05, "{policy:?}: no score");
        }
        assert!(all.chunks_exact(4).all(|row| row[1] == 0.0), "what is dropped has no score");
    }
}

#[test]
fn the_ratio_of_other_logits_to_those_of_the_draw_has_the_mean_one() {
    let rows = 20_000;
    for policy in POLICIES {
        let draw = draw(policy, &filtered(rows));
        let new = log_probs(&draw, moved_logits(rows));
        let old = log_probs(&draw, logits(rows));
        let ratios: Vec<f64> = new.iter().zip(old).map(|(new, old)| (new - old).exp()).collect();
        let mean = ratios.iter().sum::<f64>() / rows as f64;
        let variance = ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rows as f64;
        assert!((mean - 1.0).abs() < 4.5 * (variance / rows as f64).sqrt(), "{policy:?}: {mean}");
        assert!(variance > 1e-3, "{policy:?}: the ratio is always {mean}");
    }
}

#[test]
fn draws_are_what_a_pipeline_with_the_same_settings_feeds() {
    let (gumbel, samples) = (Noise::Gumbel { temperature: 0.5 }, Feed::Samples { count: 3 });
    let dirichlet = Noise::Dirichlet { concentration: 5.0 };
    let cases = [
        (POLICIES[2], PipelineConfig { feed: samples, ..PipelineConfig::default() }),
        (POLICIES[3], PipelineConfig { noise: gumbel, ..PipelineConfig::default() }),
        (POLICIES[5], PipelineConfig::default()),
        (POLICIES[6], PipelineConfig { noise: dirichlet, ..PipelineConfig::default() }),
    ];
    for (policy, config) in cases {
        for min_p in [0.0, 0.2] {
            let pipeline = SoftPipeline::new(PipelineConfig { min_p, ..config.clone() });
            let pipeline = pipeline.expect("valid settings");
            let fed = pipeline.apply(logits(9), &keys(9)).fed.mix(embedding());
            let draw = draw(policy, &pipeline.probs(logits(9)));
            let [a, b] = [fed, draw.embed(&embedding())].map(host_values);
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() < 1e-12, "{policy:?} {min_p}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_setting_out_of_range_is_named() {
    let message = |policy: Policy| policy.check().expect_err("out of range").to_string();
    let found = message(Policy::Samples { count: 0 });
    assert_eq!(found, "count = 0: expected a whole number of 1 or more");
    let found = message(Policy::Gaussian { sigma: 0.0 });
    assert_eq!(found, "sigma = 0: expected a finite number of 1e-30 or more");
    let found = message(Policy::Gumbel { temperature: f64::NAN });
    assert_eq!(found, "temperature = NaN: expected a finite number of 1e-30 or more");
    let found = message(Policy::Dirichlet { concentration: f64::INFINITY });
    assert_eq!(found, "concentration = inf: expected a finite number of 1e-6 or more");
    assert_eq!(POLICIES.map(Policy::check), [const { Ok(()) }; 7]);
}

#[test]
fn the_token_of_a_hybrid_draw_is_that_of_a_token_draw() {
    for probs in [SoftPipeline::default().probs(logits(50)), filtered(50)] {
        let (hybrid, token) = (draw(Policy::Hybrid, &probs), draw(Policy::Token, &probs));
        let (Action::Hybrid { tokens, .. }, Action::Tokens(expected)) =
            (&hybrid.action, &token.action)
        else {
            panic!("a token was drawn")
        };
        assert_eq!(tokens.to_data(), expected.to_data());
        let at = moved_logits(50);
        assert_eq!(log_probs(&hybrid, at.clone()), log_probs(&token, at));
        assert!(token.is_token() && !hybrid.is_token());
    }
}

#[test]
fn some_rows_of_a_draw_are_fed_and_scored_as_they_were_in_it() {
    let order = [4, 0, 4, 2];
    for policy in POLICIES {
        let draw = draw(policy, &filtered(5));
        let some = draw.rows(&order);
        let of = |values: Vec<f64>| values.chunks(values.len() / 5).map(<[f64]>::to_vec).collect();
        let all: Vec<Vec<f64>> = of(host_values(draw.embed(&embedding())));
        let expected: Vec<f64> = order.iter().flat_map(|&row| all[row].clone()).collect();
        assert_eq!(host_values(some.embed(&embedding())), expected, "{policy:?}");
        let at = |rows, draw: &Draw| {
            host_values(draw.relative_log_prob(moved_logits(rows), &embedding()))
        };
        let all = [at(5, &draw), draw.base(), draw.log_orders()];
        let found = [at(4, &some), some.base(), some.log_orders()];
        for (all, found) in all.iter().zip(found) {
            let expected = order.map(|row| all[row]);
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(near && found.len() == 4, "{policy:?}: {found:?} {expected:?}");
        }
    }
}

/// Of all policies whose mean thought is the mixture, the thoughts and their scores tell how the
/// mixture moves with the logits. The hybrid policy feeds it and does not see it move.
#[test]
fn thoughts_times_their_score_have_the_mean_of_the_gradient_of_the_mixture() {
    let (rows, kept) = (20_000, [0, 2, 3]);
    let p = softmax_of(&kept.map(|id| LOGITS[id]));
    let row = |id: usize| &EMBEDDING[2 * id..][..2];
    for policy in POLICIES.into_iter().filter(|policy| !matches!(policy, Policy::Gumbel { .. })) {
        let draw = draw(policy, &filtered(rows));
        let thoughts = host_values(draw.embed(&embedding()));
        let scores = gradient(&LOGITS.repeat(rows), [rows, 4], |z| {
            draw.relative_log_prob(z, &Tensor::from_inner(embedding())).sum()
        });
        for place in 0..2 {
            let mixture: f64 = kept.iter().zip(&p).map(|(&id, p)| p * row(id)[place]).sum();
            for (id, p) in kept.into_iter().zip(&p) {
                let terms: Vec<f64> =
                    (0..rows).map(|i| thoughts[2 * i + place] * scores[4 * i + id]).collect();
                let mean = terms.iter().sum::<f64>() / rows as f64;
                let variance = terms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
                let expected = match policy {
                    Policy::Hybrid => 0.0,
                    _ => p * (row(id)[place] - mixture),
                };
                let error = (variance / rows as f64).sqrt();
                assert!(
                    (mean - expected).abs() < 4.5 * error,
                    "{policy:?}: {mean}, not {expected}"
                );
            }
        }
    }
}
