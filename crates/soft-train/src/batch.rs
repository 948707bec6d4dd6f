//! Rows that are trained together, and what each position counts in the loss of the step.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use soft_core::Distribution;
use soft_model::{KvCache, Packing, Transformer};

use crate::example::{Example, Truth};
use crate::layout::{Layout, pack};

/// A place in a batch: the input or target of `position` in `row`. Where it lies in the tensors of
/// a pass is [`Batch::cell`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Example of the batch; also its row of the tensors, where rows are not packed.
    pub row: usize,
    /// Position in the example.
    pub position: usize,
}

/// A micro-batch: examples of any lengths, padded on the right.
///
/// Each has a row of the tensors for itself, unless they were [`Self::packed`]. Everything but
/// where they lie there (noise, drop-out, coins, positions, what each sees, its share of the loss)
/// is that of the example alone, so that packing changes no result.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The examples, in the order of their rows.
    pub examples: Vec<Arc<Example>>,
    /// Index of each example within the optimizer step: what noise and drop-out are keyed by, so
    /// that another split into micro-batches sees the same numbers.
    pub rows: Vec<u32>,
    /// Where they lie, if several share a row.
    layout: Option<Layout>,
}

impl Batch {
    /// Examples numbered from 0.
    pub fn new(examples: Vec<Example>) -> Self {
        let rows = (0..examples.len() as u32).collect();
        Self::with_rows(examples, rows)
    }

    /// Examples with their indices within the optimizer step.
    pub fn with_rows(
        examples: impl IntoIterator<Item = impl Into<Arc<Example>>>,
        rows: Vec<u32>,
    ) -> Self {
        Self { examples: examples.into_iter().map(Into::into).collect(), rows, layout: None }
    }

    /// The same examples in as few rows as first-fit decreasing finds: each row is as long as
    /// `length` columns allow, or as the longest example where that is longer. The order of the
    /// examples changes with it.
    #[must_use]
    pub fn packed(self, length: usize) -> Self {
        let columns: Vec<usize> = self.examples.iter().map(|e| e.len().max(1) - 1).collect();
        let length = columns.iter().copied().max().unwrap_or(0).max(length);
        let (order, layout) = pack(&columns, length);
        let mut examples: Vec<Option<Arc<Example>>> = self.examples.into_iter().map(Some).collect();
        Self {
            examples: order.iter().filter_map(|&example| examples[example].take()).collect(),
            rows: order.iter().map(|&example| self.rows[example]).collect(),
            layout: Some(layout),
        }
    }

    /// Rows of the tensors of a pass.
    pub fn tensor_rows(&self) -> usize {
        self.layout.as_ref().map_or(self.len(), Layout::rows)
    }

    /// Row and column of the tensors in which a place is fed.
    pub fn cell(&self, place: Place) -> (usize, usize) {
        let (row, first) =
            self.layout.as_ref().map_or((place.row, 0), |layout| layout.place(place.row));
        (row, first + place.position)
    }

    /// The place that is fed in a cell of the tensors; none for padding.
    pub fn place_at(&self, row: usize, column: usize) -> Option<Place> {
        let (row, first) =
            self.layout.as_ref().map_or((row, 0), |layout| layout.example_at(row, column));
        let position = column - first;
        (position + 1 < self.examples[row].len()).then_some(Place { row, position })
    }

    /// Whether a place is part of an answer.
    pub fn answers(&self, place: Place) -> bool {
        self.examples[place.row].answer_from.is_some_and(|from| place.position >= from)
    }

    /// The empty cache of a pass or a recurrence over this batch.
    pub fn cache(&self, model: &Transformer) -> KvCache {
        let cache = model.new_cache(self.tensor_rows());
        let Some(layout) = &self.layout else { return cache };
        let columns = self.columns();
        let example = |row, column| layout.example_at(row, column).0 as u32;
        let sequences =
            (0..layout.rows()).map(|row| (0..columns).map(|column| example(row, column)).collect());
        cache.packed(Arc::new(Packing::new(sequences.collect())))
    }

