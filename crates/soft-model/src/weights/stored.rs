//! One tensor in a mapped file, and its conversion to f32 in the canonical orientation.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use crate::mapped_file::MappedFile;
use crate::quants::{StoredType, dequantise};

/// Below this many weights a thread costs more than it saves.
const WEIGHTS_PER_THREAD: usize = 1 << 16;
const MAX_THREADS: usize = 8;
/// Side of the squares in which a matrix is transposed, so that both sides stay in cache.
const TILE: usize = 32;

/// How the stored numbers are arranged against the canonical `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As torch's `Linear` has them.
    Canonical,
    /// `[in, out]`: GPT-2's Conv1D in Hugging Face files.
    Transposed,
    /// Rows of each head in llama.cpp's order for rotating neighbours:
    /// stored row `2 i + j` of a head is canonical row `j * head_dim / 2 + i`.
    Interleaved {
        /// Heads that share the rows.
        heads: usize,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    pub(crate) file: Arc<MappedFile>,
    pub(crate) range: Range<usize>,
    pub(crate) stored: StoredType,
    /// Canonical.
    pub(crate) shape: Vec<usize>,
    pub(crate) layout: Layout,
}

impl StoredTensor {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }

    /// All values, row-major in the canonical shape.
    pub(crate) fn read(&self) -> Vec<f32> {
        let len = self.shape.iter().product();
        match (self.layout, &self.shape[..]) {
            (Layout::Transposed, &[rows, columns]) => transposed(&self.plain(len), rows, columns),
            (Layout::Interleaved { heads }, shape) => {
                let rows = shape.first().copied().unwrap_or(0);
                if rows == 0 { Vec::new() } else { self.deinterleaved(rows, len / rows, heads) }
            }
            _ => self.plain(len),
        }
    }

    fn plain(&self, len: usize) -> Vec<f32> {
        let mut values = vec![0.0; len];
        let bytes = self.bytes();
        let (block, block_bytes) = (self.stored.block_len(), self.stored.block_bytes());
        in_parallel(&mut values, block, |first, part| {
            let begin = first * block_bytes;
            let end = begin + part.len() / block * block_bytes;
            dequantise(self.stored, &bytes[begin..end], part);
        });
        values
    }

    fn deinterleaved(&self, rows: usize, row_len: usize, heads: usize) -> Vec<f32> {
        let bytes = self.bytes();
        let row_bytes = self.stored.byte_len(row_len);
        // A quantised bias has several rows in one block, so it is converted before it is sorted.
        let plain = if row_bytes.is_none() { self.plain(rows * row_len) } else { Vec::new() };
        let mut values = vec![0.0; rows * row_len];
        in_parallel(&mut values, row_len, |first, part| {
            for (offset, row) in part.chunks_exact_mut(row_len).enumerate() {
                let source = interleaved_row(first + offset, rows / heads);
                match row_bytes {
                    Some(len) => dequantise(self.stored, &bytes[source * len..][..len], row),
                    None => row.copy_from_slice(&plain[source * row_len..][..row_len]),
                }
            }
        });
        values
    }
}

/// Where llama.cpp keeps a row: see [`Layout::Interleaved`].
fn interleaved_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let (half, pair) = (within / (head_dim / 2), within % (head_dim / 2));
    head * head_dim + 2 * pair + half
}

/// `[columns, rows]` row-major to `[rows, columns]`.
pub(crate) fn transposed(source: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    in_parallel(&mut out, columns, |first, part| {
        let count = part.len() / columns;
        for tile_row in (0..count).step_by(TILE) {
            for tile_column in (0..columns).step_by(TILE) {
                for row in tile_row..count.min(tile_row + TILE) {
                    for column in tile_column..columns.min(tile_column + TILE) {
                        part[row * columns + column] = source[column * rows + first + row];
                    }
                }
            }
        }
    });
    out
}

/// Splits `out` into runs of whole units and fills each on a thread of its own; `fill` is given
/// the index of its first unit.
fn in_parallel(out: &mut [f32], unit: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    if out.is_empty() {
        return;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let threads = cores.min(out.len() / WEIGHTS_PER_THREAD).max(1);
    if threads == 1 {
        return fill(0, out);
    }
    let units = (out.len() / unit).div_ceil(threads);
    thread::scope(|scope| {
        for (index, part) in out.chunks_mut(units * unit).enumerate() {
            let fill = &fill;
            scope.spawn(move || fill(index * units, part));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_moves_every_element() {
        let (rows, columns) = (257, 300);
        let source: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let out = transposed(&source, rows, columns);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(out[row * columns + column], source[column * rows + row]);
            }
        }
    }

    #[test]
    fn interleaved_rows_are_pairs_of_the_two_halves() {
        let order: Vec<usize> = (0..8).map(|row| interleaved_row(row, 4)).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn threads_fill_every_unit_once() {
        let unit = 7;
        let mut out = vec![0.0; unit * 60_001];
        in_parallel(&mut out, unit, |first, part| {
            for (offset, value) in part.iter_mut().enumerate() {
                *value += (first * unit + offset) as f32;
            }
        });
        assert!(out.iter().enumerate().all(|(i, &value)| value == i as f32));
    }
}
