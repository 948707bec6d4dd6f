//! Gumbel noise and the draw of one token, against the probabilities they must follow.

use super::*;

const TOKENS: usize = 8;
const DRAWS: u32 = 20_000;
/// Of the chi-square distribution with 4 degrees of freedom, at the 0.1 % level.
const CHI_SQUARE_LIMIT: f64 = 18.47;

fn five_of_eight(noise: Noise) -> SoftPipeline {
    pipeline(PipelineConfig { temperature: 0.9, top_k: 5, noise, ..Default::default() })
}

fn many_rows() -> Tensor<2> {
    let row = vec![0.3, 1.0, -0.5, 1.4, -3.0, 0.1, -2.0, 0.8];
    rows(&[row], DType::F64).expand([DRAWS as usize, TOKENS])
}

fn assert_follows(probs: &Distribution, ids: &[u32]) {
    let expected = probs.to_rows(TOKENS).swap_remove(0);
    assert_eq!(expected.len(), 5);
    let mut statistic = 0.0;
    let mut seen = 0;
    for (id, p) in expected {
        let count = ids.iter().filter(|&&drawn| drawn == id).count();
        let wanted = p * f64::from(DRAWS);
        statistic += (count as f64 - wanted).powi(2) / wanted;
        seen += count;
    }
    assert_eq!(seen, ids.len(), "a token was drawn that the filters dropped");
    assert!(statistic < CHI_SQUARE_LIMIT, "chi-square {statistic}");
}

#[test]
fn draws_follow_the_filtered_probabilities() {
    let pipeline = five_of_eight(Noise::None);
    let probs = pipeline.apply(many_rows(), &[]).probs;
    let drawn = pipeline.draw(&probs, &keys(DRAWS));
    assert_follows(&probs, &drawn);
    assert_eq!(pipeline.draw(&probs, &keys(DRAWS)), drawn, "the same keys give the same draws");
}

#[test]
fn the_heaviest_token_under_noise_follows_the_filtered_probabilities() {
    for temperature in [0.5, 3.0] {
        let pipeline = five_of_eight(Noise::Gumbel { temperature });
        let token = pipeline.apply(many_rows(), &keys(DRAWS));
        let ids: Vec<u32> = token.fed.to_rows(1).iter().map(|row| row[0].0).collect();
        assert_follows(&token.probs, &ids);
    }
}

#[test]
fn noise_of_low_temperature_is_one_token_and_of_high_temperature_uniform() {
    let logits = many_rows().narrow(0, 0, 200);
    let at = |temperature| {
        let pipeline = five_of_eight(Noise::Gumbel { temperature });
        pipeline.apply(logits.clone(), &keys(200)).fed.to_rows(TOKENS)
    };
    let ordinary = at(1.0);
    for temperature in [1e-9, 1e-30] {
        for (cold, ordinary) in at(temperature).iter().zip(&ordinary) {
            assert_eq!(cold.len(), 1);
            assert_eq!(cold[0].0, ordinary[0].0);
            assert!((cold[0].1 - 1.0).abs() < 1e-12);
        }
    }
    for hot in at(1e9) {
        assert_eq!(hot.len(), 5);
        assert!(hot.iter().all(|entry| (entry.1 - 0.2).abs() < 1e-7));
    }
}

#[test]
fn relaxed_noise_has_the_weights_of_its_formula() {
    let noise = Noise::Gumbel { temperature: 0.7 };
    for top_k in [0, 3] {
        let config = PipelineConfig { top_k, noise, ..Default::default() };
        let token = pipeline(config).apply(many_rows().narrow(0, 0, 2), &keys(2));
        for ((p, fed), key) in token.probs.to_rows(9).iter().zip(token.fed.to_rows(9)).zip(keys(2))
        {
            let g = gumbel(key, Place::Feed, TOKENS);
            let score = |entry: &(u32, f64)| ((entry.1.ln() + g[entry.0 as usize]) / 0.7).exp();
            let total: f64 = p.iter().map(score).sum();
            assert_eq!(fed.len(), p.len());
            for entry in p {
                let found = fed.iter().find(|fed| fed.0 == entry.0).expect("the same tokens").1;
                assert!((found - score(entry) / total).abs() < 1e-14);
            }
        }
    }
}

#[test]
fn the_noise_of_a_token_does_not_depend_on_the_filters() {
    let ratio = |top_k, max_top_k| {
        let noise = Noise::Gumbel { temperature: 1.0 };
        let config = PipelineConfig { top_k, max_top_k, noise, ..Default::default() };
        let fed = pipeline(config).apply(many_rows().narrow(0, 0, 1), &keys(1)).fed;
        let weights =
            host_values(fed.weights_at(crate::int_tensor(&[3, 1], [1, 2], &fed.device())));
        weights[0] / weights[1]
    };
    let all = ratio(0, 0);
    for kept in [ratio(2, 0), ratio(5, 0), ratio(0, 3), ratio(5, 2)] {
        assert!((kept / all - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_cut_of_max_top_k_comes_before_the_noise() {
    let noise = Noise::Gumbel { temperature: 1.0 };
    let config = PipelineConfig { max_top_k: 2, noise, ..Default::default() };
    let token = pipeline(config).apply(many_rows().narrow(0, 0, 50), &keys(50));
    for row in token.fed.to_rows(9) {
        let mut ids: Vec<u32> = row.iter().map(|entry| entry.0).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 3], "the two most likely tokens before noise");
    }
}

#[test]
fn a_draw_of_many_kept_tokens_uses_the_same_noise_as_one_of_few() {
    let vocab = 3000;
    let pipeline = pipeline(PipelineConfig::default());
    let logits = rows(&[spread(9, vocab, 6.0)], DType::F64);
    let probs = pipeline.apply(logits, &[]).probs;
    let drawn = pipeline.draw(&probs, &keys(1))[0];
    let all = gumbel(keys(1)[0], Place::Draw, vocab);
    let best = probs.to_rows(vocab)[0]
        .iter()
        .map(|entry| (entry.1.ln() + all[entry.0 as usize], entry.0))
        .fold((f64::NEG_INFINITY, 0), |a, b| if b.0 > a.0 { b } else { a });
    assert_eq!(drawn, best.1);
}

#[test]
#[should_panic(expected = "one noise key a row")]
fn noise_without_a_key_for_every_row_is_refused() {
    five_of_eight(Noise::Gumbel { temperature: 1.0 }).apply(many_rows(), &keys(1));
}
