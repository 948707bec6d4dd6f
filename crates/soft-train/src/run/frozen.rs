//! What of a model stays as it is, and how large a checkpoint of it is.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use soft_model::Transformer;

use crate::learner::{SoftLearner, trainable_parameters};

/// Bytes of a parameter in a checkpoint.
const BYTES: u64 = 4;
/// Numbers that the optimizer keeps for each parameter that it changes.
const MOMENTS: u64 = 2;

/// CRC-32 of the parameters that receive no gradients, in the order of the model; none where all
/// receive some.
pub(super) fn frozen_crc32(model: &Transformer) -> Option<u32> {
    struct Frozen(Option<crc32fast::Hasher>);
    impl ModuleVisitor for Frozen {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() {
                let crc = self.0.get_or_insert_default();
                crc.update(param.val().into_data().as_bytes());
            }
        }
    }
    let mut frozen = Frozen(None);
    model.visit(&mut frozen);
    frozen.0.map(crc32fast::Hasher::finalize)
}

/// About as many bytes as a checkpoint has: the model, and what the optimizer knows.
pub(super) fn checkpoint_bytes(learner: &SoftLearner) -> u64 {
    let trained = trainable_parameters(learner) as u64;
    BYTES * (learner.num_params() as u64 + MOMENTS * trained)
}
