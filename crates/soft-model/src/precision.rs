//! A model in another precision.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};

use crate::transformer::Transformer;

impl Transformer {
    /// A copy whose parameters are of precision `dtype`, each with the id of the one it is a copy
    /// of and trained or frozen as that one: gradients of the copy are gradients for this model.
    /// Norms, attention weights and everything from the logits on are of at least f32 all the same.
    #[must_use]
    pub fn cast(&self, dtype: DType) -> Self {
        self.clone().map(&mut Cast(dtype))
    }
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trained = param.is_require_grad();
        let (id, value, mapper) = param.consume();
        if !value.is_autodiff() {
            return Param::from_mapped_value(id, value.cast(self.0), mapper);
        }
        // A leaf of its own: the gradient is not to flow on to the parameter that it copies.
        let leaf = Tensor::from_inner(value.inner().cast(self.0));
        Param::from_mapped_value(id, leaf, mapper).set_require_grad(trained)
    }
}
