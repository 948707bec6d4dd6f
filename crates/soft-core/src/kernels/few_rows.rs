//! Products of a few rows with a matrix: the matrix is read once, as it lies, by all threads.
//!
//! A general product packs its operands first, which for a few rows is most of its work, and a
//! product of one row runs on one thread.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use pulp::{Simd, WithSimd};

use super::node::{Kernel, tensor, values};

/// More rows than this are the general product's.
pub(super) const MOST_ROWS: usize = 8;

/// Entries of a matrix under which a second thread costs more than it saves.
const PARALLEL: usize = 1 << 18;

/// Whether the processor has vector instructions that this is built for; without them the general
/// product is the faster one.
pub(super) fn has_vectors() -> bool {
    struct Vectors;
    impl WithSimd for Vectors {
        type Output = bool;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> bool {
            !S::IS_SCALAR
        }
    }
    pulp::Arch::new().dispatch(Vectors)
}

/// `x W` for few rows of x.
#[derive(Debug, Clone, Copy)]
pub(super) struct FewRows;

impl Kernel<2> for FewRows {
    /// The inputs, each where the gradient of the other is wanted.
    type Kept = [Option<FlexTensor>; 2];

    fn forward(self, [x, weight]: [&FlexTensor; 2], wanted: [bool; 2]) -> (FlexTensor, Self::Kept) {
        let kept = [wanted[1].then(|| x.clone()), wanted[0].then(|| weight.clone())];
        (product(x, weight), kept)
    }

    fn backward(
        self,
        [x, weight]: Self::Kept,
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let to_x = weight.map(|weight| product(&gradient, &weight.transpose(0, 1)));
        [to_x, x.map(|x| Flex::float_matmul(x.transpose(0, 1), gradient))]
    }
}

/// `x W`.
fn product(x: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let (x_sizes, sizes) = (x.layout().shape(), weight.layout().shape());
    let (rows, depth, width) = (x_sizes[0], sizes[0], sizes[1]);
    let start = weight.layout().start_offset();
    let strides = weight.layout().strides();
    let by_column = strides[0] == 1 && strides[1] == depth as isize;
    let by_row = strides[1] == 1 && strides[0] == width as isize;
    if rows == 0 || depth == 0 || width == 0 || !(by_column || by_row) {
        return Flex::float_matmul(x.clone(), weight.clone());
    }
    let x = x.to_contiguous();
    let matrix = &weight.storage::<f32>()[start..start + depth * width];
    let one = Product { x: values(&x), rows, matrix, depth, width, by_column };
    let threads = rayon::current_num_threads();
    if threads == 1 || depth * width < PARALLEL {
        return tensor(one.columns(0, width), &[rows, width]);
    }
    // Whole cache lines for each thread.
    let part = width.div_ceil(threads).next_multiple_of(16);
    let starts: Vec<usize> = (0..width).step_by(part).collect();
    use rayon::prelude::*;
    let parts: Vec<Vec<f32>> =
        starts.into_par_iter().map(|first| one.columns(first, part.min(width - first))).collect();
    if rows == 1 {
        return tensor(parts.concat(), &[1, width]);
    }
    let mut out = Vec::with_capacity(rows * width);
    for row in 0..rows {
        for part in &parts {
            let width = part.len() / rows;
            out.extend_from_slice(&part[row * width..][..width]);
        }
    }
    tensor(out, &[rows, width])
}

#[derive(Clone, Copy)]
struct Product<'a> {
    /// `[rows, depth]`.
    x: &'a [f32],
    rows: usize,
    /// `[width, depth]` where it lies by column, else `[depth, width]`.
    matrix: &'a [f32],
    depth: usize,
    width: usize,
    by_column: bool,
}

impl Product<'_> {
    /// Columns `[first, first + count)` of the output: `[rows, count]`.
    fn columns(&self, first: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * count];
        let arch = pulp::Arch::new();
        if self.by_column {
            let matrix = &self.matrix[first * self.depth..][..count * self.depth];
            arch.dispatch(Dots {
                x: self.x,
                rows: self.rows,
                matrix,
                depth: self.depth,
                out: &mut out,
            });
        } else {
            let (x, rows, matrix) = (self.x, self.rows, self.matrix);
            let (depth, stride) = (self.depth, self.width);
            arch.dispatch(Sums { x, rows, matrix, depth, stride, first, out: &mut out });
        }
        out
    }
}

/// Each output is an inner product with a column that lies in one piece.
struct Dots<'a> {
    x: &'a [f32],
    rows: usize,
    matrix: &'a [f32],
    depth: usize,
    /// `[rows, columns]`.
    out: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.rows {
            1 => self.run::<S, 1, 4>(simd),
            2 => self.run::<S, 2, 4>(simd),
            3 => self.run::<S, 3, 4>(simd),
            4 => self.run::<S, 4, 4>(simd),
            5 => self.run::<S, 5, 2>(simd),
            6 => self.run::<S, 6, 2>(simd),
            7 => self.run::<S, 7, 2>(simd),
            _ => self.run::<S, 8, 2>(simd),
        }
    }
}

