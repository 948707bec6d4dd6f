//! `x W + b` as one node, the bias added while the product is made.
//!
//! The backend's own product clears its output, copies it to where vectors are aligned, and leaves
//! the bias and its gradient to operations of their own: for a tiny model that is a third of the
//! product's price.
#![expect(unsafe_code, reason = "the general product takes pointers; the sizes are checked here")]

use burn::backend::flex::FlexTensor;

use super::node::{Kernel, column_sums, tensor, values};

/// Multiplications under which a second thread costs more than it saves.
const PARALLEL: usize = 1 << 23;

/// Of x, W and b; without a bias the last input is ignored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine {
    pub(super) biased: bool,
}

/// A matrix as it lies.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If a stride is negative: see [`forwards`].
    fn of(x: &'a FlexTensor) -> Self {
        let (layout, shape) = (x.layout(), x.layout().shape());
        let stride = |axis: usize| usize::try_from(layout.strides()[axis]).expect("not reversed");
        Self {
            values: &x.storage::<f32>()[layout.start_offset()..],
            rows: shape[0],
            columns: shape[1],
            strides: [stride(0), stride(1)],
        }
    }

    fn transposed(self) -> Self {
        let [down, right] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [right, down], ..self }
    }

    /// The entries lie within the values.
    fn is_whole(self) -> bool {
        let last = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
        let [down, right] = self.strides;
        let furthest = last(self.rows, down).zip(last(self.columns, right));
        let furthest = furthest.and_then(|(down, right)| down.checked_add(right));
        let is_empty = self.rows == 0 || self.columns == 0;
        is_empty || furthest.is_some_and(|furthest| furthest < self.values.len())
    }
}

/// `a b`, or `a b` and the rows of `bias`: `[rows of a, columns of b]`.
fn product(a: Matrix<'_>, b: Matrix<'_>, bias: Option<&[f32]>) -> FlexTensor {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner sizes of a product");
    assert!(a.is_whole() && b.is_whole(), "entries of a product");
    let mut out = match bias {
        Some(bias) => bias.repeat(m),
        None if k == 0 => vec![0.0; m * n],
        // Written whole by the product: clearing it first would cost as much as a small one.
        None => Vec::with_capacity(m * n),
    };
    assert!(bias.is_none_or(|bias| bias.len() == n), "size of a bias");
    if m == 0 || n == 0 || k == 0 {
        return tensor(out, &[m, n]);
    }
    assert!(m.checked_mul(n).is_some(), "size of a product");
    let stride = |x: usize| isize::try_from(x).expect("an address");
    let parallelism =
        if m.saturating_mul(n).saturating_mul(k) >= PARALLEL && rayon::current_num_threads() > 1 {
            gemm::Parallelism::Rayon(0)
        } else {
            gemm::Parallelism::None
        };
    // SAFETY: all entries of `a` and `b` lie within their slices, as asserted above; `out` has room
    // for m n entries, which are read only where a bias has filled them, and all written.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            bias.is_some(),
            a.values.as_ptr(),
            stride(a.strides[1]),
            stride(a.strides[0]),
            b.values.as_ptr(),
            stride(b.strides[1]),
            stride(b.strides[0]),
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
        out.set_len(m * n);
    }
    tensor(out, &[m, n])
}

/// The tensor, copied where it is reversed.
fn forwards(x: &FlexTensor) -> FlexTensor {
    if x.layout().strides().iter().all(|&stride| stride >= 0) {
        x.clone()
    } else {
        x.to_contiguous()
    }
}

impl Kernel<3> for Affine {
    /// x and W, each where the gradient of the other is wanted.
    type Kept = [Option<FlexTensor>; 2];

    fn forward(self, inputs: [&FlexTensor; 3], wanted: [bool; 3]) -> (FlexTensor, Self::Kept) {
        let [x, weight] = [inputs[0], inputs[1]].map(forwards);
        let bias = self.biased.then(|| inputs[2].to_contiguous());
        let out = product(Matrix::of(&x), Matrix::of(&weight), bias.as_ref().map(values));
        (out, [wanted[1].then_some(x), wanted[0].then_some(weight)])
    }

    /// `dx = g W^T`, `dW = x^T g`, `db = sum over rows g`.
    fn backward(
        self,
        [x, weight]: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = forwards(&gradient);
        let g = Matrix::of(&gradient);
        [
            weight.map(|weight| product(g, Matrix::of(&weight).transposed(), None)),
            x.map(|x| product(Matrix::of(&x).transposed(), g, None)),
            (self.biased && wanted[2]).then(|| {
                let sums = column_sums(values(&gradient.to_contiguous()), g.columns);
                tensor(sums, &[1, g.columns])
            }),
        ]
    }
}