    /// Number of cells of the tensors that hold no padding, and of all.
    pub fn filled(&self) -> (usize, usize) {
        let fed = self.examples.iter().map(|example| example.len().max(1) - 1).sum();
        (fed, self.tensor_rows() * self.columns())
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Columns that are fed: of an example one less than its positions, for its last output is
    /// never fed.
    pub fn columns(&self) -> usize {
        let end = |(row, example): (usize, &Arc<Example>)| {
            self.cell(Place { row, position: example.len().max(1) - 1 }).1
        };
        self.examples.iter().enumerate().map(end).max().unwrap_or(0)
    }

    /// Which columns of each row are fed: `[row][column]`.
    pub fn real(&self, columns: Range<usize>) -> Vec<Vec<bool>> {
        let fed = |row, column| self.place_at(row, column).is_some();
        let of = |row| columns.clone().map(|column| fed(row, column)).collect();
        (0..self.tensor_rows()).map(of).collect()
    }

    /// Token ids of the columns, row by row; padding repeats a token of the first example.
    pub fn ids(&self, columns: Range<usize>) -> Vec<u32> {
        let id = |place: Place| self.examples[place.row].input_ids[place.position];
        let padding = self.examples.first().map_or(0, |example| example.input_ids[0]);
        let of = |row, column| self.place_at(row, column).map_or(padding, id);
        let cells = (0..self.tensor_rows())
            .flat_map(|row| columns.clone().map(move |column| (row, column)));
        cells.map(|(row, column)| of(row, column)).collect()
    }

    /// Which columns of each row are fed with a mixture: `[row][column]`.
    pub fn soft(&self, columns: Range<usize>) -> Vec<Vec<bool>> {
        let is_soft = |place: Place| self.examples[place.row].soft[place.position];
        let soft = |row, column| self.place_at(row, column).is_some_and(is_soft);
        let of = |row| columns.clone().map(|column| soft(row, column)).collect();
        (0..self.tensor_rows()).map(of).collect()
    }

    /// Places with a mixture as input, in the given columns, row by row.
    pub fn soft_inputs(&self, columns: Range<usize>) -> Vec<Place> {
        let mut places = self.fed_in(columns);
        places.retain(|place| self.examples[place.row].soft[place.position]);
        places
    }

    /// Places that the given columns predict and of which `keep` holds, row by row.
    pub(crate) fn predicted(
        &self,
        columns: Range<usize>,
        keep: impl Fn(Place) -> bool,
    ) -> Vec<Place> {
        let next = |place: Place| Place { position: place.position + 1, ..place };
        let mut places: Vec<Place> = self.fed_in(columns).into_iter().map(next).collect();
        places.retain(|&place| keep(place));
        places
    }

    /// Places that are fed in the given columns, row by row.
    fn fed_in(&self, columns: Range<usize>) -> Vec<Place> {
        (0..self.tensor_rows())
            .flat_map(|row| columns.clone().map(move |column| (row, column)))
            .filter_map(|(row, column)| self.place_at(row, column))
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
        let (token, entries) = match self.examples[place.row].truth.get(place.position) {
            None | Some(Truth::None) => (None, &[][..]),
            Some(Truth::Token(id)) => (Some((*id, 1.0)), &[][..]),
            Some(Truth::Soft(entries)) => (None, &entries[..]),
        };
        let entries = entries.iter().map(|&(id, weight)| (id, f64::from(weight)));
        token.into_iter().chain(entries)
    }

    /// The truth of each place as ids and weights `[places, k]`, padded with weight 0. A place
    /// without truth has all its weight on the token of its input.
    pub fn truth(&self, places: &[Place], device: &Device, dtype: DType) -> Distribution {
        let k = places.iter().map(|&place| self.truth_entries(place).count());
        let k = k.max().unwrap_or(1).max(1);
        let mut ids = Vec::with_capacity(places.len() * k);
        let mut weights = Vec::with_capacity(places.len() * k);
        for &place in places {
            let start = ids.len();
            for (id, weight) in self.truth_entries(place) {
                ids.push(id);
                weights.push(weight);
            }
            if ids.len() == start {
                let inputs = &self.examples[place.row].input_ids;
                ids.push(inputs.get(place.position).copied().unwrap_or(0));
                weights.push(1.0);
            }
            ids.resize(start + k, ids[start]);
            weights.resize(start + k, 0.0);
        }
        let shape = [places.len(), k];
        Distribution::Sparse {
            ids: soft_core::int_tensor(&ids, shape, device),
            weights: soft_core::float_tensor(weights, shape, device, dtype),
        }
    }
}
