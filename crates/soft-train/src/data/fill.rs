//! How full the rows of a training's batches are.

use super::Sampler;
use crate::batch::Batch;
use crate::config::Config;
use crate::example::Example;

/// Shares of the cells of the batches of one epoch that hold no padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// With a row for each example.
    pub padded: f64,
    /// Packed as `data.pack` says, where it does.
    pub packed: Option<f64>,
}

impl Fill {
    /// The shares for these examples in the order that a training takes them, without gradient
    /// accumulation or other files; none without an example.
    pub fn of(examples: &[Example], config: &Config) -> Option<Self> {
        if examples.is_empty() {
            return None;
        }
        let (micro_batch, pack) = (config.train.micro_batch, config.data.pack);
        let mut sampler = Sampler::new(examples.len(), config.run.seed);
        let (mut fed, mut padded, mut packed) = (0, 0, 0);
        for batch in 0..examples.len().div_ceil(micro_batch) {
            let numbers = batch * micro_batch..(batch + 1) * micro_batch;
            let example = |number| examples[sampler.index_at(number as u64)].clone();
            let batch = Batch::new(numbers.map(example).collect());
            let (full, cells) = batch.filled();
            fed += full;
            padded += cells;
            packed += if pack > 0 { batch.packed(pack).filled().1 } else { 0 };
        }
        let share = |cells: usize| fed as f64 / cells as f64;
        Some(Self { padded: share(padded), packed: (pack > 0).then(|| share(packed)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_cells_that_the_batches_have() {
        // One batch of 9, 5, 4 and 2 columns: 20 of 4 x 9 cells, and of 3 x 9, 2 x 11, 1 x 20.
        let examples: Vec<Example> =
            [10, 6, 5, 3].map(|len| Example::from_tokens(&vec![1; len], 0)).into();
        let mut config = Config::default();
        config.train.micro_batch = 4;
        let of = |config: &Config| Fill::of(&examples, config).expect("there are examples");
        assert_eq!(of(&config), Fill { padded: 20.0 / 36.0, packed: None });
        for (pack, cells) in [(1, 27.0), (11, 22.0), (20, 20.0), (500, 20.0)] {
            config.data.pack = pack;
            assert_eq!(of(&config).packed, Some(20.0 / cells), "rows of {pack}");
        }
        assert_eq!(Fill::of(&[], &config), None);
    }
}
