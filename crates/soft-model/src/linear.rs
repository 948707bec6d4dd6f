//! The one projection type: a matrix, perhaps a bias, perhaps a low-rank branch.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::active::Reach;
use crate::adapter::Projection;
use crate::attention::Pass;
use crate::deferred::Products;
use crate::dropout::Site;

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
    /// Where the weight is a constant whose gradient is taken later ([`Transformer::for_recurrence`]).
    ///
    /// [`Transformer::for_recurrence`]: crate::Transformer::for_recurrence
    #[module(skip)]
    pub(crate) products: Option<Products>,
}

/// The low-rank branch of a [`Linear`] (LoRA, Hu et al. 2021, arXiv:2106.09685).
///
/// `A [d_in, rank]` starts random and `B [rank, d_out]` at zero, so that a fresh branch changes
/// nothing, to the bit: the product is then exactly zero.
#[derive(Module, Debug)]
pub(crate) struct LowRank {
    pub(crate) a: Param<Tensor<2>>,
    pub(crate) b: Param<Tensor<2>>,
    /// `m [1, d_out]` of a branch that is weight-decomposed (DoRA, Liu et al. 2024,
    /// arXiv:2402.09353): `y = x (W + scale A B) m / norm + b`, with `norm` the Euclidean norm of
    /// each column of `W + scale A B`. No gradient goes through it (section 4.3 of the paper).
    pub(crate) magnitude: Option<Param<Tensor<2>>>,
    #[module(skip)]
    pub(crate) settings: BranchSettings,
    #[module(skip)]
    pub(crate) enabled: bool,
}

/// What a branch has beside its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BranchSettings {
    /// Scale of the branch, divided by its rank, or by the root of it.
    pub(crate) alpha: f64,
    /// Divides by the root of the rank (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
    pub(crate) rslora: bool,
    /// Probability that an input of the branch is set to zero in training.
    pub(crate) dropout: f64,
}

/// Where a projection stands in a pass: its branch needs to know.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) layer: usize,
    pub(crate) projection: Projection,
}

/// Norms of the columns of every weight-decomposed matrix, `[1, d_out]` each, by layer and
/// projection. They are the same for all positions, so they are taken once for a pass or a
/// recurrence: computing one costs as much as multiplying `rank` rows by the matrix.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnNorms(Vec<[Option<Tensor<2>>; Projection::ALL.len()]>);

impl ColumnNorms {
    pub(crate) fn push(&mut self, layer: [Option<Tensor<2>>; Projection::ALL.len()]) {
        self.0.push(layer);
    }

    fn of(&self, layer: usize, projection: Projection) -> Option<&Tensor<2>> {
        self.0.get(layer)?[projection as usize].as_ref()
    }
}

impl LowRank {
    pub(crate) fn rank(&self) -> usize {
        self.a.dims()[1]
    }

    pub(crate) fn scale(&self) -> f64 {
        let rank = self.rank() as f64;
        self.settings.alpha / if self.settings.rslora { rank.sqrt() } else { rank }
    }

    /// `(scale drop(x) A) B`.
    fn correction(&self, x: Tensor<2>, at: At<'_>) -> Tensor<2> {
        let x = match at.pass.branch_dropout {
            Some(dropout) if self.settings.dropout > 0.0 => {
                let (layer, projection) = (at.layer, at.projection as u32);
                let site = Site::LowRank { layer, projection };
                let rate = self.settings.dropout;
                dropout.features_at_rate(rate, x, &at.pass.columns.positions, site)
            }
            _ => x,
        };
        (x.matmul(self.a.val()) * self.scale()).matmul(self.b.val())
    }
}

impl Linear {
    pub(crate) fn new(weight: Tensor<2>, bias: Option<Tensor<2>>) -> Self {
        Self {
            weight: Param::from_tensor(weight),
            bias: bias.map(Param::from_tensor),
            low_rank: None,
            products: None,
        }
    }

