//! Several sequences in one row of a batch.

/// Which sequence each column of each row of a batch belongs to, where rows hold several of them
/// one after another. A column sees those of its own sequence and the learned prefix alone, and
/// positions start again with each sequence, so that all it computes is what the sequence would
/// get in a row of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// `[row][column]`, the columns of a sequence side by side.
    sequences: Vec<Vec<u32>>,
}

impl Packing {
    /// A packing from the sequence of every column of every row; padding goes with the sequence
    /// before it. The numbers choose the entry of [`crate::Dropout::rows`].
    ///
    /// # Panics
    /// If the columns of a sequence do not lie side by side.
    pub fn new(sequences: Vec<Vec<u32>>) -> Self {
        for row in &sequences {
            let mut starts: Vec<u32> =
                row.chunk_by(|left, right| left == right).map(|run| run[0]).collect();
            let runs = starts.len();
            starts.sort_unstable();
            starts.dedup();
            assert_eq!(starts.len(), runs, "the columns of a sequence lie side by side");
        }
        Self { sequences }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.sequences.len()
    }

    /// The sequence of a column.
    ///
    /// # Panics
    /// If the row is shorter.
    pub(crate) fn sequence(&self, row: usize, column: usize) -> u32 {
        self.sequences[row][column]
    }

    /// The packing of other rows, as [`crate::KvCache::select`] takes them.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self { sequences: rows.iter().map(|&row| self.sequences[row].clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "side by side")]
    fn a_sequence_is_in_one_piece() {
        Packing::new(vec![vec![0, 0, 1, 0]]);
    }
}
