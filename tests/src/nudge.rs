//! What finite differences need: gradients by parameter, and a model with one entry moved.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use soft_core::{float_tensor, host_values};
use soft_model::Transformer;

/// Adds `delta` to one entry of one parameter.
#[derive(Debug, Clone, Copy)]
pub struct Nudge {
    /// The parameter.
    pub id: ParamId,
    /// Its entry, row by row.
    pub entry: usize,
    /// What is added.
    pub delta: f64,
}

impl ModuleMapper for Nudge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.id != self.id {
            return param;
        }
        let (entry, delta) = (self.entry, self.delta);
        param.map(|x| {
            let (shape, device, dtype) = (x.dims(), x.device(), x.dtype());
            let mut values = host_values(x);
            values[entry] += delta;
            float_tensor(values, shape, &device, dtype).require_grad()
        })
    }
}

/// Every parameter that has a gradient, with it.
pub fn gradients_by_parameter(
    model: &Transformer,
    gradients: &GradientsParams,
) -> Vec<(ParamId, Vec<f64>)> {
    struct Collect<'a>(&'a GradientsParams, Vec<(ParamId, Vec<f64>)>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.push((param.id, host_values(gradient)));
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    model.visit(&mut collect);
    collect.1
}
