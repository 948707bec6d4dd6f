//! What a comparison of two arms on the same questions can say.

use serde::{Deserialize, Serialize};

use crate::results::interval;

/// How an arm differs from the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its accuracy less the baseline's.
    pub accuracy: f64,
    /// The probability of a difference as large or larger if both were equally good.
    pub p: f64,
}

/// Share of right answers with its 95 % interval (Wilson). `right[q]` of `seeds` runs answered
/// question q. The interval counts questions, not runs: the runs of one question are no independent
/// evidence on how an arm does on others.
#[must_use]
pub fn accuracy(right: &[u32], seeds: u32) -> (f64, [f64; 2]) {
    let correct: f64 = right.iter().map(|&r| f64::from(r) / f64::from(seeds.max(1))).sum();
    (correct / right.len().max(1) as f64, interval(correct, right.len() as u64))
}

/// The paired comparison of an arm with the baseline: right answers a question, each of its own
/// number of seeds.
///
/// The test flips the sign of each question's difference, which is as likely one way as the other
/// if the arms are equal, and counts the share of all sign patterns whose sum is at least as far
/// from 0 (two-sided randomisation test; Fisher 1935). It is exact: the distribution of the sum is
/// built question by question. With one seed it is McNemar's exact test.
///
/// # Panics
/// If the arms have not as many questions.
#[must_use]
pub fn difference(arm: &[u32], arm_seeds: u32, baseline: &[u32], seeds: u32) -> Difference {
    assert_eq!(arm.len(), baseline.len(), "the same questions");
    // In units of 1 / (arm_seeds * seeds), in which all differences are whole.
    let (a, b) = (i64::from(seeds), i64::from(arm_seeds));
    let differences: Vec<i64> =
        arm.iter().zip(baseline).map(|(&x, &y)| i64::from(x) * a - i64::from(y) * b).collect();
    let sum: i64 = differences.iter().sum();
    let unit = (a * b).max(1) as f64 * arm.len().max(1) as f64;
    Difference { accuracy: sum as f64 / unit, p: sign_flip_p(&differences) }
}

fn sign_flip_p(differences: &[i64]) -> f64 {
    let divisor = differences.iter().fold(0u64, |d, x| gcd(d, x.unsigned_abs()));
    if divisor == 0 {
        return 1.0;
    }
    let sizes: Vec<usize> = differences
        .iter()
        .map(|x| (x.unsigned_abs() / divisor) as usize)
        .filter(|&size| size > 0)
        .collect();
    let observed = differences.iter().sum::<i64>().unsigned_abs() / divisor;
    let most: usize = sizes.iter().sum();
    // probability[s]: that the flipped sum is s - most.
    let mut probability = vec![0.0; 2 * most + 1];
    probability[most] = 1.0;
    let mut reached = 0;
    for size in sizes {
        let mut next = vec![0.0; 2 * most + 1];
        for at in most - reached..=most + reached {
            next[at - size] += probability[at] / 2.0;
            next[at + size] += probability[at] / 2.0;
        }
        reached += size;
        probability = next;
    }
    let far = |at: &usize| at.abs_diff(most) as u64 >= observed;
    (0..=2 * most).filter(far).map(|at| probability[at]).sum::<f64>().min(1.0)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Which of several p-values stay under 5 % when all are looked at (Holm 1979).
#[must_use]
pub fn significant(ps: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let mut found = vec![false; ps.len()];
    for (rank, &place) in order.iter().enumerate() {
        if ps[place] * (ps.len() - rank) as f64 >= 0.05 {
            break;
        }
        found[place] = true;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Twice the smaller tail of a fair coin thrown `b + c` times.
    fn mcnemar(b: u64, c: u64) -> f64 {
        let n = b + c;
        let choose = |k: u64| (0..k).fold(1.0, |x, i| x * (n - i) as f64 / (i + 1) as f64);
        let tail: f64 = (0..=b.min(c)).map(choose).sum::<f64>() / 2f64.powi(n as i32);
        (2.0 * tail).min(1.0)
    }

    #[test]
    fn with_one_seed_it_is_mcnemars_exact_test() {
        for (b, c) in [(0, 0), (1, 0), (6, 0), (5, 1), (3, 3), (12, 4), (30, 9)] {
            let arm: Vec<u32> = [vec![1; b], vec![0; c], vec![1; 4], vec![0; 3]].concat();
            let other: Vec<u32> = [vec![0; b], vec![1; c], vec![1; 4], vec![0; 3]].concat();
            let found = difference(&arm, 1, &other, 1);
            let expected = mcnemar(b as u64, c as u64);
            assert!((found.p - expected).abs() < 1e-12, "{b} {c}: {} {expected}", found.p);
            let accuracy = (b as f64 - c as f64) / arm.len() as f64;
            assert!((found.accuracy - accuracy).abs() < 1e-12);
        }
    }

    #[test]
    fn many_questions_and_seeds_neither_overflow_nor_underflow() {
        let arm: Vec<u32> = (0..2000).map(|q| q % 9).collect();
        let other: Vec<u32> = (0..2000).map(|q| (q + 1) % 9).collect();
        let found = difference(&arm, 8, &other, 8);
        assert!(found.p > 0.5 && found.p <= 1.0, "{}", found.p);
        let worse = difference(&vec![0; 400], 8, &vec![8; 400], 8);
        assert!((worse.accuracy + 1.0).abs() < 1e-12 && worse.p < 1e-100);
    }

    proptest! {
        #[test]
        fn it_is_the_share_of_sign_patterns_and_symmetric(
            pairs in prop::collection::vec((0u32..4, 0u32..4), 1..11)
        ) {
            let (arm, other): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let found = difference(&arm, 3, &other, 3);
            let d: Vec<i64> =
                arm.iter().zip(&other).map(|(&x, &y)| i64::from(x) - i64::from(y)).collect();
            let sum: i64 = d.iter().sum();
            let flipped = |signs: u32| -> i64 {
                d.iter().enumerate().map(|(i, x)| if signs >> i & 1 == 1 { -x } else { *x }).sum()
            };
            let patterns = 1u32 << d.len();
            let far = (0..patterns).filter(|&s| flipped(s).abs() >= sum.abs()).count();
            let expected = far as f64 / f64::from(patterns);
            prop_assert!((found.p - expected).abs() < 1e-12);
            let back = difference(&other, 3, &arm, 3);
            prop_assert!((back.p - found.p).abs() < 1e-12 && back.accuracy == -found.accuracy);
        }
    }

    #[test]
    fn seeds_of_one_question_do_not_narrow_the_interval() {
        let (share, once) = accuracy(&[1, 0, 1, 1], 1);
        let (same, often) = accuracy(&[8, 0, 8, 8], 8);
        assert_eq!((share, once), (same, often));
        assert_eq!(once, crate::results::wilson(3, 4));
        assert_eq!(accuracy(&[], 1).1, [0.0, 1.0]);
    }

    #[test]
    fn several_looks_need_smaller_values() {
        assert_eq!(significant(&[0.04]), [true]);
        assert_eq!(significant(&[0.04, 0.04]), [false, false]);
        assert_eq!(significant(&[0.2, 0.001, 0.02]), [false, true, true]);
        assert_eq!(significant(&[]), [false; 0]);
    }
}
