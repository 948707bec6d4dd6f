//! Which tensors of a step are not finite, looked for where the loss or the norm is not.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use soft_core::host_values;

use crate::learner::SoftLearner;

/// What was found, by the names of the parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NotFinite {
    /// The first parameter whose gradient is not finite.
    pub(crate) gradient: Option<String>,
    /// Number of such parameters.
    pub(crate) broken: usize,
    /// Number of gradients.
    pub(crate) gradients: usize,
    /// The first parameter that is not finite itself: an earlier step has spoiled it.
    pub(crate) weight: Option<String>,
}

impl NotFinite {
    /// Looks at every gradient and every parameter.
    pub(crate) fn of(learner: &SoftLearner, gradients: &GradientsParams) -> Self {
        let names = learner.model.parameter_names().into_iter().collect();
        let mut look = Look { gradients, names, found: Self::default() };
        learner.visit(&mut look);
        look.found
    }
}

struct Look<'a> {
    gradients: &'a GradientsParams,
    names: HashMap<ParamId, String>,
    found: NotFinite,
}

impl ModuleVisitor for Look<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = || {
            let learned = || "a learned setting of the filters".to_owned();
            self.names.get(&param.id).cloned().unwrap_or_else(learned)
        };
        if self.found.weight.is_none() && !is_finite(param.val().inner()) {
            self.found.weight = Some(name());
        }
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        self.found.gradients += 1;
        if !is_finite(gradient) {
            self.found.broken += 1;
            self.found.gradient = self.found.gradient.take().or_else(|| Some(name()));
        }
    }
}

fn is_finite<const D: usize>(tensor: Tensor<D>) -> bool {
    host_values(tensor).iter().all(|value| value.is_finite())
}

/// Makes the gradient of the last parameter that has one infinite, for a test.
pub(crate) fn spoil<M: Module>(module: &M, gradients: &mut GradientsParams) {
    struct Last<'a>(&'a GradientsParams, Option<ParamId>);
    impl ModuleVisitor for Last<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.get::<D>(param.id).is_some() {
                self.1 = Some(param.id);
            }
        }
    }
    struct Spoil<'a>(&'a mut GradientsParams, Option<ParamId>);
    impl ModuleVisitor for Spoil<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.1 != Some(param.id) {
                return;
            }
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, gradient.full_like(f64::INFINITY));
            }
        }
    }
    let mut last = Last(gradients, None);
    module.visit(&mut last);
    let last = last.1;
    module.visit(&mut Spoil(gradients, last));
}
