//! Rows that are trained together, and what each position counts in the loss of the step.

use burn::tensor::{DType, Device};
use soft_core::Distribution;

use crate::example::{Example, Truth};

/// A place in a batch: the input or target of `position` in `row`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Row of the batch.
    pub row: usize,
    /// Position in the sequence.
    pub position: usize,
}

/// A micro-batch: examples of any lengths, padded on the right.
#[derive(Debug, Clone)]
pub struct Batch {
    /// One example a row.
    pub examples: Vec<Example>,
    /// Index of each row within the optimizer step: what noise and drop-out are keyed by, so that
    /// another split into micro-batches sees the same numbers.
    pub rows: Vec<u32>,
}

impl Batch {
    /// Rows numbered from 0.
    pub fn new(examples: Vec<Example>) -> Self {
        let rows = (0..examples.len() as u32).collect();
        Self { examples, rows }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Columns that are fed: one less than the longest row, whose last output is never fed.
    pub fn columns(&self) -> usize {
        self.examples.iter().map(Example::len).max().unwrap_or(1) - 1
    }

    /// Which columns of each row are fed: `[row][column]`.
    pub fn real(&self, columns: std::ops::Range<usize>) -> Vec<Vec<bool>> {
        let of = |example: &Example| columns.clone().map(|c| c + 1 < example.len()).collect();
        self.examples.iter().map(of).collect()
    }

    /// Token ids of the columns, row by row; padding repeats the row's first token.
    pub fn ids(&self, columns: std::ops::Range<usize>) -> Vec<u32> {
        self.examples
            .iter()
            .flat_map(|example| {
                let ids = &example.input_ids;
                columns.clone().map(|c| ids.get(c).copied().unwrap_or(ids[0]))
            })
            .collect()
    }

    /// Whether the input of a column is a mixture that is really fed.
    pub fn feeds_mixture(&self, row: usize, column: usize) -> bool {
        let example = &self.examples[row];
        column + 1 < example.len() && example.soft[column]
    }

    /// Which columns of each row are fed with a mixture: `[row][column]`.
    pub fn soft(&self, columns: std::ops::Range<usize>) -> Vec<Vec<bool>> {
        let of = |row| columns.clone().map(|column| self.feeds_mixture(row, column)).collect();
        (0..self.len()).map(of).collect()
    }

    /// Places with a mixture as input, in the given columns, row by row.
    pub fn soft_inputs(&self, columns: std::ops::Range<usize>) -> Vec<Place> {
        self.places(columns, |row, position| self.feeds_mixture(row, position))
    }

    /// Places of the given positions where `keep` holds, row by row.
    pub(crate) fn places(
        &self,
        positions: std::ops::Range<usize>,
        keep: impl Fn(usize, usize) -> bool,
    ) -> Vec<Place> {
        (0..self.len())
            .flat_map(|row| positions.clone().map(move |position| Place { row, position }))
            .filter(|place| keep(place.row, place.position))
            .collect()
    }

    /// Whether the position is in the row and its truth is known.
    pub fn has_truth(&self, place: Place) -> bool {
        self.truth_entries(place).next().is_some()
    }

    /// Where a soft input lies among those of its row: 0 for the first, 1 for the last.
    pub(crate) fn place_in_span(&self, place: Place) -> f64 {
        let soft = &self.examples[place.row].soft;
        let count = |positions: &[bool]| positions.iter().filter(|&&soft| soft).count();
        let before = count(&soft[..place.position.min(soft.len())]);
        before as f64 / (count(soft).max(2) - 1) as f64
    }

    fn truth_entries(&self, place: Place) -> impl Iterator<Item = (u32, f64)> {
        let entries = match self.examples[place.row].truth.get(place.position) {
            None | Some(Truth::None) => Vec::new(),
            Some(Truth::Token(id)) => vec![(*id, 1.0)],
            Some(Truth::Soft(entries)) => {
                entries.iter().map(|&(id, weight)| (id, f64::from(weight))).collect()
            }
        };
        entries.into_iter()
    }

    /// The truth of each place as ids and weights `[places, k]`, padded with weight 0. A place
    /// without truth has all its weight on the token of its input.
    pub fn truth(&self, places: &[Place], device: &Device, dtype: DType) -> Distribution {
        let entries: Vec<Vec<(u32, f64)>> = places
            .iter()
            .map(|&place| {
                let entries: Vec<_> = self.truth_entries(place).collect();
                if !entries.is_empty() {
                    return entries;
                }
                let ids = &self.examples[place.row].input_ids;
                vec![(ids.get(place.position).copied().unwrap_or(0), 1.0)]
            })
            .collect();
        let k = entries.iter().map(Vec::len).max().unwrap_or(1);
        let mut ids = Vec::with_capacity(places.len() * k);
        let mut weights = Vec::with_capacity(places.len() * k);
        for row in &entries {
            for i in 0..k {
                let (id, weight) = row.get(i).copied().unwrap_or((row[0].0, 0.0));
                ids.push(id);
                weights.push(weight);
            }
        }
        let shape = [places.len(), k];
        Distribution::Sparse {
            ids: soft_core::int_tensor(&ids, shape, device),
            weights: soft_core::float_tensor(weights, shape, device, dtype),
        }
    }
}
