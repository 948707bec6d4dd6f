//! One problem: its digits, the chosen path to its answer, and everything a thinker could hold in
//! mind on the way.

use std::collections::BTreeMap;

/// Digits, and the signs that reach the smallest non-negative sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// d1..dn, each at least 1.
    pub digits: Vec<u32>,
    /// The partial sums of the chosen path, one a digit; the last is the answer. Of all sign
    /// choices with the smallest sum the chosen one is the first in the order in which plus comes
    /// before minus and the last sign changes fastest.
    pub path: Vec<i64>,
    /// The smallest non-negative signed sum.
    pub answer: u32,
}

impl Problem {
    /// Solves the problem by trying all 2^n sign choices.
    pub fn new(digits: Vec<u32>) -> Self {
        let mut best: Option<(i64, u64)> = None;
        for signs in 0..1_u64 << digits.len() {
            let sum = partial_sums(&digits, signs).last().unwrap_or(0);
            if sum >= 0 && best.is_none_or(|(smallest, _)| sum < smallest) {
                best = Some((sum, signs));
            }
        }
        // All signs plus is never negative, so there always is a best.
        let (sum, signs) = best.unwrap_or((0, 0));
        let path = partial_sums(&digits, signs).collect();
        Self { digits, path, answer: u32::try_from(sum).unwrap_or(0) }
    }

    /// The digits in ascending order: problems that share it are permutations of each other.
    pub fn multiset(&self) -> Vec<u32> {
        let mut sorted = self.digits.clone();
        sorted.sort_unstable();
        sorted
    }

    /// Where a thinker with no foresight may be after `step` signs (from 1): each of the 2^n sign
    /// choices is equally likely, and choices that reach the same sum are merged.
    ///
    /// A `budget` above 0 keeps only so many sign choices: those whose last sum is nearest to 0; of
    /// two as near the one that is not negative, then the one with minus where they first differ
    /// (CoT2's `beam_minabs`).
    ///
    /// (sum, probability) pairs by ascending sum. Without a budget, or with one that is a power of
    /// 2, the probabilities sum to 1 exactly, being multiples of a power of 1/2.
    pub fn reachable(&self, step: usize, budget: usize) -> Vec<(i64, f32)> {
        let last = |signs: u64| partial_sums(&self.digits, signs).last().unwrap_or(0);
        // By the bits of minus, descending: minus comes first.
        let mut choices: Vec<u64> = (0..1_u64 << self.digits.len()).rev().collect();
        if budget > 0 {
            choices.sort_by_key(|&signs| (last(signs).abs(), last(signs) < 0));
            choices.truncate(budget);
        }
        let mut ways: BTreeMap<i64, u32> = BTreeMap::new();
        for &signs in &choices {
            let sum = partial_sums(&self.digits, signs).nth(step - 1).unwrap_or(0);
            *ways.entry(sum).or_insert(0) += 1;
        }
        let total = choices.len() as f32;
        ways.into_iter().map(|(sum, count)| (sum, count as f32 / total)).collect()
    }
}

/// The partial sums under the sign choice `signs`, read from the highest bit: 0 is plus, 1 minus.
fn partial_sums(digits: &[u32], signs: u64) -> impl Iterator<Item = i64> + '_ {
    let last = digits.len().saturating_sub(1);
    digits.iter().enumerate().scan(0_i64, move |sum, (t, &digit)| {
        let minus = signs >> (last - t) & 1 == 1;
        *sum += if minus { -i64::from(digit) } else { i64::from(digit) };
        Some(*sum)
    })
}

/// All `digit_max^digits` problems, the last digit changing fastest.
pub(super) fn enumerate(digits: usize, digit_max: usize) -> Vec<Problem> {
    let mut problems = Vec::with_capacity(digit_max.pow(digits as u32));
    let mut current = vec![1_u32; digits];
    loop {
        problems.push(Problem::new(current.clone()));
        // Count up like an odometer; done when every place has rolled over.
        let Some(place) = current.iter().rposition(|&digit| (digit as usize) < digit_max) else {
            return problems;
        };
        current[place] += 1;
        current[place + 1..].fill(1);
    }
}
