//! The one projection type: a matrix, perhaps a bias, perhaps a low-rank branch.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// `y = x W + b + scale (x A) B`, the last term where a low-rank branch is attached and on.
///
/// All of it works on rank-2 activations and multiplies by the parameters themselves: a reshape or
/// transpose of a shared parameter inside a recurrence would keep one gradient of its size for
/// every position until the end of the backward pass.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    /// `[d_in, d_out]`; held as a transposed view of `[d_out, d_in]` memory, as checkpoints
    /// store it, which is also the faster layout for one row.
    pub(crate) weight: Param<Tensor<2>>,
    /// `[1, d_out]`.
    pub(crate) bias: Option<Param<Tensor<2>>>,
    /// Trainable correction of a frozen matrix.
    pub(crate) low_rank: Option<LowRank>,
}

/// The low-rank branch of a [`Linear`] (LoRA, Hu et al. 2021, arXiv:2106.09685).
///
/// `A [d_in, rank]` starts random and `B [rank, d_out]` at zero, so that a fresh branch changes
/// nothing, to the bit: the product is then exactly zero.
#[derive(Module, Debug)]
pub(crate) struct LowRank {
    pub(crate) a: Param<Tensor<2>>,
    pub(crate) b: Param<Tensor<2>>,
    #[module(skip)]
    pub(crate) scale: f64,
    #[module(skip)]
    pub(crate) enabled: bool,
}

impl Linear {
    pub(crate) fn new(weight: Tensor<2>, bias: Option<Tensor<2>>) -> Self {
        Self {
            weight: Param::from_tensor(weight),
            bias: bias.map(Param::from_tensor),
            low_rank: None,
        }
    }

    /// # Shapes
    /// - x: `[rows, d_in]`
    /// - output: `[rows, d_out]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let correction =
            self.low_rank.as_ref().filter(|branch| branch.enabled).map(|branch| {
                x.clone().matmul(branch.a.val()).matmul(branch.b.val()) * branch.scale
            });
        let mut y = x.matmul(self.weight.val());
        if let Some(bias) = &self.bias {
            y = y + bias.val();
        }
        match correction {
            Some(correction) => y + correction,
            None => y,
        }
    }

    /// Input and output widths.
    pub(crate) fn widths(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// Attaches a fresh low-rank branch; `a` is `[d_in, rank]`.
    ///
    /// # Panics
    /// If `a` does not have `d_in` rows.
    pub(crate) fn attach(&mut self, a: Tensor<2>, alpha: f64) {
        let [d_in, d_out] = self.widths();
        let [rows, rank] = a.dims();
        assert_eq!(rows, d_in, "low-rank A has one row an input feature");
        let b = Tensor::zeros([rank, d_out], (&a.device(), a.dtype()));
        self.low_rank = Some(LowRank {
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            scale: alpha / rank as f64,
            enabled: true,
        });
    }
}