impl Dots<'_> {
    /// `R` rows with `C` columns at a time.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const C: usize>(self, simd: S) {
        let (x, depth) = (self.x, self.depth);
        let columns = self.out.len() / R;
        let mut blocks = self.matrix.chunks_exact(C * depth);
        let mut column = 0;
        for block in &mut blocks {
            let found = dots::<S, R, C>(simd, x, block, depth);
            for (c, sums) in found.iter().enumerate() {
                for (row, sum) in sums.iter().enumerate() {
                    self.out[row * columns + column + c] = *sum;
                }
            }
            column += C;
        }
        for block in blocks.remainder().chunks_exact(depth) {
            let [found] = dots::<S, R, 1>(simd, x, block, depth);
            for (row, sum) in found.iter().enumerate() {
                self.out[row * columns + column] = *sum;
            }
            column += 1;
        }
    }
}

/// Inner products of `R` rows with `C` columns, a column after another.
#[inline(always)]
fn dots<S: Simd, const R: usize, const C: usize>(
    simd: S,
    x: &[f32],
    block: &[f32],
    depth: usize,
) -> [[f32; R]; C] {
    let whole = depth / S::F32_LANES;
    let mut rows: [&[S::f32s]; R] = [&[]; R];
    for (row, x) in rows.iter_mut().zip(x.chunks_exact(depth)) {
        *row = &S::as_simd_f32s(x).0[..whole];
    }
    let mut columns: [&[S::f32s]; C] = [&[]; C];
    for (column, w) in columns.iter_mut().zip(block.chunks_exact(depth)) {
        *column = &S::as_simd_f32s(w).0[..whole];
    }
    let mut sums = [[simd.splat_f32s(0.0); R]; C];
    for i in 0..whole {
        for c in 0..C {
            let w = columns[c][i];
            for r in 0..R {
                sums[c][r] = simd.mul_add_e_f32s(w, rows[r][i], sums[c][r]);
            }
        }
    }
    let mut found = [[0.0; R]; C];
    for c in 0..C {
        for r in 0..R {
            let mut sum = simd.reduce_sum_f32s(sums[c][r]);
            for i in whole * S::F32_LANES..depth {
                sum += block[c * depth + i] * x[r * depth + i];
            }
            found[c][r] = sum;
        }
    }
    found
}

/// Each output row is a weighted sum of the matrix's rows.
struct Sums<'a> {
    x: &'a [f32],
    rows: usize,
    matrix: &'a [f32],
    depth: usize,
    /// Width of the matrix.
    stride: usize,
    first: usize,
    /// `[rows, columns]`.
    out: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.rows {
            1 => self.run::<S, 1, 8>(simd),
            2 => self.run::<S, 2, 8>(simd),
            3 => self.run::<S, 3, 4>(simd),
            4 => self.run::<S, 4, 4>(simd),
            5 => self.run::<S, 5, 2>(simd),
            6 => self.run::<S, 6, 2>(simd),
            7 => self.run::<S, 7, 2>(simd),
            _ => self.run::<S, 8, 2>(simd),
        }
    }
}

impl Sums<'_> {
    /// Adds `D` rows of the matrix at a time to `R` rows of the output.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const D: usize>(self, simd: S) {
        let columns = self.out.len() / R;
        let line = |d: usize| &self.matrix[d * self.stride + self.first..][..columns];
        let mut out: [&mut [f32]; R] = std::array::from_fn(|_| &mut [][..]);
        for (row, part) in out.iter_mut().zip(self.out.chunks_exact_mut(columns)) {
            *row = part;
        }
        let mut d = 0;
        while d + D <= self.depth {
            let mut lines: [&[f32]; D] = [&[]; D];
            for (i, slot) in lines.iter_mut().enumerate() {
                *slot = line(d + i);
            }
            add::<S, R, D>(simd, &mut out, self.x, self.depth, d, lines);
            d += D;
        }
        while d < self.depth {
            add::<S, R, 1>(simd, &mut out, self.x, self.depth, d, [line(d)]);
            d += 1;
        }
    }
}

/// `out[r] += sum over i of x[r, d + i] lines[i]`.
#[inline(always)]
fn add<S: Simd, const R: usize, const D: usize>(
    simd: S,
    out: &mut [&mut [f32]; R],
    x: &[f32],
    depth: usize,
    d: usize,
    lines: [&[f32]; D],
) {
    let columns = lines[0].len();
    let whole = columns / S::F32_LANES;
    let mut weights = [[0.0; D]; R];
    let mut splats = [[simd.splat_f32s(0.0); D]; R];
    for r in 0..R {
        for i in 0..D {
            weights[r][i] = x[r * depth + d + i];
            splats[r][i] = simd.splat_f32s(weights[r][i]);
        }
    }
    let mut vectors: [&[S::f32s]; D] = [&[]; D];
    for (vector, line) in vectors.iter_mut().zip(lines) {
        *vector = &S::as_simd_f32s(line).0[..whole];
    }
    let mut targets: [&mut [S::f32s]; R] = std::array::from_fn(|_| &mut [][..]);
    for (target, row) in targets.iter_mut().zip(out.iter_mut()) {
        *target = &mut S::as_mut_simd_f32s(row).0[..whole];
    }
    for column in 0..whole {
        for r in 0..R {
            let mut sum = targets[r][column];
            for i in 0..D {
                sum = simd.mul_add_e_f32s(vectors[i][column], splats[r][i], sum);
            }
            targets[r][column] = sum;
        }
    }
    for column in whole * S::F32_LANES..columns {
        for r in 0..R {
            for i in 0..D {
                out[r][column] += weights[r][i] * lines[i][column];
            }
        }
    }
}
