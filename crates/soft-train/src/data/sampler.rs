//! The order of examples as a pure function of the seed and the epoch, so that a run can continue
//! from nothing but the number of examples it has seen.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Keeps the stream of data order apart from every other stream drawn from the same seed.
const ORDER_STREAM: u64 = u64::from_le_bytes(*b"ex-order");

/// Random access to an endless stream of examples: every epoch is a fresh permutation.
///
/// `index_at(n)` depends on nothing but `(len, seed, n)`: batch i of size b is the examples
/// `i * b .. (i + 1) * b`, whatever was asked before.
#[derive(Debug, Clone)]
pub struct Sampler {
    len: usize,
    seed: u64,
    /// The epoch asked for last, to shuffle once an epoch and not once an example.
    current: Option<(u64, Vec<usize>)>,
}

impl Sampler {
    /// A sampler over `len` examples.
    ///
    /// # Panics
    ///
    /// If `len` is 0: there would be no example to give.
    pub fn new(len: usize, seed: u64) -> Self {
        assert!(len > 0, "a sampler needs at least one example");
        Self { len, seed, current: None }
    }

    /// Which example of the data set is number `global_example`, counted from 0 at the start of
    /// the run and never reset.
    pub fn index_at(&mut self, global_example: u64) -> usize {
        let epoch = self.epoch_of(global_example);
        let within = (global_example % self.len as u64) as usize;
        match &self.current {
            Some((cached, order)) if *cached == epoch => order[within],
            _ => {
                let order = permutation(self.len, self.seed, epoch);
                let index = order[within];
                self.current = Some((epoch, order));
                index
            }
        }
    }

    /// The epoch (from 0) that example `global_example` falls in.
    pub fn epoch_of(&self, global_example: u64) -> u64 {
        global_example / self.len as u64
    }
}

/// The order of `len` examples in one epoch.
pub fn permutation(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    shuffle_seeded(&mut order, seed, epoch);
    order
}

/// Shuffles in place (Fisher-Yates), as a function of `(seed, round)`.
pub(crate) fn shuffle_seeded<T>(items: &mut [T], seed: u64, round: u64) {
    let mut key = [0_u8; 32];
    for (chunk, word) in key.chunks_exact_mut(8).zip([seed, round, ORDER_STREAM]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    for last in (1..items.len()).rev() {
        items.swap(last, below(&mut rng, last as u64 + 1) as usize);
    }
}

/// A uniform number in `0..bound`; draws that would favour small numbers are thrown away.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_a_permutation_and_no_two_are_alike() {
        let mut sampler = Sampler::new(97, 9);
        let mut orders = Vec::new();
        for epoch in 0..5_u64 {
            let order: Vec<usize> = (0..97).map(|n| sampler.index_at(epoch * 97 + n)).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..97).collect::<Vec<_>>());
            assert!(!orders.contains(&order), "epoch {epoch} repeats an earlier order");
            orders.push(order);
        }
        assert_ne!(permutation(97, 9, 0), permutation(97, 10, 0), "the seed must matter");
    }

    #[test]
    fn t13_random_access_equals_reading_in_order() {
        let in_order: Vec<usize> = {
            let mut sampler = Sampler::new(13, 3);
            (0..60).map(|n| sampler.index_at(n)).collect()
        };
        let mut jumping = Sampler::new(13, 3);
        for n in (0..60_u64).map(|n| n * 37 % 60) {
            assert_eq!(jumping.index_at(n), in_order[n as usize]);
        }
        assert_eq!(Sampler::new(13, 3).index_at(41), in_order[41], "a fresh sampler resumes");
    }

    #[test]
    fn each_place_of_a_shuffle_is_about_uniform() {
        let mut first = [0_u32; 4];
        for epoch in 0..4000 {
            first[permutation(4, 1, epoch)[0]] += 1;
        }
        // Binomial(4000, 1/4): standard deviation 27; five of them.
        assert!(first.iter().all(|&count| (863..1137).contains(&count)), "{first:?}");
    }
}
