//! Shares drawn from a Dirichlet distribution.

use super::super::gamma::digamma;
use super::*;

fn shares_of(draw: &Draw) -> (Tensor<2>, Tensor<2>) {
    let Action::Shares { log_probs, log_shares, .. } = &draw.action else {
        panic!("shares were drawn")
    };
    (log_probs.clone(), log_shares.clone())
}

#[test]
fn the_density_of_two_shares_integrates_to_one() {
    let cells = 200_000;
    let at = |i: usize| (i as f64 + 0.5) / cells as f64;
    let log_shares: Vec<f64> = (0..cells).flat_map(|i| [at(i).ln(), (-at(i)).ln_1p()]).collect();
    let log_shares = tensor(&log_shares, 2);
    let action =
        Action::Shares { log_probs: log_shares.zeros_like(), log_shares, concentration: 8.0 };
    let draw = Draw { action, kept: None };
    let of_each = log_probs(&draw, tensor(&[0.3, -0.9].repeat(cells), 2));
    let total: f64 = of_each.iter().map(|p| p.exp()).sum::<f64>() / cells as f64;
    assert!((total - 1.0).abs() < 1e-6, "{total}");
}

/// The mean and variance of a share, and the mean of its logarithm, which is the statistic that
/// the density weighs.
#[test]
fn shares_have_the_moments_of_their_distribution() {
    let (rows, concentration) = (20_000, 1.5);
    let draw = draw(Policy::Dirichlet { concentration }, &filtered(rows));
    let (log_p, log_a) = shares_of(&draw);
    let [_, width] = log_a.dims();
    assert_eq!(width, 3);
    let (p, log_a) = (host_values(log_p.exp()), host_values(log_a));
    let of = |x: f64| host_values(digamma(tensor(&[x], 1)))[0];
    for place in 0..width {
        let p = p[place];
        let log_a: Vec<f64> = log_a.chunks_exact(width).map(|row| row[place]).collect();
        let variance = p * (1.0 - p) / (concentration + 1.0);
        let log_mean = of(concentration * p) - of(concentration);
        let share: Vec<f64> = log_a.iter().map(|x| x.exp()).collect();
        let square = share.iter().map(|x| (x - p).powi(2)).collect();
        let cases = [("mean", share, p), ("variance", square, variance), ("log", log_a, log_mean)];
        for (name, terms, expected) in cases {
            let mean = terms.iter().sum::<f64>() / rows as f64;
            let spread = terms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
            let error = (spread / rows as f64).sqrt();
            assert!((mean - expected).abs() < 4.5 * error, "{name}: {mean}, not {expected}");
        }
    }
}

#[test]
fn one_share_alone_is_a_token_with_the_density_one() {
    let policy = Policy::Dirichlet { concentration: 0.7 };
    // The second row is padded, since the first has two shares.
    let probs = Distribution::Dense(tensor(&[0.6, 0.4, 0.0, 0.0, 0.0, 0.9995, 0.0, 0.0005], 4));
    let draw = draw(policy, &probs);
    assert_eq!(shares_of(&draw).1.dims(), [2, 2]);
    let thoughts = host_values(draw.embed(&embedding()));
    assert_eq!(thoughts[2..], EMBEDDING[2..4]);
    let at = moved_logits(2);
    let found = [
        log_probs(&draw, at.clone()),
        draw.base(),
        host_values(draw.relative_log_prob(at.clone(), &embedding())),
        host_values(draw.kl(at, logits(2), &embedding(), &embedding())),
    ];
    for values in found {
        assert!(values[1].abs() < 1e-12 && values[0].abs() > 1e-3, "{values:?}");
    }
}

#[test]
fn shares_are_those_of_tokens_that_have_a_thousandth_or_else_of_the_likeliest() {
    let ids_of = |weights: Vec<f64>| {
        let width = weights.len();
        let probs = Distribution::Dense(tensor(&weights, width));
        let embedding = tensor(&vec![0.0; width], 1);
        let draw = Policy::Dirichlet { concentration: 3.0 }.sample(&probs, &embedding, &keys(1));
        let total: f64 = host_values(shares_of(&draw).0).iter().map(|x| x.exp()).sum();
        assert!((total - 1.0).abs() < 1e-12);
        draw.kept.expect("they are named").ids.to_data().iter::<i64>().collect::<Vec<_>>()
    };
    assert_eq!(ids_of(vec![0.0009, 0.2, 0.001, 0.7981]), [3, 1, 2]);
    let mut flat = vec![0.9994 / 1999.0; 2000];
    flat[1234] = 0.0006;
    assert_eq!(ids_of(flat), [1234]);
}