    /// The branch corrects the rows that the pass's reach names, and leaves the others as they are
    /// without it.
    ///
    /// # Shapes
    /// - x: `[rows, d_in]`, a row for each column of the pass
    /// - output: `[rows, d_out]`
    pub(crate) fn forward(&self, x: Tensor<2>, at: At<'_>) -> Tensor<2> {
        let nowhere = matches!(at.pass.reach, Reach::Nowhere);
        let acts = |branch: &&LowRank| branch.enabled && !nowhere;
        let branch = self.low_rank.as_ref().filter(acts);
        let gain = branch.and_then(|branch| {
            let magnitude = branch.magnitude.as_ref()?.val();
            let taken = at.pass.norms.as_ref().and_then(|norms| norms.of(at.layer, at.projection));
            Some(magnitude / taken.cloned().unwrap_or_else(|| self.column_norms()))
        });
        let correction = branch.map(|branch| branch.correction(x.clone(), at));
        if let (None, None, Some(bias)) = (&correction, &self.products, &self.bias) {
            return soft_core::affine(x, self.weight.val(), bias.val());
        }
        let y = match &self.products {
            Some(products) => products.product(x, self.weight.val()),
            None => soft_core::product(x, self.weight.val()),
        };
        let biased = |y: Tensor<2>| match &self.bias {
            Some(bias) => y + bias.val(),
            None => y,
        };
        let Some(correction) = correction else { return biased(y) };
        let changed = |y: Tensor<2>| match gain {
            None => biased(y) + correction,
            Some(gain) => biased((y + correction) * gain),
        };
        match &at.pass.reach {
            Reach::At { rows, .. } => {
                let bare = biased(y.clone());
                let shape = bare.dims();
                bare.mask_where(rows.clone().expand(shape), changed(y))
            }
            Reach::Everywhere | Reach::Nowhere => changed(y),
        }
    }

    /// Input and output widths.
    pub(crate) fn widths(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// `W + scale A B [d_in, d_out]`, without a DoRA magnitude; `W` where there is no branch.
    fn updated(&self) -> Tensor<2> {
        match &self.low_rank {
            None => self.weight.val(),
            Some(branch) => {
                self.weight.val() + branch.a.val().matmul(branch.b.val()) * branch.scale()
            }
        }
    }

    /// Norms of the columns of `W + scale A B`, as constants.
    ///
    /// # Shapes
    /// - output: `[1, d_out]`
    pub(crate) fn column_norms(&self) -> Tensor<2> {
        let updated = self.updated().detach();
        let dtype = updated.dtype();
        soft_core::at_least_f32(updated).square().sum_dim(0).sqrt().cast(dtype)
    }

    /// The norms, where the branch is weight-decomposed.
    pub(crate) fn norms_for_branch(&self) -> Option<Tensor<2>> {
        let branch = self.low_rank.as_ref()?;
        branch.magnitude.as_ref().map(|_| self.column_norms())
    }

    /// The matrix that the projection amounts to with its branch, `[d_in, d_out]`, again a view of
    /// `[d_out, d_in]` memory.
    pub(crate) fn merged_weight(&self) -> Tensor<2> {
        let weight = self.updated();
        let magnitude = self.low_rank.as_ref().and_then(|branch| branch.magnitude.as_ref());
        let weight = match magnitude {
            Some(magnitude) => weight * (magnitude.val() / self.column_norms()),
            None => weight,
        };
        let [d_in, d_out] = weight.dims();
        // A copy in the order of checkpoints.
        let values = soft_core::host_values(weight.detach().transpose());
        let device = self.weight.val().device();
        soft_core::float_tensor(values, [d_out, d_in], &device, self.weight.val().dtype())
            .transpose()
    }

    /// Attaches a low-rank branch of given factors; with `decomposed`, its magnitude starts at the
    /// norms that the columns have, so that a zero `B` changes nothing.
    ///
    /// # Panics
    /// If `a` does not have `d_in` rows.
    pub(crate) fn attach(
        &mut self,
        a: Tensor<2>,
        b: Tensor<2>,
        settings: BranchSettings,
        decomposed: bool,
    ) {
        assert_eq!(a.dims()[0], self.widths()[0], "low-rank A has one row an input feature");
        self.low_rank = Some(LowRank {
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            magnitude: None,
            settings,
            enabled: true,
        });
        if decomposed {
            let norms = Param::from_tensor(self.column_norms());
            if let Some(branch) = &mut self.low_rank {
                branch.magnitude = Some(norms);
            }
        }
    }
}
