//! How examples share the rows of a batch's tensors.

use std::ops::Range;

/// Several examples one after another in each row: those of row i are `rows[i]`.
///
/// An example of n positions takes n - 1 columns, since its last output is never fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Examples of each row.
    rows: Vec<Range<usize>>,
    /// Row and first column of each example.
    places: Vec<(usize, usize)>,
}

impl Layout {
    /// The layout of examples of these numbers of columns, of which `rows` says how many each row
    /// takes.
    fn new(columns: &[usize], rows: &[usize]) -> Self {
        let mut layout = Self { rows: Vec::new(), places: Vec::new() };
        for (row, &count) in rows.iter().enumerate() {
            let first = layout.places.len();
            let mut column = 0;
            for &columns in &columns[first..first + count] {
                layout.places.push((row, column));
                column += columns;
            }
            layout.rows.push(first..first + count);
        }
        layout
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Row and first column of an example.
    pub(crate) fn place(&self, example: usize) -> (usize, usize) {
        self.places[example]
    }

    /// The last example of a row that begins at or before a column, and its first column.
    pub(crate) fn example_at(&self, row: usize, column: usize) -> (usize, usize) {
        let examples = self.rows[row].clone();
        let starts = &self.places[examples.clone()];
        let after = starts.partition_point(|place| place.1 <= column);
        let example = examples.start + after.max(1) - 1;
        (example, self.places[example].1)
    }
}

/// Puts examples of these numbers of columns into rows of at most `length` columns, a longer one
/// into a row of its own: the longest first, each into the first row that has room for it
/// (first-fit decreasing, Johnson 1973; at most 11/9 of the least number of rows, and 6/9).
///
/// Gives the order of the examples, row by row, and their layout in that order.
pub(crate) fn pack(columns: &[usize], length: usize) -> (Vec<usize>, Layout) {
    let mut longest_first: Vec<usize> = (0..columns.len()).collect();
    longest_first.sort_by_key(|&example| std::cmp::Reverse(columns[example]));
    let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
    for example in longest_first {
        let own = columns[example];
        match rows.iter_mut().find(|(used, _)| used + own <= length) {
            Some((used, examples)) => {
                *used += own;
                examples.push(example);
            }
            None => rows.push((own, vec![example])),
        }
    }
    let counts: Vec<usize> = rows.iter().map(|(_, examples)| examples.len()).collect();
    let order: Vec<usize> = rows.into_iter().flat_map(|(_, examples)| examples).collect();
    let ordered: Vec<usize> = order.iter().map(|&example| columns[example]).collect();
    let layout = Layout::new(&ordered, &counts);
    (order, layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Used columns of each row.
    fn used(columns: &[usize], length: usize) -> Vec<usize> {
        let (order, layout) = pack(columns, length);
        let own = |row: usize| layout.rows[row].clone().map(|example| columns[order[example]]);
        (0..layout.rows()).map(|row| own(row).sum()).collect()
    }

    #[test]
    fn every_example_has_a_place_of_its_own_and_no_row_is_too_long() {
        for length in [1, 5, 8, 20, 100] {
            let columns = [3, 7, 1, 8, 2, 2, 5, 12, 1];
            let (order, layout) = pack(&columns, length);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..columns.len()).collect::<Vec<_>>());
            let mut taken = std::collections::BTreeSet::new();
            for (example, &original) in order.iter().enumerate() {
                let (row, first) = layout.place(example);
                for column in first..first + columns[original] {
                    assert!(taken.insert((row, column)), "two examples at {row}, {column}");
                    assert_eq!(layout.example_at(row, column), (example, first));
                }
            }
            for (row, used) in used(&columns, length).into_iter().enumerate() {
                assert!(used <= length || layout.rows[row].len() == 1, "{used} of {length}");
            }
        }
    }

    #[test]
    fn the_longest_come_first_and_fill_the_first_row_with_room() {
        // By hand: 6 | 5 | 4 fits neither | 3 with 5 | 2 with 6 | 2 with 4.
        assert_eq!(used(&[2, 4, 6, 3, 5, 2], 8), [8, 8, 6]);
        assert_eq!(used(&[2, 4, 6, 3, 5, 2], 1), [6, 5, 4, 3, 2, 2], "each in a row of its own");
        assert_eq!(used(&[2, 4, 6, 3, 5, 2], 22), [22]);
    }
}
